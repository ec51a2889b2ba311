#include "cli/turn.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

/* ---- reading --------------------------------------------------------------------------------- */

enum { ROOM = 1 << 12 };

static bool go_on(void *context, int32_t done, int32_t all)
{
    progress_tell(context, "reading", done, all, "tokens");
    return interrupt_noted() == 0;
}

static enum gdn_status render(const struct turn *t, const char *messages, size_t len,
                              int32_t **ids, int32_t *count, struct gdn_error *err)
{
    const struct gdn_chat_options o = {.answer = true, .think = t->think,
                                       .keep_thinking = t->keep_thinking};
    for (size_t room = len / 3 + ROOM, n;; room = n) {
        n = room;
        *ids = mem_take_array(room, sizeof **ids);
        if (!*ids) return error_set(err, GDN_ERR_MEMORY, "no memory for %zu tokens", room);
        const enum gdn_status status = gdn_chat_json(t->model, messages, len, &o, *ids, &n, err);
        if (status == GDN_OK && n <= room && n <= (size_t)t->info.context) {
            *count = (int32_t)n;
            return GDN_OK;
        }
        mem_give(*ids);
        *ids = NULL;
        TRY(status);
        if (n > (size_t)t->info.context)
            return error_set(err, GDN_ERR_INPUT, "the conversation: found %zu tokens, the context "
                             "holds %d", n, t->info.context);
    }
}

static enum gdn_status read_all(struct turn *t, const int32_t *ids, struct gdn_error *err)
{
    struct progress progress = progress_begin();
    const struct gdn_sync_options o = {.go_on = go_on, .context = &progress};
    const enum gdn_status status =
        gdn_session_sync(t->session, ids, (size_t)t->prompt, &o, &t->synced, err);
    t->figures.reading = progress_end(&progress);
    t->figures.read = t->synced.computed;
    t->figures.reused = t->synced.reused;
    t->stopped = t->synced.stopped;
    return status;
}

/* ---- answering ------------------------------------------------------------------------------- */

static enum gdn_status answer(struct turn *t, struct gdn_error *err)
{
    const double begin = clock_seconds();
    struct gdn_draft_stats before;
    struct answer a = {.model = t->model, .session = t->session, .chosen = &t->chosen,
                       .speech = &t->speech, .most = t->most, .context = t->info.context,
                       .top = -1};
    gdn_session_drafts(t->session, &before);
    const enum gdn_status status = answer_take(&a, err);
    speech_end(&t->speech);
    TRY(status);
    t->stopped = interrupt_noted() != 0;
    struct figures *f = &t->figures;
    f->said = t->speech.count;
    f->first = f->reading + a.first - begin;
    f->saying = a.last - a.first;
    f->drawn = t->chosen.sampling.temperature > 0;
    f->seed = t->chosen.sampling.seed;
    if (t->drafts) f->drafts = figures_drafts(t->session, &before);
    if (a.end == ANSWER_FULL)
        fprintf(stderr, "[the context of %d tokens is full]\n", t->info.context);
    return GDN_OK;
}

enum gdn_status turn_take(struct turn *t, const char *messages, size_t len, struct gdn_error *err)
{
    int32_t *ids;
    speech_free(&t->speech);
    t->speech = (struct speech){.form = SPEECH_TEXT, .keep = true,
                                .show_thinking = t->show_thinking, .stop = t->chosen.string,
                                .stop_count = t->chosen.string_count};
    t->synced = (struct gdn_synced){0};
    t->figures = (struct figures){0};
    TRY(render(t, messages, len, &ids, &t->prompt, err));
    enum gdn_status status = read_all(t, ids, err);
    mem_give(ids);
    if (status != GDN_OK || t->stopped) return status;
    TRY(speech_begin(&t->speech, t->model, true, gdn_session_tokens(t->session),
                     (size_t)t->prompt, err));
    status = answer(t, err);
    /* Another answer to the same question may be wanted. */
    t->chosen.sampling.seed++;
    return status;
}

enum gdn_status turn_settle(struct turn *t, const struct bytes *one, const struct bytes *other,
                            struct gdn_error *err)
{
    int32_t *a, *b, a_len, b_len, same = 0;
    TRY(render(t, one->at, one->len, &a, &a_len, err));
    enum gdn_status status = render(t, other->at, other->len, &b, &b_len, err);
    if (status == GDN_OK) {
        while (same < a_len && same < b_len && a[same] == b[same]) same++;
        status = gdn_session_sync(t->session, a, (size_t)same, NULL, NULL, err);
    }
    mem_give(a);
    mem_give(b);
    return status;
}

/* ---- telling --------------------------------------------------------------------------------- */

const char *turn_limit(const struct turn *t)
{
    switch (t->synced.limit) {
    case GDN_LIMIT_NONE: return "all was there";
    case GDN_LIMIT_LAST: return "all was there, the last token ran again";
    case GDN_LIMIT_DIFFERS: return "the rest is new";
    case GDN_LIMIT_NOT_KEPT: return "more was known, but no state was kept so far on";
    }
    return "";
}

void turn_free(struct turn *t)
{
    speech_free(&t->speech);
    chosen_free(&t->chosen);
}
