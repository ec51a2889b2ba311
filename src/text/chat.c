#include "text/chat.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/memory.h"
#include "text/chat_config.h"

/* ChatML as Qwen3.5 writes it; thinking is off unless asked for, as in its small models. */
static const char builtin[] =
    "{%- set ns = namespace(question=-1) %}\n"
    "{%- if not messages %}\n"
    "    {{- raise_exception('messages: found none, need one or more') }}\n"
    "{%- endif %}\n"
    "{%- if tools %}\n"
    "    {{- raise_exception('tools: the model brings no chat template to show them with') }}\n"
    "{%- endif %}\n"
    "{%- for m in messages %}\n"
    "    {%- set at = 'message ' ~ loop.index0 ~ ': ' %}\n"
    "    {%- if m.role == 'system' and not loop.first %}\n"
    "        {{- raise_exception(at ~ 'the system message must be the first') }}\n"
    "    {%- elif m.role not in ['system', 'user', 'assistant'] %}\n"
    "        {{- raise_exception(at ~ 'found role \"' ~ m.role\n"
    "                            ~ '\", need system, user or assistant') }}\n"
    "    {%- elif m.content is not string %}\n"
    "        {{- raise_exception(at ~ 'the content must be a text') }}\n"
    "    {%- endif %}\n"
    "    {%- set content = m.content|trim %}\n"
    "    {%- if m.role == 'user' and not (content.startswith('<tool_response>')\n"
    "                                     and content.endswith('</tool_response>')) %}\n"
    "        {%- set ns.question = loop.index0 %}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
    "{%- if ns.question < 0 %}\n"
    "    {{- raise_exception('messages: found no user message, need one') }}\n"
    "{%- endif %}\n"
    "{%- for m in messages %}\n"
    "    {%- set content = m.content|trim %}\n"
    "    {{- '<|im_start|>' ~ m.role ~ '\\n' }}\n"
    "    {%- if m.role == 'assistant' %}\n"
    "        {%- set thoughts = '' %}\n"
    "        {%- if m.reasoning_content is string %}\n"
    "            {%- set thoughts = m.reasoning_content %}\n"
    "        {%- elif '</think>' in content %}\n"
    "            {%- set thoughts = content.split('</think>')[0].split('<think>')[-1] %}\n"
    "            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n"
    "        {%- endif %}\n"
    "        {%- if preserve_thinking is true or loop.index0 > ns.question %}\n"
    "            {{- '<think>\\n' ~ thoughts|trim ~ '\\n</think>\\n\\n' }}\n"
    "        {%- endif %}\n"
    "    {%- endif %}\n"
    "    {{- content ~ '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n<think>\\n' }}\n"
    "    {%- if enable_thinking is not true %}\n"
    "        {{- '\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endif %}\n";

struct chat {
    struct jinja *jinja;
    bool thinks;            /* its source has <think> in it */
    struct bytes tokens;    /* {"bos_token": "..."}: what the files call the special tokens */
    struct gdn_error error; /* why there is no template */
};

static enum gdn_status parse(struct chat *chat, const char *name, const char *source, size_t len)
{
    static const char mark[] = "<think>";
    chat->thinks = memmem(source, len, mark, sizeof mark - 1) != NULL;
    return jinja_open(name, source, len, &chat->jinja, &chat->error);
}

static enum gdn_status open_files(struct chat *chat, const char *folder)
{
    struct chat_config config = {0};
    enum gdn_status status = chat_config_read(&config, folder, &chat->error);
    if (status == GDN_OK && config.source.at)
        status = parse(chat, config.name, config.source.at, config.source.len);
    else if (status == GDN_OK)
        status = parse(chat, "the built-in chat template", builtin, sizeof builtin - 1);
    chat->tokens = config.tokens;
    bytes_free(&config.source);
    return status;
}

