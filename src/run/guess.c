/* guess.c: the draft head asked for the next tokens of many sequences at once.
 *
 * One pass a token: the first takes its vectors from the rings of the state, the next ones from
 * what the head made of the guess before. Keys and values of guesses stand where those of the
 * tokens will, and are written over by them. */
#include <math.h>

#include "base/check.h"
#include "base/memory.h"
#include "run/stage.h"

struct guessing {
    struct engine *e;
    struct guess *guesses; /* of this round */
    int first, count;      /* .. among all */
    const struct guess_ask *ask;
    struct pass pass;
};

/* The guesses that go on to token `at`: their rows, and where the vectors stand that they start
 * from. Returns how many. */
static int32_t stage_guesses(struct guessing *g, int32_t at, struct rows *rows)
{
    struct engine *e = g->e;
    const struct conv_slots *ring = &e->state.layer[e->config->layers].conv;
    int32_t *ids = ids_of(e->stage), *from = targets_of(e, e->stage), n = 0;
    for (int i = 0; i < g->count; i++) {
        const struct guess *x = &g->guesses[i];
        if (x->n < at || x->most <= at) continue;
        const int32_t last = e->state.slot[x->slot].position - 1;
        ids[n] = at == 0 ? x->id : x->out[at - 1];
        from[n] = at == 0 ? x->slot * ring->ring + last % ring->ring : x->slot;
        start_of(e, e->stage)[n] = wanted_of(e, e->stage)[n] = n;
        pos_of(e, e->stage)[n] = last + at;
        slot_of(e, e->stage)[n++] = x->slot;
    }
    start_of(e, e->stage)[n] = n;
    upload(e, e->stage, stage_ints(e));
    *rows = (struct rows){.B = n, .T = n, .start = start_of(e, e->on_device),
                          .pos = pos_of(e, e->on_device), .slot = slot_of(e, e->on_device),
                          .draft = true};
    return n;
}

/* What the rows say, and their vectors put away for the next token. */
static void take_guesses(struct guessing *g, int32_t at, int32_t rows, struct tensor *y)
{
    struct engine *e = g->e;
    const int32_t n = e->vocab < g->ask->best ? e->vocab : g->ask->best;
    const size_t bytes = (size_t)e->config->D * dtype_size(e->compute);
    struct tensor *logits = forward_logits(&g->pass, e->weights, y, wanted_of(e, e->on_device),
                                           rows);
    find_best(e, &g->pass, logits, n, e->best);
    fetch_best(e, e->best_stage, e->best, rows, n);
    if (pass_status(&g->pass) != GDN_OK) return;
    for (int32_t i = 0, row = 0; i < g->count; i++) {
        struct guess *x = &g->guesses[i];
        if (x->n < at || x->most <= at) continue;
        const struct best best = best_of(e->best_stage, rows, n, row);
        e->device->copy(e->device, (char *)e->chain + bytes * (size_t)x->slot,
                        tensor_at(y, row * y->stride[0]), bytes);
        row++;
        if (!isfinite(best.lse)) continue;
        const int32_t id = g->ask->choose(g->ask->context, g->first + i, at, &best);
        if (id >= 0) x->out[x->n++] = id;
    }
}

/* Token `at` of all guesses that have come so far; false when none has. */
static bool guess_once(struct guessing *g, int32_t at)
{
    struct engine *e = g->e;
    struct layer_state *state = &e->state.layer[e->config->layers];
    struct rows rows;
    arena_reset(&e->data);
    arena_reset(&e->meta);
    const int32_t n = stage_guesses(g, at, &rows);
    if (n == 0) return false;
    g->pass = (struct pass){.device = e->device, .data = &e->data, .meta = &e->meta, .rows = &rows,
                            .compute = e->compute};
    const int64_t D = e->config->D, kept = (int64_t)e->state.slots * state->conv.ring;
    struct tensor ring = tensor_over(state->conv.x, e->compute, 2, (int64_t[]){kept, D});
    struct tensor chain = tensor_over(e->chain, e->compute, 2, (int64_t[]){e->state.slots, D});
    struct tensor *hidden = op_embed(&g->pass, at == 0 ? &ring : &chain,
                                     targets_of(e, e->on_device), n);
    struct tensor *y = mtp_run(&g->pass, e->mtp, e->weights->embed, ids_of(e->on_device), hidden,
                               state);
    take_guesses(g, at, n, y);
    return pass_status(&g->pass) == GDN_OK;
}

enum gdn_status engine_guess(struct engine *e, struct guess *guesses, int count,
                             const struct guess_ask *ask, struct gdn_error *err)
{
    for (int i = 0; i < count; i++) {
        guesses[i].n = 0;
        GDN_CHECK(e->mtp && e->state.slot[guesses[i].slot].position > 0, "nothing to guess from");
        TRY(state_reserve(&e->state, guesses[i].slot, guesses[i].most, err));
    }
    for (int first = 0; first < count; first += e->head_rows) {
        struct guessing g = {.e = e, .guesses = guesses + first, .first = first,
                             .count = count - first < e->head_rows ? count - first : e->head_rows,
                             .ask = ask};
        mem_guard_raise();
        for (int32_t at = 0; guess_once(&g, at); at++) continue;
        mem_guard_lower();
        const enum gdn_status status = pass_status(&g.pass);
        if (status != GDN_OK)
            return error_set(err, status, "a guess of %d sequences failed: %s", g.count,
                             status == GDN_ERR_MEMORY ? "its scratch memory did not suffice"
                                                      : "the device reported an error");
    }
    return GDN_OK;
}
