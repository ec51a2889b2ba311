#include "state/snapshot.h"

#include <string.h>

#include "base/check.h"
#include "base/memory.h"

/* Inputs a ring must hold at a position so that every rewind within the log finds its history. */
static int32_t ring_rows(const struct conv_slots *c, int32_t entries, int32_t position,
                         int32_t length)
{
    const int32_t want = c->ring - entries + length; /* taps - 1 + length */
    return want < position ? want : position;
}

static void part_bytes(const struct state *st, const struct layer_state *l, int32_t position,
                       int32_t length, size_t bytes[SNAPSHOT_PARTS])
{
    const struct delta_slots *d = &l->delta;
    const size_t n = (size_t)length, wide = dtype_size(d->wide_type);
    const size_t gates = d->channel_gate ? (size_t)d->Dk : 1;
    bytes[SNAPSHOT_ANCHOR] = dtype_size(d->anchor_type) * (size_t)d->anchor_elements;
    bytes[SNAPSHOT_K] = dtype_size(d->k_type) * n * (size_t)d->Hk * (size_t)d->Dk;
    bytes[SNAPSHOT_U] = wide * n * (size_t)d->Hv * (size_t)d->Dv;
    bytes[SNAPSHOT_G] = wide * n * (size_t)d->Hv * gates;
    bytes[SNAPSHOT_RING] = dtype_size(l->conv.dtype) * (size_t)l->conv.C *
                           (size_t)ring_rows(&l->conv, st->entries, position, length);
}

static size_t align16(size_t bytes) { return (bytes + 15) / 16 * 16; }

static int32_t pages_of(int32_t position) { return (position + PAGE - 1) / PAGE; }

static bool has_pages(const struct state *st)
{
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].shape.kind == LAYER_ATTN) return true;
    return false;
}

/* Something of the layer is copied: all of it, or of a draft head the last rows. */
static bool has_copy(const struct state *st, int32_t layer)
{
    return st->layer[layer].conv.x != NULL;
}

size_t snapshot_bytes(const struct state *st, int32_t position, int32_t length)
{
    size_t sum = align16(sizeof(int32_t) * (size_t)pages_of(position));
    for (int32_t i = 0; i < st->layers; i++) {
        if (!has_copy(st, i)) continue;
        size_t bytes[SNAPSHOT_PARTS];
        part_bytes(st, &st->layer[i], position, length, bytes);
        for (int p = 0; p < SNAPSHOT_PARTS; p++) sum += align16(bytes[p]);
    }
    return sum;
}

const int32_t *snapshot_pages(const struct state *st, int32_t slot, int32_t *pages)
{
    *pages = has_pages(st) ? pages_of(st->slot[slot].position) : 0;
    return st->table + (int64_t)slot * st->row_pages;
}

size_t snapshot_first(const struct snapshot *s)
{
    return align16(sizeof(int32_t) * (size_t)pages_of(s->position));
}

void snapshot_parts(const struct snapshot *s, const struct state *st, int32_t layer, size_t *offset,
                    struct snapshot_part part[SNAPSHOT_PARTS])
{
    const struct layer_state *l = &st->layer[layer];
    const enum dtype type[SNAPSHOT_PARTS] = {l->delta.anchor_type, l->delta.k_type,
                                             l->delta.wide_type, l->delta.wide_type, l->conv.dtype};
    size_t bytes[SNAPSHOT_PARTS];
    part_bytes(st, l, s->position, s->length, bytes);
    for (int p = 0; p < SNAPSHOT_PARTS; p++) {
        part[p] = (struct snapshot_part){s->memory + *offset, bytes[p], type[p]};
        *offset += align16(bytes[p]);
    }
}

struct delta_slots snapshot_heads(const struct device *device, const struct delta_slots *delta,
                                  const struct snapshot_part *anchor)
{
    struct delta_slots heads = *delta;
    heads.slots = delta->Hv;
    heads.Hk = heads.Hv = 1;
    heads.anchor = anchor->at;
    heads.anchor_row = NULL;
    heads.anchor_elements = device->anchor_elements(1, delta->Dv, delta->Dk);
    return heads;
}

/* ---- one layer there and back ---------------------------------------------------------------- */

/* Where each part of a slot lies in the layer's arrays (the ring is walked row by row). */
static void slot_parts(const struct state *st, int32_t layer, int32_t slot,
                       char *at[SNAPSHOT_PARTS])
{
    const struct layer_state *l = &st->layer[layer];
    const struct delta_slots *d = &l->delta;
    const size_t n = (size_t)slot * (size_t)d->entries, wide = dtype_size(d->wide_type);
    const size_t gates = d->channel_gate ? (size_t)d->Dk : 1;
    if (l->shape.kind == LAYER_DELTA) at[SNAPSHOT_ANCHOR] = anchor_at(st, layer, slot);
    at[SNAPSHOT_K] = (char *)d->k + dtype_size(d->k_type) * n * (size_t)d->Hk * (size_t)d->Dk;
    at[SNAPSHOT_U] = (char *)d->u + wide * n * (size_t)d->Hv * (size_t)d->Dv;
    at[SNAPSHOT_G] = (char *)d->G + wide * n * (size_t)d->Hv * gates;
    at[SNAPSHOT_RING] = (char *)l->conv.x + dtype_size(l->conv.dtype) * (size_t)l->conv.C *
                                                (size_t)slot * (size_t)l->conv.ring;
}

