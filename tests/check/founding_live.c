/* founding_live.c: founding behaviours of a state that is alive (S0, S4): what asks for its types,
 * what may clear it, and that length decides nothing. */
#include <string.h>

#include "base/hash.h"
#include "flow.h"
#include "founding.h"

#define LAW(name) \
    static bool law_##name(struct flow *f); \
    bool name(void) { return flow_law(law_##name); } \
    static bool law_##name(struct flow *f)

/* The addresses and bytes of the rings of all slots, and of the anchors. */
struct arrays {
    const void *ring[FLOW_LAYERS], *anchor[FLOW_LAYERS];
    uint64_t rings, anchors;
};

static struct arrays arrays_of(const struct flow *f)
{
    struct arrays a = {0};
    for (int32_t l = 0; l < FLOW_LAYERS; l++) {
        const struct layer_state *s = &f->inner->layer[l];
        const size_t slots = (size_t)f->inner->slots;
        a.ring[l] = s->conv.x;
        a.anchor[l] = s->delta.anchor;
        a.rings = hash64(s->conv.x, slots * (size_t)(s->conv.ring * s->conv.C) *
                                        dtype_size(s->conv.dtype), a.rings);
        a.anchors = hash64(s->delta.anchor, slots * (size_t)s->delta.anchor_elements *
                                                dtype_size(s->delta.anchor_type), a.anchors);
    }
    return a;
}

static bool same_rings(const struct arrays *a, const struct arrays *b)
{
    return memcmp(a->ring, b->ring, sizeof a->ring) == 0 && a->rings == b->rings;
}

static bool same_anchors(const struct arrays *a, const struct arrays *b)
{
    return memcmp(a->anchor, b->anchor, sizeof a->anchor) == 0 && a->anchors == b->anchors;
}

static bool ask(struct flow *f, enum dtype ring, enum dtype anchor, struct state_change *change)
{
    return state_ensure(f->inner, ring, anchor, change, &f->err) == GDN_OK;
}

/* Every pair of types asked for by every pair there is: reported and changed is what differs. */
LAW(validated_apart)
{
    flow_slot(f, 37);
    for (int i = 0; i < 16; i++) {
        const enum dtype from[] = {i & 1 ? DTYPE_BF16 : DTYPE_F32, i & 2 ? DTYPE_BF16 : DTYPE_F32};
        const enum dtype to[] = {i & 4 ? DTYPE_BF16 : DTYPE_F32, i & 8 ? DTYPE_BF16 : DTYPE_F32};
        struct state_change change;
        if (!ask(f, from[0], from[1], &change)) return false;
        const struct arrays before = arrays_of(f);
        if (!ask(f, to[0], to[1], &change)) return false;
        const struct arrays after = arrays_of(f);
        if (change.conv != (from[0] != to[0]) || change.anchor != (from[1] != to[1]) ||
            same_rings(&before, &after) != !change.conv ||
            same_anchors(&before, &after) != !change.anchor)
            return false;
    }
    return true;
}

/* By the one who feeds and by the one who asks, again and again, a row between now and then. */
LAW(reads_alternate)
{
    const int32_t slot = flow_slot(f, 20);
    const enum dtype anchor = f->inner->anchor_type;
    const struct arrays before = arrays_of(f);
    for (int i = 0; i < 10000; i++) {
        struct state_change change;
        bool converted = true;
        double S[2 * 32 * 16];
        if (i % 2 ? !ask(f, DTYPE_F32, anchor, &change) || change.conv || change.anchor
                  : gdn_state_convert(f->state, anchor == DTYPE_BF16 ? GDN_BF16 : GDN_F32,
                                      &converted, &f->err) != GDN_OK || converted)
            return false;
        gdn_state_export(f->state, slot, i % FLOW_LAYERS, S, &f->err);
    }
    const struct arrays after = arrays_of(f);
    return same_rings(&before, &after) && same_anchors(&before, &after) && flow_goes_on(f, slot);
}

/* There and back: rings come back from the wider type as they were, and so do anchors. */
LAW(other_state_stays)
{
    flow_slot(f, 37);
    const bool narrow = f->inner->anchor_type == DTYPE_BF16;
    const struct arrays before = arrays_of(f);
    struct state_change change;
    bool good = ask(f, DTYPE_F32, narrow ? DTYPE_F32 : DTYPE_BF16, &change) && change.anchor;
    const struct arrays between = arrays_of(f);
    good = good && same_rings(&before, &between) && !same_anchors(&before, &between);
    good = good && ask(f, DTYPE_F32, narrow ? DTYPE_BF16 : DTYPE_F32, &change) && change.anchor;
    const struct arrays after = arrays_of(f);
    good = good && same_rings(&before, &after) && (!narrow || before.anchors == after.anchors);
    good = good && ask(f, DTYPE_BF16, f->inner->anchor_type, &change) && change.conv;
    const struct arrays last = arrays_of(f);
    return good && same_anchors(&after, &last) && !same_rings(&after, &last);
}

bool no_batch_is_one(void)
{
    const struct gdn_state_layer layer = {.Hk = 1, .Hv = 1, .Dk = 8, .Dv = 8, .taps = 4};
    int64_t bytes = 0;
    for (int32_t n = 1; n > -3; n--) {
        const struct gdn_state_options o = {.layers = &layer, .count = 1, .slots = n};
        gdn_state *state;
        if (gdn_state_open(&o, &state, NULL) != GDN_OK) return false;
        if (n == 1) bytes = gdn_state_bytes(state);
        const bool one = gdn_state_bytes(state) == bytes && gdn_state_slot_take(state) >= 0 &&
                         gdn_state_slot_take(state) < 0;
        gdn_state_close(state);
        if (!one) return false;
    }
    return true;
}

/* ---- the founding bugs, by hand (ctest -L mutants has them in the code) ---------------------- */

static void round_as_activations(struct flow *f)
{
    struct state_change change;
    ask(f, DTYPE_F32, DTYPE_BF16, &change);
    ask(f, DTYPE_F32, DTYPE_F32, &change);
}

static void clear_both(struct flow *f)
{
    for (int32_t l = 0; l < FLOW_LAYERS; l++) {
        const struct layer_state *s = &f->inner->layer[l];
        const size_t slots = (size_t)f->inner->slots;
        memset(s->conv.x, 0, slots * (size_t)(s->conv.ring * s->conv.C) * sizeof(float));
        memset(s->delta.anchor, 0, slots * (size_t)s->delta.anchor_elements * sizeof(float));
    }
}

/* A state that is written in the activations' type, a cache that clears both: each alone is seen
 * by the one law that everything here is measured with, and without them it holds. */
bool each_bug_is_seen(void)
{
    static void (*const bug[])(struct flow *) = {NULL, round_as_activations, clear_both};
    bool good = true;
    for (int i = 0; i < 3 && good; i++) {
        static struct flow f;
        good = flow_open(&f, GDN_F32, GDN_F32, false);
        const int32_t slot = good ? flow_slot(&f, 40) : -1;
        if (good && bug[i]) bug[i](&f);
        good = good && flow_goes_on(&f, slot) == (bug[i] == NULL);
        flow_close(&f);
    }
    return good;
}

static bool is_zero(struct flow *f, int32_t slot)
{
    for (int32_t l = 0; l < FLOW_LAYERS; l++) {
        double S[2 * 32 * 16] = {0};
        gdn_state_export(f->state, slot, l, S, &f->err);
        for (size_t i = 0; i < sizeof S / sizeof *S; i++)
            if (S[i] != 0) return false;
    }
    return true;
}

/* Nothing clears a live state but giving its slot back, which its generation counts. What is asked
 * of it in passing is refused, or converts it and says so. */
LAW(clearing_is_told)
{
    const int32_t slot = flow_slot(f, 37);
    const uint32_t generation = gdn_state_generation(f->state, slot);
    const enum gdn_type other = f->inner->anchor_type == DTYPE_F32 ? GDN_BF16 : GDN_F32;
    const int32_t types = f->inner->types;
    const double S[2 * 32 * 16] = {0};
    bool converted = false;
    bool good = gdn_state_place(f->state, slot, 0, &f->err) != GDN_OK &&
                gdn_state_import(f->state, slot, 0, S, NULL, &f->err) != GDN_OK &&
                flow_goes_on(f, slot);
    good = good && gdn_state_convert(f->state, other, &converted, &f->err) == GDN_OK && converted &&
           f->inner->types > types && !is_zero(f, slot) &&
           gdn_state_generation(f->state, slot) == generation;
    gdn_state_slot_give(f->state, slot);
    return good && gdn_state_slot_take(f->state) == slot && is_zero(f, slot) &&
           gdn_state_generation(f->state, slot) == generation + 1;
}

/* ---- lengths --------------------------------------------------------------------------------- */

/* The position says that there is a state: a call of any length uses it, and none at 0. */
LAW(length_decides_nothing)
{
    static const int begin[] = {0, 1, 15, 16, 20}, lengths[] = {1, 2, 3, 4, 15, 16, 17, 31, 33, 60};
    static flow_rows out[FLOW_ROWS];
    for (size_t b = 0; b < sizeof begin / sizeof *begin; b++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            const int at = begin[b], n = lengths[i];
            const int32_t slot = flow_slot(f, at);
            memset(out, 0, sizeof out);
            flow_pass(f, &(struct flow_part){slot, 0, at, n}, 1, false, out);
            if (!flow_same(f, (const flow_rows *)out, at, n)) return false;
            gdn_state_slot_give(f->state, slot);
        }
    return true;
}

/* Sequences of other lengths in one pass, filled up before or behind: each as it is alone. */
LAW(padding_is_nothing)
{
    enum { LONG = 12 };
    static flow_rows out[FLOW_ROWS];
    for (int before = 0; before < 2; before++) {
        const int at[] = {3, 17, 30}, n[] = {5, LONG, 1};
        struct flow_part part[6];
        int32_t slot[3];
        for (int i = 0; i < 3; i++) {
            slot[i] = flow_slot(f, at[i]);
            part[2 * i + before] = (struct flow_part){slot[i], 0, at[i], n[i]};
            part[2 * i + 1 - before] = (struct flow_part){-1, 7 + i, 0, LONG - n[i]};
        }
        memset(out, 0, sizeof out);
        flow_pass(f, part, 6, false, out);
        for (int i = 0; i < 3; i++) {
            const int first = LONG * i + (before ? LONG - n[i] : 0);
            if (!flow_same(f, (const flow_rows *)out + first, at[i], n[i]) ||
                gdn_state_position(f->state, slot[i]) != at[i] + n[i] || !flow_goes_on(f, slot[i]))
                return false;
            gdn_state_slot_give(f->state, slot[i]);
        }
    }
    return true;
}
