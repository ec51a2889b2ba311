/* guess.c: the draft head asked for the next tokens of many sequences at once.
 *
 * One pass a token: the first runs all that is due of the head (head.h), the last of it the row of
 * the token that is asked behind; the next ones start from what the head made of the guess before.
 * Keys and values of guesses stand where those of the tokens will, and are written over by them. */
#include <math.h>

#include "base/check.h"
#include "base/memory.h"
#include "run/head.h"

struct guessing {
    struct engine *e;
    struct guess *guesses; /* of this round */
    int first, count;      /* .. among all */
    const struct guess_ask *ask;
    struct pass pass;
};

static bool goes_on(const struct guess *x, int32_t at) { return x->n == at && x->most > at; }

/* The row of guess `at` of a sequence, which starts from what the head made of the one before. */
static void put_guess(struct engine *e, int32_t n, const struct guess *x, int32_t at)
{
    start_of(e, e->stage)[n] = n;
    start_of(e, e->stage)[n + 1] = n + 1;
    pos_of(e, e->stage)[n] = e->state.slot[x->slot].position - 1 + at;
    slot_of(e, e->stage)[n] = x->slot;
    ids_of(e->stage)[n] = x->out[at - 1];
    targets_of(e, e->stage)[n] = x->slot;
}

/* The guesses that go on to token `at`: their rows, the last of each wanted. */
static struct rows stage_guesses(struct guessing *g, int32_t at)
{
    struct engine *e = g->e;
    int32_t B = 0, T = 0;
    for (int i = 0; i < g->count; i++) {
        const struct guess *x = &g->guesses[i];
        if (!goes_on(x, at)) continue;
        const int32_t due = at == 0 ? head_due(e, x->slot) : 1;
        if (at == 0)
            head_put(e, B, T, x->slot, state_first(&e->state, x->slot), due);
        else
            put_guess(e, B, x, at);
        T += due;
        if (at == 0) ids_of(e->stage)[T - 1] = x->id;
        wanted_of(e, e->stage)[B++] = T - 1;
    }
    upload(e, e->stage, stage_ints(e));
    return (struct rows){.B = B, .T = T, .start = start_of(e, e->on_device),
                         .pos = pos_of(e, e->on_device), .slot = slot_of(e, e->on_device)};
}

/* What the rows say, and their vectors put away for the next token. */
static void take_guesses(struct guessing *g, int32_t at, int32_t runs, struct tensor *y)
{
    struct engine *e = g->e;
    const int32_t n = e->vocab < g->ask->best ? e->vocab : g->ask->best;
    const size_t bytes = (size_t)e->config->D * dtype_size(e->compute);
    struct tensor *logits = forward_logits(&g->pass, e->weights, y, wanted_of(e, e->on_device),
                                           runs);
    find_best(e, &g->pass, logits, n, e->best);
    fetch_best(e, e->best_stage, e->best, runs, n);
    if (pass_status(&g->pass) != GDN_OK) return;
    for (int32_t i = 0, run = 0; i < g->count; i++) {
        struct guess *x = &g->guesses[i];
        if (!goes_on(x, at)) continue;
        const struct best best = best_of(e->best_stage, runs, n, run);
        const int32_t row = wanted_of(e, e->stage)[run++];
        if (at == 0) head_asked(e, x->slot, x->id);
        if (x->most > at + 1)
            e->device->copy(e->device, (char *)e->chain + bytes * (size_t)x->slot,
                            tensor_at(y, row * y->stride[0]), bytes);
        if (!isfinite(best.lse)) continue;
        const int32_t id = g->ask->choose(g->ask->context, g->first + i, at, &best);
        if (id >= 0) x->out[x->n++] = id;
    }
}

/* Token `at` of all guesses that have come so far; false when none has. */
static bool guess_once(struct guessing *g, int32_t at)
{
    struct engine *e = g->e;
    const struct conv_slots *ring = &e->state.layer[e->config->layers].conv;
    arena_reset(&e->data);
    arena_reset(&e->meta);
    const struct rows rows = stage_guesses(g, at);
    if (rows.B == 0) return false;
    g->pass = (struct pass){.device = e->device, .data = &e->data, .meta = &e->meta, .rows = &rows,
                            .compute = e->compute};
    struct tensor *y = at == 0 ? head_over(e, &g->pass, ring->x, ring->slots * ring->ring)
                               : head_over(e, &g->pass, e->chain, e->state.slots);
    take_guesses(g, at, rows.B, y);
    return pass_status(&g->pass) == GDN_OK;
}

/* How many guesses from the first on go through a pass together. What is due of one that is longer
 * than a pass has run before. */
static enum gdn_status count_round(struct engine *e, const struct guess *guesses, int count,
                                   int *together, struct gdn_error *err)
{
    int32_t T = 0;
    for (*together = 0; *together < count && *together < e->head_rows; ++*together) {
        const int32_t slot = guesses[*together].slot;
        if (head_due(e, slot) > e->max_rows) TRY(head_catch_up(e, &slot, 1, err));
        T += head_due(e, slot);
        if (T > e->max_rows) break;
    }
    return GDN_OK;
}

enum gdn_status engine_guess(struct engine *e, struct guess *guesses, int count,
                             const struct guess_ask *ask, struct gdn_error *err)
{
    for (int i = 0; i < count; i++) {
        guesses[i].n = 0;
        GDN_CHECK(e->mtp && e->state.slot[guesses[i].slot].position > 0, "nothing to guess from");
        TRY(state_reserve(&e->state, guesses[i].slot, guesses[i].most, err));
    }
    for (int first = 0, together; first < count; first += together) {
        TRY(count_round(e, guesses + first, count - first, &together, err));
        struct guessing g = {.e = e, .guesses = guesses + first, .first = first,
                             .count = together, .ask = ask};
        mem_guard_raise();
        for (int32_t at = 0; guess_once(&g, at); at++) continue;
        mem_guard_lower();
        const enum gdn_status status = pass_status(&g.pass);
        if (status != GDN_OK)
            return error_set(err, status, "a guess of %d sequences failed: %s", g.count,
                             pass_failed(status));
    }
    return GDN_OK;
}
