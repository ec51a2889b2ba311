/* small.h: the smallest tokenizer.json there is, with one part or another replaced. */
#ifndef TESTS_TEXT_SMALL_H
#define TESTS_TEXT_SMALL_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/json.h"
#include "text/tokenizer.h"

/* Pieces of JSON; NULL stands for the default. */
struct small {
    const char *before;    /* keys in front of all others, each with a comma behind it */
    const char *added;     /* the items of added_tokens */
    const char *normalizer, *pre_tokenizer;
    const char *type;      /* of the model */
    const char *model;     /* further keys of the model, each with a comma behind it */
    const char *vocab;     /* entries behind those of the 256 bytes, each with a comma before it */
    const char *merges;    /* the items of merges */
    int without_byte;      /* leave this one out; 0: none */
    bool merges_first;
};

#define SMALL_VOCAB ",\"ab\":256,\"abc\":257,\"\xC4\xA0" "a\":258"
#define SMALL_MERGES "[\"a\",\"b\"],[\"ab\",\"c\"],[\"\xC4\xA0\",\"a\"]"
#define SMALL_ADDED "{\"id\":259,\"content\":\"<s>\",\"special\":true,\"normalized\":false}"
#define SMALL_SPLIT(pattern, rest)                                                          \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" \
    pattern "\"}," rest "},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"              \
    "\"trim_offsets\":true,\"use_regex\":false}]}"
#define SMALL_ISOLATED "\"behavior\":\"Isolated\",\"invert\":false"

static inline void small_bytes(struct bytes *out, int without)
{
    uint32_t next = 0x100;
    const char *comma = "";
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        uint32_t c = printable ? byte : next++;
        char text[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))}, ascii = (char)c;
        if (byte == (uint32_t)without && without) continue;
        bytes_add_text(out, comma);
        if (c < 0x80)
            json_put_string(out, &ascii, 1);
        else
            json_put_string(out, text, 2);
        bytes_addf(out, ":%u", byte);
        comma = ",";
    }
}

static inline const char *small_or(const char *given, const char *otherwise)
{
    return given ? given : otherwise;
}

/* The JSON of it, in out (any old text is dropped). */
static inline void small_json(struct bytes *out, const struct small *s)
{
    const char *merges = small_or(s->merges, SMALL_MERGES);
    out->len = 0;
    bytes_addf(out, "{%s\"version\":\"1.0\",\"truncation\":null,\"added_tokens\":[",
               small_or(s->before, ""));
    bytes_add_text(out, small_or(s->added, SMALL_ADDED));
    bytes_addf(out, "],\"normalizer\":%s,\"pre_tokenizer\":",
               small_or(s->normalizer, "{\"type\":\"NFC\"}"));
    bytes_add_text(out, small_or(s->pre_tokenizer, "{\"type\":\"ByteLevel\",\"trim_offsets\":true,"
                                                   "\"add_prefix_space\":false}"));
    bytes_addf(out, ",\"model\":{\"type\":\"%s\",%s", small_or(s->type, "BPE"),
               small_or(s->model, ""));
    if (s->merges_first) {
        bytes_add_text(out, "\"merges\":[");
        bytes_add_text(out, merges);
        bytes_add_text(out, "],");
    }
    bytes_add_text(out, "\"vocab\":{");
    small_bytes(out, s->without_byte);
    bytes_add_text(out, small_or(s->vocab, SMALL_VOCAB));
    bytes_add_text(out, "}");
    if (!s->merges_first) {
        bytes_add_text(out, ",\"merges\":[");
        bytes_add_text(out, merges);
        bytes_add_text(out, "]");
    }
    bytes_add_text(out, "}}");
    assert_false(out->failed);
}

static inline struct tokenizer *small_open(const struct small *s, unsigned flags)
{
    struct bytes json = {0};
    struct gdn_error err = {0};
    struct tokenizer *tok;
    small_json(&json, s);
    enum gdn_status status = tokenizer_parse(json.at, json.len, flags, &tok, &err);
    bytes_free(&json);
    if (status != GDN_OK) fail_msg("%s", err.text);
    return tok;
}

/* Are the ids of `text` those that follow, up to a -1? */
static inline void check_ids(const struct tokenizer *tok, const char *text, size_t len,
                             enum tokenizer_control control, ...)
{
    struct ids ids = {0};
    struct gdn_error err = {0};
    va_list args;
    if (tokenizer_encode(tok, text, len, control, &ids, &err) != GDN_OK) fail_msg("%s", err.text);
    va_start(args, control);
    for (size_t i = 0; i < ids.len; i++) assert_int_equal(ids.at[i], va_arg(args, int));
    assert_int_equal(va_arg(args, int), -1);
    va_end(args);
    ids_free(&ids);
}

#endif
