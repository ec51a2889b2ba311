/* founding_draft.c: founding behaviours of the recurrent cache (S3): speculation, and many
 * operations at once. */
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "flow.h"
#include "founding.h"

#define LAW(name) \
    static bool law_##name(struct flow *f); \
    bool name(void) { return flow_law(law_##name); } \
    static bool law_##name(struct flow *f)

static bool draft(struct flow *f, int32_t slot, int stream, int from, int n, flow_rows *out)
{
    return flow_pass(f, &(struct flow_part){slot, stream, from, n}, 1, true, out);
}

/* Drafts on which nobody decides, over every place in a block: the target stays as it was. */
LAW(drafts_touch_nothing)
{
    for (int n = 1; n < 50; n += 6) {
        const int32_t slot = flow_slot(f, n);
        double before[2 * 32 * 16] = {0}, after[2 * 32 * 16] = {0};
        for (int i = 0; i < 2; i++) {
            gdn_state_export(f->state, slot, 1, i ? after : before, &f->err);
            if (i == 0 && !draft(f, slot, 5, n, 16, NULL)) return false;
        }
        if (memcmp(before, after, sizeof before) != 0 || gdn_state_position(f->state, slot) != n ||
            !flow_goes_on(f, slot))
            return false;
        gdn_state_slot_give(f->state, slot);
    }
    return true;
}

/* Each draft begins from the committed state, however many were made before it. */
LAW(initial_is_caught_once)
{
    static flow_rows out[16];
    const int32_t slot = flow_slot(f, 25);
    memset(out, 0, sizeof out);
    for (int i = 0; i < 3; i++)
        if (!draft(f, slot, 6 + i, 25, 16, NULL)) return false;
    return draft(f, slot, 0, 25, 16, out) && flow_same(f, (const flow_rows *)out, 25, 16);
}

/* Inside a draft a row sees the drafted rows before it; outside, reads give the target. */
LAW(reads_follow_the_draft)
{
    static flow_rows out[16];
    const int32_t slot = flow_slot(f, 25);
    const int32_t before = gdn_state_rewindable(f->state, slot);
    memset(out, 0, sizeof out);
    bool good = draft(f, slot, 0, 25, 12, out) && flow_same(f, (const flow_rows *)out, 25, 12);
    good = good && gdn_state_rewindable(f->state, slot) == before;
    good = good && gdn_state_commit(f->state, slot, 12) == 12;
    return good && gdn_state_position(f->state, slot) == 37 && flow_goes_on(f, slot);
}

/* Key, what was written, and decay of each drafted row, and its input to the convolution. */
LAW(records_hold_a_replay)
{
    const int32_t slot = flow_slot(f, 20);
    if (!draft(f, slot, 0, 20, 7, NULL)) return false;
    for (int32_t l = 0; l < FLOW_LAYERS; l++) {
        const struct delta_slots *d = &f->inner->layer[l].delta;
        const struct conv_slots *c = &f->inner->layer[l].conv;
        for (int32_t p = 20; p < 27; p++) {
            const int32_t row = slot * d->entries + p - d->base[slot];
            const int32_t gates = d->channel_gate ? d->Dk : 1;
            if (((float *)d->k)[row * d->Hk * d->Dk] == 0 ||
                ((float *)d->u)[row * d->Hv * d->Dv] == 0 ||
                ((float *)d->G)[row * d->Hv * gates] >= 0 ||
                ((float *)c->x)[(slot * c->ring + p % c->ring) * c->C] == 0)
                return false;
        }
    }
    return true;
}

/* ---- commits --------------------------------------------------------------------------------- */

LAW(commit_of_none)
{
    const int32_t slot = flow_slot(f, 25);
    bool good = draft(f, slot, 7, 25, 16, NULL) && gdn_state_commit(f->state, slot, 0) == 0;
    good = good && draft(f, slot, 7, 25, 16, NULL) && gdn_state_commit(f->state, slot, -3) == 0;
    return good && gdn_state_position(f->state, slot) == 25 && flow_goes_on(f, slot);
}

LAW(commit_of_all)
{
    bool good = true;
    for (int n = 1; n <= 16 && good; n++) {
        const int32_t slot = flow_slot(f, 25);
        good = draft(f, slot, 0, 25, n, NULL) && gdn_state_commit(f->state, slot, n) == n &&
               gdn_state_position(f->state, slot) == 25 + n && flow_goes_on(f, slot);
        gdn_state_slot_give(f->state, slot);
    }
    return good;
}

LAW(commit_is_clamped)
{
    const int32_t slot = flow_slot(f, 25);
    return draft(f, slot, 0, 25, 9, NULL) && gdn_state_commit(f->state, slot, 100) == 9 &&
           gdn_state_position(f->state, slot) == 34 && flow_goes_on(f, slot);
}

/* Records have one form: rows of the log, with a scalar gate and with one for each channel; both
 * are cut to a length, at every length. */
LAW(records_are_cut_along_time)
{
    bool good = f->inner->layer[1].delta.channel_gate && !f->inner->layer[0].delta.channel_gate;
    for (int n = 0; n <= 16 && good; n++) {
        const int32_t slot = flow_slot(f, 28);
        good = draft(f, slot, 0, 28, 16, NULL) && gdn_state_commit(f->state, slot, n) == n &&
               flow_goes_on(f, slot);
        gdn_state_slot_give(f->state, slot);
    }
    return good;
}

/* Nothing was drafted, or a layer is missing: there is nothing to commit. */
LAW(no_record_no_commit)
{
    const int32_t slot = flow_slot(f, 25);
    const struct gdn_state_piece piece = {slot, 5};
    bool good = gdn_state_commit(f->state, slot, 3) == 0;
    good = good && gdn_state_begin(f->state, &piece, 1, true, &f->err) == GDN_OK &&
           gdn_state_end(f->state, &f->err) != GDN_OK && gdn_state_commit(f->state, slot, 3) == 0;
    return good && gdn_state_position(f->state, slot) == 25 && flow_goes_on(f, slot);
}

static bool bases_agree(const struct flow *f, int32_t slot)
{
    for (int32_t l = 1; l < f->inner->layers; l++)
        if (f->inner->layer[l].delta.base[slot] != f->inner->layer[0].delta.base[slot])
            return false;
    return f->inner->layer[0].delta.base[slot] <= f->inner->slot[slot].position;
}

LAW(offsets_agree)
{
    const int32_t slot = flow_slot(f, 3);
    for (int i = 0; gdn_state_position(f->state, slot) < FLOW_ROWS - 32; i++) {
        const int at = gdn_state_position(f->state, slot), n = 1 + i * 7 % 16;
        if (!draft(f, slot, 0, at, n, NULL)) return false;
        gdn_state_commit(f->state, slot, i * 5 % (n + 1));
        if (!bases_agree(f, slot) || gdn_state_rewindable(f->state, slot) > 31) return false;
    }
    return flow_goes_on(f, slot) && bases_agree(f, slot);
}

LAW(batches_commit_apart)
{
    int32_t slot[3];
    int at[3] = {3, 14, 30};
    for (int i = 0; i < 3; i++) slot[i] = flow_slot(f, at[i]);
    for (int round = 0; round < 4; round++) {
        struct flow_part part[3];
        for (int i = 0; i < 3; i++)
            part[i] = (struct flow_part){slot[i], 0, at[i], 1 + (round * 5 + i * 3) % 16};
        if (!flow_pass(f, part, 3, true, NULL)) return false;
        for (int i = 0; i < 3; i++)
            at[i] += gdn_state_commit(f->state, slot[i], (round + 4 * i) % (part[i].n + 1));
    }
    return flow_goes_on(f, slot[0]) && flow_goes_on(f, slot[1]) && flow_goes_on(f, slot[2]);
}

/* 16 more entries of log and ring for each slot, and nothing else. */
bool speculation_costs_entries(void)
{
    static struct flow a, b;
    int64_t more = 0;
    bool good = flow_open(&a, GDN_F32, GDN_F32, true) && flow_open(&b, GDN_F32, GDN_F32, false);
    for (int32_t l = 0; l < FLOW_LAYERS && good; l++) {
        const struct delta_slots *d = &a.inner->layer[l].delta;
        more += 16 * 4 * (FLOW_SLOTS + 1) *
                (d->Hk * d->Dk + d->Hv * d->Dv + d->Hv * (d->channel_gate ? d->Dk : 1) +
                 a.inner->layer[l].conv.C);
    }
    good = good && gdn_state_bytes(a.state) - gdn_state_bytes(b.state) == more;
    flow_close(&a);
    flow_close(&b);
    return good;
}

/* ---- with snapshots, in batches, in any order ------------------------------------------------ */

LAW(no_snapshot_of_a_draft)
{
    int32_t slot = flow_slot(f, 29), other = gdn_state_slot_take(f->state);
    gdn_state_copy *copy = NULL;
    bool good = draft(f, slot, 8, 29, 16, NULL) &&
                gdn_state_snapshot(f->state, slot, &copy, &f->err) == GDN_OK &&
                gdn_state_restore(f->state, &other, copy, 29, &f->err) == GDN_OK &&
                flow_goes_on(f, other);
    gdn_state_copy_free(copy);
    return good;
}

/* A long feed stopped where a state is wanted is the feed that was never stopped. */
LAW(interior_states)
{
    static const int stops[] = {1, 16, 17, 40, 63};
    const int32_t slot = gdn_state_slot_take(f->state);
    bool good = true;
    for (int i = 0, at = 0; i < 5 && good; at = stops[i++]) {
        flow_pass(f, &(struct flow_part){slot, 0, at, stops[i] - at}, 1, false, NULL);
        const int32_t whole = flow_slot(f, stops[i]);
        double x[2 * 32 * 16] = {0}, y[2 * 32 * 16] = {0};
        for (int32_t l = 0; l < FLOW_LAYERS && good; l++) {
            gdn_state_export(f->state, slot, l, x, &f->err);
            gdn_state_export(f->state, whole, l, y, &f->err);
            good = memcmp(x, y, sizeof x) == 0;
        }
        gdn_state_slot_give(f->state, whole);
    }
    return good && flow_goes_on(f, slot);
}

LAW(rows_have_their_own_offsets)
{
    static flow_rows out[FLOW_ROWS];
    const int32_t a = flow_slot(f, 3), b = flow_slot(f, 31), c = gdn_state_slot_take(f->state);
    memset(out, 0, sizeof out);
    flow_pass(f, (struct flow_part[]){{b, 0, 31, 2}, {c, 0, 0, 20}, {a, 0, 3, 9}}, 3, false, out);
    return flow_same(f, (const flow_rows *)out, 31, 2) &&
           flow_same(f, (const flow_rows *)out + 2, 0, 20) &&
           flow_same(f, (const flow_rows *)out + 22, 3, 9) && flow_goes_on(f, a) &&
           flow_goes_on(f, b) && flow_goes_on(f, c);
}

/* flow_law counts what is alive when the state is closed. */
LAW(nothing_stays_alive)
{
    struct rng rng = {.seed = 3};
    int32_t slot = flow_slot(f, 1);
    gdn_state_copy *copy = NULL;
    for (int i = 0; i < 300 && f->good; i++) {
        const int at = gdn_state_position(f->state, slot), n = 1 + (int)rng_below(&rng, 16);
        const int what = at + n > FLOW_ROWS ? 3 : (int)rng_below(&rng, 5);
        if (what == 0) flow_pass(f, &(struct flow_part){slot, 0, at, n}, 1, false, NULL);
        if (what == 1 && draft(f, slot, 0, at, n, NULL)) gdn_state_commit(f->state, slot, n / 2);
        if (what == 2) {
            gdn_state_copy_free(copy);
            gdn_state_snapshot(f->state, slot, &copy, &f->err);
        }
        if (what == 3) {
            gdn_state_slot_give(f->state, slot);
            slot = flow_slot(f, 1);
        }
        if (what == 4) {
            const int32_t fork = gdn_state_fork(f->state, slot);
            gdn_state_slot_give(f->state, slot);
            slot = fork;
        }
    }
    gdn_state_copy_free(copy);
    return flow_goes_on(f, slot);
}

/* Each law here runs with f32 and with bf16 anchors; this one names a few that must. */
bool both_types_everywhere(void)
{
    return snapshots_are_whole() && many_restores() && commit_of_all() && batches_commit_apart() &&
           records_are_cut_along_time() && rows_have_their_own_offsets();
}
