/* types.c: a change of storage type, of a state that is alive. */
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "state/state.h"

/* A new array with the same values, rounded once if it is narrower; NULL without memory. */
static void *converted(struct device *device, const void *array, size_t n, enum dtype from,
                       enum dtype to)
{
    void *made = device->take(device, n * dtype_size(to));
    if (!made) return NULL;
    for (int64_t i = 0; i < (int64_t)n; i++) dtype_store(made, to, i, dtype_load(array, from, i));
    return made;
}

static enum gdn_status convert(struct state *st, void **array, size_t n, enum dtype *type,
                               enum dtype to, bool *changed, struct gdn_error *err)
{
    if (*type == to) return GDN_OK;
    void *made = converted(st->device, *array, n, *type, to);
    if (!made)
        return error_set(err, GDN_ERR_MEMORY, "no memory to convert a state from %s to %s",
                         dtype_name(*type), dtype_name(to));
    st->device->give(st->device, *array);
    st->bytes += (int64_t)n * ((int64_t)dtype_size(to) - (int64_t)dtype_size(*type));
    *array = made;
    *type = to;
    *changed = true;
    st->types++;
    return GDN_OK;
}

enum gdn_status state_ensure(struct state *st, enum dtype compute, enum dtype anchor,
                             struct state_change *change, struct gdn_error *err)
{
    *change = (struct state_change){0};
    GDN_CHECK(st->device->wide == DTYPE_F32, "the reference keeps its state in f64");
    for (int32_t i = 0; i < st->layers; i++) {
        struct layer_state *l = &st->layer[i];
        if (l->shape.kind != LAYER_DELTA) continue;
        const size_t ring = (size_t)st->slots * (size_t)l->conv.ring * (size_t)l->conv.C;
        const size_t anchors = (size_t)st->slots * (size_t)l->delta.anchor_elements;
        if (MUTANT == 2 && (l->conv.dtype != compute || l->delta.anchor_type != anchor)) {
            memset(l->conv.x, 0, ring * dtype_size(l->conv.dtype));
            memset(l->delta.anchor, 0, anchors * dtype_size(l->delta.anchor_type));
        }
        TRY(convert(st, &l->conv.x, ring, &l->conv.dtype, compute, &change->conv, err));
        TRY(convert(st, &l->delta.anchor, anchors, &l->delta.anchor_type, anchor, &change->anchor,
                    err));
    }
    if (change->anchor) st->anchor_type = anchor;
    return GDN_OK;
}
