/* box.h: a tensor in hostile memory.
 *
 *   block        data (aligned to an element only)                      end
 *   | canary ... | row 0 | gap | row 1 | gap | ... | row n | canary ... |
 *
 * Canaries, gaps and everything that is still to be written hold a pattern that is NaN in each
 * float type; under the address sanitizer the canaries are fenced off while a kernel runs. The host
 * keeps the bytes from before a call and those from after it. */
#ifndef HARNESS_BOX_H
#define HARNESS_BOX_H

#include "harness/verdict.h"
#include "tensor/device.h"

enum role {
    ROLE_IN,    /* may not change */
    ROLE_OUT,   /* every element must be written, nothing else */
    ROLE_ADDED, /* elements may change: gradients of inputs, states */
};

struct box {
    char name[24];
    enum role role;
    struct tensor t; /* as a kernel sees it: data in device memory */
    struct device *device;
    unsigned char *block;          /* device */
    unsigned char *before, *after; /* host */
    size_t bytes, lead;            /* of the block; before element 0 */
};

/* The pattern: 0xfff5 in every 16 bits. */
void poison_fill(void *at, size_t bytes);

/* `t` carries dtype, dims and strides; its data is set here. `shift`: elements by which the data is
 * off its natural 64-byte place. False when memory is short. */
bool box_open(struct box *box, struct device *device, const char *name, enum role role,
              const struct tensor *t, int shift);
void box_close(struct box *box);

/* The first `rows` of a dense tensor that was opened with at least as many: the canary moves up. */
void box_rows(struct box *box, int64_t rows);

/* Strides with gaps between heads and rows (rank 2 and 3), otherwise dense. */
void tensor_lay(struct tensor *t, enum dtype dtype, int rank, const int64_t *dim, bool window);

/* Elements in order, to and from the bytes that the next call starts from. A quantised box, which only
 * an input can be, is set as a whole. */
void box_set(struct box *box, const double *values);
void box_poke(struct box *box, int64_t element, double value);
/* Elements in order, after the last call. */
void box_get(const struct box *box, double *values);
/* One element's bytes, after the last call. */
const void *box_element(const struct box *box, int64_t element);

void box_upload(const struct box *box);
void box_download(struct box *box);
void box_fence(const struct box *box, bool up);
/* What the last call left is what the next one starts from. */
void box_keep(struct box *box);

/* Judges the bytes after a call: canaries and gaps whole, inputs unchanged, outputs written. */
void box_inspect(const struct box *box, struct verdict *v);

#endif