/* Only for want of memory is a chat without template no chat. */
static enum gdn_status hand_out(struct chat *made, enum gdn_status status, struct chat **chat,
                                struct gdn_error *err)
{
    if (status == GDN_ERR_MEMORY) {
        chat_close(made);
        return error_set(err, GDN_ERR_MEMORY, "no memory for the chat template");
    }
    *chat = made;
    return GDN_OK;
}

enum gdn_status chat_open(const char *folder, struct chat **chat, struct gdn_error *err)
{
    struct chat *made = mem_take(sizeof *made);
    *chat = NULL;
    if (!made) return error_set(err, GDN_ERR_MEMORY, "no memory for the chat template");
    return hand_out(made, open_files(made, folder), chat, err);
}

enum gdn_status chat_parse(const char *name, const char *source, size_t len, struct chat **chat,
                           struct gdn_error *err)
{
    struct chat *made = mem_take(sizeof *made);
    *chat = NULL;
    if (!made) return error_set(err, GDN_ERR_MEMORY, "no memory for the chat template");
    return hand_out(made, parse(made, name, source, len), chat, err);
}

void chat_close(struct chat *chat)
{
    if (!chat) return;
    jinja_close(chat->jinja);
    bytes_free(&chat->tokens);
    mem_give(chat);
}

bool chat_spells_thoughts(const struct chat *chat) { return chat->thinks; }

/* ---- rendering ------------------------------------------------------------------------------- */

struct variables {
    struct jinja_variable at[8];
    size_t count;
};

static void add(struct variables *v, const char *name, const char *json, bool trusted)
{
    if (json) v->at[v->count++] = (struct jinja_variable){name, json, strlen(json), trusted};
}

enum gdn_status chat_render(const struct chat *chat, const struct chat_request *request,
                            struct jinja_output *out, struct gdn_error *err)
{
    struct variables v = {0};
    struct tm now;
    const time_t seconds = time(NULL);
    if (!chat->jinja) return error_set(err, chat->error.status, "%s", chat->error.text);
    add(&v, NULL, chat->tokens.at, true);
    add(&v, NULL, request->variables, false);
    v.at[v.count++] =
        (struct jinja_variable){"messages", request->messages, request->messages_len, false};
    add(&v, "tools", request->tools, false);
    add(&v, "add_generation_prompt", request->answer ? "true" : "false", true);
    if (request->think != CHAT_THINK_DEFAULT)
        add(&v, "enable_thinking", request->think == CHAT_THINK_ON ? "true" : "false", true);
    if (request->keep_thinking) add(&v, "preserve_thinking", "true", true);
    return jinja_render(chat->jinja, v.at, v.count, localtime_r(&seconds, &now), NULL, out, err);
}

/* ---- ids ------------------------------------------------------------------------------------- */

struct encoder {
    const struct tokenizer *tok;
    const struct jinja_output *prompt;
    size_t done; /* bytes of the prompt that have become ids */
    struct ids *ids;
    struct gdn_error *err;
};

/* The text from where ids end to `end`: cut nowhere inside, it is split as one text. */
static enum gdn_status encode_text(struct encoder *e, size_t end)
{
    const size_t begin = e->done;
    e->done = end;
    return tokenizer_encode(e->tok, e->prompt->text.at + begin, end - begin, TOKENIZER_PLAIN,
                            e->ids, e->err);
}

/* [begin, end) was written by the template: each added token in it is meant. */
static enum gdn_status encode_written(struct encoder *e, size_t begin, size_t end)
{
    const char *text = e->prompt->text.at;
    for (size_t from, to; begin < end; begin = to) {
        from = begin;
        const int32_t id = tokenizer_search_added(e->tok, text, end, &from, &to);
        if (id < 0) return GDN_OK;
        TRY(encode_text(e, from));
        if (!ids_add(e->ids, id))
            return error_set(e->err, GDN_ERR_MEMORY, "no memory for a prompt");
        e->done = to;
    }
    return GDN_OK;
}

