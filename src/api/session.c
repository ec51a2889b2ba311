#include <string.h>

#include "api/handles.h"
#include "base/check.h"

_Static_assert(sizeof((struct gdn_model_info *)0)->eos == sizeof((struct config *)0)->eos,
               "the public list of eos ids is as long as the config's");

static enum gdn_status check_live(const struct gdn_session *s, struct gdn_error *err)
{
    if (s && s->live) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "the session is not open");
}

enum gdn_status session_check(const struct gdn_session *s, struct gdn_error *err)
{
    TRY(check_live(s, err));
    if (s->model->engine.state.slot[s->slot].status == SLOT_LIVE) return GDN_OK;
    return error_set(err, GDN_ERR_USAGE, "the session is not usable: an earlier step of it failed "
                     "half-way or gave no finite numbers");
}

struct gdn_session *session_find(struct gdn_model *m, struct gdn_error *err)
{
    for (int i = 0; i < m->options.sessions; i++)
        if (!m->sessions[i].live) return &m->sessions[i];
    error_set(err, GDN_ERR_MEMORY, "all %d sessions are in use (options.sessions)",
              m->options.sessions);
    return NULL;
}

/* The session begins with this slot and nothing fed. */
static void session_begin(struct gdn_model *m, struct gdn_session *s, int32_t slot)
{
    *s = (struct gdn_session){.model = m, .slot = slot, .live = true, .tokens = s->tokens};
}

enum gdn_status gdn_session_new(gdn_model *m, gdn_session **session, struct gdn_error *err)
{
    *session = NULL;
    TRY(model_ready(m, err));
    struct gdn_session *s = session_find(m, err);
    if (!s) return GDN_ERR_MEMORY;
    session_begin(m, s, state_slot_take(&m->engine.state));
    *session = s;
    return GDN_OK;
}

void gdn_session_free(gdn_session *s)
{
    if (!s || !s->live) return;
    /* All of them: behind the position stand those that were taken back. */
    memset(s->tokens, 0, sizeof *s->tokens * (size_t)s->model->engine.context);
    state_slot_give(&s->model->engine.state, s->slot);
    *s = (struct gdn_session){.tokens = s->tokens};
}

int32_t gdn_session_position(const gdn_session *s)
{
    return s && s->live ? s->model->engine.state.slot[s->slot].position : 0;
}

const int32_t *gdn_session_tokens(const gdn_session *s) { return s && s->live ? s->tokens : NULL; }

int32_t gdn_session_rewindable(const gdn_session *s)
{
    return session_check(s, NULL) == GDN_OK ? state_length(&s->model->engine.state, s->slot) : 0;
}

enum gdn_status gdn_session_rewind(gdn_session *s, int32_t n, struct gdn_error *err)
{
    TRY(session_check(s, err));
    TRY(state_rewind(&s->model->engine.state, s->slot, n, err));
    if (n > 0) s->ready = false;
    return GDN_OK;
}

enum gdn_status gdn_session_fork(const gdn_session *s, gdn_session **fork, struct gdn_error *err)
{
    *fork = NULL;
    TRY(session_check(s, err));
    struct gdn_model *m = s->model;
    struct gdn_session *f = session_find(m, err);
    if (!f) return GDN_ERR_MEMORY;
    int32_t *tokens = f->tokens;
    memcpy(tokens, s->tokens, sizeof *tokens * (size_t)gdn_session_position(s));
    *f = *s;
    f->tokens = tokens;
    f->slot = state_fork(&m->engine.state, s->slot);
    *fork = f;
    return GDN_OK;
}

/* ---- stepping: the public sink over the engine's --------------------------------------------- */

struct relay {
    const struct gdn_feed *feeds;
    const struct gdn_sink *sink; /* or NULL */
};

static void relay_logits(void *context, int piece, int32_t row, const float *logits, int32_t vocab)
{
    const struct relay *r = context;
    r->sink->logits(r->sink->context, piece, (size_t)row, logits, vocab);
}

static void relay_hidden(void *context, int piece, int32_t row, int32_t index, const float *x,
                         int32_t width)
{
    const struct relay *r = context;
    r->sink->hidden(r->sink->context, piece, (size_t)row, index, x, width);
}

static void relay_loss(void *context, int piece, int32_t row, double nats)
{
    const struct relay *r = context;
    r->sink->loss(r->sink->context, piece, (size_t)row, nats);
}

void session_keep(struct gdn_session *s, const struct best *best)
{
    const struct ranking *r = &best->model;
    s->best_count = r->n;
    memcpy(s->best_ids, r->ids, sizeof *r->ids * (size_t)r->n);
    memcpy(s->best_values, r->values, sizeof *r->values * (size_t)r->n);
    s->best_lse = best->lse;
    s->ready = s->fresh = true;
}

