/* turn.c: tokens are fed, guessed ahead, verified and chosen, for many sessions in one call.
 *
 *     fed:      ids .. t0   d1   d2   d3         d: drafts, behind the last token of ids
 *     row:              0    1    2    3
 *     chosen:           t1   t2   t3             t1 = d1 and t2 = d2, but t3 is not d3: stop here
 *
 * Row r of a verify pass is what a session that was fed t0 .. dr would give, in bits, and the draw
 * is a function of it, the position and the seed: so t1, t2 .. are what would have been chosen one
 * by one. What was fed of them is committed: t0, d1, d2. */
#include <math.h>
#include <string.h>

#include "api/handles.h"
#include "run/lookup.h"

/* Tokens ahead, where nobody said; and at first. */
enum { TURNS = 1024, LOOKUP_DEPTH = 8, MTP_DEPTH = 1, FIRST_REACH = 2 };

/* ---- settings -------------------------------------------------------------------------------- */

static enum gdn_status check_number(const char *what, double x, double least,
                                    struct gdn_error *err)
{
    if (isfinite(x) && x >= least) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "sampling.%s: found %g, need a number%s", what, x,
                     least >= 0 ? " from 0 on" : "");
}

enum gdn_status sampling_check(const struct gdn_sampling *s, const struct gdn_model *m,
                               struct gdn_error *err)
{
    if (!s) return GDN_OK;
    if (s->size != sizeof *s)
        return error_set(err, GDN_ERR_USAGE, "sampling.size: found %zu, need %zu", s->size,
                         sizeof *s);
    TRY(check_number("temperature", s->temperature, 0, err));
    TRY(check_number("top_p", s->top_p, 0, err));
    TRY(check_number("min_p", s->min_p, 0, err));
    TRY(check_number("repetition", s->repetition, 0, err));
    TRY(check_number("presence", s->presence, -INFINITY, err));
    TRY(check_number("frequency", s->frequency, -INFINITY, err));
    const int32_t vocab = m->config.vocab;
    for (size_t i = 0; i < s->bias_count; i++)
        if (s->bias[i].id < 0 || s->bias[i].id >= vocab || isnan(s->bias[i].add) ||
            (isinf(s->bias[i].add) && s->bias[i].add > 0))
            return error_set(err, GDN_ERR_USAGE, "sampling.bias[%zu]: found id %d and %g, need an "
                             "id from 0 to %d and a number or -infinity", i, s->bias[i].id,
                             (double)s->bias[i].add, vocab - 1);
    for (size_t i = 0; i < s->banned_count; i++)
        if (s->banned[i] < 0 || s->banned[i] >= vocab)
            return error_set(err, GDN_ERR_USAGE, "sampling.banned[%zu]: found id %d, need 0 to %d",
                             i, s->banned[i], vocab - 1);
    return GDN_OK;
}

static struct gdn_sampling sampling_or_greedy(const struct gdn_sampling *s)
{
    return s ? *s : gdn_sampling_default();
}

/* ---- a turn at work -------------------------------------------------------------------------- */

struct work {
    struct gdn_turn *turn;
    struct gdn_sampling how;
    int32_t before; /* position of the session */
    int32_t drafts; /* behind the tokens fed */
    int32_t most;   /* tokens to choose */
    int32_t few; /* best of a row that are enough to choose from */
    bool adjusts;
    bool closed; /* nothing more is chosen */
    bool kept;   /* of the row that was last: what the session keeps */
    bool lost, barred; /* .. for the numbers are not finite; for every token is banned */
};

/* Those of the turns that go through the engine together. */
struct group {
    struct work *work[TURNS];
    struct piece piece[TURNS];
    int count;
    int32_t all; /* best that a session keeps */
    bool draft;
};

/* Fed tokens and drafts stand where they will stand in the session. */
static int32_t *fed(const struct work *w) { return w->turn->session->tokens + w->before; }

