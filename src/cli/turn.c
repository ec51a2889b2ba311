#include "cli/turn.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "cli/interrupt.h"
#include "cli/output.h"

/* ---- reading --------------------------------------------------------------------------------- */

enum { PATIENCE_MS = 300, ROOM = 1 << 12 };

struct progress {
    double begin;
    bool terminal, shown;
};

/* On a terminal, and not for what is over at once. */
static bool go_on(void *context, int32_t done, int32_t all)
{
    struct progress *p = context;
    if (p->terminal && 1e3 * (clock_seconds() - p->begin) > PATIENCE_MS) {
        fprintf(stderr, "\r[reading: %d of %d tokens]", done, all);
        p->shown = true;
    }
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
        if (status == GDN_OK && n <= room && n <= (size_t)t->context) {
            *count = (int32_t)n;
            return GDN_OK;
        }
        mem_give(*ids);
        *ids = NULL;
        TRY(status);
        if (n > (size_t)t->context)
            return error_set(err, GDN_ERR_INPUT, "the conversation: found %zu tokens, the context "
                             "holds %d", n, t->context);
    }
}

static enum gdn_status read_all(struct turn *t, const int32_t *ids, struct gdn_error *err)
{
    struct progress progress = {.begin = clock_seconds(), .terminal = isatty(STDERR_FILENO) == 1};
    const struct gdn_sync_options o = {.go_on = go_on, .context = &progress};
    const enum gdn_status status =
        gdn_session_sync(t->session, ids, (size_t)t->prompt, &o, &t->synced, err);
    if (progress.shown) fputs("\r\033[K", stderr);
    t->read = clock_seconds() - progress.begin;
    t->stopped = t->synced.stopped;
    return status;
}

/* ---- answering ------------------------------------------------------------------------------- */

static bool is_end(const struct gdn_model_info *info, int32_t id)
{
    for (int32_t i = 0; i < info->eos_count; i++)
        if (info->eos[i] == id) return true;
    return false;
}

/* Says what was chosen. False: the answer ends here. */
static bool say(struct turn *t, const struct gdn_turn *chosen, double begin)
{
    for (int32_t i = 0; i < chosen->count; i++) {
        if (is_end(&t->info, chosen->id[i])) return false;
        if (t->speech.count == 0) t->first = clock_seconds() - begin;
        speech_token(&t->speech, chosen->id[i]);
    }
    return t->most == 0 || t->speech.count < t->most;
}

/* The first token is said before a step is spent on what may follow it. */
static enum gdn_status answer(struct turn *t, struct gdn_error *err)
{
    const double begin = clock_seconds();
    int32_t last;
    struct gdn_turn next = {.session = t->session, .ids = &last, .n = 1, .sampling = &t->sampling,
                            .stop = t->info.eos, .stop_count = (size_t)t->info.eos_count,
                            .count = 1};
    TRY(gdn_session_sample(t->session, &t->sampling, &next.id[0], err));
    while (!interrupt_noted() && output_open() && say(t, &next, begin)) {
        if (gdn_session_position(t->session) >= t->context) {
            fprintf(stderr, "\n[the context of %d tokens is full]", t->context);
            break;
        }
        const int64_t left = t->most ? t->most - t->speech.count : GDN_TURN_TOKENS;
        next.most = left < GDN_TURN_TOKENS ? (int32_t)left : GDN_TURN_TOKENS;
        last = next.id[next.count - 1];
        TRY(gdn_next(&next, 1, err));
    }
    t->answered = clock_seconds() - begin - t->first;
    t->stopped = interrupt_noted() != 0;
    return GDN_OK;
}

enum gdn_status turn_take(struct turn *t, const char *messages, size_t len, struct gdn_error *err)
{
    int32_t *ids;
    speech_free(&t->speech);
    t->speech = (struct speech){.form = SPEECH_TEXT, .keep = true,
                                .show_thinking = t->show_thinking};
    t->synced = (struct gdn_synced){0};
    t->read = t->first = t->answered = 0;
    TRY(render(t, messages, len, &ids, &t->prompt, err));
    enum gdn_status status = read_all(t, ids, err);
    mem_give(ids);
    if (status != GDN_OK || t->stopped) return status;
    TRY(speech_begin(&t->speech, t->model, true, gdn_session_tokens(t->session),
                     (size_t)t->prompt, err));
    status = answer(t, err);
    speech_end(&t->speech);
    /* Another answer to the same question may be wanted. */
    t->sampling.seed++;
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

static double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

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

void turn_print(const struct turn *t, struct bytes *out)
{
    char peak[SIZE_TEXT];
    bytes_addf(out, "[prompt %d tokens, %.0f tok/s; reused %d tokens; ", t->synced.computed,
               rate(t->synced.computed, t->read), t->synced.reused);
    if (t->speech.count == 0)
        bytes_add_text(out, "no answer");
    else
        bytes_addf(out, "answer %lld tokens, %.0f tok/s; first token %.0f ms",
                   (long long)t->speech.count,
                   rate((double)(t->speech.count - 1), t->answered), 1e3 * (t->read + t->first));
    bytes_addf(out, "; peak memory %s", size_text(peak, machine_peak_bytes()));
    if (t->sampling.temperature > 0 && t->speech.count > 0)
        bytes_addf(out, "; seed %llu", (unsigned long long)(t->sampling.seed - 1));
    bytes_add_text(out, "]\n");
}

void turn_free(struct turn *t) { speech_free(&t->speech); }
