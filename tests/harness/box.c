#include "harness/box.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "harness/fill.h"
#include "tensor/quant.h"

#if HARNESS_SANITIZED && !defined(__SANITIZE_THREAD__)
#include <sanitizer/asan_interface.h>
static void fence(const void *at, size_t bytes, bool up)
{
    if (up)
        ASAN_POISON_MEMORY_REGION(at, bytes);
    else
        ASAN_UNPOISON_MEMORY_REGION(at, bytes);
}
#else
static void fence(const void *at, size_t bytes, bool up) { (void)at, (void)bytes, (void)up; }
#endif

enum { CANARY = 128 };

void poison_fill(void *at, size_t bytes)
{
    static const unsigned char pattern[2] = {0xf5, 0xff};
    unsigned char *p = at;
    for (size_t i = 0; i < bytes; i++) p[i] = pattern[i & 1];
}

void tensor_lay(struct tensor *t, enum dtype dtype, int rank, const int64_t *dim, bool window)
{
    *t = tensor_over(NULL, dtype, rank, dim);
    if (!window || rank < 2 || rank > 3) return;
    if (rank == 3) t->stride[1] = dim[2] + 3;
    t->stride[0] = (rank == 3 ? dim[1] * t->stride[1] : dim[1]) + 5;
}

/* What a row takes, in what strides count. */
static int64_t row_units(const struct tensor *t)
{
    const int64_t width = tensor_width(t);
    return dtype_quantised(t->dtype) ? quant_row_bytes(t->dtype, width) : width;
}

/* Offset of an element, counted in order, from element 0; of a quantised tensor of its row. */
static int64_t offset_of(const struct tensor *t, int64_t element)
{
    int64_t offset = 0;
    if (dtype_quantised(t->dtype)) element -= element % tensor_width(t);
    for (int i = t->rank - 1; i >= 0; i--) {
        offset += element % t->dim[i] * t->stride[i];
        element /= t->dim[i];
    }
    return offset;
}

bool box_open(struct box *box, struct device *device, const char *name, enum role role,
              const struct tensor *t, int shift)
{
    const size_t size = dtype_size(t->dtype);
    const int64_t n = tensor_elements(t), last = n > 0 ? n - tensor_width(t) : 0;
    *box = (struct box){.role = role, .t = *t, .device = device};
    snprintf(box->name, sizeof box->name, "%s", name);
    box->lead = CANARY + size * (size_t)shift;
    box->bytes = box->lead + CANARY + size * (size_t)(n > 0 ? offset_of(t, last) + row_units(t) : 0);
    box->block = device->take(device, box->bytes);
    box->before = mem_take(box->bytes);
    box->after = mem_take(box->bytes);
    if (!box->block || !box->before || !box->after) return false;
    box->t.data = box->block + box->lead;
    poison_fill(box->before, box->bytes);
    return true;
}

void box_rows(struct box *box, int64_t rows)
{
    box->t.dim[0] = rows;
    box->bytes = box->lead + CANARY +
                 (size_t)(rows * box->t.stride[0]) * dtype_size(box->t.dtype);
    poison_fill(box->before + box->bytes - CANARY, CANARY);
}

void box_close(struct box *box)
{
    if (box->block) box->device->give(box->device, box->block);
    mem_give(box->before);
    mem_give(box->after);
    *box = (struct box){0};
}

static unsigned char *element_in(const struct box *box, unsigned char *image, int64_t element)
{
    return image + box->lead +
           (size_t)offset_of(&box->t, element) * dtype_size(box->t.dtype);
}

void box_poke(struct box *box, int64_t element, double value)
{
    number_write(element_in(box, box->before, element), box->t.dtype, value);
}

void box_set(struct box *box, const double *values)
{
    const int64_t n = tensor_elements(&box->t);
    if (dtype_quantised(box->t.dtype)) {
        for (int64_t i = 0; i < n; i += tensor_width(&box->t))
            quantised_write(element_in(box, box->before, i), box->t.dtype, values + i,
                            tensor_width(&box->t));
        return;
    }
    for (int64_t i = 0; i < n; i++) box_poke(box, i, values[i]);
}

void box_get(const struct box *box, double *values)
{
    const int64_t n = tensor_elements(&box->t);
    for (int64_t i = 0; i < n; i++)
        values[i] = number_read(element_in(box, box->after, i), box->t.dtype);
}

const void *box_element(const struct box *box, int64_t element)
{
    return element_in(box, box->after, element);
}

void box_upload(const struct box *box)
{
    box->device->upload(box->device, box->block, box->before, box->bytes);
}

void box_download(struct box *box)
{
    box->device->download(box->device, box->after, box->block, box->bytes);
}

void box_keep(struct box *box) { memcpy(box->before, box->after, box->bytes); }

void box_fence(const struct box *box, bool up)
{
    fence(box->block, box->lead, up);
    fence(box->block + box->bytes - CANARY, CANARY, up);
}

/* Bytes [from, to) of the block lie outside every element. */
static bool outside_whole(const struct box *box, size_t from, size_t to, struct verdict *v)
{
    if (memcmp(box->before + from, box->after + from, to - from) == 0) return true;
    size_t at = from;
    while (box->before[at] == box->after[at]) at++;
    verdict_fail(v, "a byte outside %s was written: %lld from its start, block ends at %lld",
                 box->name, (long long)at - (long long)box->lead,
                 (long long)(box->bytes - CANARY) - (long long)box->lead);
    return false;
}

static bool is_poison(const unsigned char *at, size_t size)
{
    unsigned char poison[8];
    poison_fill(poison, size);
    return memcmp(at, poison, size) == 0;
}

/* The run of elements [first, first + n), contiguous in memory. */
static bool run_held(const struct box *box, int64_t first, int64_t n, struct verdict *v)
{
    const size_t size = dtype_size(box->t.dtype);
    const unsigned char *before = element_in(box, box->before, first);
    const unsigned char *after = element_in(box, box->after, first);
    if (box->role == ROLE_ADDED) return true;
    if (box->role == ROLE_IN && memcmp(before, after, size * (size_t)n) == 0) return true;
    for (int64_t i = 0; i < n; i++) {
        const size_t at = size * (size_t)i;
        const bool bad = box->role == ROLE_IN ? memcmp(before + at, after + at, size) != 0
                                              : is_poison(after + at, size);
        if (!bad) continue;
        char where[96];
        coordinate_text(&box->t, first + i, where, sizeof where);
        verdict_fail(v, "%s at %s was %s", box->name, where,
                     box->role == ROLE_IN ? "an input and was written"
                                          : "not written, or made from what is not");
        return false;
    }
    return true;
}

void box_inspect(const struct box *box, struct verdict *v)
{
    const int64_t n = tensor_elements(&box->t);
    const int64_t width = n > 0 ? box->t.dim[box->t.rank - 1] : 1;
    const int64_t units = n > 0 ? row_units(&box->t) : 1;
    const size_t run = dtype_size(box->t.dtype) * (size_t)units;
    size_t cursor = 0;
    for (int64_t i = 0; i < n; i += width) {
        const size_t at = (size_t)(element_in(box, box->before, i) - box->before);
        if (!outside_whole(box, cursor, at, v) || !run_held(box, i, units, v)) return;
        cursor = at + run;
    }
    outside_whole(box, cursor, box->bytes, v);
}
