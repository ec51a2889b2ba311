/* embed: y[t] = table[ids[t]]                 table [V, D], ids [T], y [T, D]
 * backward: dtable[ids[t]] += dy[t], in row order. */
#include "base/check.h"
#include "kernels/ref/ref.h"

void embed_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct embed_args *a = args;
    for (int64_t t = 0; t < a->y->dim[0]; t++) {
        const int32_t id = a->ids[t];
        GDN_CHECK(id >= 0 && id < a->table->dim[0], "embed: id %d", id);
        for (int64_t i = 0; i < a->y->dim[1]; i++)
            ref_put(a->y, ref_at(a->y, t, i, 0), ref_weight(a->table, id, i));
    }
}

void embed_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct embed_args *a = args;
    const struct tensor *dy = a->y->grad, *dtable = a->table->grad;
    if (!dy || !dtable) return;
    for (int64_t t = 0; t < a->y->dim[0]; t++)
        for (int64_t i = 0; i < a->y->dim[1]; i++)
            ref_add(dtable, ref_at(dtable, a->ids[t], i, 0), ref_get(dy, ref_at(dy, t, i, 0)));
}
