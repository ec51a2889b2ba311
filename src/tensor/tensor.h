/* tensor.h: a typed, strided array somewhere in a device's memory, and its gradient.
 *
 * A tensor owns nothing: its struct lives in a pass's host arena (or a model), its data in the
 * device's. A view shares the data and the gradient of its root. */
#ifndef TENSOR_TENSOR_H
#define TENSOR_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "tensor/dtype.h"

enum { TENSOR_RANK = 4 };

struct tensor {
    void *data;
    enum dtype dtype;
    int rank;
    int64_t dim[TENSOR_RANK];
    int64_t stride[TENSOR_RANK]; /* in elements (quantised: bytes); the last one is always 1 */
    bool requires_grad;
    uint32_t version;      /* of a root: counts the ops that wrote it; a tape checks it */
    struct tensor *grad;   /* dtype_wide(dtype), same dims; NULL: none, or not yet */
    struct tensor *root;   /* NULL: this is one */
    int64_t offset;        /* elements from the root's data */
};

/* A dense tensor in the arenas: the struct in `meta`, the data in `data`, not initialised. NULL
 * when meta is full; data == NULL when only `data` is (both leave their arena failed). */
struct tensor *tensor_new(struct arena *meta, struct arena *data, enum dtype dtype, int rank,
                          const int64_t *dim);

/* Over memory that somebody else owns, dense. */
struct tensor tensor_over(void *data, enum dtype dtype, int rank, const int64_t *dim);

/* A window of `of`: `offset` elements in, with its own dims and strides (last stride 1). */
struct tensor *tensor_view(struct arena *meta, struct tensor *of, int64_t offset, int rank,
                           const int64_t *dim, const int64_t *stride);

/* The gradient, made (zeroed) on first use; for a view, the matching window of its root's. NULL
 * when an arena is full. */
struct tensor *tensor_grad(struct arena *meta, struct arena *data, struct tensor *t);

static inline struct tensor *tensor_root(struct tensor *t) { return t->root ? t->root : t; }

int64_t tensor_elements(const struct tensor *t);
bool tensor_dense(const struct tensor *t);
bool tensor_same_dims(const struct tensor *a, const struct tensor *b);

/* Rows and width when everything before the last axis is seen as rows: T = dim[0]*...; D = last. */
static inline int64_t tensor_width(const struct tensor *t) { return t->dim[t->rank - 1]; }

/* Address of element (i, j, k...), of a quantised tensor only of the begin of a row: only for host
 * memory. */
static inline void *tensor_at(const struct tensor *t, int64_t element)
{
    return (char *)t->data + element * (int64_t)dtype_size(t->dtype);
}

#endif
