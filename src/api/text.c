#include <string.h>

#include "api/handles.h"
#include "base/json.h"
#include "base/memory.h"

enum { MESSAGES_MAX = 4096 };

static enum gdn_status need_tokenizer(const struct gdn_model *m, struct gdn_error *err)
{
    if (m->tokenizer) return GDN_OK;
    return error_set(err, GDN_ERR_INPUT, "the model has no tokenizer.json: only ids can be used");
}

/* Hands out what fits and says how many there are; after a failure the list only goes. */
static enum gdn_status hand_out(enum gdn_status status, struct ids *list, int32_t *ids, size_t *n)
{
    if (status == GDN_OK) {
        const size_t room = *n;
        *n = list->len;
        if (ids && list->len > 0)
            memcpy(ids, list->at, sizeof *ids * (list->len < room ? list->len : room));
    }
    ids_free(list);
    return status;
}

enum gdn_status gdn_tokenize(const gdn_model *m, const char *text, size_t len, unsigned flags,
                             int32_t *ids, size_t *n, struct gdn_error *err)
{
    TRY(need_tokenizer(m, err));
    struct ids list = {0};
    const enum tokenizer_control control =
        flags & GDN_CONTROL ? TOKENIZER_WITH_CONTROL : TOKENIZER_PLAIN;
    return hand_out(tokenizer_encode(m->tokenizer, text, len, control, &list, err), &list, ids, n);
}

enum gdn_status gdn_detokenize(const gdn_model *m, const int32_t *ids, size_t count,
                               bool skip_special, char *text, size_t *n, struct gdn_error *err)
{
    TRY(need_tokenizer(m, err));
    struct bytes out = {0};
    decode_ids(m->tokenizer, ids, count, skip_special, &out);
    if (out.failed)
        return error_set(err, GDN_ERR_MEMORY, "no memory for the text of %zu ids", count);
    const size_t room = *n;
    *n = out.len;
    if (text && out.len > 0) memcpy(text, out.at, out.len < room ? out.len : room);
    bytes_free(&out);
    return GDN_OK;
}

/* ---- chats ----------------------------------------------------------------------------------- */

static struct chat_request request_of(const char *messages, size_t len,
                                      const struct gdn_chat_options *options)
{
    static const enum chat_think thinks[] = {[GDN_THINK_DEFAULT] = CHAT_THINK_DEFAULT,
                                             [GDN_THINK_ON] = CHAT_THINK_ON,
                                             [GDN_THINK_OFF] = CHAT_THINK_OFF};
    const struct gdn_chat_options none = {0}, *o = options ? options : &none;
    const bool known = o->think >= GDN_THINK_DEFAULT && o->think <= GDN_THINK_OFF;
    return (struct chat_request){.messages = messages, .messages_len = len, .tools = o->tools,
                                 .variables = o->variables, .answer = o->answer,
                                 .think = known ? thinks[o->think] : CHAT_THINK_DEFAULT,
                                 .keep_thinking = o->keep_thinking, .control = o->control,
                                 .behind = o->behind};
}

enum gdn_status gdn_chat_json(const gdn_model *m, const char *messages, size_t len,
                              const struct gdn_chat_options *options, int32_t *ids, size_t *n,
                              struct gdn_error *err)
{
    TRY(need_tokenizer(m, err));
    if (!messages) return error_set(err, GDN_ERR_USAGE, "messages: found NULL, need JSON");
    const struct chat_request request = request_of(messages, len, options);
    struct ids list = {0};
    return hand_out(chat_encode(m->chat, m->tokenizer, &request, &list, err), &list, ids, n);
}

enum gdn_status gdn_chat_text(const gdn_model *m, const char *messages, size_t len,
                              const struct gdn_chat_options *options, char *text, size_t *n,
                              struct gdn_error *err)
{
    TRY(need_tokenizer(m, err));
    if (!messages) return error_set(err, GDN_ERR_USAGE, "messages: found NULL, need JSON");
    const struct chat_request request = request_of(messages, len, options);
    struct jinja_output out = {0};
    TRY(chat_render(m->chat, &request, &out, err));
    const size_t room = *n;
    *n = out.text.len;
    if (text && out.text.len > 0)
        memcpy(text, out.text.at, out.text.len < room ? out.text.len : room);
    jinja_output_free(&out);
    return GDN_OK;
}

static void put_message(struct bytes *json, const struct gdn_message *message)
{
    bytes_add_text(json, json->len > 1 ? ",{\"role\":" : "{\"role\":");
    json_put_string(json, message->role, strlen(message->role));
    bytes_add_text(json, ",\"content\":");
    json_put_string(json, message->content, strlen(message->content));
    bytes_add_text(json, "}");
}

