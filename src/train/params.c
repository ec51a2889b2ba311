#include "train/params.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"

/* Copies the values to `at`, the gradient behind them, and points the model there. */
static void adopt(struct param *p, struct weight *w, enum dtype dtype, char *at)
{
    const size_t bytes = (size_t)p->n * dtype_size(dtype);
    for (int64_t i = 0; i < p->n; i++)
        dtype_store(at, dtype, i, dtype_load(w->tensor.data, w->tensor.dtype, i));
    p->gradient = tensor_over(at + bytes, dtype, w->tensor.rank, w->tensor.dim);
    w->tensor = tensor_over(at, dtype, p->file.rank, p->file.dim);
    w->tensor.requires_grad = true;
    w->tensor.grad = &p->gradient;
}

enum gdn_status params_open(struct params *ps, struct weights *w, enum dtype dtype,
                            struct gdn_error *err)
{
    GDN_CHECK(dtype == DTYPE_F32 || dtype == DTYPE_F64, "parameters are f32 or f64");
    *ps = (struct params){0};
    for (int32_t i = 0; i < w->count; i++) {
        const struct tensor *t = &w->list[i].tensor;
        if (!dtype_quantised(t->dtype)) ps->count++, ps->n += tensor_elements(t);
    }
    ps->list = mem_take_array((size_t)ps->count, sizeof *ps->list);
    ps->memory = mem_take_array((size_t)ps->n, 2 * dtype_size(dtype));
    if (!ps->list || !ps->memory) {
        const long long n = (long long)ps->n;
        ps->count = 0;
        params_close(ps);
        return error_set(err, GDN_ERR_MEMORY, "no memory for %lld parameters and gradients", n);
    }
    char *at = ps->memory;
    struct param *p = ps->list;
    for (int32_t i = 0; i < w->count; i++) {
        if (dtype_quantised(w->list[i].tensor.dtype)) continue;
        *p = (struct param){.name = w->list[i].name, .tensor = &w->list[i].tensor,
                            .file = w->list[i].tensor,
                            .n = tensor_elements(&w->list[i].tensor),
                            .decays = w->list[i].tensor.rank >= 2 &&
                                      w->list[i].origin[0]->entry->rank >= 2};
        adopt(p, &w->list[i], dtype, at);
        at += 2 * (size_t)p->n * dtype_size(dtype);
        p++;
    }
    return GDN_OK;
}

void params_close(struct params *ps)
{
    for (int32_t i = 0; i < ps->count; i++) *ps->list[i].tensor = ps->list[i].file;
    mem_give(ps->list);
    mem_give(ps->memory);
    *ps = (struct params){0};
}

void params_clear(struct params *ps)
{
    for (int32_t i = 0; i < ps->count; i++)
        memset(ps->list[i].gradient.data, 0,
               (size_t)ps->list[i].n * dtype_size(ps->list[i].gradient.dtype));
}
