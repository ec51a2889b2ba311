/* chat.c: the Qwen3.5 template by hand (shared by Qwen3.6 but for the default of keep_reasoning).
 * Each rule here is one of the template's; tools are not among them. */
#include "text/chat.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "text/show.h"
#include "text/utf8.h"

struct span {
    const char *at;
    size_t len;
};

static struct span span_of(const char *text) { return (struct span){text, strlen(text)}; }

static bool begins(struct span s, const char *with)
{
    size_t n = strlen(with);
    return s.len >= n && memcmp(s.at, with, n) == 0;
}

static bool ends(struct span s, const char *with)
{
    size_t n = strlen(with);
    return s.len >= n && memcmp(s.at + s.len - n, with, n) == 0;
}

/* White space as Python's str.strip sees it, which is what the templates were tried with. */
static bool is_blank(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Bytes of white space at the head of `s`; 0 when it begins with something else. */
static size_t blank_head(struct span s)
{
    size_t n;
    const unsigned char *at = (const unsigned char *)s.at;
    if (s.len == 0 || utf8_head(at, s.len, &n) != UTF8_GOOD) return 0;
    return is_blank(utf8_read(at, &n)) ? n : 0;
}

static struct span trim(struct span s)
{
    size_t n;
    while ((n = blank_head(s)) > 0) s = (struct span){s.at + n, s.len - n};
    while (s.len > 0) {
        size_t back = 1;
        /* Back to where the last code point begins; white space is at most three bytes long. */
        while (back < 3 && back < s.len && (s.at[s.len - back] & 0xC0) == 0x80) back++;
        if (blank_head((struct span){s.at + s.len - back, back}) != back) break;
        s.len -= back;
    }
    return s;
}

static struct span trim_lines(struct span s)
{
    while (s.len > 0 && s.at[0] == '\n') s = (struct span){s.at + 1, s.len - 1};
    return s;
}

/* The first or last place of `what` in `s`, or NULL. */
static const char *find_first(struct span s, const char *what)
{
    return s.at ? memmem(s.at, s.len, what, strlen(what)) : NULL;
}

static const char *find_last(struct span s, const char *what)
{
    const char *found = NULL, *next;
    while ((next = find_first(s, what))) {
        found = next;
        s = (struct span){next + 1, s.len - (size_t)(next + 1 - s.at)};
    }
    return found;
}

static void cut_reasoning(const struct chat_message *m, struct span *content,
                          struct span *reasoning)
{
    static const char opens[] = "<think>", closes[] = "</think>";
    *reasoning = (struct span){m->reasoning, m->reasoning_len};
    *content = trim((struct span){m->content, m->content_len});
    if (!m->reasoning) {
        const char *first = find_first(*content, closes), *last = find_last(*content, closes);
        *reasoning = (struct span){0};
        if (first) {
            const char *end = content->at + content->len;
            *reasoning = (struct span){content->at, (size_t)(first - content->at)};
            const char *open = find_last(*reasoning, opens);
            if (open) {
                open += strlen(opens);
                *reasoning = (struct span){open, (size_t)(first - open)};
            }
            last += strlen(closes);
            *content = trim_lines((struct span){last, (size_t)(end - last)});
        }
    }
    *reasoning = trim(*reasoning);
}

static bool is_role(const struct chat_message *m, const char *role)
{
    return m->role && strcmp(m->role, role) == 0;
}

/* Finds the last user message that is a question, not the wrapper of a tool's response. */
static enum gdn_status find_question(const struct chat_message *messages, size_t count,
                                     size_t *question, struct gdn_error *err)
{
    for (size_t i = count; i-- > 0;) {
        struct span content = trim((struct span){messages[i].content, messages[i].content_len});
        if (!is_role(&messages[i], "user")) continue;
        if (begins(content, "<tool_response>") && ends(content, "</tool_response>")) continue;
        *question = i;
        return GDN_OK;
    }
    return error_set(err, GDN_ERR_INPUT, "messages: found no user message, need one");
}

static enum gdn_status check(const struct chat_message *messages, size_t count,
                             struct gdn_error *err)
{
    char shown[64];
    if (count == 0) return error_set(err, GDN_ERR_INPUT, "messages: found none, need one or more");
    if (count > CHAT_MESSAGES_MAX)
        return error_set(err, GDN_ERR_INPUT, "messages: found %zu, need at most %d", count,
                         CHAT_MESSAGES_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct chat_message *m = &messages[i];
        const char *role = m->role ? m->role : "";
        if (is_role(m, "system") && i > 0)
            return error_set(err, GDN_ERR_INPUT,
                             "message %zu: the system message must be the first", i);
        if (!is_role(m, "system") && !is_role(m, "user") && !is_role(m, "assistant"))
            return error_set(err, GDN_ERR_INPUT,
                             "message %zu: found role \"%s\", need system, user or assistant", i,
                             show_bytes(shown, sizeof shown, role, strlen(role)));
        if (!m->content && m->content_len > 0)
            return error_set(err, GDN_ERR_USAGE, "message %zu: has a length but no text", i);
    }
    return GDN_OK;
}

static bool put(struct chat_prompt *p, struct span text, bool control)
{
    struct chat_piece *last = p->count > 0 ? &p->pieces[p->count - 1] : NULL;
    size_t begin = p->text.len;
    if (text.len == 0) return true;
    bytes_add(&p->text, text.at, text.len);
    if (p->text.failed) return false;
    /* What stands between two markers is one text: cut inside, it could be split differently. */
    if (last && !control && !last->control) {
        last->end = p->text.len;
        return true;
    }
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 64, size;
        if (!checked_mul(room, sizeof *p->pieces, &size)) return false;
        struct chat_piece *grown = mem_resize(p->pieces, size);
        if (!grown) return false;
        p->pieces = grown;
        p->room = room;
    }
    p->pieces[p->count++] = (struct chat_piece){begin, p->text.len, control};
    return true;
}

