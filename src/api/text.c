#include <string.h>

#include "api/handles.h"
#include "base/memory.h"
#include "text/chat.h"

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

enum gdn_status gdn_chat(const gdn_model *m, const struct gdn_message *messages, size_t count,
                         bool answer, bool think, int32_t *ids, size_t *n, struct gdn_error *err)
{
    TRY(need_tokenizer(m, err));
    if (count > CHAT_MESSAGES_MAX)
        return error_set(err, GDN_ERR_USAGE, "found %zu messages, need at most %d", count,
                         CHAT_MESSAGES_MAX);
    for (size_t i = 0; i < count; i++)
        if (!messages[i].role || !messages[i].content)
            return error_set(err, GDN_ERR_USAGE, "message %zu: found NULL, need a role and a text",
                             i);
    struct chat_message *inner = mem_take_array(count, sizeof *inner);
    if (!inner) return error_set(err, GDN_ERR_MEMORY, "no memory for %zu messages", count);
    for (size_t i = 0; i < count; i++)
        inner[i] = (struct chat_message){.role = messages[i].role, .content = messages[i].content,
                                         .content_len = strlen(messages[i].content)};
    const struct chat_options options = {.answer = answer, .think = think};
    struct ids list = {0};
    const enum gdn_status status = chat_encode(m->tokenizer, inner, count, &options, &list, err);
    mem_give(inner);
    return hand_out(status, &list, ids, n);
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
    mem_give(d);
}

const char *gdn_decoder_push(gdn_decoder *d, int32_t id)
{
    d->text.len = 0;
    bytes_add(&d->text, "", 0);
    if (id >= 0)
        decoder_push(&d->decoder, id, &d->text);
    else
        decoder_flush(&d->decoder, &d->text);
    return d->text.failed ? "" : d->text.at;
}
