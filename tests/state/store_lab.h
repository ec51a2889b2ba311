/* store_lab.h: a small state and a store over it, whose slots hold noise at any position. */
#ifndef TESTS_STATE_STORE_LAB_H
#define TESTS_STATE_STORE_LAB_H

#include "lab.h"

#include "base/hash.h"
#include "state/store.h"

enum { SLOTS = 4, CONTEXT = 24000, MOST = 20 };

static const struct state_options store_options = {
    .slots = SLOTS, .entries = 16, .context = CONTEXT, .spare_pages = 900, .compute = DTYPE_F32,
    .anchor = DTYPE_F32};

struct bench {
    struct state_lab lab;
    struct store store;
    struct arena scratch;
    struct gdn_error err;
    int32_t slot[SLOTS];          /* -1: none */
    int32_t tokens[SLOTS][CONTEXT];
};

static inline struct bench *bench_open(int64_t budget, int32_t most)
{
    struct bench *b = mem_take(sizeof *b);
    assert_non_null(b);
    lab_open(&b->lab, store_options);
    assert_true(arena_open(&b->scratch, 1 << 20));
    assert_int_equal(store_open(&b->store, &b->lab.state, budget, most, &b->err), GDN_OK);
    for (int i = 0; i < SLOTS; i++) b->slot[i] = -1;
    return b;
}

static inline void bench_close(struct bench *b)
{
    store_close(&b->store);
    arena_close(&b->scratch);
    lab_close(&b->lab);
    mem_give(b);
}

/* The slot goes on by n tokens; what it remembers is noise, in the canonical form. */
static inline void grow(struct bench *b, int i, int32_t n, uint64_t seed)
{
    struct state *st = &b->lab.state;
    struct rng rng = {.seed = seed};
    if (b->slot[i] < 0) b->slot[i] = state_slot_take(st);
    const int32_t slot = b->slot[i], position = st->slot[slot].position;
    assert_int_equal(state_reserve(st, slot, n, &b->err), GDN_OK);
    for (int32_t t = 0; t < n; t++) b->tokens[i][position + t] = (int32_t)rng_below(&rng, 3);
    state_advance(st, slot, n);
    state_judge(st, slot, true);
    anchor_own(st, slot);
    for (int32_t l = 0; l < st->layers; l++) {
        struct delta_slots *d = &st->layer[l].delta;
        if (!d->anchor) continue;
        d->base[slot] = (position + n - 1) / BLOCK * BLOCK;
        lab_random(delta_anchor(d, slot), DTYPE_F32, (size_t)d->anchor_elements, seed + 1);
    }
}

static inline int32_t position_of(const struct bench *b, int i)
{
    return b->slot[i] < 0 ? 0 : b->lab.state.slot[b->slot[i]].position;
}

static inline int32_t put(struct bench *b, int i, enum store_kind kind)
{
    int32_t entry;
    const uint64_t about = hash64(b->tokens[i], sizeof(int32_t) * (size_t)position_of(b, i), 0);
    const struct store_note note = {.tokens = b->tokens[i], .kind = kind, .extra = &about,
                                    .extra_bytes = sizeof about};
    if (store_put(&b->store, b->slot[i], &note, &b->scratch, &entry, &b->err) != GDN_OK)
        fail_msg("%s", b->err.text);
    return entry;
}

#endif
