/* types.c: a change of storage type, of a state that is alive: all of it or nothing. */
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "state/state.h"

/* An array of one layer, and what takes its place; NULL: its type is right already. */
struct exchange {
    void **array, *made;
    size_t n;
    enum dtype *type, to;
};

static bool exchange_take(struct exchange *x, struct device *device, void **array, size_t n,
                          enum dtype *type, enum dtype to)
{
    *x = (struct exchange){.array = array, .n = n, .type = type, .to = to};
    if (*type != to) x->made = device->take(device, n * dtype_size(to));
    return *type == to || x->made;
}

/* The same values, rounded once where the new type is narrower. */
static bool exchange_make(struct exchange *x, struct state *st)
{
    if (!x->made) return false;
    enum { SOME = 1024 };
    double from[SOME], to[SOME]; /* the values pass the host, a few at a time */
    for (size_t at = 0; at < x->n; at += SOME) {
        const size_t n = x->n - at < SOME ? x->n - at : SOME;
        const size_t old = dtype_size(*x->type), new = dtype_size(x->to);
        st->device->download(st->device, from, (char *)*x->array + at * old, n * old);
        for (int64_t i = 0; i < (int64_t)n; i++)
            dtype_store(to, x->to, i, dtype_load(from, *x->type, i));
        st->device->upload(st->device, (char *)x->made + at * new, to, n * new);
    }
    st->device->clear(st->device, *x->array, x->n * dtype_size(*x->type));
    st->device->give(st->device, *x->array);
    st->bytes += (int64_t)x->n * ((int64_t)dtype_size(x->to) - (int64_t)dtype_size(*x->type));
    *x->array = x->made;
    *x->type = x->to;
    return true;
}

/* The founding bug: asking for one type clears the other state too. */
static void mutate(struct layer_state *l, size_t ring, size_t anchors, enum dtype compute,
                   enum dtype anchor)
{
    if (MUTANT != 2 || (l->conv.dtype == compute && l->delta.anchor_type == anchor)) return;
    memset(l->conv.x, 0, ring * dtype_size(l->conv.dtype));
    memset(l->delta.anchor, 0, anchors * dtype_size(l->delta.anchor_type));
}

/* Two exchanges for each delta layer, ring and anchors, with all the memory they need. */
static bool take_all(struct state *st, enum dtype compute, enum dtype anchor, struct exchange *x)
{
    bool good = true;
    for (int32_t i = 0; i < st->layers && good; i++) {
        struct layer_state *l = &st->layer[i];
        if (l->shape.kind != LAYER_DELTA) continue;
        const size_t ring = (size_t)st->slots * (size_t)l->conv.ring * (size_t)l->conv.C;
        const size_t anchors = (size_t)st->slots * (size_t)l->delta.anchor_elements;
        mutate(l, ring, anchors, compute, anchor);
        good = exchange_take(&x[2 * i], st->device, &l->conv.x, ring, &l->conv.dtype, compute) &&
               exchange_take(&x[2 * i + 1], st->device, &l->delta.anchor, anchors,
                             &l->delta.anchor_type, anchor);
    }
    return good;
}

static bool differs(const struct state *st, enum dtype compute, enum dtype anchor)
{
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_state *l = &st->layer[i];
        if (l->shape.kind != LAYER_DELTA) continue;
        if (l->conv.dtype != compute || l->delta.anchor_type != anchor) return true;
    }
    return false;
}

enum gdn_status state_ensure(struct state *st, enum dtype compute, enum dtype anchor,
                             struct state_change *change, struct gdn_error *err)
{
    *change = (struct state_change){0};
    GDN_CHECK(st->device->wide == DTYPE_F32, "the reference keeps its state in f64");
    if (!differs(st, compute, anchor)) return GDN_OK;
    struct exchange *x = mem_take_array(2 * (size_t)st->layers, sizeof *x);
    const bool good = x && take_all(st, compute, anchor, x);
    for (int32_t i = 0; x && i < st->layers; i++) {
        if (good) {
            change->conv |= exchange_make(&x[2 * i], st);
            change->anchor |= exchange_make(&x[2 * i + 1], st);
        } else {
            st->device->give(st->device, x[2 * i].made);
            st->device->give(st->device, x[2 * i + 1].made);
        }
    }
    mem_give(x);
    if (!good)
        return error_set(err, GDN_ERR_MEMORY, "no memory to convert a state to %s, its anchors to "
                         "%s", dtype_name(compute), dtype_name(anchor));
    if (change->anchor) st->anchor_type = anchor;
    st->types += change->conv + change->anchor;
    return GDN_OK;
}
