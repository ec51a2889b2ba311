/* json.c: the strict pull reader of json.h, and its strings (numbers: json_number.c).
 *
 * The reader is a state (what may come next) and a bit of memory per open container; it never
 * calls itself. Strings are passed over eight bytes at a time, and every string handed out has been
 * checked, so that unescaping can trust its span. */
#include "base/json.h"

#include <string.h>

/* Values of json.expect. */
enum {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after '[' */
    EXPECT_KEY_OR_END,   /* after '{' */
    EXPECT_COLON,        /* after a key */
    EXPECT_COMMA_OR_END  /* after a value; at depth 0 only white space */
};

void json_open(struct json *json, const char *text, size_t len)
{
    /* An empty text may be NULL; pointer arithmetic needs an object. */
    if (len == 0) text = "";
    *json = (struct json){.begin = text, .at = text, .end = text + len, .expect = EXPECT_VALUE};
}

size_t json_offset(const struct json *json) { return (size_t)(json->at - json->begin); }

static enum json_kind fail(struct json *json, const char *at, const char *error)
{
    json->at = at;
    json->error = error;
    return JSON_ERROR;
}

/* Length of the valid UTF-8 sequence at p, 0 when there is none. */
static size_t utf8_len(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t room = (size_t)(end - p);
    unsigned char a = s[0];
    if (a < 0x80) return 1;
    if (a < 0xc2 || a > 0xf4) return 0;
    size_t n = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
    if (room < n) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    /* The second byte rules out overlong forms, surrogates and what lies above U+10FFFF. */
    if (a == 0xe0 && s[1] < 0xa0) return 0;
    if (a == 0xed && s[1] > 0x9f) return 0;
    if (a == 0xf0 && s[1] < 0x90) return 0;
    if (a == 0xf4 && s[1] > 0x8f) return 0;
    return n;
}

