/* json.h: a pull reader for JSON text and a small writer.
 *
 * The reader walks the text once, allocates nothing and recurses nowhere; strings are handed out
 * as spans of the source and unescaped on request. It is strict: RFC 8259, valid UTF-8, depth at
 * most JSON_DEPTH, nothing after the value. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { JSON_DEPTH = 64 };

enum json_kind {
    JSON_ERROR,  /* json->error says what, json_offset() where; every later call repeats it */
    JSON_END,    /* the value is complete and only white space followed */
    JSON_OBJECT, /* { : then JSON_KEY and a value in turn until JSON_OBJECT_END */
    JSON_OBJECT_END,
    JSON_ARRAY, /* [ : then values until JSON_ARRAY_END */
    JSON_ARRAY_END,
    JSON_KEY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
};

/* The span of a key or string is what stands between the quotes, still escaped; of anything else,
 * the number, word or bracket itself. `escaped` tells whether the span contains a backslash. */
struct json_token {
    enum json_kind kind;
    const char *text;
    size_t len;
    bool escaped;
};

struct json {
    const char *begin, *at, *end;
    const char *error;
    int depth;
    unsigned char in_object[JSON_DEPTH];
    int expect; /* what may come next; private */
};

/* The text need not end in a zero byte and must outlive the reader. */
void json_open(struct json *json, const char *text, size_t len);
enum json_kind json_next(struct json *json, struct json_token *token);
/* Having just read `token`, passes over the rest of that value (nothing for a scalar). False on a
 * syntax error. After a JSON_KEY it passes over the key's value. */
bool json_skip(struct json *json, const struct json_token *token);
/* Byte offset of the reader, for messages. */
size_t json_offset(const struct json *json);

/* Does the span of a key or string equal this text (after unescaping)? */
bool json_is(const struct json_token *token, const char *text);
/* Unescaped bytes of a key or string into out (room bytes, zero-ended); false when it does not
 * fit. *len (may be NULL) gets the length. The unescaped form is never longer than the span. */
bool json_text(const struct json_token *token, char *out, size_t room, size_t *len);
/* A number that is an integer (no '.', no exponent) within [min, max]. */
bool json_int(const struct json_token *token, int64_t min, int64_t max, int64_t *out);
/* Any number, rounded correctly and read independently of the locale; false when its magnitude is
 * beyond the largest double. */
bool json_double(const struct json_token *token, double *out);

/* Writer: a quoted, escaped string; invalid UTF-8 becomes U+FFFD. */
void json_put_string(struct bytes *out, const char *text, size_t len);
/* A double that reads back equal; NaN and infinities become null. */
void json_put_double(struct bytes *out, double value);

#endif