static enum gdn_status encode_prompt(struct encoder *e)
{
    const struct bytes *marks = &e->prompt->marks;
    for (size_t begin = e->done, end; begin < marks->len; begin = end) {
        const char *change = memchr(marks->at + begin, !marks->at[begin], marks->len - begin);
        end = change ? (size_t)(change - marks->at) : marks->len;
        if (!marks->at[begin]) TRY(encode_written(e, begin, end));
    }
    return encode_text(e, marks->len);
}

/* ---- behind an answer ------------------------------------------------------------------------ */

/* How a template ends an answer and goes on is seen from what it writes behind one: the messages
 * are rendered behind a question and an answer that stands for the one told, and the prompt is cut
 * where that ends. The words of the answer are those that come out once. */
enum { WORDS_TRIED = 8 };

static bool put_behind(const struct chat_request *request, const char *words, struct bytes *json)
{
    size_t open = 0, len = request->messages_len;
    const char *text = request->messages;
    while (open < len && strchr(" \t\r\n", text[open])) open++;
    if (open == len || text[open] != '[') return false;
    size_t next = open + 1;
    while (next < len && strchr(" \t\r\n", text[next])) next++;
    bytes_addf(json, "[{\"role\":\"user\",\"content\":\"?\"},"
                     "{\"role\":\"assistant\",\"content\":\"%s\"}", words);
    if (next < len && text[next] != ']') bytes_add_text(json, ",");
    bytes_add(json, text + next, len - next);
    return true;
}

/* Where the only `words` of the prompt end; 0: there are none, or more. */
static size_t only_end(const struct bytes *prompt, const char *words)
{
    const size_t n = strlen(words);
    const char *at = memmem(prompt->at, prompt->len, words, n);
    if (!at) return 0;
    const size_t end = (size_t)(at - prompt->at) + n;
    return memmem(prompt->at + end, prompt->len - end, words, n) ? 0 : end;
}

static enum gdn_status render_behind(const struct chat *chat, const struct chat_request *request,
                                     struct jinja_output *out, size_t *begin,
                                     struct gdn_error *err)
{
    for (int k = 0; k < WORDS_TRIED; k++) {
        char words[32];
        struct bytes json = {0};
        snprintf(words, sizeof words, "told-already-%d", k);
        if (!put_behind(request, words, &json))
            return error_set(err, GDN_ERR_INPUT, "messages: need a list");
        struct chat_request longer = *request;
        longer.messages = json.at;
        longer.messages_len = json.len;
        const enum gdn_status status =
            json.failed ? error_set(err, GDN_ERR_MEMORY, "no memory for the messages")
                        : chat_render(chat, &longer, out, err);
        bytes_free(&json);
        TRY(status);
        *begin = only_end(&out->text, words);
        if (*begin > 0) return GDN_OK;
        jinja_output_free(out);
    }
    return error_set(err, GDN_ERR_UNSUPPORTED, "the chat template does not show an answer as it "
                     "is, so that how it ends one cannot be told");
}

enum gdn_status chat_encode(const struct chat *chat, const struct tokenizer *tok,
                            const struct chat_request *request, struct ids *ids,
                            struct gdn_error *err)
{
    struct jinja_output prompt = {0};
    const size_t before = ids->len;
    size_t begin = 0;
    TRY(request->behind ? render_behind(chat, request, &prompt, &begin, err)
                        : chat_render(chat, request, &prompt, err));
    struct encoder e = {.tok = tok, .prompt = &prompt, .done = begin, .ids = ids, .err = err};
    const enum gdn_status status =
        request->control ? tokenizer_encode(tok, prompt.text.at + begin, prompt.text.len - begin,
                                            TOKENIZER_WITH_CONTROL, ids, err)
                         : encode_prompt(&e);
    if (status != GDN_OK) ids->len = before;
    jinja_output_free(&prompt);
    return status;
}