static bool keep_best(void *context, int piece, int32_t row, const struct best *best)
{
    const struct relay *r = context;
    (void)row;
    session_keep(r->feeds[piece].session, best);
    return false;
}

/* After a step, which may have failed: what of the piece has become part of the session. */
static void settle(const struct gdn_feed *f, int32_t before, bool draft, enum gdn_status status)
{
    struct gdn_session *s = f->session;
    const size_t kept = (size_t)(gdn_session_position(s) - before);
    if (kept > 0) memcpy(s->tokens + before, f->ids, sizeof *f->ids * kept);
    if (draft && status == GDN_OK && f->n > 0) memcpy(s->draft, f->ids, sizeof *f->ids * f->n);
    prefixes_doubt(s);
    /* The engine took this token back, but the distribution before it is written over. */
    if (status != GDN_OK && f->n == 1 && s->fresh) s->ready = false;
}

/* At most this many sessions in one call: their pieces stand on the stack. */
enum { BATCH = 1024 };

static enum gdn_status step(const struct gdn_feed *feeds, int count, const struct gdn_sink *sink,
                            bool draft, struct gdn_error *err)
{
    if (count < 1) return GDN_OK;
    if (count > BATCH)
        return error_set(err, GDN_ERR_USAGE, "a batch of %d sessions, need at most %d", count,
                         BATCH);
    struct piece pieces[BATCH];
    for (int i = 0; i < count; i++) {
        const struct gdn_feed *f = &feeds[i];
        TRY(session_check(f->session, err));
        if (f->session->model != feeds[0].session->model)
            return error_set(err, GDN_ERR_USAGE, "the sessions of one batch are of one model");
        if (f->n > INT32_MAX)
            return error_set(err, GDN_ERR_USAGE, "a piece of %zu tokens is too long", f->n);
        const size_t first = f->last_only ? (f->n ? f->n - 1 : 0) : f->first < f->n ? f->first
                                                                                     : f->n;
        pieces[i] = (struct piece){.slot = f->session->slot, .ids = f->ids, .n = (int32_t)f->n,
                                   .first_logits = (int32_t)first,
                                   .best = draft ? BEST_NONE : BEST_LAST};
        f->session->fresh = false;
    }
    struct relay relay = {.feeds = feeds, .sink = sink};
    const struct sink inner = {.context = &relay,
                               .logits = sink && sink->logits ? relay_logits : NULL,
                               .hidden = sink && sink->hidden ? relay_hidden : NULL,
                               .loss = sink && sink->loss ? relay_loss : NULL,
                               .best = draft ? NULL : keep_best};
    struct engine *engine = &feeds[0].session->model->engine;
    int32_t before[BATCH];
    for (int i = 0; i < count; i++) before[i] = gdn_session_position(feeds[i].session);
    prefixes_make_way(feeds[0].session->model, pieces, count);
    const enum gdn_status status = engine_step(engine, pieces, count, draft, &inner, err);
    for (int i = 0; i < count; i++) settle(&feeds[i], before[i], draft, status);
    return status;
}

enum gdn_status gdn_step(const struct gdn_feed *feeds, int count, const struct gdn_sink *sink,
                         struct gdn_error *err)
{
    return step(feeds, count, sink, false, err);
}

enum gdn_status gdn_session_feed(gdn_session *s, const int32_t *ids, size_t n,
                                 struct gdn_error *err)
{
    const struct gdn_feed feed = {.session = s, .ids = ids, .n = n, .first = n};
    return step(&feed, 1, NULL, false, err);
}

static void copy_logits(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    (void)feed;
    (void)row;
    memcpy(context, logits, sizeof *logits * (size_t)vocab);
}

enum gdn_status gdn_session_logits(gdn_session *s, float *logits, struct gdn_error *err)
{
    TRY(session_check(s, err));
    if (gdn_session_position(s) == 0)
        return error_set(err, GDN_ERR_USAGE, "there are no logits yet: feed a token first");
    TRY(gdn_session_rewind(s, 1, err));
    const int32_t id = s->tokens[gdn_session_position(s)];
    const struct gdn_feed last = {.session = s, .ids = &id, .n = 1};
    const struct gdn_sink sink = {.context = logits, .logits = copy_logits};
    return gdn_step(&last, 1, &sink, err);
}

enum gdn_status gdn_session_draft(gdn_session *s, const int32_t *ids, size_t n,
                                  const struct gdn_sink *sink, struct gdn_error *err)
{
    const struct gdn_feed feed = {.session = s, .ids = ids, .n = n};
    return step(&feed, 1, sink, true, err);
}

int32_t gdn_session_commit(gdn_session *s, int32_t n)
{
    if (!s || !s->live) return 0;
    int32_t *end = s->tokens + gdn_session_position(s);
    const int32_t taken = state_commit(&s->model->engine.state, s->slot, n);
    memcpy(end, s->draft, sizeof *end * (size_t)taken);
    if (taken > 0) s->ready = false;
    return taken;
}