enum gdn_status gdn_chat(const gdn_model *m, const struct gdn_message *messages, size_t count,
                         const struct gdn_chat_options *options, int32_t *ids, size_t *n,
                         struct gdn_error *err)
{
    struct bytes json = {0};
    TRY(need_tokenizer(m, err));
    if (count > MESSAGES_MAX)
        return error_set(err, GDN_ERR_USAGE, "found %zu messages, need at most %d", count,
                         MESSAGES_MAX);
    for (size_t i = 0; i < count; i++)
        if (!messages[i].role || !messages[i].content)
            return error_set(err, GDN_ERR_USAGE, "message %zu: found NULL, need a role and a text",
                             i);
    bytes_add_text(&json, "[");
    for (size_t i = 0; i < count; i++) put_message(&json, &messages[i]);
    bytes_add_text(&json, "]");
    const enum gdn_status status =
        json.failed ? error_set(err, GDN_ERR_MEMORY, "no memory for %zu messages", count)
                    : gdn_chat_json(m, json.at, json.len, options, ids, n, err);
    bytes_free(&json);
    return status;
}

/* ---- text as it comes ------------------------------------------------------------------------ */

static enum gdn_status ending_open(struct ending *e, const char *const *strings, size_t count,
                                   struct gdn_error *err)
{
    e->stops = false;
    TRY(stopper_open(&e->stopper, strings, count, err));
    e->stops = true;
    return GDN_OK;
}

static void ending_close(struct ending *e)
{
    stopper_close(&e->stopper);
    bytes_free(&e->text);
}

/* Empties a piece of text, which then has a zero behind it. */
static void begin_piece(struct bytes *text)
{
    text->len = 0;
    bytes_add(text, "", 0);
}

/* What of this piece, the last one if `last`, may be told. */
static const char *end_piece(struct ending *e, const struct bytes *piece, bool last)
{
    if (piece->failed) return "";
    if (!e->stops) return piece->at;
    begin_piece(&e->text);
    stopper_push(&e->stopper, piece->at, piece->len, &e->text);
    if (last) stopper_flush(&e->stopper, &e->text);
    return e->text.failed ? "" : e->text.at;
}

enum gdn_status gdn_decoder_new(const gdn_model *m, bool skip_special, gdn_decoder **decoder,
                                struct gdn_error *err)
{
    *decoder = NULL;
    TRY(need_tokenizer(m, err));
    struct gdn_decoder *d = mem_take(sizeof *d);
    if (!d) return error_set(err, GDN_ERR_MEMORY, "no memory for a decoder");
    decoder_open(&d->decoder, m->tokenizer, skip_special);
    *decoder = d;
    return GDN_OK;
}

void gdn_decoder_free(gdn_decoder *d)
{
    if (!d) return;
    bytes_free(&d->text);
    ending_close(&d->ending);
    mem_give(d);
}

enum gdn_status gdn_decoder_stop(gdn_decoder *d, const char *const *strings, size_t count,
                                 struct gdn_error *err)
{
    return ending_open(&d->ending, strings, count, err);
}

bool gdn_decoder_stopped(const gdn_decoder *d) { return d->ending.stopper.done; }

const char *gdn_decoder_push(gdn_decoder *d, int32_t id)
{
    begin_piece(&d->text);
    if (id >= 0)
        decoder_push(&d->decoder, id, &d->text);
    else
        decoder_flush(&d->decoder, &d->text);
    return end_piece(&d->ending, &d->text, id < 0);
}

enum gdn_status gdn_reply_new(const gdn_model *m, const int32_t *before, size_t n,
                              gdn_reply **reply, struct gdn_error *err)
{
    *reply = NULL;
    TRY(need_tokenizer(m, err));
    struct gdn_reply *r = mem_take(sizeof *r);
    if (!r) return error_set(err, GDN_ERR_MEMORY, "no memory for a reply");
    think_open(&r->think, m->tokenizer, chat_spells_thoughts(m->chat), before, n);
    *reply = r;
    return GDN_OK;
}

void gdn_reply_free(gdn_reply *r)
{
    if (!r) return;
    think_close(&r->think);
    ending_close(&r->ending);
    bytes_free(&r->text.thoughts);
    bytes_free(&r->text.answer);
    mem_give(r);
}

enum gdn_status gdn_reply_stop(gdn_reply *r, const char *const *strings, size_t count,
                               struct gdn_error *err)
{
    return ending_open(&r->ending, strings, count, err);
}

bool gdn_reply_stopped(const gdn_reply *r) { return r->ending.stopper.done; }

struct gdn_reply_text gdn_reply_push(gdn_reply *r, int32_t id)
{
    struct bytes *thoughts = &r->text.thoughts, *answer = &r->text.answer;
    begin_piece(thoughts);
    begin_piece(answer);
    think_push(&r->think, id, &r->text);
    const bool told = !thoughts->failed && !gdn_reply_stopped(r);
    return (struct gdn_reply_text){.thoughts = told ? thoughts->at : "",
                                   .answer = end_piece(&r->ending, answer, id < 0)};
}
