/* trial.h: one call of an op in hostile memory.
 *
 * An op's proof describes a call once, in a build function that asks for its tensors in order. The
 * same description makes the call on the device under test, the same call in F64 for the
 * reference, the same call with gradients, and the call of a part of it (some rows, one sequence)
 * that must give the same bits. */
#ifndef HARNESS_TRIAL_H
#define HARNESS_TRIAL_H

#include "harness/box.h"
#include "harness/fill.h"
#include "harness/lab.h"

struct trial;

/* What of a tensor's first axis belongs to a part of the call. */
enum per { WHOLE, PER_ROW, PER_SEQUENCE };

/* What a build function asks for. */
struct want {
    const char *name;
    enum dtype dtype; /* on the device under test; F64 on the reference unless `exact` */
    enum per per;
    int rank;
    int64_t dim[TENSOR_RANK];
    enum fill fill; /* of an input */
    double scale;   /* of the fill; 0 means 1 */
    bool window;    /* may be a window of wider rows */
    bool exact;     /* keeps its dtype on the reference: ids, what a contract fixes */
    bool frozen;    /* an input without a gradient */
    bool added;     /* an input that the call may change: a state */
    double l2;      /* limit of an output, or of an input's gradient; 0 means 2e-6 */
    double made;    /* .. and more than that on a GPU in bf16, where operands that are made on the
                       way (weights of attention, turned heads) enter tensor cores rounded */
    int roundings;  /* times a value is rounded to dtype on its way out; 0 means 1 */
};
#define DIM(...)                                                        \
    .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), \
    .dim = {__VA_ARGS__}

/* What `made` may be: with one rounding of the output (2^-8) it comes to the 6e-3 that is asked of
 * bf16 operands. A weight rounded to 2^-9 at most moves a row by 2e-3 of its length. */
#define MADE_BF16 2.1e-3

static inline double limit_made(const struct want *want, const struct device *device,
                                enum dtype dtype)
{
    return dtype == DTYPE_BF16 && !device->host ? want->made : 0;
}

/* An op's case: what is called, how it is built, what it costs. */
struct proof {
    enum op op;
    void (*build)(struct trial *t, const struct shape *s);
    struct sweep forward, backward, differences; /* backward without cases: the op has none */
    struct sweep repeat; /* of backward, a hundred times each */
    struct sweep bench;
    bool loose; /* a row's bits may depend on how many there are: "forward" is all */
    /* Bytes that must move and flops that must be done, at least. */
    void (*cost)(const struct shape *s, double *bytes, double *flops);
};

/* Rows [row, row + rows) and sequences [sequence, sequence + sequences) of the whole case. Of one
 * sequence it may be a stretch of rows. */
struct part {
    int row, rows, sequence, sequences;
};

enum { TRIAL_BOXES = 40, TRIAL_PARTS = 12, NO_BOX = -1 };

struct piece {
    struct want want;
    struct box box;
    int grad; /* index of its gradient, or NO_BOX */
    int64_t first, count; /* of the whole tensor's elements, those that it holds */
};

/* How a call is made. */
struct manner {
    bool wide;      /* F64: on the reference */
    bool grads;     /* gradients beside every tensor */
    bool calm;      /* natural places in memory, for timing */
    bool parts;     /* only `part` of it */
    struct part part;
    const double *start; /* [TRIAL_BOXES] size of what stands in each gradient; NULL: 0 */
};

struct trial {
    const struct proof *proof;
    const struct shape *shape;
    struct manner manner;
    struct station *at;
    struct verdict *v;
    struct piece piece[TRIAL_BOXES];
    int pieces;
    bool ragged, failed; /* cut in sequences; out of memory */
    union {
#define TRIAL_ARGS(NAME, name, in, out) struct name##_args name;
        GDN_OPS(TRIAL_ARGS)
#undef TRIAL_ARGS
    } args;
    struct rows rows;
    struct linear linear;
    struct linear_part part[TRIAL_PARTS];
    struct linear gate_up[TRIAL_PARTS], down[TRIAL_PARTS];
    struct experts experts;
    struct delta_slots delta;
    struct conv_slots conv;
    struct kv_pages pages;
    struct tensor front; /* a window that a build function makes of another tensor */
};

bool trial_open(struct trial *t, const struct proof *proof, const struct shape *shape,
                struct station *at, const struct manner *manner, struct verdict *v);
void trial_close(struct trial *t);

/* For build functions. Valid until the trial is closed. */
struct tensor *trial_in(struct trial *t, struct want want);
struct tensor *trial_out(struct trial *t, struct want want);
#define IN(t, ...) trial_in((t), (struct want){__VA_ARGS__})
#define OUT(t, ...) trial_out((t), (struct want){__VA_ARGS__})
/* Integers of the input, so many a row, uniform in [low, high). */
const int32_t *trial_ids(struct trial *t, const char *name, int64_t each, int low, int high);
/* Integers that the build function computes for the whole case. */
int32_t *trial_table(struct trial *t, const char *name, const int32_t *value, int64_t count);
/* The same, which the call may change. */
int32_t *trial_counters(struct trial *t, const char *name, const int32_t *value, int64_t count);
/* The case's B sequences over T rows: ragged, with lengths 0 and 1 among them when B allows.
 * `start` is the position of sequence 0, later ones lie 5 further each. */
const struct rows *trial_rows(struct trial *t, int start);

/* Runs forward, or forward and then backward, from fresh bytes. Judges the bytes around. */
bool trial_forward(struct trial *t);
bool trial_backward(struct trial *t);

/* The piece of this name; it must be there. */
int trial_piece(const struct trial *t, const char *name);
/* Elements of a piece in order after the last call; the caller gives them back. */
double *trial_values(const struct trial *t, int piece);
/* The same numbers as trial_open made for a piece. */
double *trial_made(const struct trial *t, int piece);

#endif
