#include "text/jinja_lex.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "text/show.h"
#include "text/utf8.h"

enum gdn_status lexer_bad(const struct lexer *l, struct token_place place, enum gdn_status status,
                          const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(l->err, status, "%.100s, line %u, column %u: %s", l->name, place.line,
                     place.column, text);
}

static struct token_place place_of(const struct lexer *l)
{
    return (struct token_place){l->line, (uint32_t)(l->at - l->line_at) + 1};
}

enum gdn_status lexer_full(const struct lexer *l, struct token_place place)
{
    return lexer_bad(l, place, GDN_ERR_INPUT, "needs more than %zu bytes of memory",
                     l->heap->arena.size);
}

/* One line end at the very end of a template is not part of it. */
enum gdn_status lexer_open(struct lexer *l, const char *name, const char *source, size_t len,
                           struct heap *heap, struct gdn_error *err)
{
    *l = (struct lexer){.name = name, .heap = heap, .err = err, .line = 1, .fresh = true};
    char *copy = heap_take(heap, len + 1);
    if (!copy) return lexer_full(l, place_of(l));
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\n' && i > 0 && source[i - 1] == '\r') continue;
        copy[l->len++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (l->len > 0 && copy[l->len - 1] == '\n') l->len--;
    l->source = copy;
    return GDN_OK;
}

static bool sees(const struct lexer *l, size_t at, const char *what)
{
    const size_t n = strlen(what);
    return at <= l->len && l->len - at >= n && memcmp(l->source + at, what, n) == 0;
}

static char peek(const struct lexer *l, size_t at) { return at < l->len ? l->source[at] : 0; }

static void advance(struct lexer *l, size_t to)
{
    for (; l->at < to; l->at++) {
        if (l->source[l->at] != '\n') continue;
        l->line++;
        l->line_at = l->at + 1;
    }
}

static size_t skip_space(const struct lexer *l, size_t at)
{
    return at + utf8_space_head(l->source + at, l->len - at);
}

/* ---- outside of tags ------------------------------------------------------------------------- */

/* Behind a tag that ended in `sign` and its closing mark, which ends at `at`: a minus takes all
 * white space along, otherwise the tag takes the end of its line, if `line` says so. */
static void leave(struct lexer *l, size_t at, char sign, bool line)
{
    if (sign == '-')
        at = skip_space(l, at);
    else if (sign != '+' && line && peek(l, at) == '\n')
        at++;
    l->fresh = at > 0 && l->source[at - 1] == '\n';
    advance(l, at);
    l->state = LEX_OUTSIDE;
}

/* The text from l->at to a tag at `tag`, whose mark is followed by `sign`; `line`: such a tag that
 * stands alone at the begin of its line takes the white space before it. */
static size_t text_end(const struct lexer *l, size_t tag, char sign, bool line)
{
    if (sign == '-') return l->at + utf8_trim_end(l->source + l->at, tag - l->at);
    if (sign == '+' || !line) return tag;
    const char *from = l->source + l->at;
    const char *newline = memrchr(from, '\n', tag - l->at);
    if (!newline && !l->fresh) return tag;
    const size_t begin = newline ? (size_t)(newline + 1 - l->source) : l->at;
    return begin + utf8_space_head(l->source + begin, tag - begin) >= tag ? begin : tag;
}

static size_t find_tag(const struct lexer *l)
{
    size_t at = l->at;
    while (at + 1 < l->len) {
        const char *brace = memchr(l->source + at, '{', l->len - at - 1);
        if (!brace) break;
        at = (size_t)(brace - l->source);
        if (brace[1] == '{' || brace[1] == '%' || brace[1] == '#') return at;
        at++;
    }
    return l->len;
}

static void put_text(struct lexer *l, struct template_token *token, size_t begin, size_t end)
{
    token->kind = TOKEN_TEXT;
    token->text = (struct text){.at = l->source + begin, .len = (uint32_t)(end - begin)};
}

static enum gdn_status pass_comment(struct lexer *l)
{
    const size_t begin = l->at + 2;
    const char *end = l->len > begin ? memmem(l->source + begin, l->len - begin, "#}", 2) : NULL;
    if (!end)
        return lexer_bad(l, place_of(l), GDN_ERR_INPUT, "found a comment without end, need \"#}\"");
    const size_t at = (size_t)(end - l->source);
    leave(l, at + 2, at > begin ? l->source[at - 1] : 0, true);
    return GDN_OK;
}

/* Is there {% word %} at `at`? *end gets where it ends, the signs what stands inside its marks. */
static bool is_lone(const struct lexer *l, size_t at, const char *word, size_t *end, char *first,
                    char *last)
{
    if (!sees(l, at, "{%")) return false;
    at += 2;
    *first = peek(l, at);
    if (*first == '-' || *first == '+') at++;
    at = skip_space(l, at);
    if (!sees(l, at, word)) return false;
    at = skip_space(l, at + strlen(word));
    *last = peek(l, at);
    if (*last == '-' || *last == '+') at++;
    *end = at + 2;
    return sees(l, at, "%}");
}

/* {% raw %} ... {% endraw %}: nothing in it is a tag. l->at stands at the first; *found gets
 * whether it was one. */
static enum gdn_status read_raw(struct lexer *l, struct template_token *token, bool *found)
{
    size_t end, close_end = 0, at;
    char first, last = 0, close_first = 0, close_last = 0;
    const struct token_place place = place_of(l);
    *found = is_lone(l, l->at, "raw", &end, &first, &last);
    if (!*found) return GDN_OK;
    leave(l, end, last, false);
    for (at = l->at; at < l->len; at++)
        if (is_lone(l, at, "endraw", &close_end, &close_first, &close_last)) break;
    if (at >= l->len)
        return lexer_bad(l, place, GDN_ERR_INPUT, "found raw without end, need {%% endraw %%}");
    put_text(l, token, l->at, text_end(l, at, close_first, true));
    leave(l, close_end, close_last, true);
    return GDN_OK;
}

/* A tag stands at l->at. token->kind stays TOKEN_END when it gave nothing. */
static enum gdn_status enter_tag(struct lexer *l, struct template_token *token)
{
    const char mark = l->source[l->at + 1];
    bool raw = false;
    if (mark == '#') return pass_comment(l);
    if (mark == '%') TRY(read_raw(l, token, &raw));
    if (raw) {
        if (token->text.len == 0) token->kind = TOKEN_END;
        return GDN_OK;
    }
    token->kind = mark == '{' ? TOKEN_OPEN : TOKEN_TAG_OPEN;
    l->state = mark == '{' ? LEX_VALUE : LEX_TAG;
    const char sign = peek(l, l->at + 2);
    advance(l, l->at + (sign == '-' || sign == '+' ? 3 : 2));
    return GDN_OK;
}

static enum gdn_status next_outside(struct lexer *l, struct template_token *token)
{
    for (;;) {
        token->place = place_of(l);
        token->kind = TOKEN_END;
        if (l->pending) {
            l->pending = false;
            TRY(enter_tag(l, token));
            if (token->kind != TOKEN_END) return GDN_OK;
            continue;
        }
        if (l->at >= l->len) return GDN_OK;
        const size_t tag = find_tag(l), begin = l->at;
        const size_t end = tag < l->len
                               ? text_end(l, tag, peek(l, tag + 2), l->source[tag + 1] != '{')
                               : tag;
        l->pending = tag < l->len;
        advance(l, tag);
        if (end == begin) continue;
        put_text(l, token, begin, end);
        return GDN_OK;
    }
}

/* ---- inside of tags -------------------------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool read_hex(const char *at, const char *end, int digits, uint32_t *value)
{
    *value = 0;
    if (end - at < digits) return false;
    for (int i = 0; i < digits; i++) {
        const char c = at[i];
        if (is_digit(c))
            *value = *value << 4 | (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            *value = *value << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* One escape of Python's: `at` stands behind the backslash. Returns where it ends, or NULL. What is
 * no escape stays as it is. */
static const char *read_escape(const char *at, const char *end, char out[4], size_t *n)
{
    static const char names[] = "abfnrtv\\'\"", values[] = "\a\b\f\n\r\t\v\\'\"";
    const char c = *at, *known = strchr(names, c);
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    *n = 0;
    if (c == '\n') return at + 1;
    if (known && c) {
        out[(*n)++] = values[known - names];
        return at + 1;
    }
    if (c == 'N') return NULL;
    if (digits > 0) {
        if (!read_hex(at + 1, end, digits, &code)) return NULL;
        at += 1 + digits;
    } else if (c >= '0' && c <= '7') {
        for (int i = 0; i < 3 && at < end && *at >= '0' && *at <= '7'; i++, at++)
            code = code * 8 + (uint32_t)(*at - '0');
    } else {
        out[(*n)++] = '\\';
        return at;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return NULL;
    *n = utf8_put(out, code);
    return at;
}

static enum gdn_status read_string(struct lexer *l, struct template_token *token)
{
    const char quote = l->source[l->at];
    const char *at = l->source + l->at + 1, *limit = l->source + l->len, *end = at;
    while (end < limit && *end != quote) end += *end == '\\' && end + 1 < limit ? 2 : 1;
    if (end >= limit)
        return lexer_bad(l, token->place, GDN_ERR_INPUT, "found a string without end, need %c",
                         quote);
    char *out = heap_take(l->heap, (size_t)(end - at) + 4);
    if (!out) return lexer_full(l, place_of(l));
    token->text = (struct text){.at = out};
    while (at < end) {
        size_t n = 1;
        if (*at != '\\') {
            *out++ = *at++;
        } else {
            at = read_escape(at + 1, end, out, &n);
            if (!at)
                return lexer_bad(l, token->place, GDN_ERR_INPUT,
                                 "found an escape that is no character in a string, need \\n, "
                                 "\\\\, \\xNN, \\uNNNN or the like");
            out += n;
        }
    }
    token->text.len = (uint32_t)(out - token->text.at);
    token->kind = TOKEN_STRING;
    advance(l, (size_t)(end + 1 - l->source));
    return GDN_OK;
}

/* Digits with single underscores between them. */
static size_t digits_end(const struct lexer *l, size_t at)
{
    while (is_digit(peek(l, at)) || (peek(l, at) == '_' && is_digit(peek(l, at + 1)))) at++;
    return at;
}

static enum gdn_status read_number(struct lexer *l, struct template_token *token)
{
    char digits[64];
    size_t end = digits_end(l, l->at), n = 0;
    const bool may_be_real = l->at == 0 || l->source[l->at - 1] != '.';
    token->kind = TOKEN_INTEGER;
    if (may_be_real && peek(l, end) == '.' && is_digit(peek(l, end + 1))) {
        end = digits_end(l, end + 1);
        token->kind = TOKEN_REAL;
    }
    if (may_be_real && (peek(l, end) | 0x20) == 'e') {
        const size_t sign = peek(l, end + 1) == '-' || peek(l, end + 1) == '+';
        if (is_digit(peek(l, end + 1 + sign))) {
            end = digits_end(l, end + 1 + sign);
            token->kind = TOKEN_REAL;
        }
    }
    for (size_t i = l->at; i < end && n + 1 < sizeof digits; i++)
        if (l->source[i] != '_') digits[n++] = l->source[i];
    digits[n] = 0;
    if (n + 1 == sizeof digits)
        return lexer_bad(l, token->place, GDN_ERR_UNSUPPORTED, "found a number of too many digits");
    struct json_token number = {JSON_NUMBER, digits, n, false};
    if (token->kind == TOKEN_INTEGER ? !json_int(&number, 0, INT64_MAX, &token->integer)
                                     : !json_double(&number, &token->real))
        return lexer_bad(l, token->place, GDN_ERR_UNSUPPORTED, "found %s, which is too large",
                         digits);
    advance(l, end);
    return GDN_OK;
}

/* Brackets must pair, or a }} inside of them would look like the end of the tag. */
static enum gdn_status count_bracket(struct lexer *l, const struct template_token *token, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (l->depth == sizeof l->open)
            return lexer_bad(l, token->place, GDN_ERR_INPUT,
                             "found brackets nested deeper than %zu", sizeof l->open);
        l->open[l->depth++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (l->depth == 0)
            return lexer_bad(l, token->place, GDN_ERR_INPUT, "found \"%c\" that closes nothing", c);
        if (l->open[--l->depth] != c)
            return lexer_bad(l, token->place, GDN_ERR_INPUT, "found \"%c\", need \"%c\"", c,
                             l->open[l->depth]);
    }
    return GDN_OK;
}

static enum gdn_status read_operator(struct lexer *l, struct template_token *token)
{
    static const char pairs[][3] = {"==", "!=", ">=", "<=", "//", "**"};
    const char c = l->source[l->at];
    size_t n = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (sees(l, l->at, pairs[i])) n = 2;
    if (n == 1 && !strchr("+-/*%~[](){}=<>.:|,;", c)) {
        char shown[32];
        size_t bytes;
        utf8_head((const unsigned char *)l->source + l->at, l->len - l->at, &bytes);
        return lexer_bad(l, token->place, GDN_ERR_INPUT, "found the character \"%s\" in a tag",
                         show_bytes(shown, sizeof shown, l->source + l->at, bytes));
    }
    TRY(count_bracket(l, token, c));
    token->kind = TOKEN_OPERATOR;
    token->text = (struct text){.at = l->source + l->at, .len = (uint32_t)n};
    advance(l, l->at + n);
    return GDN_OK;
}

/* Is this the end of the tag? */
static bool close_tag(struct lexer *l, struct template_token *token)
{
    const bool tag = l->state == LEX_TAG;
    const char sign = peek(l, l->at);
    const size_t at = l->at + (sign == '-' || (sign == '+' && tag));
    if (l->depth > 0 || !sees(l, at, tag ? "%}" : "}}")) return false;
    token->kind = tag ? TOKEN_TAG_CLOSE : TOKEN_CLOSE;
    leave(l, at + 2, sign, tag);
    return true;
}

enum gdn_status lexer_next(struct lexer *l, struct template_token *token)
{
    *token = (struct template_token){.kind = TOKEN_END};
    if (l->state == LEX_OUTSIDE) return next_outside(l, token);
    advance(l, skip_space(l, l->at));
    token->place = place_of(l);
    if (l->at >= l->len)
        return lexer_bad(l, token->place, GDN_ERR_INPUT, "found the end inside a tag, need \"%s\"",
                         l->state == LEX_TAG ? "%}" : "}}");
    const char c = l->source[l->at];
    if (close_tag(l, token)) return GDN_OK;
    if (c == '"' || c == '\'') return read_string(l, token);
    if (is_digit(c)) return read_number(l, token);
    if (!is_letter(c)) return read_operator(l, token);
    size_t end = l->at;
    while (is_letter(peek(l, end)) || is_digit(peek(l, end))) end++;
    token->kind = TOKEN_NAME;
    token->text = (struct text){.at = l->source + l->at, .len = (uint32_t)(end - l->at)};
    advance(l, end);
    return GDN_OK;
}
