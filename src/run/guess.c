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
    int32_t at, best; /* the token of each that is guessed; how many to choose from are found */
    struct rows rows;
    struct pass pass;
};

static bool goes_on(const struct guess *x, int32_t at) { return x->n == at && x->most > at; }

/* The row of token `at` of a guess, which starts from what the head made of the one before: that is
 * row `from` of the chain. */
static void put_guess(struct engine *e, int32_t n, const struct guess *x, int32_t at, int32_t from)
{
    start_of(e, e->stage)[n] = n;
    start_of(e, e->stage)[n + 1] = n + 1;
    pos_of(e, e->stage)[n] = e->state.slot[x->slot].position - 1 + at;
    slot_of(e, e->stage)[n] = x->slot;
    ids_of(e->stage)[n] = x->out[at - 1];
    targets_of(e, e->stage)[n] = from;
}

/* The guesses that go on: their rows, the last of each wanted. False when none does. */
static bool stage_guesses(struct guessing *g)
{
    struct engine *e = g->e;
    int32_t B = 0, T = 0, before = 0, end = 0;
    for (int i = 0; i < g->count; i++) {
        const struct guess *x = &g->guesses[i];
        const int32_t due = g->at == 0 ? head_due(e, x->slot) : 1;
        const int32_t from = before;
        before += g->at > 0 && x->n >= g->at - 1 && x->most >= g->at; /* it went on to there */
        if (!goes_on(x, g->at)) continue;
        if (g->at == 0)
            head_put(e, B, T, x->slot, state_first(&e->state, x->slot), due);
        else
            put_guess(e, B, x, g->at, from);
        T += due;
        if (g->at == 0) ids_of(e->stage)[T - 1] = x->id;
        wanted_of(e, e->stage)[B++] = T - 1;
        const int32_t last = e->state.slot[x->slot].position + g->at;
        if (last > end) end = last;
    }
    upload(e, e->stage, stage_ints(e));
    g->rows = (struct rows){.B = B, .T = T, .start = start_of(e, e->on_device),
                            .pos = pos_of(e, e->on_device), .slot = slot_of(e, e->on_device),
                            .reach = reach_of(end)};
    return B > 0;
}

/* What happens on the device: the vectors behind the rows are put away for the next token, and what
 * they say is ranked. */
static bool run_rows(void *context)
{
    struct guessing *g = context;
    struct engine *e = g->e;
    struct layer_state *state = &e->state.layer[e->config->layers];
    const struct conv_slots *ring = &state->conv;
    arena_reset(&e->data);
    arena_reset(&e->meta);
    const struct mtp_in in = g->at == 0
                                 ? head_in(e, &g->pass, ring->x, ring->slots * ring->ring)
                                 : head_in(e, &g->pass, e->chain, e->state.slots);
    struct tensor *last = mtp_run(&g->pass, e->mtp, &in, state, wanted_of(e, e->on_device),
                                  g->rows.B);
    if (pass_status(&g->pass) == GDN_OK)
        e->device->copy(e->device, e->chain, last->data,
                        (size_t)tensor_elements(last) * dtype_size(last->dtype));
    find_best(&g->pass, op_linear_as(&g->pass, &e->guessable.head, last, dtype_wide(e->compute)),
              (int32_t)e->guessable.head.N, g->best, e->best);
    return pass_status(&g->pass) == GDN_OK;
}

static void take_guesses(struct guessing *g)
{
    struct engine *e = g->e;
    fetch_best(e, e->best_stage, e->best, g->rows.B, g->best);
    if (pass_status(&g->pass) != GDN_OK) return;
    for (int32_t i = 0; i < g->rows.B * g->best; i++)
        if (e->best_stage[i] >= e->guessable.part[0].rows)
            e->best_stage[i] += e->guessable.jump;
    for (int32_t i = 0, run = 0; i < g->count; i++) {
        struct guess *x = &g->guesses[i];
        if (!goes_on(x, g->at)) continue;
        const struct best best = best_of(e->best_stage, g->rows.B, g->best, run++);
        if (g->at == 0) head_asked(e, x->slot, x->id);
        if (!isfinite(best.lse)) continue;
        const int32_t id = g->ask->choose(g->ask->context, g->first + i, g->at, &best);
        if (id >= 0) x->out[x->n++] = id;
    }
}

/* Token `at` of all guesses that have come so far; false when none has. */
static bool guess_once(struct guessing *g)
{
    struct engine *e = g->e;
    if (!stage_guesses(g)) return false;
    g->pass = (struct pass){.device = e->device, .data = &e->data, .meta = &e->meta,
                            .rows = &g->rows, .compute = e->compute};
    const struct replay_key key = {.kind = g->at == 0 ? REPLAY_GUESS : REPLAY_CHAIN,
                                   .B = g->rows.B, .T = g->rows.T, .asked = g->best,
                                   .reach = g->rows.reach, .types = e->state.types};
    const bool repeats = e->device->record && !e->device->clock;
    if (repeats ? replay_run(&e->replay, e->device, key, run_rows, g) : run_rows(g))
        take_guesses(g);
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
                             .count = together, .ask = ask,
                             .best = e->guessable.head.N < ask->best
                                         ? (int32_t)e->guessable.head.N : ask->best};
        mem_guard_raise();
        while (guess_once(&g)) g.at++;
        mem_guard_lower();
        const enum gdn_status status = pass_status(&g.pass);
        if (status != GDN_OK)
            return error_set(err, status, "a guess of %d sequences failed: %s", g.count,
                             pass_failed(status));
    }
    return GDN_OK;
}
