/* json_compare.h: base/json.h held against jansson, for the test and the fuzz target.
 *
 * Both must take or refuse a text, and what they read must be equal. The known differences, each
 * asked for by name below: gdn refuses what is nested deeper than JSON_DEPTH; jansson refuses a
 * number beyond the largest double, for which gdn's json_double is false; jansson refuses a key
 * with a zero byte; jansson passes over a zero byte behind a number, and takes one behind the value
 * for the end of the text. Repeated keys are for the caller of the reader to refuse. */
#ifndef TESTS_JSON_COMPARE_H
#define TESTS_JSON_COMPARE_H

/* Both headers name the kinds of values alike. */
#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_TRUE JANSSON_TRUE
#define JSON_FALSE JANSSON_FALSE
#define JSON_NULL JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_TRUE
#undef JSON_FALSE
#undef JSON_NULL

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* What of the above a text contains. */
struct json_traits {
    bool huge_number, zero_key;
};

/* Unescaped bytes of a token in a block of exactly their size and a zero. */
static inline char *json_compare_text(const struct json_token *t, size_t *len)
{
    char *text = malloc(t->len + 1);
    if (!text || !json_text(t, text, t->len + 1, len)) abort();
    return text;
}

/* Our reader's verdict on the text. */
static inline bool json_compare_accepts(const char *text, size_t len, struct json_traits *traits)
{
    struct json json;
    struct json_token t;
    double number;
    *traits = (struct json_traits){0};
    json_open(&json, text, len);
    for (;;) {
        enum json_kind kind = json_next(&json, &t);
        if (kind != t.kind) abort();
        if (kind == JSON_ERROR) {
            if (!json.error || json_offset(&json) > len) abort();
            return false;
        }
        if (kind == JSON_END) return true;
        if (kind == JSON_NUMBER && !json_double(&t, &number)) traits->huge_number = true;
        if (kind == JSON_KEY) {
            size_t n;
            char *key = json_compare_text(&t, &n);
            traits->zero_key = traits->zero_key || strlen(key) != n;
            free(key);
        }
    }
}

static inline bool json_compare_value(json_t *value, struct json *json, struct json_token *t);

static inline bool json_compare_object(json_t *value, struct json *json)
{
    struct json_token t;
    size_t count = 0;
    while (json_next(json, &t) == JSON_KEY) {
        size_t n;
        char *key = json_compare_text(&t, &n);
        json_t *inner = json_object_get(value, key);
        bool same = inner && json_is(&t, key);
        free(key);
        json_next(json, &t);
        if (!same || !json_compare_value(inner, json, &t)) return false;
        count++;
    }
    return t.kind == JSON_OBJECT_END && count == json_object_size(value);
}

/* Is the value that begins with `t` the same as jansson's? Recursion is bounded by JSON_DEPTH. */
static inline bool json_compare_value(json_t *value, struct json *json, struct json_token *t)
{
    if (!value) return false;
    json_type theirs = json_typeof(value);
    if (t->kind == JSON_OBJECT) return theirs == JANSSON_OBJECT && json_compare_object(value, json);
    if (t->kind == JSON_ARRAY) {
        size_t count = 0;
        if (theirs != JANSSON_ARRAY) return false;
        while (json_next(json, t) != JSON_ARRAY_END)
            if (!json_compare_value(json_array_get(value, count++), json, t)) return false;
        return count == json_array_size(value);
    }
    if (t->kind == JSON_STRING) {
        size_t n;
        char *text = json_compare_text(t, &n);
        bool same = theirs == JANSSON_STRING && json_string_length(value) == n &&
                    memcmp(json_string_value(value), text, n) == 0;
        free(text);
        return same;
    }
    if (t->kind == JSON_NUMBER) {
        double ours, real = json_real_value(value);
        return theirs == JSON_REAL && json_double(t, &ours) &&
               memcmp(&ours, &real, sizeof ours) == 0;
    }
    return t->kind == JSON_TRUE    ? theirs == JANSSON_TRUE
           : t->kind == JSON_FALSE ? theirs == JANSSON_FALSE
                                   : t->kind == JSON_NULL && theirs == JANSSON_NULL;
}

/* NULL when both readers agree on the text, else what they differ in. */
static inline const char *json_compare(const char *text, size_t len)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;
    struct json_traits traits;
    json_error_t error;
    bool ours = json_compare_accepts(text, len, &traits);
    json_t *theirs = json_loadb(text, len, flags | JSON_REJECT_DUPLICATES, &error);
    const char *result = NULL;
    if (theirs && ours) {
        struct json json;
        struct json_token t;
        json_open(&json, text, len);
        json_next(&json, &t);
        if (!json_compare_value(theirs, &json, &t)) result = "the values differ";
    } else if (theirs) {
        struct json json;
        struct json_token t;
        json_open(&json, text, len);
        while (json_next(&json, &t) != JSON_ERROR) continue;
        bool at_zero = json.at < json.end && *json.at == 0;
        if (strcmp(json.error, "the text is nested too deeply") != 0 && !at_zero)
            result = "only jansson takes it";
    } else if (ours && json_error_code(&error) == json_error_duplicate_key) {
        json_t *doubled = json_loadb(text, len, flags, &error);
        if (!doubled && !traits.huge_number && !traits.zero_key) result = "only gdn takes it";
        json_decref(doubled);
    } else if (ours && !traits.huge_number && !traits.zero_key) {
        result = "only gdn takes it";
    }
    json_decref(theirs);
    return result;
}

#endif