static enum gdn_status check_turn(struct gdn_turn *t, const struct gdn_model *m,
                                  struct gdn_error *err)
{
    t->count = 0;
    t->stopped = false;
    TRY(session_check(t->session, err));
    if (t->session->model != m)
        return error_set(err, GDN_ERR_USAGE, "the sessions of one batch are of one model");
    if (t->session->busy)
        return error_set(err, GDN_ERR_USAGE, "a session stands twice in one batch");
    TRY(sampling_check(t->sampling, m, err));
    const int64_t position = gdn_session_position(t->session), context = m->engine.context;
    if (t->n < 1 || t->n > INT32_MAX)
        return error_set(err, GDN_ERR_USAGE, "a turn of %zu tokens: need one or more", t->n);
    if (position + (int64_t)t->n > context)
        return error_set(err, GDN_ERR_USAGE, "the sequence would have %lld tokens, its context "
                         "holds %lld", (long long)(position + (int64_t)t->n), (long long)context);
    if (t->ids[0] < 0 || t->ids[0] >= m->config.vocab)
        return error_set(err, GDN_ERR_USAGE, "token 0: found id %d, need 0 to %d", t->ids[0],
                         m->config.vocab - 1);
    if (t->most < 0 || t->most > GDN_TURN_TOKENS)
        return error_set(err, GDN_ERR_USAGE, "a turn of at most %d tokens: need 0 to %d", t->most,
                         GDN_TURN_TOKENS);
    if (t->logprobs && (t->top < 0 || t->top > ENGINE_BEST))
        return error_set(err, GDN_ERR_USAGE, "a turn with the %d most likely tokens: need 0 to %d",
                         t->top, ENGINE_BEST);
    return GDN_OK;
}

static void begin(struct work *w, struct gdn_turn *t)
{
    *w = (struct work){.turn = t, .how = sampling_or_greedy(t->sampling),
                       .before = gdn_session_position(t->session),
                       .most = t->most > 0 ? t->most : GDN_TURN_TOKENS};
    w->adjusts = sampler_adjusts(&w->how);
    w->few = w->adjusts ? 1 : sampler_needs(&w->how);
    if (t->logprobs && t->top > w->few) w->few = t->top;
    memmove(fed(w), t->ids, sizeof *t->ids * t->n);
}

/* How far guesses reach next: twice as far when all of them were right; otherwise one further than
 * they were. A wrong guess costs a row, and a row is not for nothing. */
static void learn_reach(const struct work *w)
{
    struct gdn_session *s = w->turn->session;
    const int32_t right = w->turn->count - 1;
    if (w->drafts == 0) return;
    if (right < w->drafts)
        s->reach = right + 1;
    else if (s->reach < 2 * w->drafts)
        s->reach = 2 * w->drafts;
}

/* How many tokens may be guessed: as many as could be chosen, and as the context has room for. */
static int32_t draft_room(const struct work *w)
{
    const struct gdn_model *m = w->turn->session->model;
    const int32_t usual = m->options.draft == GDN_DRAFT_MTP ? MTP_DEPTH : LOOKUP_DEPTH;
    const int32_t most_ahead = m->options.draft_depth ? m->options.draft_depth : usual;
    const int32_t reach = w->turn->session->reach ? w->turn->session->reach : FIRST_REACH;
    const int32_t asked = reach < most_ahead ? reach : most_ahead;
    const int32_t room = m->engine.context - w->before - 1, most = w->most - 1;
    const int32_t depth = asked < most ? asked : most;
    return m->options.draft == GDN_DRAFT_OFF || w->turn->n > 1 ? 0 : depth < room ? depth : room;
}

static void look_up(struct work *work, int count)
{
    for (int i = 0; i < count; i++) {
        struct work *w = &work[i];
        const int32_t room = draft_room(w);
        if (room > 0)
            w->drafts = lookup_draft(w->turn->session->tokens, w->before + 1, room, fed(w) + 1);
    }
}

