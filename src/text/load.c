#include "text/load.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

enum gdn_status load_bad(struct loader *l, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (l->line > 0) return error_set(l->err, GDN_ERR_INPUT, "line %zu: %s", l->line, text);
    return error_set(l->err, GDN_ERR_INPUT, "byte %zu: %s", json_offset(&l->json), text);
}

enum gdn_status load_unsupported(struct loader *l, const char *what, const char *found,
                                 const char *need)
{
    return error_set(l->err, GDN_ERR_UNSUPPORTED, "%s: found %s, need %s", what, found, need);
}

enum gdn_status load_next(struct loader *l, struct json_token *token)
{
    if (json_next(&l->json, token) != JSON_ERROR) return GDN_OK;
    return load_bad(l, "not JSON: %s", l->json.error);
}

enum gdn_status load_expect(struct loader *l, enum json_kind kind, const char *what,
                            struct json_token *token)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",   [JSON_STRING] = "a string",
        [JSON_NUMBER] = "a number",  [JSON_TRUE] = "true",        [JSON_FALSE] = "false",
        [JSON_NULL] = "null",        [JSON_OBJECT_END] = "an end"};
    TRY(load_next(l, token));
    if (token->kind == kind) return GDN_OK;
    return load_bad(l, "%s: need %s", what, names[kind]);
}

enum gdn_status load_key(struct loader *l, struct json_token *key, bool *more)
{
    TRY(load_next(l, key));
    *more = key->kind == JSON_KEY;
    return GDN_OK;
}

enum gdn_status load_item(struct loader *l, struct json_token *token, bool *more)
{
    TRY(load_next(l, token));
    *more = token->kind != JSON_ARRAY_END;
    return GDN_OK;
}

enum gdn_status load_skip(struct loader *l, const struct json_token *token)
{
    return json_skip(&l->json, token) ? GDN_OK : load_bad(l, "not JSON: %s", l->json.error);
}

enum gdn_status load_bool(struct loader *l, const char *what, bool *value)
{
    struct json_token token;
    TRY(load_next(l, &token));
    if (token.kind != JSON_TRUE && token.kind != JSON_FALSE)
        return load_bad(l, "%s: need true or false", what);
    *value = token.kind == JSON_TRUE;
    return GDN_OK;
}

enum gdn_status load_word(struct loader *l, const char *what, char *out, size_t room)
{
    struct json_token token;
    TRY(load_expect(l, JSON_STRING, what, &token));
    if (!json_text(&token, out, room, NULL)) snprintf(out, room, "a long name");
    for (char *c = out; *c; c++) {
        if (*c < 0x20 || *c > 0x7E) *c = '?';
    }
    return GDN_OK;
}

enum gdn_status load_type(struct loader *l, const char *what, char *out, size_t room)
{
    struct json_token token;
    bool more, seen = false;
    out[0] = 0;
    TRY(load_next(l, &token));
    if (token.kind == JSON_NULL) return GDN_OK;
    if (token.kind != JSON_OBJECT) return load_bad(l, "%s: need null or an object", what);
    for (;;) {
        TRY(load_key(l, &token, &more));
        if (!more) break;
        if (!json_is(&token, "type")) {
            TRY(load_skip(l, &token));
            continue;
        }
        if (seen) return load_bad(l, "%s: \"type\" is there twice", what);
        seen = true;
        TRY(load_word(l, what, out, room));
    }
    return out[0] ? GDN_OK : load_bad(l, "%s: has no type", what);
}

void *load_grow(void *array, size_t count, size_t *room, size_t size)
{
    size_t wider = *room ? 2 * *room : 256, bytes;
    if (count < *room) return array;
    if (!checked_mul(wider, size, &bytes)) return NULL;
    void *grown = mem_resize(array, bytes);
    if (grown) *room = wider;
    return grown;
}

enum gdn_status load_no_memory(struct loader *l)
{
    return error_set(l->err, GDN_ERR_MEMORY, "no memory for the tokenizer");
}