static void copy_out(const struct snapshot *s, const struct state *st, int32_t layer, int32_t slot,
                     size_t *offset)
{
    const struct layer_state *l = &st->layer[layer];
    struct snapshot_part part[SNAPSHOT_PARTS];
    char *from[SNAPSHOT_PARTS];
    snapshot_parts(s, st, layer, offset, part);
    slot_parts(st, layer, slot, from);
    for (int p = 0; l->shape.kind == LAYER_DELTA && p < SNAPSHOT_RING; p++)
        st->device->download(st->device, part[p].at, from[p], part[p].bytes);
    const size_t row = dtype_size(l->conv.dtype) * (size_t)l->conv.C;
    const int32_t rows = (int32_t)(part[SNAPSHOT_RING].bytes / row);
    for (int32_t i = 0; i < rows; i++)
        st->device->download(st->device, part[SNAPSHOT_RING].at + row * (size_t)i,
                             from[SNAPSHOT_RING] +
                                 row * (size_t)((s->position - rows + i) % l->conv.ring),
                             row);
}

static void copy_in(const struct snapshot *s, struct state *st, int32_t layer, int32_t slot,
                    size_t *offset)
{
    struct layer_state *l = &st->layer[layer];
    struct snapshot_part part[SNAPSHOT_PARTS];
    char *to[SNAPSHOT_PARTS];
    snapshot_parts(s, st, layer, offset, part);
    slot_parts(st, layer, slot, to);
    for (int p = 0; l->shape.kind == LAYER_DELTA && p < SNAPSHOT_RING; p++)
        st->device->upload(st->device, to[p], part[p].at, part[p].bytes);
    const size_t row = dtype_size(l->conv.dtype) * (size_t)l->conv.C;
    const int32_t rows = (int32_t)(part[SNAPSHOT_RING].bytes / row);
    for (int32_t i = 0; i < rows; i++)
        st->device->upload(st->device,
                           to[SNAPSHOT_RING] +
                               row * (size_t)((s->position - rows + i) % l->conv.ring),
                           part[SNAPSHOT_RING].at + row * (size_t)i, row);
    if (l->shape.kind != LAYER_DELTA) return;
    const int32_t base = s->position - s->length;
    st->device->upload(st->device, l->delta.base + slot, &base, sizeof base);
}

/* ---- take, restore, release ------------------------------------------------------------------ */

enum gdn_status snapshot_take(struct snapshot *s, struct state *st, int32_t slot,
                              struct arena *scratch, void *memory, struct gdn_error *err)
{
    *s = (struct snapshot){0};
    if (st->slot[slot].status != SLOT_LIVE)
        return error_set(err, GDN_ERR_USAGE, "a snapshot of a sequence that failed half-way");
    const int32_t position = st->slot[slot].position;
    if (position == 0) return GDN_OK;
    GDN_CHECK(state_first(st, slot) >= position - state_lag(st), "the draft head is behind");
    TRY(state_settle(st, slot, scratch, err));
    struct snapshot made = {.state = st, .position = position, .length = state_length(st, slot),
                            .types = st->types};
    made.bytes = snapshot_bytes(st, position, made.length);
    made.memory = memory ? memory : mem_take_dirty(made.bytes);
    if (!made.memory)
        return error_set(err, GDN_ERR_MEMORY, "no memory for a snapshot of %.1f MB",
                         (double)made.bytes / 1e6);
    made.page = (int32_t *)(void *)made.memory;
    made.pages = has_pages(st) ? pages_of(position) : 0;
    pages_hold(st, slot, made.page, made.pages);
    size_t offset = snapshot_first(&made);
    for (int32_t i = 0; i < st->layers; i++)
        if (has_copy(st, i)) copy_out(&made, st, i, slot, &offset);
    *s = made;
    return GDN_OK;
}

void snapshot_fill(const struct snapshot *s, int32_t slot)
{
    size_t offset = snapshot_first(s);
    for (int32_t i = 0; i < s->state->layers; i++)
        if (has_copy(s->state, i)) copy_in(s, s->state, i, slot, &offset);
    s->state->slot[slot].position = s->state->slot[slot].finite = s->position;
    s->state->slot[slot].head = head_settled(s->position);
}

enum gdn_status snapshot_restore(const struct snapshot *s, struct state *st, int32_t *slot,
                                 int32_t position, struct gdn_error *err)
{
    if (position != s->position)
        return error_set(err, GDN_ERR_USAGE,
                         "restore to position %d: the snapshot stands at %d, and at no other",
                         position, s->position);
    if (s->state && s->state != st)
        return error_set(err, GDN_ERR_USAGE, "a snapshot of another state");
    if (s->state && s->types != st->types)
        return error_set(err, GDN_ERR_USAGE, "a snapshot from before a change of the "
                         "state's types");
    const int32_t spare = state_slot_take(st);
    if (spare < 0)
        return error_set(err, GDN_ERR_MEMORY, "no free slot to restore into (there are %d)",
                         st->slots);
    if (s->state) {
        pages_lend(st, spare, s->page, s->pages);
        snapshot_fill(s, spare);
    }
    if (*slot >= 0) state_slot_give(st, *slot);
    *slot = spare;
    return GDN_OK;
}

int64_t snapshot_weight(const struct snapshot *s)
{
    if (!s->state) return 0;
    int64_t pages = 0;
    for (int32_t i = 0; i < s->pages; i++)
        pages += s->state->page_bytes / s->state->shared[s->page[i]];
    return (int64_t)s->bytes + pages;
}

void snapshot_release(struct snapshot *s, bool from_heap)
{
    if (s->state) {
        pages_let_go(s->state, s->page, s->pages);
        if (from_heap)
            mem_wipe(s->memory);
        else
            memset(s->memory, 0, s->bytes);
    }
    *s = (struct snapshot){0};
}