/* The head draws as the model will: at the same position, with the same noise. */
static int32_t choose_guess(void *context, int guess, int32_t at, const struct best *best)
{
    struct work *const *of = context;
    const struct work *w = of[guess];
    const struct ranking *r = &best->choice;
    return sampler_choose(&w->how, r->n, r->ids, r->values, (int64_t)w->before + at + 1);
}

static enum gdn_status ask_head(struct work *work, int count, struct gdn_model *m,
                                struct gdn_error *err)
{
    struct guess guesses[TURNS];
    struct piece rows[TURNS];
    struct work *of[TURNS];
    struct guess_ask ask = {.context = of, .choose = choose_guess, .best = 1};
    int n = 0;
    for (int i = 0; i < count; i++) {
        struct work *w = &work[i];
        const int32_t room = draft_room(w);
        if (room <= 0 || w->before == 0) continue;
        guesses[n] = (struct guess){.slot = w->turn->session->slot, .id = *fed(w), .most = room,
                                    .out = fed(w) + 1};
        rows[n] = (struct piece){.slot = guesses[n].slot, .n = room};
        of[n++] = w;
        const int32_t needs = sampler_needs(&w->how);
        if (needs > ask.best) ask.best = needs;
    }
    if (n == 0) return GDN_OK;
    prefixes_make_way(m, rows, n);
    TRY(engine_guess(&m->engine, guesses, n, &ask, err));
    for (int i = 0; i < n; i++) of[i]->drafts = guesses[i].n;
    return GDN_OK;
}

/* ---- what comes of the rows ------------------------------------------------------------------ */

static double logprob_of(const struct best *best, int32_t id)
{
    const struct ranking *r = &best->model;
    if (best->row) return (double)best->row[id] - (double)best->lse;
    for (int32_t i = 0; i < r->n; i++)
        if (r->ids[i] == id) return (double)r->values[i] - (double)best->lse;
    return -INFINITY;
}

static void note_logprobs(struct gdn_turn *t, const struct best *best, int32_t id)
{
    const struct ranking *r = &best->model;
    if (!t->logprobs) return;
    struct gdn_logprob *out = t->logprobs + (int64_t)t->count * (1 + t->top);
    *out++ = (struct gdn_logprob){id, logprob_of(best, id)};
    for (int32_t i = 0; i < t->top; i++)
        out[i] = i >= r->n ? (struct gdn_logprob){-1, -INFINITY}
                           : (struct gdn_logprob){r->ids[i],
                                                  (double)r->values[i] - (double)best->lse};
}

static bool is_stop(const struct gdn_turn *t, int32_t id)
{
    for (size_t i = 0; i < t->stop_count; i++)
        if (t->stop[i] == id) return true;
    return false;
}

static void adjust(void *context, int piece, int32_t row, float *logits, int32_t vocab)
{
    const struct group *g = context;
    const struct work *w = g->work[piece];
    const struct gdn_session *s = w->turn->session;
    if (w->closed || w->kept) return;
    sampler_adjust(&w->how, s->tokens, w->before + row + 1, vocab, logits,
                   s->model->counts);
}

static void choose_from(const struct group *g, struct work *w, int32_t row,
                        const struct best *best)
{
    struct gdn_turn *t = w->turn;
    struct gdn_session *s = t->session;
    const struct ranking *r = &best->choice;
    w->lost = !isfinite(best->lse);
    w->barred = !w->lost && isinf(r->values[0]);
    w->closed = w->lost || w->barred;
    if (w->closed) return;
    const int32_t id = sampler_choose(&w->how, r->n, r->ids, r->values,
                                      (int64_t)w->before + row + 1);
    note_logprobs(t, best, id);
    t->id[t->count++] = id;
    t->stopped = is_stop(t, id);
    w->closed = t->stopped || t->count == w->most || !g->draft || row == w->drafts;
    if (!g->draft || row == w->drafts) return;
    const bool right = fed(w)[row + 1] == id;
    s->drafts.drafted[row]++;
    s->drafts.accepted[row] += right;
    if (!right) w->closed = true;
}

