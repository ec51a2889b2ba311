/* chat_config.c: chat_template.jinja and tokenizer_config.json. The file of its own goes first, as
 * in transformers. */
#include "text/chat_config.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/jinja.h"

enum { CONFIG_MAX = 16 << 20 };

struct reader {
    struct json json;
    struct chat_config *config;
    struct gdn_error *err;
};

static enum gdn_status bad(struct reader *d, const char *need)
{
    return error_set(d->err, GDN_ERR_INPUT, "tokenizer_config.json, byte %zu: %s",
                     json_offset(&d->json), d->json.error ? d->json.error : need);
}

static enum gdn_status no_memory(struct gdn_error *err)
{
    return error_set(err, GDN_ERR_MEMORY, "no memory for the chat template");
}

/* The unescaped text of a string. */
static enum gdn_status take_text(struct reader *d, const struct json_token *token,
                                 struct bytes *out)
{
    size_t len;
    char *text = mem_take_dirty(token->len + 1);
    if (!text) return no_memory(d->err);
    json_text(token, text, token->len + 1, &len);
    out->len = 0;
    bytes_add(out, text, len);
    mem_give(text);
    return out->failed ? no_memory(d->err) : GDN_OK;
}

/* [{"name": "default", "template": "..."}, ...]: the token is its [. */
static enum gdn_status read_templates(struct reader *d)
{
    struct json_token token;
    struct bytes source = {0};
    bool wanted = false;
    enum gdn_status status = GDN_OK;
    while (status == GDN_OK && json_next(&d->json, &token) != JSON_ARRAY_END) {
        if (token.kind == JSON_OBJECT_END && wanted && source.at) {
            bytes_free(&d->config->source);
            d->config->source = source;
            source = (struct bytes){0};
            wanted = false;
        }
        if (token.kind == JSON_OBJECT || token.kind == JSON_OBJECT_END) continue;
        if (token.kind != JSON_KEY) {
            status = bad(d, "chat_template: need a text or a list of objects");
            break;
        }
        const bool name = json_is(&token, "name"), text = json_is(&token, "template");
        if (json_next(&d->json, &token) != JSON_STRING)
            status = bad(d, "chat_template: need names and templates");
        else if (name)
            wanted = json_is(&token, "default");
        else if (text)
            status = take_text(d, &token, &source);
    }
    bytes_free(&source);
    return status;
}

/* A special token: a text, or an object with its "content". */
static enum gdn_status read_token(struct reader *d, const struct json_token *key)
{
    struct bytes *out = &d->config->tokens;
    struct json_token token, value = {.kind = JSON_NULL};
    const enum json_kind kind = json_next(&d->json, &token);
    if (kind == JSON_STRING) value = token;
    while (kind == JSON_OBJECT && json_next(&d->json, &token) == JSON_KEY) {
        const bool content = json_is(&token, "content");
        if (json_next(&d->json, &token) == JSON_STRING && content) value = token;
        if (!json_skip(&d->json, &token)) return bad(d, "");
    }
    if (kind == JSON_ERROR || d->json.error) return bad(d, "");
    if (kind == JSON_ARRAY && !json_skip(&d->json, &token)) return bad(d, "");
    if (value.kind != JSON_STRING) return GDN_OK;
    bytes_addf(out, "%s\"%.*s\":\"", out->len > 1 ? "," : "", (int)key->len, key->text);
    bytes_add(out, value.text, value.len);
    bytes_add_text(out, "\"");
    return GDN_OK;
}

static bool is_token_key(const struct json_token *key)
{
    static const char *const keys[] = {"bos_token", "eos_token", "pad_token", "unk_token",
                                       "sep_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_is(key, keys[i])) return !key->escaped;
    return false;
}

static enum gdn_status read_config(struct reader *d)
{
    struct json_token token;
    if (json_next(&d->json, &token) != JSON_OBJECT) return bad(d, "need an object");
    bytes_add_text(&d->config->tokens, "{");
    while (json_next(&d->json, &token) == JSON_KEY) {
        if (is_token_key(&token)) {
            TRY(read_token(d, &token));
            continue;
        }
        const bool template = json_is(&token, "chat_template");
        json_next(&d->json, &token);
        if (template && token.kind == JSON_STRING)
            TRY(take_text(d, &token, &d->config->source));
        else if (template && token.kind == JSON_ARRAY)
            TRY(read_templates(d));
        else if (!json_skip(&d->json, &token))
            return bad(d, "");
    }
    if (token.kind != JSON_OBJECT_END || json_next(&d->json, &token) != JSON_END)
        return bad(d, "need the end of the object");
    bytes_add_text(&d->config->tokens, "}");
    return d->config->tokens.failed ? no_memory(d->err) : GDN_OK;
}

/* A file of the folder; *text is NULL when it is not there. */
static enum gdn_status read_file(const char *folder, const char *name, size_t most, char **text,
                                 size_t *len, struct gdn_error *err)
{
    char path[4096];
    *text = NULL;
    if (!file_join(path, sizeof path, folder, name) || !file_exists(path)) return GDN_OK;
    return file_read(path, most, text, len, err);
}

enum gdn_status chat_config_read(struct chat_config *config, const char *folder,
                                 struct gdn_error *err)
{
    struct reader reader = {.config = config, .err = err};
    char *text;
    size_t len;
    config->name = "chat_template of tokenizer_config.json";
    TRY(read_file(folder, "tokenizer_config.json", CONFIG_MAX, &text, &len, err));
    if (text) {
        json_open(&reader.json, text, len);
        const enum gdn_status status = read_config(&reader);
        mem_give(text);
        TRY(status);
    }
    TRY(read_file(folder, "chat_template.jinja", JINJA_SOURCE_MAX, &text, &len, err));
    if (!text) return GDN_OK;
    config->name = "chat_template.jinja";
    config->source.len = 0;
    bytes_add(&config->source, text, len);
    mem_give(text);
    return config->source.failed ? no_memory(err) : GDN_OK;
}
