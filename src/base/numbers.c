/* numbers.c: the text is walked twice with the same scanner: once to count, so that memory is taken
 * for exactly the numbers that are there, and once to read. */
#include "base/numbers.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

struct scan {
    const char *text;
    size_t len, at;
    size_t begin, end; /* the word just found */
    size_t line;       /* of `begin`, from 1 */
    size_t commas;     /* in the gap before it */
};

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next run of bytes that are not separators; at the end of the text an empty one. */
static bool scan_word(struct scan *s)
{
    s->commas = 0;
    for (; s->at < s->len && (is_space(s->text[s->at]) || s->text[s->at] == ','); s->at++) {
        s->commas += s->text[s->at] == ',';
        s->line += s->text[s->at] == '\n';
    }
    s->begin = s->at;
    while (s->at < s->len && !is_space(s->text[s->at]) && s->text[s->at] != ',') s->at++;
    s->end = s->at;
    return s->begin < s->end;
}

static bool read_number(const char *p, const char *end, int32_t min, int32_t max, int32_t *value)
{
    const bool negative = *p == '-';
    int64_t v = 0;
    p += negative;
    if (p == end) return false;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9') return false;
        v = v * 10 + (*p - '0');
        if (v > (int64_t)INT32_MAX + 1) return false;
    }
    if (negative) v = -v;
    if (v < min || v > max) return false;
    *value = (int32_t)v;
    return true;
}

/* A few bytes of a file for a terminal: what is not plain ASCII becomes '?'. */
static void quote(char *out, size_t room, const char *text, size_t len)
{
    const size_t n = len < room - 4 ? len : room - 4;
    for (size_t i = 0; i < n; i++) out[i] = text[i] >= 0x20 && text[i] < 0x7F ? text[i] : '?';
    memcpy(out + n, n < len ? "..." : "", n < len ? 4 : 1);
}

static enum gdn_status refuse(const struct scan *s, const char *what, size_t index, int32_t min,
                              int32_t max, bool gap, struct gdn_error *err)
{
    char found[32];
    quote(found, sizeof found, s->text + s->begin, s->end - s->begin);
    return error_set(err, GDN_ERR_INPUT, "%s %zu (line %zu, byte %zu): found %s%s%s, need a number "
                     "from %d to %d", what, index, s->line, s->begin, gap ? "" : "\"",
                     gap ? "a comma too many before it" : found, gap ? "" : "\"", min, max);
}

enum gdn_status numbers_parse(const char *text, size_t len, int32_t min, int32_t max,
                              const char *what, int32_t **at, size_t *count,
                              struct gdn_error *err)
{
    *at = NULL;
    *count = 0;
    size_t n = 0;
    struct scan s = {.text = text, .len = len, .line = 1};
    while (scan_word(&s)) n++;
    if (n == 0 && s.commas == 0) return GDN_OK;
    int32_t *list = mem_take_array(n, sizeof *list);
    if (!list) return error_set(err, GDN_ERR_MEMORY, "no memory for %zu numbers", n);
    s = (struct scan){.text = text, .len = len, .line = 1};
    for (size_t i = 0; i <= n; i++) {
        const bool word = scan_word(&s);
        const bool gap = s.commas > (size_t)(i > 0);
        if (!gap && (!word || read_number(text + s.begin, text + s.end, min, max, &list[i])))
            continue;
        mem_give(list);
        return refuse(&s, what, i, min, max, gap, err);
    }
    *at = list;
    *count = n;
    return GDN_OK;
}

char *size_text(char out[SIZE_TEXT], int64_t bytes)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 999.5 && unit < 4; unit++) value /= 1000;
    snprintf(out, SIZE_TEXT, "%.*f %s", unit && value < 99.95 ? 1 : 0, value, units[unit]);
    return out;
}