/* Rows come in order, and the first is always right; each next one only if the token it was made
 * from is the one that was chosen. Of the last one the session keeps all best. */
static bool choose(void *context, int piece, int32_t row, const struct best *best)
{
    const struct group *g = context;
    struct work *w = g->work[piece];
    if (w->kept) return false;
    if (!w->closed) choose_from(g, w, row, best);
    if (!w->closed || w->lost) return false;
    session_keep(w->turn->session, best);
    w->kept = best->model.n == g->all;
    return !w->kept;
}

/* ---- a group of turns ------------------------------------------------------------------------ */

static void join(struct group *g, struct work *w)
{
    const struct gdn_turn *t = w->turn;
    g->work[g->count] = w;
    g->piece[g->count++] = (struct piece){
        .slot = t->session->slot, .ids = fed(w), .n = (int32_t)t->n + w->drafts,
        .first_logits = (int32_t)t->n + w->drafts, .best = g->draft ? BEST_EVERY : BEST_LAST,
        .few = g->draft ? w->few : 0, .adjust = w->adjusts};
    t->session->fresh = false;
}

static void settle(struct group *g, struct state *st, enum gdn_status status)
{
    for (int i = 0; i < g->count; i++) {
        struct work *w = g->work[i];
        struct gdn_turn *t = w->turn;
        struct gdn_session *s = t->session;
        if (status != GDN_OK) {
            t->count = 0;
            if (s->fresh) s->ready = false;
            continue;
        }
        if (t->n == 1) {
            s->drafts.turns++;
            s->drafts.chosen += t->count;
        }
        if (!g->draft) continue;
        learn_reach(w);
        state_commit(st, s->slot, t->count + (w->lost || w->barred));
        state_judge(st, s->slot, !w->lost);
    }
}

static enum gdn_status run(struct group *g, const struct work *first, struct engine *engine,
                           struct gdn_error *err)
{
    if (g->count == 0) return GDN_OK;
    const struct sink sink = {.context = g, .best = choose, .adjust = adjust};
    prefixes_make_way(g->work[0]->turn->session->model, g->piece, g->count);
    const enum gdn_status status = engine_step(engine, g->piece, g->count, g->draft, &sink, err);
    settle(g, &engine->state, status);
    for (int i = 0; i < g->count; i++) prefixes_doubt(g->work[i]->turn->session);
    TRY(status);
    for (int i = 0; i < g->count; i++)
        if (g->work[i]->barred)
            return error_set(err, GDN_ERR_USAGE, "turn %d: every token is banned, none is left to "
                             "choose", (int)(g->work[i] - first));
    return GDN_OK;
}

/* Turns of one token go together, as a verify pass if any of them has drafts; prompts apart. */
static enum gdn_status run_groups(struct work *work, int count, struct engine *engine,
                                  struct gdn_error *err)
{
    bool drafts = false;
    for (int i = 0; i < count; i++) drafts |= work[i].drafts > 0;
    for (int pass = drafts ? 0 : 1; pass < 2; pass++) {
        struct group g = {.draft = pass == 0,
                          .all = engine->vocab < ENGINE_BEST ? engine->vocab : ENGINE_BEST};
        for (int i = 0; i < count; i++)
            if (!drafts || (work[i].turn->n == 1) == g.draft) join(&g, &work[i]);
        TRY(run(&g, work, engine, err));
    }
    return GDN_OK;
}

