/* rig.h: an engine over a tiny model, and everything that a step hands out, kept for comparison. */
#ifndef TESTS_RUN_RIG_H
#define TESTS_RUN_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "run/engine.h"

enum { RIG_ROWS = 2000, RIG_PIECES = 6, RIG_IDS = 256 };

struct rig {
    struct config config;
    struct weights weights;
    struct device *device;
    struct engine engine;
    struct gdn_error err;
    int32_t ids[RIG_IDS]; /* a text to feed */
};

static inline void rig_files(struct rig *r, const char *model, int threads)
{
    char path[512];
    *r = (struct rig){0};
    snprintf(path, sizeof path, "%s/tests/golden/%s", GDN_SOURCE_DIR, model);
    if (config_open(&r->config, path, &r->err) != GDN_OK ||
        weights_open(&r->weights, &r->config, path, &r->err) != GDN_OK)
        fail_msg("%s", r->err.text);
    r->device = device_open("cpu", threads, ~0u, &r->err);
    assert_non_null(r->device);
    struct rng rng = {.seed = 1};
    for (int i = 0; i < RIG_IDS; i++)
        r->ids[i] = (int32_t)rng_below(&rng, (uint64_t)r->config.vocab);
}

static inline void rig_open(struct rig *r, const char *model, struct engine_options options)
{
    rig_files(r, model, 1);
    if (engine_open(&r->engine, &r->config, &r->weights, r->config.vocab, r->device, &options,
                    &r->err) != GDN_OK)
        fail_msg("%s", r->err.text);
}

static inline void rig_close(struct rig *r)
{
    engine_close(&r->engine);
    weights_close(&r->weights);
    device_close(r->device);
}

static inline int32_t rig_position(const struct rig *r, int32_t slot)
{
    return r->engine.state.slot[slot].position;
}

/* ---- what steps hand out --------------------------------------------------------------------- */

/* One number for all bits of each thing, by piece and row; rows must come once each, in order. */
struct seen {
    int32_t rows[RIG_PIECES], losses[RIG_PIECES], bests[RIG_PIECES];
    uint64_t logits[RIG_PIECES], hidden[RIG_PIECES], loss[RIG_PIECES], best[RIG_PIECES];
    int32_t first[RIG_PIECES]; /* row of the first logits */
};

static inline uint64_t mix(uint64_t sum, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++) sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static inline void see_logits(void *context, int piece, int32_t row, const float *logits,
                              int32_t vocab)
{
    struct seen *s = context;
    if (s->rows[piece] == 0) s->first[piece] = row;
    assert_int_equal(row, s->first[piece] + s->rows[piece]);
    s->rows[piece]++;
    s->logits[piece] = mix(s->logits[piece], logits, sizeof *logits * (size_t)vocab);
}

/* Layers come one after the other within a pass, so the sum must not depend on their order. */
static inline void see_hidden(void *context, int piece, int32_t row, int32_t index, const float *x,
                              int32_t width)
{
    struct seen *s = context;
    const int32_t place[2] = {row, index};
    s->hidden[piece] += mix(mix(17, place, sizeof place), x, sizeof *x * (size_t)width);
}

static inline void see_loss(void *context, int piece, int32_t row, double nats)
{
    struct seen *s = context;
    assert_int_equal(row, s->losses[piece]++);
    s->loss[piece] = mix(s->loss[piece], &nats, sizeof nats);
}

static inline bool see_best(void *context, int piece, int32_t row, const struct best *best)
{
    struct seen *s = context;
    const struct ranking *r = &best->model;
    (void)row;
    s->bests[piece]++;
    s->best[piece] = mix(s->best[piece], r->ids, sizeof *r->ids * (size_t)r->n);
    s->best[piece] = mix(s->best[piece], r->values, sizeof *r->values * (size_t)r->n);
    s->best[piece] = mix(s->best[piece], &best->lse, sizeof best->lse);
    return false;
}

static inline struct sink see(struct seen *seen)
{
    *seen = (struct seen){0};
    return (struct sink){.context = seen, .logits = see_logits, .hidden = see_hidden,
                         .loss = see_loss, .best = see_best};
}

static inline struct piece piece_of(int32_t slot, const int32_t *ids, int32_t n)
{
    return (struct piece){.slot = slot, .ids = ids, .n = n, .best = BEST_LAST};
}

/* A step that must succeed; what it hands out. */
static inline struct seen rig_step(struct rig *r, const struct piece *pieces, int count, bool draft)
{
    struct seen seen;
    const struct sink sink = see(&seen);
    r->err = (struct gdn_error){0};
    if (engine_step(&r->engine, pieces, count, draft, &sink, &r->err) != GDN_OK)
        fail_msg("%s", r->err.text);
    return seen;
}

static inline struct seen rig_feed(struct rig *r, int32_t slot, const int32_t *ids, int32_t n)
{
    const struct piece piece = piece_of(slot, ids, n);
    return rig_step(r, &piece, 1, false);
}

/* A new sequence that has read the first n ids. */
static inline int32_t rig_sequence(struct rig *r, int32_t n)
{
    const int32_t slot = state_slot_take(&r->engine.state);
    assert_true(slot >= 0);
    if (n > 0) rig_feed(r, slot, r->ids, n);
    return slot;
}

/* Piece a of one and piece b of the other got the same, in bits. */
static inline void same_seen(const struct seen *one, int a, const struct seen *other, int b,
                             const char *what)
{
    if (one->rows[a] != other->rows[b] || one->logits[a] != other->logits[b] ||
        one->hidden[a] != other->hidden[b] || one->loss[a] != other->loss[b] ||
        one->best[a] != other->best[b])
        fail_msg("%s: %d and %d rows; the same logits %d, hidden %d, loss %d, best %d", what,
                 one->rows[a], other->rows[b], one->logits[a] == other->logits[b],
                 one->hidden[a] == other->hidden[b], one->loss[a] == other->loss[b],
                 one->best[a] == other->best[b]);
}

/* The next 20 tokens of two sequences, decode and prefill, are the same in bits. */
static inline void same_future(struct rig *r, int32_t slot, struct rig *other, int32_t other_slot,
                               const char *what)
{
    static const int32_t cuts[] = {1, 1, 3, 1, 14};
    int32_t at = rig_position(r, slot);
    assert_int_equal(at, rig_position(other, other_slot));
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; at += cuts[i++]) {
        const struct seen a = rig_feed(r, slot, r->ids + at, cuts[i]);
        const struct seen b = rig_feed(other, other_slot, r->ids + at, cuts[i]);
        same_seen(&a, 0, &b, 0, what);
    }
}

#endif