static bool marker(struct chat_prompt *p, const char *text) { return put(p, span_of(text), true); }
static bool plain(struct chat_prompt *p, const char *text) { return put(p, span_of(text), false); }

static bool put_thinking(struct chat_prompt *p, struct span reasoning)
{
    return marker(p, "<think>") && plain(p, "\n") && put(p, reasoning, false) && plain(p, "\n") &&
           marker(p, "</think>") && plain(p, "\n\n");
}

static bool put_message(struct chat_prompt *p, const struct chat_message *m, bool with_reasoning)
{
    struct span content, reasoning;
    bool assistant = is_role(m, "assistant");
    if (assistant)
        cut_reasoning(m, &content, &reasoning);
    else
        content = trim((struct span){m->content, m->content_len});
    return marker(p, "<|im_start|>") && plain(p, m->role) && plain(p, "\n") &&
           (!assistant || !with_reasoning || put_thinking(p, reasoning)) &&
           put(p, content, false) && marker(p, "<|im_end|>") && plain(p, "\n");
}

static bool put_answer(struct chat_prompt *p, bool think)
{
    if (!marker(p, "<|im_start|>") || !plain(p, "assistant\n")) return false;
    if (!think) return put_thinking(p, (struct span){0});
    return marker(p, "<think>") && plain(p, "\n");
}

enum gdn_status chat_render(const struct chat_message *messages, size_t count,
                            const struct chat_options *options, struct chat_prompt *prompt,
                            struct gdn_error *err)
{
    struct chat_options none = {0};
    size_t question = 0;
    bool good = true;
    if (!options) options = &none;
    chat_prompt_free(prompt);
    TRY(check(messages, count, err));
    TRY(find_question(messages, count, &question, err));
    for (size_t i = 0; i < count && good; i++)
        good = put_message(prompt, &messages[i], options->keep_reasoning || i > question);
    if (good && options->answer) good = put_answer(prompt, options->think);
    if (good) return GDN_OK;
    chat_prompt_free(prompt);
    return error_set(err, GDN_ERR_MEMORY, "no memory for a prompt of %zu messages", count);
}

void chat_prompt_free(struct chat_prompt *prompt)
{
    bytes_free(&prompt->text);
    mem_give(prompt->pieces);
    *prompt = (struct chat_prompt){0};
}

static enum gdn_status encode_piece(const struct tokenizer *tok, const struct chat_prompt *prompt,
                                    const struct chat_piece *piece, struct ids *ids,
                                    struct gdn_error *err)
{
    const char *text = prompt->text.at + piece->begin;
    size_t len = piece->end - piece->begin;
    if (!piece->control) return tokenizer_encode(tok, text, len, TOKENIZER_PLAIN, ids, err);
    int32_t id = tokenizer_find_added(tok, text, len);
    if (id < 0)
        return error_set(err, GDN_ERR_UNSUPPORTED,
                         "the tokenizer has no token %.*s: not a ChatML model of the Qwen3.5 form",
                         (int)len, text);
    return ids_add(ids, id) ? GDN_OK : error_set(err, GDN_ERR_MEMORY, "no memory for a prompt");
}

enum gdn_status chat_encode(const struct tokenizer *tok, const struct chat_message *messages,
                            size_t count, const struct chat_options *options, struct ids *ids,
                            struct gdn_error *err)
{
    struct chat_prompt prompt = {0};
    size_t before = ids->len;
    enum gdn_status status = chat_render(messages, count, options, &prompt, err);
    for (size_t i = 0; i < prompt.count && status == GDN_OK; i++)
        status = encode_piece(tok, &prompt, &prompt.pieces[i], ids, err);
    if (status != GDN_OK) ids->len = before;
    chat_prompt_free(&prompt);
    return status;
}