/* First byte at or after p that is a quote, a backslash, a control or not ASCII. */
static const char *plain_end(const char *p, const char *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones * 0x80;
    while (end - p >= 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
#endif
        uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\';
        /* A borrow can only mark bytes above a truly marked one, so the lowest mark is exact. */
        uint64_t hit = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
                       ((v - ones * 0x20) & ~v) | v;
        hit &= tops;
        if (hit) return p + (__builtin_ctzll(hit) >> 3);
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

/* Four hexadecimal digits, or -1. */
static int32_t hex4(const char *p, const char *end)
{
    if (end - p < 4) return -1;
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        v = v << 4 | digit;
    }
    return v;
}

/* Length of the valid escape whose backslash is at p; 0 and *error when there is none. */
static size_t escape_len(const char *p, const char *end, const char **error)
{
    *error = "a backslash must be followed by one of \"\\/bfnrtu";
    if (end - p < 2) return 0;
    if (p[1] != 'u') return p[1] && strchr("\"\\/bfnrt", p[1]) ? 2 : 0;
    int32_t unit = hex4(p + 2, end);
    *error = "\\u must be followed by four hexadecimal digits";
    if (unit < 0) return 0;
    if (unit < 0xd800 || unit > 0xdfff) return 6;
    *error = "a \\u surrogate stands without its other half";
    if (unit > 0xdbff || end - p < 12 || p[6] != '\\' || p[7] != 'u') return 0;
    int32_t low = hex4(p + 8, end);
    return low >= 0xdc00 && low <= 0xdfff ? 12 : 0;
}

/* json->at is at the opening quote. Checks the string, sets the span, moves behind it. */
static bool read_string(struct json *json, struct json_token *token)
{
    const char *p = json->at + 1, *end = json->end;
    token->text = p;
    for (;;) {
        p = plain_end(p, end);
        if (p == end) {
            fail(json, p, "the text ends inside a string");
            return false;
        }
        if (*p == '"') break;
        if (*p == '\\') {
            const char *error;
            size_t n = escape_len(p, end, &error);
            if (!n) {
                fail(json, p, error);
                return false;
            }
            token->escaped = true;
            p += n;
        } else {
            size_t n = (unsigned char)*p < 0x20 ? 0 : utf8_len(p, end);
            if (!n) {
                fail(json, p, (unsigned char)*p < 0x20 ? "a control character must be escaped"
                                                       : "this is not UTF-8");
                return false;
            }
            p += n;
        }
    }
    token->len = (size_t)(p - token->text);
    json->at = p + 1;
    return true;
}

static const char *digits_end(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9') p++;
    return p;
}

static enum json_kind read_number(struct json *json, struct json_token *token)
{
    const char *p = json->at, *end = json->end, *start;
    token->text = p;
    if (*p == '-') p++;
    start = p;
    p = digits_end(p, end);
    if (p == start) return fail(json, p, "a number needs a digit here");
    if (*start == '0' && p - start > 1)
        return fail(json, start, "a number must not begin with a zero");
    if (p < end && *p == '.') {
        start = ++p;
        p = digits_end(p, end);
        if (p == start) return fail(json, p, "a number needs a digit here");
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        start = p;
        p = digits_end(p, end);
        if (p == start) return fail(json, p, "a number needs a digit here");
    }
    token->len = (size_t)(p - token->text);
    json->at = p;
    json->expect = EXPECT_COMMA_OR_END;
    return token->kind = JSON_NUMBER;
}

static enum json_kind read_word(struct json *json, struct json_token *token, const char *word,
                                enum json_kind kind)
{
    size_t n = strlen(word);
    if ((size_t)(json->end - json->at) < n || memcmp(json->at, word, n) != 0)
        return fail(json, json->at, "a value is needed here");
    token->text = json->at;
    token->len = n;
    json->at += n;
    json->expect = EXPECT_COMMA_OR_END;
    return token->kind = kind;
}

static enum json_kind open_container(struct json *json, struct json_token *token, bool object)
{
    if (json->depth == JSON_DEPTH) return fail(json, json->at, "the text is nested too deeply");
    json->in_object[json->depth++] = object;
    token->text = json->at++;
    token->len = 1;
    json->expect = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return token->kind = object ? JSON_OBJECT : JSON_ARRAY;
}

static enum json_kind close_container(struct json *json, struct json_token *token)
{
    token->text = json->at++;
    token->len = 1;
    json->expect = EXPECT_COMMA_OR_END;
    return token->kind = json->in_object[--json->depth] ? JSON_OBJECT_END : JSON_ARRAY_END;
}

static void skip_space(struct json *json)
{
    const char *p = json->at;
    while (p < json->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    json->at = p;
}

static enum json_kind read_value(struct json *json, struct json_token *token)
{
    if (json->at == json->end) return fail(json, json->at, "the text ends where a value is needed");
    switch (*json->at) {
    case '{': return open_container(json, token, true);
    case '[': return open_container(json, token, false);
    case '"':
        if (!read_string(json, token)) return JSON_ERROR;
        json->expect = EXPECT_COMMA_OR_END;
        return token->kind = JSON_STRING;
    case 't': return read_word(json, token, "true", JSON_TRUE);
    case 'f': return read_word(json, token, "false", JSON_FALSE);
    case 'n': return read_word(json, token, "null", JSON_NULL);
    default:
        if (*json->at == '-' || (*json->at >= '0' && *json->at <= '9'))
            return read_number(json, token);
        return fail(json, json->at, "a value is needed here");
    }
}

static enum json_kind read_key(struct json *json, struct json_token *token)
{
    if (json->at == json->end) return fail(json, json->at, "the text ends where a key is needed");
    if (*json->at != '"') return fail(json, json->at, "a key in quotes is needed here");
    if (!read_string(json, token)) return JSON_ERROR;
    json->expect = EXPECT_COLON;
    return token->kind = JSON_KEY;
}

/* What follows a value: a comma and the next item, the end of the container, or of the text. */
static enum json_kind read_after_value(struct json *json, struct json_token *token)
{
    bool more = json->at < json->end;
    if (json->depth == 0) {
        if (more) return fail(json, json->at, "nothing may follow the value");
        return token->kind = JSON_END;
    }
    bool object = json->in_object[json->depth - 1];
    if (!more)
        return fail(json, json->at, object ? "the text ends inside an object"
                                           : "the text ends inside an array");
    if (*json->at == (object ? '}' : ']')) return close_container(json, token);
    if (*json->at != ',')
        return fail(json, json->at, object ? "a comma or } is needed here"
                                           : "a comma or ] is needed here");
    json->at++;
    skip_space(json);
    return object ? read_key(json, token) : read_value(json, token);
}

enum json_kind json_next(struct json *json, struct json_token *token)
{
    *token = (struct json_token){.kind = JSON_ERROR, .text = json->at};
    if (json->error) return JSON_ERROR;
    skip_space(json);
    bool more = json->at < json->end;
    switch (json->expect) {
    case EXPECT_COMMA_OR_END: return read_after_value(json, token);
    case EXPECT_KEY_OR_END:
        if (more && *json->at == '}') return close_container(json, token);
        return read_key(json, token);
    case EXPECT_COLON:
        if (!more || *json->at != ':') return fail(json, json->at, "a colon is needed here");
        json->at++;
        skip_space(json);
        return read_value(json, token);
    case EXPECT_VALUE_OR_END:
        if (more && *json->at == ']') return close_container(json, token);
        return read_value(json, token);
    default: return read_value(json, token);
    }
}

bool json_skip(struct json *json, const struct json_token *token)
{
    struct json_token inner = *token;
    if (inner.kind == JSON_KEY) json_next(json, &inner);
    if (inner.kind == JSON_OBJECT || inner.kind == JSON_ARRAY) {
        int outside = json->depth - 1;
        while (json->depth > outside)
            if (json_next(json, &inner) == JSON_ERROR) return false;
    }
    return json->error == NULL;
}

static size_t put_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf0u << (4 - n) & 0xf0u) | c);
    return n;
}

