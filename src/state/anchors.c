/* anchors.c: which anchor belongs to whom. One row holds the anchors of all layers of a sequence;
 * forks share a row, and a slot whose next pass may fold gets one of its own first. There are as
 * many rows as slots, so a slot that shares always finds a free one. */
#include "base/check.h"
#include "base/memory.h"
#include "state/state.h"

enum gdn_status anchors_open(struct state *st, struct gdn_error *err)
{
    const size_t slots = (size_t)st->slots;
    st->anchor_row = mem_take_array(slots, sizeof *st->anchor_row);
    st->anchor_shared = mem_take_array(slots, sizeof *st->anchor_shared);
    st->anchor_row_on = st->device->take(st->device, slots * sizeof *st->anchor_row_on);
    st->settle_on = st->device->take(st->device, 4 * sizeof *st->settle_on);
    if (!st->anchor_row || !st->anchor_shared || !st->anchor_row_on || !st->settle_on)
        return error_set(err, GDN_ERR_MEMORY, "no memory for %d anchors", st->slots);
    for (int32_t i = 0; i < st->slots; i++) st->anchor_row[i] = -1;
    return GDN_OK;
}

void anchors_close(struct state *st)
{
    mem_give(st->anchor_row);
    mem_give(st->anchor_shared);
    st->device->give(st->device, st->anchor_row_on);
    st->device->give(st->device, st->settle_on);
}

static void assign(struct state *st, int32_t slot, int32_t row)
{
    st->anchor_row[slot] = row;
    st->anchor_shared[row]++;
    st->device->upload(st->device, st->anchor_row_on + slot, &row, sizeof row);
}

static int32_t free_row(const struct state *st)
{
    int32_t row = 0;
    while (row < st->slots && st->anchor_shared[row] > 0) row++;
    GDN_CHECK(row < st->slots, "no free anchor among %d", st->slots);
    return row;
}

/* Bytes of one row of one layer, and where it lies. */
static size_t row_bytes(const struct delta_slots *d)
{
    return dtype_size(d->anchor_type) * (size_t)d->anchor_elements;
}

char *anchor_at(const struct state *st, int32_t layer, int32_t slot)
{
    const struct delta_slots *d = &st->layer[layer].delta;
    return (char *)d->anchor + row_bytes(d) * (size_t)st->anchor_row[slot];
}

static char *row_at(const struct delta_slots *d, int32_t row)
{
    return (char *)d->anchor + row_bytes(d) * (size_t)row;
}

void anchor_take(struct state *st, int32_t slot) { assign(st, slot, free_row(st)); }

void anchor_share(struct state *st, int32_t from, int32_t to)
{
    assign(st, to, st->anchor_row[from]);
}

void anchor_drop(struct state *st, int32_t slot)
{
    const int32_t row = st->anchor_row[slot];
    st->anchor_row[slot] = -1;
    if (--st->anchor_shared[row] > 0) return;
    for (int32_t i = 0; i < st->layers; i++) {
        const struct delta_slots *d = &st->layer[i].delta;
        if (d->anchor) st->device->clear(st->device, row_at(d, row), row_bytes(d));
    }
}

bool anchor_is_shared(const struct state *st, int32_t slot)
{
    return st->anchor_shared[st->anchor_row[slot]] > 1;
}

void anchor_own(struct state *st, int32_t slot)
{
    if (!anchor_is_shared(st, slot)) return;
    const int32_t old = st->anchor_row[slot];
    const int32_t row = free_row(st);
    for (int32_t i = 0; i < st->layers; i++) {
        const struct delta_slots *d = &st->layer[i].delta;
        if (d->anchor)
            st->device->copy(st->device, row_at(d, row), row_at(d, old), row_bytes(d));
    }
    st->anchor_shared[old]--;
    assign(st, slot, row);
}