enum gdn_status gdn_next(struct gdn_turn *turns, int count, struct gdn_error *err)
{
    struct work work[TURNS];
    if (count < 1) return GDN_OK;
    if (count > TURNS)
        return error_set(err, GDN_ERR_USAGE, "a batch of %d sessions, need at most %d", count,
                         TURNS);
    TRY(session_check(turns[0].session, err));
    struct gdn_model *m = turns[0].session->model;
    enum gdn_status status = GDN_OK;
    int begun = 0;
    for (; begun < count && status == GDN_OK; begun++) {
        status = check_turn(&turns[begun], m, err);
        if (status == GDN_OK) turns[begun].session->busy = true;
    }
    for (int i = 0; i < begun; i++)
        if (turns[i].session) turns[i].session->busy = false;
    if (status != GDN_OK) return status;
    for (int i = 0; i < count; i++) begin(&work[i], &turns[i]);
    if (m->options.draft == GDN_DRAFT_LOOKUP) look_up(work, count);
    if (m->options.draft == GDN_DRAFT_MTP) TRY(ask_head(work, count, m, err));
    return run_groups(work, count, &m->engine, err);
}

/* ---- one at a time --------------------------------------------------------------------------- */

/* From the best that were kept, when no other token of the row can matter. */
static bool sample_best(const gdn_session *s, const struct gdn_sampling *how, int32_t *id)
{
    const int32_t position = gdn_session_position(s), needs = sampler_needs(how);
    struct sampler_best best = {.n = s->best_count};
    memcpy(best.ids, s->best_ids, sizeof *best.ids * (size_t)best.n);
    memcpy(best.values, s->best_values, sizeof *best.values * (size_t)best.n);
    const int32_t vocab = s->model->engine.vocab;
    const int32_t sure = sampler_adjust_best(how, s->tokens, position, vocab, &best,
                                             s->model->counts);
    if (sure < needs && sure < vocab) return false;
    if (isinf(best.values[0])) return false;
    *id = sampler_choose(how, sure, best.ids, best.values, position);
    return true;
}

/* The distribution that is kept is the model's own. To change the logits of all tokens the last one
 * is taken back and fed again. */
static enum gdn_status sample_again(gdn_session *s, const struct gdn_sampling *sampling,
                                    int32_t *id, struct gdn_error *err)
{
    const int32_t last = s->tokens[gdn_session_position(s) - 1];
    const struct gdn_draft_stats drafts = s->drafts;
    struct gdn_turn turn = {.session = s, .ids = &last, .n = 1, .sampling = sampling, .most = 1};
    TRY(gdn_session_rewind(s, 1, err));
    const enum gdn_status status = gdn_next(&turn, 1, err);
    s->drafts = drafts;
    *id = turn.id[0];
    return status;
}

enum gdn_status gdn_session_sample(gdn_session *s, const struct gdn_sampling *sampling, int32_t *id,
                                   struct gdn_error *err)
{
    TRY(session_check(s, err));
    TRY(sampling_check(sampling, s->model, err));
    if (!s->ready)
        return error_set(err, GDN_ERR_USAGE, "there is no distribution yet: feed a token first");
    const struct gdn_sampling how = sampling_or_greedy(sampling);
    if (sampler_adjusts(&how))
        return sample_best(s, &how, id) ? GDN_OK : sample_again(s, &how, id, err);
    *id = sampler_choose(&how, s->best_count, s->best_ids, s->best_values,
                         gdn_session_position(s));
    return GDN_OK;
}

int gdn_session_logprobs(const gdn_session *s, struct gdn_logprob *out, int n)
{
    if (session_check(s, NULL) != GDN_OK || !s->ready) return 0;
    if (n > s->best_count) n = s->best_count;
    for (int i = 0; i < n; i++)
        out[i] = (struct gdn_logprob){s->best_ids[i],
                                      (double)s->best_values[i] - (double)s->best_lse};
    return n < 0 ? 0 : n;
}

void gdn_session_drafts(const gdn_session *s, struct gdn_draft_stats *stats)
{
    *stats = s && s->live ? s->drafts : (struct gdn_draft_stats){0};
}