/* The next character of a checked span as bytes; moves *at behind it. */
static size_t unescape(const char **at, const char *end, char out[4])
{
    const char *p = *at;
    if (*p != '\\') {
        out[0] = *p;
        *at = p + 1;
        return 1;
    }
    *at = p + 2;
    switch (p[1]) {
    case 'b': out[0] = '\b'; return 1;
    case 'f': out[0] = '\f'; return 1;
    case 'n': out[0] = '\n'; return 1;
    case 'r': out[0] = '\r'; return 1;
    case 't': out[0] = '\t'; return 1;
    case 'u': break;
    default: out[0] = p[1]; return 1;
    }
    uint32_t c = (uint32_t)hex4(p + 2, end);
    *at = p + 6;
    if (c >= 0xd800 && c <= 0xdbff) {
        c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)hex4(p + 8, end) - 0xdc00);
        *at = p + 12;
    }
    return put_utf8(c, out);
}

bool json_is(const struct json_token *token, const char *text)
{
    size_t len = strlen(text);
    if (!token->escaped) return len == token->len && memcmp(token->text, text, len) == 0;
    const char *p = token->text, *end = p + token->len;
    while (p < end) {
        char c[4];
        size_t n = unescape(&p, end, c);
        if (n > len || memcmp(c, text, n) != 0) return false;
        text += n;
        len -= n;
    }
    return len == 0;
}

bool json_text(const struct json_token *token, char *out, size_t room, size_t *len)
{
    size_t used = 0;
    if (!token->escaped) {
        if (token->len >= room) return false;
        memcpy(out, token->text, token->len);
        used = token->len;
    } else {
        const char *p = token->text, *end = p + token->len;
        while (p < end) {
            char c[4];
            size_t n = unescape(&p, end, c);
            if (used >= room || n >= room - used) return false;
            memcpy(out + used, c, n);
            used += n;
        }
        if (used >= room) return false;
    }
    out[used] = 0;
    if (len) *len = used;
    return true;
}

void json_put_string(struct bytes *out, const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    bytes_add(out, "\"", 1);
    while (p < end) {
        const char *run = p;
        while ((p = plain_end(p, end)) < end && (unsigned char)*p >= 0x80) {
            size_t n = utf8_len(p, end);
            if (!n) break;
            p += n;
        }
        bytes_add(out, run, (size_t)(p - run));
        if (p == end) break;
        unsigned char c = (unsigned char)*p++;
        if (c == '"' || c == '\\')
            bytes_addf(out, "\\%c", c);
        else if (c == '\n')
            bytes_add(out, "\\n", 2);
        else if (c == '\t')
            bytes_add(out, "\\t", 2);
        else if (c < 0x20)
            bytes_addf(out, "\\u%04x", c);
        else
            bytes_add(out, "\xef\xbf\xbd", 3);
    }
    bytes_add(out, "\"", 1);
}
