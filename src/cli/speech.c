#include "cli/speech.h"

#include <stdio.h>
#include <unistd.h>

#include "cli/output.h"

enum gdn_status speech_begin(struct speech *s, const gdn_model *model, bool text,
                             const int32_t *before, size_t count, struct gdn_error *err)
{
    s->dim = isatty(STDERR_FILENO) && !gdn_env("NO_COLOR");
    if (!text || (s->form == SPEECH_IDS && s->stop_count == 0)) return GDN_OK;
    TRY(gdn_reply_new(model, before, count, &s->reply, err));
    if (s->stop_count == 0) return GDN_OK;
    enum gdn_status status = gdn_reply_stop(s->reply, s->stop, s->stop_count, err);
    if (status != GDN_OK) error_prefix(err, "--stop");
    return status;
}

bool speech_stopped(const struct speech *s) { return s->reply && gdn_reply_stopped(s->reply); }

/* Each piece is dimmed for itself: whatever ends the program leaves the terminal as it was. */
static void say_aside(const struct speech *s, const char *text)
{
    fprintf(stderr, s->dim ? "\033[2m%s\033[0m" : "%s", text);
}

static void end_thoughts(struct speech *s)
{
    if (!s->thinking) return;
    s->thinking = false;
    if (s->show_thinking)
        output_text("\n</think>\n\n");
    else
        fputs("\n", stderr);
}

static void say(struct speech *s, const struct gdn_reply_text *text)
{
    if (*text->thoughts) {
        if (s->show_thinking && !s->thinking) output_text("<think>\n");
        s->thinking = true;
        if (s->show_thinking)
            output_text(text->thoughts);
        else
            say_aside(s, text->thoughts);
    }
    if (!*text->answer) return;
    end_thoughts(s);
    output_text(text->answer);
}

static void push(struct speech *s, int32_t id)
{
    if (!s->reply) return;
    const struct gdn_reply_text text = gdn_reply_push(s->reply, id);
    if (s->form == SPEECH_TEXT) say(s, &text);
    if (s->form == SPEECH_IDS || (s->form == SPEECH_TEXT && !s->keep)) return;
    bytes_add_text(&s->thoughts, text.thoughts);
    bytes_add_text(&s->answer, text.answer);
}

void speech_token(struct speech *s, int32_t id)
{
    char text[16];
    if (s->form == SPEECH_IDS) {
        snprintf(text, sizeof text, "%s%d", s->count ? " " : "", id);
        output_text(text);
    } else if (s->form == SPEECH_JSON) {
        bytes_addf(&s->ids, "%s%d", s->count ? "," : "", id);
    }
    push(s, id);
    s->count++;
}

bool speech_end(struct speech *s)
{
    push(s, -1);
    const bool cut = s->thinking;
    /* Thoughts that nobody ended stay open in what is shown. */
    if (!s->show_thinking) end_thoughts(s);
    if (s->form != SPEECH_JSON) output_text("\n");
    return !cut;
}

void speech_free(struct speech *s)
{
    gdn_reply_free(s->reply);
    bytes_free(&s->ids);
    bytes_free(&s->thoughts);
    bytes_free(&s->answer);
}
