#include "api/ops_array.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"

/* ---- checks ---------------------------------------------------------------------------------- */

static bool type_of(int given, enum dtype *type)
{
    switch (given) {
    case GDN_F32: *type = DTYPE_F32; return true;
    case GDN_BF16: *type = DTYPE_BF16; return true;
    case GDN_F64: *type = DTYPE_F64; return true;
    case GDN_F16: *type = DTYPE_F16; return true;
    default: return false;
    }
}

/* "f32, bf16 or f16" */
static void types_text(unsigned types, char *text, size_t room)
{
    size_t at = 0;
    text[0] = 0;
    for (int t = 0; t < DTYPE_COUNT && at < room; t++) {
        if (!(types & 1u << t)) continue;
        types &= ~(1u << t);
        const char *join = at == 0 ? "" : types ? ", " : " or ";
        at += (size_t)snprintf(text + at, room - at, "%s%s", join, dtype_name((enum dtype)t));
    }
}

static enum gdn_status check_type(const struct gdn_array *given, const struct want *want,
                                  struct array *a, struct gdn_error *err)
{
    char need[64];
    types_text(want->types, need, sizeof need);
    if (!type_of(given->type, &a->type))
        return error_set(err, GDN_ERR_USAGE, "%s.type: found %d, need %s", want->name, given->type,
                         need);
    if (want->types & 1u << a->type) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "%s.type: found %s, need %s", want->name,
                     dtype_name(a->type), need);
}

static enum gdn_status lay(const struct gdn_array *given, const struct want *want, struct array *a,
                           struct gdn_error *err)
{
    const int64_t *s = given->stride;
    const bool dense = s[0] == 0 && s[1] == 0 && s[2] == 0;
    for (int i = 0; i < 4; i++) a->dim[i] = 1;
    for (int i = 0; i < 3; i++) a->stride[i] = 0;
    for (int i = 0; i < want->rank; i++) a->dim[array_axis(want->rank, i)] = want->dim[i];
    int64_t step = want->dim[want->rank - 1];
    for (int i = want->rank - 2; i >= 0; i--) {
        a->stride[array_axis(want->rank, i)] = dense ? step : s[i];
        if (__builtin_mul_overflow(step, want->dim[i], &step))
            return error_set(err, GDN_ERR_USAGE, "%s: it has more elements than can be counted",
                             want->name);
    }
    for (int i = 0; i < 3; i++)
        if (s[i] < 0 || (s[i] > 0 && i >= want->rank - 1))
            return error_set(err, GDN_ERR_USAGE, "%s.stride[%d]: found %lld, need %s", want->name,
                             i, (long long)s[i],
                             s[i] < 0 ? "0 or more" : "0: there is no such axis before the last");
    return GDN_OK;
}

static int64_t elements(const struct array *a)
{
    return a->dim[0] * a->dim[1] * a->dim[2] * a->dim[3];
}

/* The last element and its address can be counted, and stand on the grid of the type. */
static enum gdn_status check_reach(const struct array *a, struct gdn_error *err)
{
    const int64_t size = (int64_t)dtype_size(a->type);
    int64_t end = a->dim[3], step;
    bool fits = true;
    for (int i = 0; i < 3; i++)
        fits = fits && !__builtin_mul_overflow(a->stride[i], a->dim[i] - 1, &step) &&
               !__builtin_add_overflow(end, step, &end);
    uintptr_t last;
    fits = fits && !__builtin_mul_overflow(end, size, &end) &&
           !__builtin_add_overflow((uintptr_t)a->data, (uintptr_t)end, &last);
    if (!fits)
        return error_set(err, GDN_ERR_USAGE, "%s: its strides lead out of the address space",
                         a->name);
    if ((uintptr_t)a->data % (uintptr_t)size != 0)
        return error_set(err, GDN_ERR_USAGE, "%s.data: found %p, need a multiple of %lld", a->name,
                         (void *)a->data, (long long)size);
    return GDN_OK;
}

/* No element of an output is there twice: from the smallest stride on, each one steps over all
 * that lies within. */
