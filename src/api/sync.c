/* sync.c: a session made to hold a given list of tokens, with as little computing as the session
 * itself and the states kept by all sessions of the model allow (state/prefix.h). */
#include <string.h>

#include "api/handles.h"
#include "base/memory.h"

enum { PIECE = 512 };

struct sync {
    struct gdn_session *session;
    struct gdn_model *model;
    const int32_t *ids;
    int32_t n;
    const struct gdn_sync_options *options;
    struct gdn_synced done;
};

static struct slot *slot_of(const struct gdn_session *s)
{
    return &s->model->engine.state.slot[s->slot];
}

/* ---- keeping --------------------------------------------------------------------------------- */

/* With the distribution behind it; a state without one is not worth its place. That there is no
 * memory for a copy costs later time, not this call. */
static enum gdn_status keep(struct gdn_session *s, enum store_kind kind, struct gdn_error *err)
{
    struct gdn_model *m = s->model;
    if (!m->store.entry || !s->ready || slot_of(s)->status != SLOT_LIVE) return GDN_OK;
    struct gdn_session extra = *s;
    extra.tokens = NULL;
    int32_t entry;
    struct gdn_error why = {0};
    const struct store_note note = {.tokens = s->tokens, .kind = kind, .extra = &extra,
                                    .extra_bytes = sizeof extra};
    enum gdn_status status = session_settle(s, &why);
    arena_reset(&m->engine.data);
    if (status == GDN_OK)
        status = store_put(&m->store, s->slot, &note, &m->engine.data, &entry, &why);
    if (status == GDN_OK || status == GDN_ERR_MEMORY) return GDN_OK;
    return error_set(err, status, "%s", why.text);
}

enum gdn_status gdn_session_keep(gdn_session *s, struct gdn_error *err)
{
    TRY(session_check(s, err));
    return keep(s, STORE_MESSAGE, err);
}

void prefixes_make_way(struct gdn_model *m, const struct piece *pieces, int count)
{
    const struct state *st = &m->engine.state;
    int64_t need = 0;
    for (int i = 0; i < count; i++) {
        const int32_t position = st->slot[pieces[i].slot].position;
        const int32_t from = state_first(st, pieces[i].slot);
        need += (position + (int64_t)pieces[i].n + PAGE - 1) / PAGE - from / PAGE;
    }
    if (m->store.live > 0 && need <= st->pages)
        store_free_pages(&m->store, (int32_t)need);
}

void prefixes_doubt(const struct gdn_session *s)
{
    if (s->model->store.live > 0 && slot_of(s)->status == SLOT_INVALID)
        store_distrust(&s->model->store, s->slot);
}

void gdn_model_prefixes(const gdn_model *m, struct gdn_prefix_info *info)
{
    *info = (struct gdn_prefix_info){.states = m->store.live, .bytes = m->store.bytes,
                                     .budget = m->store.budget};
}

/* ---- reusing --------------------------------------------------------------------------------- */

/* Where the session itself can stand. */
static int32_t own_reach(struct sync *y)
{
    const struct gdn_session *s = y->session;
    const int32_t position = gdn_session_position(s);
    if (slot_of(s)->status != SLOT_LIVE) return 0;
    y->done.agreed = prefix_agreed(s->tokens, position, y->ids, y->n);
    return prefix_reach(position, gdn_session_rewindable(s), y->done.agreed, y->n, s->ready);
}

/* The session leaves its tokens behind: somebody may come back to them. */
static enum gdn_status take_kept(struct sync *y, const struct prefix_found *found,
                                 struct gdn_error *err)
{
    struct gdn_session *s = y->session;
    struct store *store = &y->model->store;
    store_pin(store, found->entry);
    enum gdn_status status = keep(s, STORE_MESSAGE, err);
    store_unpin(store, found->entry);
    if (status == GDN_OK) status = store_restore(store, found->entry, &s->slot, err);
    if (status != GDN_OK) return status;
    const struct store_entry *e = &store->entry[found->entry];
    session_adopt(s, e->extra, e->tokens, e->snapshot.position);
    return GDN_OK;
}

static enum gdn_status begin_anew(struct gdn_session *s, struct gdn_error *err)
{
    struct state *st = &s->model->engine.state;
    TRY(keep(s, STORE_MESSAGE, err));
    state_slot_give(st, s->slot);
    s->slot = state_slot_take(st);
    s->ready = false;
    return GDN_OK;
}

