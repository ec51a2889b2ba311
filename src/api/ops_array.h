/* ops_array.h: the caller's arrays of gdn/ops.h: what they are after their checks, and copies. */
#ifndef API_OPS_ARRAY_H
#define API_OPS_ARRAY_H

#include "base/pool.h"
#include "base/status.h"
#include "gdn/ops.h"
#include "tensor/tensor.h"

/* Also what a call keeps in its workspace: then dense. */
struct array {
    const char *name;
    char *data; /* NULL: not given */
    enum dtype type;
    int64_t dim[4];    /* [B, T, H, width]: an axis that it lacks has length 1 */
    int64_t stride[3]; /* in elements; the width is contiguous */
};

/* What an argument has to be. */
struct want {
    const char *name; /* as the caller spells it */
    int rank;
    int64_t dim[4];
    unsigned types; /* a bit for each dtype */
    bool optional, output;
};

enum { TYPE_F32 = 1 << DTYPE_F32, TYPE_BF16 = 1 << DTYPE_BF16, TYPE_F16 = 1 << DTYPE_F16,
       TYPE_F64 = 1 << DTYPE_F64 };

enum gdn_status array_check(const struct gdn_array *given, const struct want *want,
                            struct array *array, struct gdn_error *err);

/* Where the axis of a caller's array of this rank stands among the four. */
static inline int array_axis(int rank, int axis)
{
    if (axis == rank - 1) return 3;
    return rank == 2 ? 1 : axis;
}

/* [1, n, H, width], dense; the data is still to be set. */
struct array array_dense(enum dtype type, int64_t n, int64_t H, int64_t width);
size_t array_bytes(const struct array *dense);

/* Rows are counted through B and T. */
char *array_row(const struct array *a, int64_t row);
/* Rows first..first+n-1 stand one step apart. */
bool array_even(const struct array *a, int64_t first, int64_t n);
static inline int64_t array_step(const struct array *a)
{
    return a->dim[1] == 1 ? a->stride[0] : a->stride[1];
}

/* Rows of an array: row[i], or first + i. */
struct pick {
    const int32_t *row;
    int64_t first;
};
static inline int64_t pick_row(struct pick p, int64_t i) { return p.row ? p.row[i] : p.first + i; }

/* to[i] = scale from[i] for n rows; H and width are the same. */
void array_copy(struct pool *pool, const struct array *to, struct pick to_rows,
                const struct array *from, struct pick from_rows, int64_t n, double scale);
void array_zero(struct pool *pool, const struct array *a, struct pick rows, int64_t n);

#endif