static enum gdn_status check_apart(const struct array *a, struct gdn_error *err)
{
    int64_t within = a->dim[3];
    bool done[3] = {a->dim[0] == 1, a->dim[1] == 1, a->dim[2] == 1};
    for (int round = 0; round < 3; round++) {
        int least = -1;
        for (int i = 0; i < 3; i++)
            if (!done[i] && (least < 0 || a->stride[i] <= a->stride[least])) least = i;
        if (least < 0) break;
        if (a->stride[least] < within)
            return error_set(err, GDN_ERR_USAGE, "%s: found a stride of %lld, need at least %lld: "
                             "an output may not overlap itself", a->name,
                             (long long)a->stride[least], (long long)within);
        within += a->stride[least] * (a->dim[least] - 1);
        done[least] = true;
    }
    return GDN_OK;
}

enum gdn_status array_check(const struct gdn_array *given, const struct want *want,
                            struct array *a, struct gdn_error *err)
{
    *a = (struct array){.name = want->name, .data = given->data};
    if (!a->data && want->optional) return GDN_OK;
    TRY(check_type(given, want, a, err));
    TRY(lay(given, want, a, err));
    if (elements(a) == 0) return GDN_OK;
    if (!a->data)
        return error_set(err, GDN_ERR_USAGE, "%s.data: found NULL, need %lld elements", a->name,
                         (long long)elements(a));
    TRY(check_reach(a, err));
    return want->output ? check_apart(a, err) : GDN_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

struct array array_dense(enum dtype type, int64_t n, int64_t H, int64_t width)
{
    return (struct array){.type = type, .dim = {1, n, H, width},
                          .stride = {n * H * width, H * width, width}};
}

size_t array_bytes(const struct array *dense)
{
    size_t bytes;
    if (!checked_mul((size_t)(dense->dim[2] * dense->dim[3]), (size_t)dense->dim[1], &bytes) ||
        !checked_mul(bytes, dtype_size(dense->type), &bytes))
        return SIZE_MAX;
    return bytes;
}

char *array_row(const struct array *a, int64_t row)
{
    const int64_t T = a->dim[1] ? a->dim[1] : 1, size = (int64_t)dtype_size(a->type);
    return a->data + (row / T * a->stride[0] + row % T * a->stride[1]) * size;
}

bool array_even(const struct array *a, int64_t first, int64_t n)
{
    const int64_t T = a->dim[1];
    if (n <= 1 || T == 1 || first / T == (first + n - 1) / T) return true;
    return a->stride[0] == T * a->stride[1];
}

struct copying {
    const struct array *to, *from;
    struct pick to_rows, from_rows;
    double scale;
};

static void copy_width(const struct copying *c, char *to, const char *from)
{
    const enum dtype to_type = c->to->type, from_type = c->from->type;
    const int64_t n = c->to->dim[3];
    if (to_type == from_type && c->scale == 1.0) {
        memcpy(to, from, (size_t)n * dtype_size(to_type));
        return;
    }
    for (int64_t i = 0; i < n; i++)
        dtype_store(to, to_type, i, c->scale * dtype_load(from, from_type, i));
}

static void copy_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct copying *c = context;
    const int64_t to_step = c->to->stride[2] * (int64_t)dtype_size(c->to->type);
    const int64_t from_step = c->from->stride[2] * (int64_t)dtype_size(c->from->type);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        char *to = array_row(c->to, pick_row(c->to_rows, i));
        const char *from = array_row(c->from, pick_row(c->from_rows, i));
        for (int64_t h = 0; h < c->to->dim[2]; h++)
            copy_width(c, to + h * to_step, from + h * from_step);
    }
}

/* Rows that a thread should take at least. */
static int64_t grain(const struct array *a) { return 1 + 16384 / (a->dim[2] * a->dim[3] + 1); }

void array_copy(struct pool *pool, const struct array *to, struct pick to_rows,
                const struct array *from, struct pick from_rows, int64_t n, double scale)
{
    struct copying c = {to, from, to_rows, from_rows, scale};
    pool_run(pool, n, grain(to), copy_rows, &c);
}

static void zero_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct copying *c = context;
    const size_t size = dtype_size(c->to->type);
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = 0; h < c->to->dim[2]; h++)
            memset(array_row(c->to, pick_row(c->to_rows, i)) + h * c->to->stride[2] * (int64_t)size,
                   0, (size_t)c->to->dim[3] * size);
}

void array_zero(struct pool *pool, const struct array *a, struct pick rows, int64_t n)
{
    struct copying c = {.to = a, .to_rows = rows};
    pool_run(pool, n, grain(a), zero_rows, &c);
}
