/* founding_cache.c: founding behaviours of the recurrent cache (S3): reads, writes, snapshots. */
#include <string.h>

#include "base/memory.h"
#include "flow.h"
#include "founding.h"
#include "state/store.h"

#define LAW(name) \
    static bool law_##name(struct flow *f); \
    bool name(void) { return flow_law(law_##name); } \
    static bool law_##name(struct flow *f)

/* ---- reads and writes ------------------------------------------------------------------------ */

LAW(shapes_are_right)
{
    bool good = true;
    for (int32_t l = 0; l < f->inner->layers; l++) {
        const struct layer_state *s = &f->inner->layer[l];
        const struct delta_slots *d = &s->delta;
        good = good && s->conv.C == 2 * d->Hk * d->Dk + d->Hv * d->Dv &&
               s->conv.ring == s->shape.taps - 1 + d->entries && d->slots == s->conv.slots &&
               d->anchor_elements >= d->Hv * d->Dv * d->Dk;
    }
    return good;
}

bool delta_is_f32_conv_follows(void)
{
    static struct flow f;
    bool good = flow_open(&f, GDN_BF16, gdn_options_default().state, false);
    for (int32_t l = 0; l < FLOW_LAYERS && good; l++)
        good = f.inner->layer[l].delta.anchor_type == DTYPE_F32 &&
               f.inner->layer[l].delta.wide_type == DTYPE_F32 &&
               f.inner->layer[l].conv.dtype == DTYPE_BF16;
    flow_close(&f);
    return good;
}

static bool is_zero(struct flow *f, int32_t slot)
{
    for (int32_t l = 0; l < FLOW_LAYERS; l++) {
        double S[2 * 32 * 16] = {0};
        if (gdn_state_export(f->state, slot, l, S, &f->err) != GDN_OK) return false;
        for (size_t i = 0; i < sizeof S / sizeof *S; i++)
            if (S[i] != 0) return false;
    }
    return true;
}

LAW(first_read_is_zero)
{
    const int32_t slot = gdn_state_slot_take(f->state);
    return is_zero(f, slot) && gdn_state_position(f->state, slot) == 0;
}

LAW(second_read_is_the_same)
{
    const int32_t slot = flow_slot(f, 20);
    const void *anchor = f->inner->layer[0].delta.anchor, *ring = f->inner->layer[0].conv.x;
    const uint64_t first = flow_state(f, slot);
    return flow_state(f, slot) == first && f->inner->layer[0].delta.anchor == anchor &&
           f->inner->layer[0].conv.x == ring && flow_goes_on(f, slot);
}

LAW(mismatch_touches_its_part)
{
    struct state_change change;
    const struct layer_state *l = &f->inner->layer[0];
    flow_slot(f, 20);
    const void *anchor = l->delta.anchor, *ring = l->conv.x;
    const enum dtype was = l->delta.anchor_type, other = was == DTYPE_F32 ? DTYPE_BF16 : DTYPE_F32;
    bool good = state_ensure(f->inner, DTYPE_F32, other, &change, &f->err) == GDN_OK &&
                change.anchor && !change.conv && l->conv.x == ring;
    anchor = l->delta.anchor;
    good = good && state_ensure(f->inner, DTYPE_BF16, other, &change, &f->err) == GDN_OK &&
           change.conv && !change.anchor && l->delta.anchor == anchor;
    return good;
}

LAW(writes_advance_by_real_rows)
{
    flow_rows out[8];
    memset(out, 0, sizeof out);
    const int32_t a = flow_slot(f, 20), b = flow_slot(f, 5);
    const uint64_t before = flow_state(f, b);
    flow_pass(f, (struct flow_part[]){{a, 0, 20, 7}, {b, 0, 5, 0}}, 2, false, out);
    return gdn_state_position(f->state, a) == 27 && gdn_state_position(f->state, b) == 5 &&
           flow_same(f, (const flow_rows *)out, 20, 7) && flow_state(f, b) == before;
}

LAW(writing_nothing_keeps)
{
    const int32_t slot = flow_slot(f, 20);
    const uint64_t before = flow_state(f, slot);
    const struct gdn_state_piece none = {slot, 0}, one = {slot, 1};
    flow_pass(f, &(struct flow_part){slot, 0, 20, 0}, 1, false, NULL);
    bool good = flow_state(f, slot) == before &&
                gdn_state_begin(f->state, &none, 1, false, &f->err) == GDN_OK &&
                gdn_state_end(f->state, &f->err) != GDN_OK;
    good = good && gdn_state_begin(f->state, &one, 1, false, &f->err) == GDN_OK &&
           gdn_state_end(f->state, &f->err) != GDN_OK;
    return good && gdn_state_position(f->state, slot) == 20 && flow_goes_on(f, slot);
}

LAW(tail_is_owned)
{
    const int32_t first = flow_slot(f, FLOW_ROWS);
    gdn_state_slot_give(f->state, first);
    const struct mem_count before = mem_counted();
    for (int i = 0; i < 1000; i++) gdn_state_slot_give(f->state, flow_slot(f, 3));
    return mem_counted().live_bytes == before.live_bytes && mem_counted().takes == before.takes;
}

LAW(nothing_aliases)
{
    const int32_t slot = flow_slot(f, 23);
    const uint64_t before = flow_state(f, slot);
    flow_spoil();
    return flow_state(f, slot) == before && flow_goes_on(f, slot);
}

LAW(listing_gives_both)
{
    struct arena scratch;
    struct snapshot s;
    const int32_t slot = flow_slot(f, 20);
    size_t offset = 0;
    bool good = arena_open(&scratch, 1 << 20) &&
                snapshot_take(&s, f->inner, slot, &scratch, NULL, &f->err) == GDN_OK;
    offset = good ? snapshot_first(&s) : 0;
    for (int32_t l = 0; l < FLOW_LAYERS && good; l++) {
        struct snapshot_part part[SNAPSHOT_PARTS];
        snapshot_parts(&s, f->inner, l, &offset, part);
        good = part[SNAPSHOT_ANCHOR].bytes > 0 && part[SNAPSHOT_RING].bytes > 0;
    }
    snapshot_release(&s, true);
    arena_close(&scratch);
    return good;
}

LAW(free_is_free)
{
    const int32_t slot = flow_slot(f, 40);
    gdn_state_slot_give(f->state, slot);
    gdn_state_slot_give(f->state, slot);
    const int32_t again = gdn_state_slot_take(f->state);
    return again == slot && gdn_state_position(f->state, again) == 0 && is_zero(f, again) &&
           flow_goes_on(f, again);
}

/* ---- snapshots ------------------------------------------------------------------------------- */

static gdn_state_copy *copy_of(struct flow *f, int32_t slot)
{
    gdn_state_copy *copy = NULL;
    f->good = gdn_state_snapshot(f->state, slot, &copy, &f->err) == GDN_OK && f->good;
    return copy;
}

/* From every position it is all there is: an empty slot becomes the sequence. */
LAW(snapshots_are_whole)
{
    bool good = true;
    for (int n = 1; n < 60 && good; n += 7) {
        int32_t slot = flow_slot(f, n);
        gdn_state_copy *copy = copy_of(f, slot);
        gdn_state_slot_give(f->state, slot);
        slot = gdn_state_slot_take(f->state);
        good = gdn_state_restore(f->state, &slot, copy, n, &f->err) == GDN_OK &&
               flow_goes_on(f, slot);
        gdn_state_copy_free(copy);
        gdn_state_slot_give(f->state, slot);
    }
    return good;
}

LAW(empty_snapshot_is_null)
{
    return copy_of(f, gdn_state_slot_take(f->state)) == NULL && f->good;
}

/* The slot advances, is given back, and others write where it was. */
LAW(snapshots_outlive)
{
    int32_t slot = flow_slot(f, 33);
    gdn_state_copy *copy = copy_of(f, slot);
    const int64_t bytes = gdn_state_copy_bytes(copy);
    flow_pass(f, &(struct flow_part){slot, 3, 33, 40}, 1, false, NULL);
    gdn_state_slot_give(f->state, slot);
    slot = gdn_state_slot_take(f->state);
    flow_pass(f, &(struct flow_part){slot, 4, 0, 50}, 1, false, NULL);
    bool good = gdn_state_copy_bytes(copy) == bytes &&
                gdn_state_restore(f->state, &slot, copy, 33, &f->err) == GDN_OK &&
                flow_goes_on(f, slot);
    gdn_state_copy_free(copy);
    return good;
}

/* Only where it stands, and a refusal changes no bit. */
LAW(restore_is_exact)
{
    int32_t slot = flow_slot(f, 33), other = flow_slot(f, 20);
    gdn_state_copy *copy = copy_of(f, slot);
    const uint64_t before = flow_state(f, other);
    const int32_t was = other;
    bool good = true;
    for (int at = 31; at <= 35; at++)
        if (at != 33)
            good = good && gdn_state_restore(f->state, &other, copy, at, &f->err) != GDN_OK;
    good = good && other == was && flow_state(f, other) == before && flow_goes_on(f, other);
    good = good && gdn_state_restore(f->state, &other, copy, 33, &f->err) == GDN_OK &&
           flow_goes_on(f, other);
    gdn_state_copy_free(copy);
    return good;
}

LAW(restore_without_snapshot)
{
    int32_t slot = flow_slot(f, 33);
    const uint64_t before = flow_state(f, slot);
    return gdn_state_restore(f->state, &slot, NULL, 32, &f->err) != GDN_OK &&
           gdn_state_restore(f->state, &slot, NULL, 34, &f->err) != GDN_OK &&
           gdn_state_restore(f->state, &slot, NULL, 33, &f->err) == GDN_OK &&
           flow_state(f, slot) == before && flow_goes_on(f, slot);
}

LAW(many_restores)
{
    int32_t slot[2] = {flow_slot(f, 33), flow_slot(f, 2)};
    gdn_state_copy *copy = copy_of(f, slot[0]);
    bool good = true;
    for (int i = 0; i < 6; i++)
        good = good && gdn_state_restore(f->state, &slot[i % 2], copy, 33, &f->err) == GDN_OK &&
               flow_goes_on(f, slot[i % 2]);
    gdn_state_copy_free(copy);
    return good;
}

/* ---- the manager of snapshots ---------------------------------------------------------------- */

/* Two positions of one sequence in a store, then what the test is about. */
static bool with_store(struct flow *f, bool (*test)(struct store *store, const int32_t entry[2]))
{
    static const int32_t tokens[FLOW_ROWS] = {0};
    struct store store;
    struct arena scratch;
    int32_t entry[2] = {-1, -1};
    const int32_t slot = flow_slot(f, 20);
    bool good = arena_open(&scratch, 1 << 20) &&
                store_open(&store, f->inner, 1 << 24, 4, &f->err) == GDN_OK;
    if (!good) return false;
    for (int i = 0; i < 2 && good; i++) {
        const struct store_note note = {.tokens = tokens, .kind = STORE_MESSAGE};
        if (i) flow_pass(f, &(struct flow_part){slot, 0, 20, 9}, 1, false, NULL);
        good = store_put(&store, slot, &note, &scratch, &entry[i], &f->err) == GDN_OK;
    }
    good = good && entry[0] >= 0 && entry[1] >= 0 && test(&store, entry);
    store_close(&store);
    arena_close(&scratch);
    return good;
}

static bool sums_match(struct store *store, const int32_t entry[2])
{
    const int64_t one = store_entry_bytes(store, entry[0]);
    const int64_t two = store_entry_bytes(store, entry[1]);
    bool good = one > 0 && two > 0 && one + two == store->bytes;
    store_release(store, entry[0]);
    good = good && store->bytes == two;
    store_release(store, entry[1]);
    return good && store->bytes == 0;
}

static bool child_survives(struct store *store, const int32_t entry[2])
{
    return store_merge(store, -1, entry[1]) == entry[1] && store->live == 2 &&
           store_merge(store, entry[0], entry[1]) == entry[1] && store->live == 1 &&
           store->entry[entry[1]].live;
}

static bool all_on_the_right(struct store *store, const int32_t entry[2])
{
    int32_t left = 5, right;
    const int64_t bytes = store->bytes;
    store_split(store, entry[1], &left, &right);
    return left == -1 && right == entry[1] && store->bytes == bytes;
}

LAW(bytes_add_up) { return with_store(f, sums_match); }
LAW(merge_keeps_the_child) { return with_store(f, child_survives); }
LAW(split_keeps_the_right) { return with_store(f, all_on_the_right); }
