#include "cli/talk.h"

#include <string.h>

#include "base/json.h"
#include "base/memory.h"

static enum gdn_status no_memory(struct gdn_error *err)
{
    return error_set(err, GDN_ERR_MEMORY, "no memory for the conversation");
}

/* Takes over `json`. */
static enum gdn_status insert(struct talk *t, int at, struct talk_message made,
                              struct gdn_error *err)
{
    if (!t->message) t->message = mem_take_array(TALK_MESSAGES, sizeof *t->message);
    if (t->message && made.json && t->count < TALK_MESSAGES) {
        memmove(t->message + at + 1, t->message + at,
                sizeof *t->message * (size_t)(t->count - at));
        t->message[at] = made;
        t->count++;
        return GDN_OK;
    }
    const bool full = t->message && made.json;
    mem_wipe(made.json);
    if (!full) return no_memory(err);
    return error_set(err, GDN_ERR_USAGE, "the conversation has %d messages, and can have no more",
                     t->count);
}

static void drop(struct talk *t, int at)
{
    mem_wipe(t->message[at].json);
    t->count--;
    memmove(t->message + at, t->message + at + 1, sizeof *t->message * (size_t)(t->count - at));
}

static void put_member(struct bytes *out, const char *key, const char *text)
{
    bytes_addf(out, "\"%s\":", key);
    json_put_string(out, text, strlen(text));
}

static char *make_json(const char *role, const char *text, const char *thoughts)
{
    struct bytes out = {0};
    bytes_add_text(&out, "{");
    put_member(&out, "role", role);
    bytes_add_text(&out, ",");
    put_member(&out, "content", text);
    if (*thoughts) {
        bytes_add_text(&out, ",");
        put_member(&out, "reasoning_content", thoughts);
    }
    bytes_add_text(&out, "}");
    char *json = out.failed ? NULL : mem_text(out.at);
    bytes_free(&out);
    return json;
}

enum gdn_status talk_add(struct talk *t, const char *role, const char *text, const char *thoughts,
                         struct gdn_error *err)
{
    const struct talk_message made = {.json = make_json(role, text, thoughts),
                                      .system = strcmp(role, "system") == 0,
                                      .question = strcmp(role, "user") == 0};
    return insert(t, t->count, made, err);
}

enum gdn_status talk_set_system(struct talk *t, const char *text, struct gdn_error *err)
{
    if (*text) {
        const struct talk_message made = {.json = make_json("system", text, ""), .system = true};
        TRY(insert(t, 0, made, err));
    }
    const int old = *text ? 1 : 0;
    if (t->count > old && t->message[old].system) drop(t, old);
    return GDN_OK;
}

int talk_questions(const struct talk *t)
{
    int n = 0;
    for (int i = 0; i < t->count; i++) n += t->message[i].question;
    return n;
}

int talk_take_back(struct talk *t, int n)
{
    int taken = 0;
    while (taken < n && talk_questions(t) > 0) {
        while (!t->message[t->count - 1].question) drop(t, t->count - 1);
        drop(t, t->count - 1);
        taken++;
    }
    return taken;
}

/* ---- as text --------------------------------------------------------------------------------- */

void talk_print(const struct talk *t, struct bytes *out)
{
    bytes_add_text(out, "[");
    for (int i = 0; i < t->count; i++) {
        bytes_add_text(out, i ? ",\n" : "");
        bytes_add_text(out, t->message[i].json);
    }
    bytes_add_text(out, "]\n");
}

/* One object, whose `{` was just read: its text, and what its role is. */
static enum gdn_status read_message(struct talk *t, struct json *json, const char *begin,
                                    struct gdn_error *err)
{
    struct json_token key, value;
    struct talk_message made = {0};
    bool role = false;
    while (json_next(json, &key) == JSON_KEY) {
        const bool is_role = json_is(&key, "role");
        const enum json_kind kind = json_next(json, &value);
        if (is_role && kind == JSON_STRING) {
            role = true;
            made.system = json_is(&value, "system");
            made.question = json_is(&value, "user");
        }
        if (!json_skip(json, &value)) break;
    }
    if (json->error) return GDN_OK; /* told by the caller */
    if (!role)
        return error_set(err, GDN_ERR_INPUT, "message %d has no role", t->count);
    const size_t len = (size_t)(json->at - begin);
    made.json = mem_take_dirty(len + 1);
    if (made.json) {
        memcpy(made.json, begin, len);
        made.json[len] = 0;
    }
    return insert(t, t->count, made, err);
}

static enum gdn_status read_list(struct talk *t, const char *text, size_t len,
                                 struct gdn_error *err)
{
    struct json json;
    struct json_token token;
    enum json_kind kind;
    json_open(&json, text, len);
    if (json_next(&json, &token) != JSON_ARRAY)
        return error_set(err, GDN_ERR_INPUT, "found no list of messages at its begin");
    while ((kind = json_next(&json, &token)) == JSON_OBJECT)
        TRY(read_message(t, &json, token.text, err));
    if (kind == JSON_ARRAY_END) kind = json_next(&json, &token);
    if (json.error)
        return error_set(err, GDN_ERR_INPUT, "byte %zu: %s", json_offset(&json), json.error);
    if (kind != JSON_END)
        return error_set(err, GDN_ERR_INPUT, "byte %zu: found no message, need an object",
                         json_offset(&json));
    return GDN_OK;
}

enum gdn_status talk_parse(struct talk *t, const char *text, size_t len, const char *name,
                           struct gdn_error *err)
{
    const enum gdn_status status = read_list(t, text, len, err);
    if (status == GDN_OK) return GDN_OK;
    error_prefix(err, "%s", name);
    talk_free(t);
    return status;
}

enum gdn_status talk_copy(struct talk *to, const struct talk *from, struct gdn_error *err)
{
    for (int i = 0; i < from->count; i++) {
        struct talk_message made = from->message[i];
        made.json = mem_text(made.json);
        const enum gdn_status status = insert(to, to->count, made, err);
        if (status == GDN_OK) continue;
        talk_free(to);
        return status;
    }
    return GDN_OK;
}

void talk_free(struct talk *t)
{
    while (t->count > 0) drop(t, t->count - 1);
    mem_give(t->message);
    *t = (struct talk){0};
}
