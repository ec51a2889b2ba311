/* snapshot.c: sessions put aside, in memory and on disk. */
#include <string.h>

#include "api/handles.h"
#include "base/memory.h"

enum gdn_status session_settle(struct gdn_session *s, struct gdn_error *err)
{
    const struct piece none = {.slot = s->slot};
    prefixes_make_way(s->model, &none, 1);
    return engine_settle(&s->model->engine, s->slot, err);
}

/* ---- in memory ------------------------------------------------------------------------------- */

enum gdn_status gdn_session_snapshot(gdn_session *s, gdn_snapshot **snapshot, struct gdn_error *err)
{
    *snapshot = NULL;
    TRY(session_check(s, err));
    TRY(session_settle(s, err));
    const size_t bytes = sizeof *s->tokens * (size_t)gdn_session_position(s);
    struct gdn_snapshot *made = mem_take(sizeof *made);
    int32_t *tokens = mem_take_dirty(bytes);
    enum gdn_status status = GDN_ERR_MEMORY;
    if (made && tokens) {
        memcpy(tokens, s->tokens, bytes);
        arena_reset(&s->model->engine.data);
        status = snapshot_take(&made->state, &s->model->engine.state, s->slot,
                               &s->model->engine.data, NULL, err);
    } else {
        error_set(err, status, "no memory for a snapshot");
    }
    if (status != GDN_OK) {
        mem_give(made);
        mem_wipe(tokens);
        return status;
    }
    made->model = s->model;
    made->session = *s;
    made->session.tokens = tokens;
    *snapshot = made;
    return GDN_OK;
}

int64_t gdn_snapshot_bytes(const gdn_snapshot *snapshot)
{
    return snapshot ? snapshot_weight(&snapshot->state) +
                          (int64_t)sizeof(int32_t) * snapshot->state.position
                    : 0;
}

int32_t gdn_snapshot_position(const gdn_snapshot *snapshot)
{
    return snapshot ? snapshot->state.position : 0;
}

void gdn_snapshot_free(gdn_snapshot *snapshot)
{
    if (!snapshot) return;
    mem_wipe(snapshot->session.tokens);
    snapshot_release(&snapshot->state, true);
    mem_wipe(snapshot);
}

void session_adopt(struct gdn_session *s, const struct gdn_session *from, const int32_t *tokens,
                   int32_t position)
{
    s->ready = from->ready;
    s->fresh = false;
    s->best_count = from->best_count;
    s->best_lse = from->best_lse;
    memcpy(s->best_ids, from->best_ids, sizeof s->best_ids);
    memcpy(s->best_values, from->best_values, sizeof s->best_values);
    memcpy(s->tokens, tokens, sizeof *s->tokens * (size_t)position);
}

enum gdn_status gdn_session_restore(gdn_session *s, const gdn_snapshot *snapshot,
                                    struct gdn_error *err)
{
    if (!s || !s->live || !snapshot)
        return error_set(err, GDN_ERR_USAGE, "restore: need an open session and a snapshot");
    if (snapshot->model != s->model)
        return error_set(err, GDN_ERR_USAGE, "restore: the snapshot is of another model");
    const int32_t position = snapshot->state.position;
    TRY(snapshot_restore(&snapshot->state, &s->model->engine.state, &s->slot, position, err));
    session_adopt(s, &snapshot->session, snapshot->session.tokens, position);
    return GDN_OK;
}

/* ---- on disk --------------------------------------------------------------------------------- */

enum gdn_status gdn_session_save(gdn_session *s, const char *path, struct gdn_error *err)
{
    TRY(session_check(s, err));
    TRY(session_settle(s, err));
    struct gdn_model *m = s->model;
    struct snapshot taken;
    arena_reset(&m->engine.data);
    TRY(snapshot_take(&taken, &m->engine.state, s->slot, &m->engine.data, NULL, err));
    struct state_record r = {.position = taken.position, .tokens = s->tokens,
                             .best_count = s->ready ? s->best_count : 0,
                             .best_lse = s->best_lse};
    memcpy(r.model, m->fingerprint, sizeof r.model);
    memcpy(r.best_ids, s->best_ids, sizeof r.best_ids);
    memcpy(r.best_values, s->best_values, sizeof r.best_values);
    const enum gdn_status status = state_save(path, &taken, &r, err);
    snapshot_release(&taken, true);
    return status;
}

enum gdn_status gdn_session_load(gdn_model *m, const char *path, gdn_session **session,
                                 bool *converted, struct gdn_error *err)
{
    *session = NULL;
    TRY(model_ready(m, err));
    struct gdn_session *s = session_find(m, err);
    if (!s) return GDN_ERR_MEMORY;
    struct state_record r;
    int32_t slot;
    bool changed = false;
    TRY(state_load(path, &m->engine.state, m->fingerprint, &slot, &r, &changed, err));
    *s = (struct gdn_session){.model = m, .slot = slot, .live = true, .tokens = s->tokens,
                              .ready = r.best_count > 0, .best_count = r.best_count,
                              .best_lse = r.best_lse};
    memcpy(s->best_ids, r.best_ids, sizeof s->best_ids);
    memcpy(s->best_values, r.best_values, sizeof s->best_values);
    memcpy(s->tokens, r.tokens, sizeof *s->tokens * (size_t)r.position);
    state_record_free(&r);
    if (converted) *converted = changed;
    *session = s;
    return GDN_OK;
}

static enum gdn_type type_of(enum dtype t)
{
    return t == DTYPE_BF16 ? GDN_BF16 : t == DTYPE_F64 ? GDN_F64 : GDN_F32;
}

enum gdn_status gdn_state_file_verify(const char *path, struct gdn_state_file *info,
                                      struct gdn_error *err)
{
    struct state_summary sum;
    *info = (struct gdn_state_file){0};
    TRY(state_verify(path, &sum, err));
    *info = (struct gdn_state_file){.version = STATE_FILE_VERSION, .bytes = sum.bytes,
                                    .position = sum.record.position, .layers = sum.layers,
                                    .log_length = sum.length, .compute = type_of(sum.compute),
                                    .state = type_of(sum.anchor),
                                    .has_distribution = sum.record.best_count > 0};
    memcpy(info->model, sum.record.model, sizeof info->model);
    return GDN_OK;
}
