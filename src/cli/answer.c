#include "cli/answer.h"

#include <math.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/interrupt.h"
#include "cli/output.h"

/* ---- log probabilities ----------------------------------------------------------------------- */

static void put_logprob(struct answer *a, const struct gdn_logprob *p)
{
    enum { ROOM = 256 };
    char text[ROOM];
    struct bytes *out = &a->logprobs;
    size_t n = sizeof text;
    bytes_addf(out, "{\"id\":%d,\"logprob\":", p->id);
    if (isfinite(p->logprob))
        json_put_double(out, p->logprob);
    else
        bytes_add_text(out, "null");
    if (gdn_detokenize(a->model, &p->id, 1, false, text, &n, NULL) != GDN_OK || n > ROOM) return;
    bytes_add_text(out, ",\"token\":");
    json_put_string(out, text, n);
}

/* `p`: the token's own, then those of the most likely ones. */
static void note_logprobs(struct answer *a, const struct gdn_logprob *p)
{
    struct bytes *out = &a->logprobs;
    bytes_add_text(out, out->len > 0 ? "," : "");
    put_logprob(a, p);
    bytes_add_text(out, ",\"top\":[");
    for (int32_t i = 1; i <= a->top && p[i].id >= 0; i++) {
        bytes_add_text(out, i > 1 ? "," : "");
        put_logprob(a, &p[i]);
        bytes_add_text(out, "}");
    }
    bytes_add_text(out, "]}");
}

/* ---- saying ---------------------------------------------------------------------------------- */

/* Says what was chosen, of which all but the last is fed. False: the answer ends here. The last
 * *beyond tokens of the session are then to be taken back: `said`, and what was guessed behind
 * it. */
static bool say(struct answer *a, const struct gdn_turn *turn, int32_t *beyond)
{
    for (int32_t i = 0; i < turn->count; i++) {
        a->end = ANSWER_STOP;
        if (chosen_ends(a->chosen, turn->id[i])) return false;
        if (a->speech->count == 0) a->first = clock_seconds();
        if (turn->logprobs) note_logprobs(a, turn->logprobs + (int64_t)i * (1 + turn->top));
        speech_token(a->speech, turn->id[i]);
        if (speech_stopped(a->speech)) {
            a->said = turn->id[i];
            *beyond = turn->count - 1 - i;
            return false;
        }
        a->said = i + 1 < turn->count ? -1 : turn->id[i];
        a->end = ANSWER_LENGTH;
    }
    return a->most == 0 || a->speech->count < a->most;
}

/* The first token is said before a step is spent on what may follow it. Only gdn_next tells its log
 * probability whatever it is, so for that the last token runs again. */
static enum gdn_status choose_first(struct answer *a, struct gdn_turn *turn, struct gdn_error *err)
{
    turn->count = 1;
    if (!turn->logprobs)
        return gdn_session_sample(a->session, turn->sampling, &turn->id[0], err);
    TRY(gdn_session_rewind(a->session, 1, err));
    a->said = gdn_session_tokens(a->session)[gdn_session_position(a->session)];
    turn->most = 1;
    return gdn_next(turn, 1, err);
}

static enum gdn_status go_on(struct answer *a, struct gdn_turn *turn, struct gdn_error *err)
{
    int32_t beyond = 0;
    a->end = ANSWER_INTERRUPTED;
    if (!interrupt_noted() && output_open()) TRY(choose_first(a, turn, err));
    while (!interrupt_noted() && output_open() && say(a, turn, &beyond)) {
        if (gdn_session_position(a->session) >= a->context) {
            a->end = ANSWER_FULL;
            return GDN_OK;
        }
        const int64_t left = a->most ? a->most - a->speech->count : GDN_TURN_TOKENS;
        turn->most = left < GDN_TURN_TOKENS ? (int32_t)left : GDN_TURN_TOKENS;
        TRY(gdn_next(turn, 1, err));
        a->said = -1;
        a->end = ANSWER_INTERRUPTED;
    }
    return beyond > 0 ? gdn_session_rewind(a->session, beyond, err) : GDN_OK;
}

enum gdn_status answer_take(struct answer *a, struct gdn_error *err)
{
    struct gdn_turn turn = {.session = a->session, .ids = &a->said, .n = 1,
                            .sampling = &a->chosen->sampling, .stop = a->chosen->stop,
                            .stop_count = a->chosen->stop_count};
    a->said = -1;
    if (a->top >= 0) {
        turn.top = a->top;
        turn.logprobs = mem_take_array(GDN_TURN_TOKENS * (1 + (size_t)a->top),
                                       sizeof *turn.logprobs);
        if (!turn.logprobs) return error_set(err, GDN_ERR_MEMORY, "no memory for logprobs");
    }
    const enum gdn_status status = go_on(a, &turn, err);
    a->last = clock_seconds();
    mem_give(turn.logprobs);
    return status;
}