static enum gdn_status reuse(struct sync *y, struct gdn_error *err)
{
    struct gdn_session *s = y->session;
    const int32_t own = own_reach(y);
    const struct prefix_found found = prefix_find(&y->model->store, y->ids, y->n);
    if (found.agreed > y->done.agreed) y->done.agreed = found.agreed;
    if (found.position > own) {
        TRY(take_kept(y, &found, err));
        y->done.from = GDN_REUSE_KEPT;
        y->done.reused = found.position;
    } else if (own > 0) {
        y->done.from = GDN_REUSE_SESSION;
        y->done.reused = own;
    } else if (gdn_session_position(s) > 0 || slot_of(s)->status != SLOT_LIVE) {
        TRY(begin_anew(s, err));
    }
    y->done.limit = y->done.reused == y->n       ? GDN_LIMIT_NONE
                  : y->done.agreed == y->n &&
                    y->done.reused == y->n - 1   ? GDN_LIMIT_LAST
                  : y->done.reused < y->done.agreed ? GDN_LIMIT_NOT_KEPT
                                                 : GDN_LIMIT_DIFFERS;
    state_drafted(&y->model->engine.state, s->slot, 0);
    return gdn_session_rewind(s, gdn_session_position(s) - y->done.reused, err);
}

/* ---- the rest -------------------------------------------------------------------------------- */

/* Up to `end` of the list, in pieces; false in *on when somebody wants no more of it. */
static enum gdn_status compute(struct sync *y, int32_t end, bool *on, struct gdn_error *err)
{
    const struct gdn_sync_options *o = y->options;
    while (gdn_session_position(y->session) < end) {
        const int32_t at = gdn_session_position(y->session);
        *on = !o || !o->go_on || o->go_on(o->context, at, y->n);
        if (!*on) return GDN_OK;
        const int32_t piece = end - at < PIECE ? end - at : PIECE;
        const enum gdn_status status =
            gdn_session_feed(y->session, y->ids + at, (size_t)piece, err);
        y->done.computed = gdn_session_position(y->session) - y->done.reused;
        TRY(status);
        TRY(session_check(y->session, err));
    }
    return GDN_OK;
}

/* mark [n + 1], from the caller's list and from the tokens behind what was reused. */
static void set_marks(const struct sync *y, unsigned char *mark)
{
    const struct gdn_sync_options *o = y->options;
    for (int32_t p = y->done.reused + 1; y->model->marks.any && p < y->n; p++) {
        const enum mark found = marks_at(&y->model->marks, y->ids, (size_t)p);
        if (found != MARK_NONE)
            mark[p] = found == MARK_MESSAGE ? PREFIX_MESSAGE : PREFIX_THINKING;
    }
    for (size_t i = 0; o && i < o->mark_count; i++)
        if (o->marks[i] > 0 && o->marks[i] < y->n) mark[o->marks[i]] = PREFIX_MESSAGE;
}

/* From stop to stop, each kept. One new token is an answer going on, and nothing to stop for. */
static enum gdn_status compute_rest(struct sync *y, struct gdn_error *err)
{
    bool on = true;
    if (!y->model->store.entry || y->n - y->done.reused <= 1) return compute(y, y->n, &on, err);
    unsigned char *mark = mem_take((size_t)y->n + 1);
    if (!mark) return error_set(err, GDN_ERR_MEMORY, "no memory for %d tokens", y->n);
    set_marks(y, mark);
    enum gdn_status status = GDN_OK;
    for (int32_t from = y->done.reused; status == GDN_OK && on && from < y->n;) {
        const struct prefix_stop stop = prefix_next(mark, from, y->n);
        status = compute(y, stop.position, &on, err);
        if (status == GDN_OK && on) status = keep(y->session, stop.kind, err);
        from = stop.position;
    }
    mem_give(mark);
    return status;
}

/* Before anything is changed. */
static enum gdn_status check(const gdn_session *s, const int32_t *ids, size_t n,
                             struct gdn_error *err)
{
    if (!s || !s->live) return error_set(err, GDN_ERR_USAGE, "the session is not open");
    const struct engine *e = &s->model->engine;
    if (n > (size_t)e->context)
        return error_set(err, GDN_ERR_USAGE, "a list of %zu tokens, the context holds %d", n,
                         e->context);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= e->config->vocab)
            return error_set(err, GDN_ERR_USAGE, "token %zu: found id %d, need 0 to %d", i, ids[i],
                             e->config->vocab - 1);
    return GDN_OK;
}

enum gdn_status gdn_session_sync(gdn_session *s, const int32_t *ids, size_t n,
                                 const struct gdn_sync_options *options, struct gdn_synced *done,
                                 struct gdn_error *err)
{
    if (done) *done = (struct gdn_synced){0};
    TRY(check(s, ids, n, err));
    struct sync y = {.session = s, .model = s->model, .ids = ids, .n = (int32_t)n,
                     .options = options};
    enum gdn_status status = reuse(&y, err);
    if (status == GDN_OK) status = compute_rest(&y, err);
    y.done.stopped = status == GDN_OK && gdn_session_position(s) < y.n;
    if (done) *done = y.done;
    return status;
}
