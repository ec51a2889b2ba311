#include "tensor/tensor.h"

#include "base/check.h"
#include "base/checked.h"
#include "tensor/quant.h"

static void lay_dense(struct tensor *t, enum dtype dtype, int rank, const int64_t *dim)
{
    GDN_CHECK(rank >= 1 && rank <= TENSOR_RANK, "a tensor of rank %d", rank);
    *t = (struct tensor){.dtype = dtype, .rank = rank};
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        GDN_CHECK(dim[i] >= 0, "axis %d has length %lld", i, (long long)dim[i]);
        t->dim[i] = dim[i];
        t->stride[i] = step;
        step *= i == rank - 1 && dtype_quantised(dtype) ? quant_row_bytes(dtype, dim[i]) : dim[i];
    }
}

struct tensor *tensor_new(struct arena *meta, struct arena *data, enum dtype dtype, int rank,
                          const int64_t *dim)
{
    struct tensor *t = arena_take(meta, sizeof *t);
    if (!t) return NULL;
    GDN_CHECK(!dtype_quantised(dtype), "an activation of type %s", dtype_name(dtype));
    lay_dense(t, dtype, rank, dim);
    size_t bytes;
    if (!checked_mul((size_t)tensor_elements(t), dtype_size(dtype), &bytes)) bytes = SIZE_MAX;
    t->data = arena_take(data, bytes);
    return t;
}

struct tensor tensor_over(void *data, enum dtype dtype, int rank, const int64_t *dim)
{
    struct tensor t;
    lay_dense(&t, dtype, rank, dim);
    t.data = data;
    return t;
}

struct tensor *tensor_view(struct arena *meta, struct tensor *of, int64_t offset, int rank,
                           const int64_t *dim, const int64_t *stride)
{
    GDN_CHECK(rank >= 1 && rank <= TENSOR_RANK && stride[rank - 1] == 1 &&
              !dtype_quantised(of->dtype), "not a view");
    struct tensor *t = arena_take(meta, sizeof *t);
    if (!t) return NULL;
    *t = (struct tensor){.dtype = of->dtype, .rank = rank, .requires_grad = of->requires_grad};
    for (int i = 0; i < rank; i++) {
        t->dim[i] = dim[i];
        t->stride[i] = stride[i];
    }
    t->root = tensor_root(of);
    t->offset = of->offset + offset;
    t->data = of->data ? tensor_at(of, offset) : NULL;
    return t;
}

struct tensor *tensor_grad(struct arena *meta, struct arena *data, struct tensor *t)
{
    if (t->grad) return t->grad;
    if (t->root) {
        struct tensor *whole = tensor_grad(meta, data, t->root);
        t->grad = whole ? tensor_view(meta, whole, t->offset, t->rank, t->dim, t->stride) : NULL;
        return t->grad;
    }
    GDN_CHECK(tensor_dense(t), "the gradient of a root that is not dense");
    struct tensor *g = arena_take(meta, sizeof *g);
    if (!g) return NULL;
    lay_dense(g, dtype_wide(t->dtype), t->rank, t->dim);
    g->data = arena_take_zeroed(data, (size_t)tensor_elements(g) * dtype_size(g->dtype));
    t->grad = g->data ? g : NULL;
    return t->grad;
}

int64_t tensor_elements(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

bool tensor_dense(const struct tensor *t)
{
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->dim[i] != 1 && t->stride[i] != step) return false;
        step *= t->dim[i];
    }
    return true;
}

bool tensor_same_dims(const struct tensor *a, const struct tensor *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}
