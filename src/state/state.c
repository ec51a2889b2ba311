#include "state/state.h"

#include <string.h>

#include "base/check.h"
#include "base/checked.h"
#include "base/memory.h"

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Elements of the arrays of one layer, over all slots. */
struct layer_size {
    size_t anchor, k, u, G, ring, keys, values;
};

static bool product(size_t *out, const int64_t *factor, int n)
{
    *out = 1;
    for (int i = 0; i < n; i++) {
        size_t f;
        if (!checked_size(factor[i], &f) || !checked_mul(*out, f, out)) return false;
    }
    return true;
}

#define PRODUCT(out, ...)                                                                          \
    product(out, (int64_t[]){__VA_ARGS__},                                                         \
            (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

static int32_t value_width(const struct layer_shape *s) { return s->Dv ? s->Dv : s->D; }

static bool layer_size(const struct device *device, const struct layer_shape *s,
                       const struct state_options *o, int32_t pages, struct layer_size *size)
{
    *size = (struct layer_size){0};
    const int64_t n = o->entries;
    if (s->kind == LAYER_ATTN)
        return PRODUCT(&size->keys, pages, PAGE, s->Hkv, s->D) &&
               PRODUCT(&size->values, pages, PAGE, s->Hkv, s->latent ? 0 : value_width(s)) &&
               PRODUCT(&size->ring, o->slots, s->width > 0 ? HEAD_TAIL + n : 0, s->width);
    const int64_t C = 2ll * s->Hk * s->Dk + (int64_t)s->Hv * s->Dv;
    return PRODUCT(&size->anchor, o->slots, device->anchor_elements(s->Hv, s->Dv, s->Dk)) &&
           PRODUCT(&size->k, o->slots, n, s->Hk, s->Dk) &&
           PRODUCT(&size->u, o->slots, n, s->Hv, s->Dv) &&
           PRODUCT(&size->G, o->slots, n, s->Hv, s->channel_gate ? s->Dk : 1) &&
           PRODUCT(&size->ring, o->slots, s->taps - 1 + n, C);
}

static enum dtype anchor_dtype(const struct device *device, enum dtype asked)
{
    return device->wide == DTYPE_F64 ? DTYPE_F64 : asked;
}

static int32_t pages_a_row(int32_t context) { return (context + PAGE - 1) / PAGE; }

static bool add(size_t *sum, size_t elements, enum dtype dtype)
{
    size_t bytes;
    return checked_mul(elements, dtype_size(dtype), &bytes) && checked_add(*sum, bytes, sum);
}

int64_t state_bytes(const struct device *device, const struct layer_shape *shape, int32_t layers,
                    const struct state_options *o)
{
    size_t sum = 0;
    const int64_t pages = (int64_t)o->slots * pages_a_row(o->context) + o->spare_pages;
    if (pages > INT32_MAX) return 0;
    for (int32_t i = 0; i < layers; i++) {
        struct layer_size s;
        if (!layer_size(device, &shape[i], o, (int32_t)pages, &s) ||
            !add(&sum, s.anchor, anchor_dtype(device, o->anchor)) || !add(&sum, s.k, o->compute) ||
            !add(&sum, s.u, device->wide) || !add(&sum, s.G, device->wide) ||
            !add(&sum, s.ring, o->compute) || !add(&sum, s.keys, o->compute) ||
            !add(&sum, s.values, o->compute))
            return 0;
    }
    return sum > INT64_MAX ? 0 : (int64_t)sum;
}

/* ---- open and close -------------------------------------------------------------------------- */

static void *take(struct state *st, size_t elements, enum dtype dtype)
{
    return st->device->take(st->device, elements * dtype_size(dtype));
}

static bool open_layer(struct state *st, struct layer_state *l, const struct state_options *o)
{
    const struct layer_shape *s = &l->shape;
    struct layer_size size;
    if (!layer_size(st->device, s, o, st->pages, &size)) return false;
    if (s->kind == LAYER_ATTN) {
        l->kv = (struct kv_pages){.pages = st->pages, .Hkv = s->Hkv, .D = s->D,
                                  .Dv = value_width(s), .dtype = o->compute,
                                  .row_pages = st->row_pages, .table = st->table_on};
        l->kv.k = take(st, size.keys, o->compute);
        l->kv.v = s->latent ? NULL : take(st, size.values, o->compute);
        st->page_bytes += PAGE * (int64_t)(kv_row_bytes(&l->kv, false) +
                                           kv_row_bytes(&l->kv, true));
        if (s->width > 0) {
            l->conv = (struct conv_slots){.slots = o->slots, .ring = HEAD_TAIL + o->entries,
                                          .C = s->width, .dtype = o->compute};
            l->conv.x = take(st, size.ring, o->compute);
            if (!l->conv.x) return false;
        }
        return l->kv.k && (l->kv.v || s->latent);
    }
    l->delta = (struct delta_slots){
        .slots = o->slots, .entries = o->entries, .Hk = s->Hk, .Hv = s->Hv, .Dk = s->Dk,
        .Dv = s->Dv, .channel_gate = s->channel_gate, .anchor_type = st->anchor_type,
        .k_type = o->compute, .wide_type = st->device->wide,
        .anchor_elements = st->device->anchor_elements(s->Hv, s->Dv, s->Dk),
        .anchor_row = st->anchor_row_on};
    l->delta.anchor = take(st, size.anchor, st->anchor_type);
    l->delta.k = take(st, size.k, o->compute);
    l->delta.u = take(st, size.u, st->device->wide);
    l->delta.G = take(st, size.G, st->device->wide);
    l->delta.base = take(st, (size_t)o->slots, DTYPE_I32);
    l->conv = (struct conv_slots){.slots = o->slots, .ring = s->taps - 1 + o->entries,
                                  .C = 2 * s->Hk * s->Dk + s->Hv * s->Dv, .dtype = o->compute};
    l->conv.x = take(st, size.ring, o->compute);
    return l->delta.anchor && l->delta.k && l->delta.u && l->delta.G && l->delta.base && l->conv.x;
}

enum gdn_status state_open(struct state *st, struct device *device, const struct layer_shape *shape,
                           int32_t layers, const struct state_options *o, struct gdn_error *err)
{
    GDN_CHECK(o->entries == BLOCK || o->entries == 2 * BLOCK, "a log of %d entries", o->entries);
    *st = (struct state){.device = device, .layers = layers, .slots = o->slots,
                         .entries = o->entries, .row_pages = pages_a_row(o->context),
                         .compute = o->compute, .anchor_type = anchor_dtype(device, o->anchor)};
    st->bytes = state_bytes(device, shape, layers, o);
    if (st->bytes == 0)
        return error_set(err, GDN_ERR_MEMORY, "a state of %d slots and %d positions is too large",
                         o->slots, o->context);
    st->pages = o->slots * st->row_pages + o->spare_pages;
    st->layer = mem_take_array((size_t)layers, sizeof *st->layer);
    st->slot = mem_take_array((size_t)o->slots, sizeof *st->slot);
    bool good = st->layer && st->slot && pages_open(st, err) == GDN_OK &&
                anchors_open(st, err) == GDN_OK;
    for (int32_t i = 0; good && i < layers; i++) {
        st->layer[i].shape = shape[i];
        good = open_layer(st, &st->layer[i], o);
    }
    if (good) return GDN_OK;
    state_close(st);
    return error_set(err, GDN_ERR_MEMORY, "no memory for a state of %d slots and %d positions "
                     "(%.1f MB)", o->slots, o->context,
                     (double)state_bytes(device, shape, layers, o) / 1e6);
}

void state_close(struct state *st)
{
    struct device *dev = st->device;
    for (int32_t i = 0; st->slot && i < st->slots; i++) state_slot_give(st, i);
    for (int32_t i = 0; st->layer && i < st->layers; i++) {
        struct layer_state *l = &st->layer[i];
        dev->give(dev, l->delta.anchor);
        dev->give(dev, l->delta.k);
        dev->give(dev, l->delta.u);
        dev->give(dev, l->delta.G);
        dev->give(dev, l->delta.base);
        dev->give(dev, l->conv.x);
        dev->give(dev, l->kv.k);
        dev->give(dev, l->kv.v);
    }
    if (dev) pages_close(st);
    if (dev) anchors_close(st);
    mem_give(st->layer);
    mem_give(st->slot);
    *st = (struct state){0};
}
