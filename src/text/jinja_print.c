/* jinja_print.c: values as text: Python's str() and repr(), and JSON as its json module writes it.
 * The origin of a text goes along; what stands around it counts as the template's. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/normal.h"
#include "text/utf8.h"

static void put(struct builder *b, const char *text)
{
    builder_bytes(b, text, strlen(text), false);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The fewest digits that read back as the same number: 0.d1 d2 ... times 10^*point, zeros at the
 * end left out. What stands for
 * the decimal point in this process does not matter: it is passed over. */
static int shortest_digits(double real, char digits[20], int *point)
{
    char text[40];
    for (int precision = 0;; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, real);
        if (precision == 16 || strtod(text, NULL) == real) break;
    }
    int count = 0;
    const char *c = text;
    for (; *c && *c != 'e'; c++)
        if (*c >= '0' && *c <= '9') digits[count++] = *c;
    *point = *c ? atoi(c + 1) + 1 : 1;
    while (count > 1 && digits[count - 1] == '0') count--;
    return count;
}

/* With at least one digit on either side of the point. */
static int write_plain(char *text, const char *digits, int count, int point)
{
    const int last = count > point ? count : point + 1;
    int n = 0;
    for (int i = point < 1 ? point - 1 : 0; i < last; i++) {
        if (i == point) text[n++] = '.';
        text[n++] = i >= 0 && i < count ? digits[i] : '0';
    }
    return n;
}

static int write_exponent(char *text, const char *digits, int count, int point)
{
    const int exponent = point - 1;
    return snprintf(text, 32, "%c%s%.*se%c%02d", digits[0], count > 1 ? "." : "", count - 1,
                    digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
}

static void put_float(struct builder *b, double real)
{
    char digits[20], text[48];
    int point, n = 0;
    if (!isfinite(real)) {
        put(b, isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
        return;
    }
    const int count = shortest_digits(fabs(real), digits, &point);
    if (signbit(real)) text[n++] = '-';
    n += (point > 16 || point < -3 ? write_exponent : write_plain)(text + n, digits, count, point);
    builder_bytes(b, text, (size_t)n, false);
}

static void put_int(struct builder *b, int64_t integer)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, integer);
    put(b, text);
}

/* ---- repr ------------------------------------------------------------------------------------ */

static void put_code(struct builder *b, uint32_t c, bool data)
{
    char text[12];
    const int n = snprintf(text, sizeof text,
                           c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    builder_bytes(b, text, (size_t)n, data);
}

static bool data_at(struct text text, size_t at)
{
    return text.marks ? text.marks[at] : text.data;
}

/* In single quotes, or in double ones when only those are free. */
static void put_quoted(struct builder *b, struct text text)
{
    const bool has_single = text.len > 0 && memchr(text.at, '\'', text.len);
    const bool has_double = text.len > 0 && memchr(text.at, '"', text.len);
    const char quote = has_single && !has_double ? '"' : '\'';
    builder_bytes(b, &quote, 1, false);
    for (size_t at = 0, n; at < text.len; at += n) {
        const uint32_t c = utf8_read((const unsigned char *)text.at + at, &n);
        const bool data = data_at(text, at);
        const char *known = c < 0x80 ? strchr("\n\r\t\\", (int)c) : NULL;
        if (c == (unsigned char)quote || (c && known)) {
            const char letter = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : (char)c;
            const char pair[2] = {'\\', letter};
            builder_bytes(b, pair, 2, data);
        } else if (!normal_is_printable(c)) {
            put_code(b, c, data);
        } else {
            builder_add(b, text_cut(text, at, at + n));
        }
    }
    builder_bytes(b, &quote, 1, false);
}

static enum gdn_status put_repr(struct run *r, struct builder *b, const struct value *value,
                                int depth);

static enum gdn_status put_list(struct run *r, struct builder *b, const struct value *value,
                                int depth)
{
    const struct list *list = value->as.list;
    const bool tuple = value->kind == VALUE_TUPLE;
    put(b, tuple ? "(" : "[");
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0) put(b, ", ");
        TRY(put_repr(r, b, &list->at[i], depth));
    }
    put(b, !tuple ? "]" : list->count == 1 ? ",)" : ")");
    return GDN_OK;
}

static enum gdn_status put_map(struct run *r, struct builder *b, const struct map *map, int depth)
{
    put(b, "{");
    for (uint32_t i = 0; i < map->count; i++) {
        if (i > 0) put(b, ", ");
        TRY(put_repr(r, b, &map->pairs[i].key, depth));
        put(b, ": ");
        TRY(put_repr(r, b, &map->pairs[i].value, depth));
    }
    put(b, "}");
    return GDN_OK;
}

static enum gdn_status put_repr(struct run *r, struct builder *b, const struct value *value,
                                int depth)
{
    TRY(run_charge(r, 1));
    if (depth > VALUE_DEPTH) return run_bad(r, "found values nested deeper than %d", VALUE_DEPTH);
    if (b->failed) return run_full(r);
    switch (value->kind) {
    case VALUE_UNDEFINED: put(b, "Undefined"); return GDN_OK;
    case VALUE_NONE: put(b, "None"); return GDN_OK;
    case VALUE_BOOL: put(b, value->as.is ? "True" : "False"); return GDN_OK;
    case VALUE_INT: put_int(b, value->as.integer); return GDN_OK;
    case VALUE_FLOAT: put_float(b, value->as.real); return GDN_OK;
    case VALUE_BIG: builder_add(b, value->as.text); return GDN_OK;
    case VALUE_TEXT:
        put_quoted(b, value->as.text);
        return run_charge_bytes(r, value->as.text.len);
    case VALUE_LIST:
    case VALUE_TUPLE: return put_list(r, b, value, depth + 1);
    case VALUE_MAP: return put_map(r, b, value->as.map, depth + 1);
    default:
        return run_bad(r, "found a value of type %s, which has no text", value_type(value));
    }
}

enum gdn_status print_value(struct run *r, struct builder *b, const struct value *value)
{
    if (value->kind == VALUE_UNDEFINED) return GDN_OK;
    if (value->kind != VALUE_TEXT) return put_repr(r, b, value, 0);
    builder_add(b, value->as.text);
    return b->failed ? run_full(r) : run_charge_bytes(r, value->as.text.len);
}

enum gdn_status print_text(struct run *r, const struct value *value, struct text *out)
{
    struct builder b = {.heap = &r->heap};
    struct value text = *value;
    if (value->kind != VALUE_TEXT) {
        TRY(print_value(r, &b, value));
        TRY(run_built(r, &b, &text));
    }
    *out = text.as.text;
    return GDN_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_unicode(struct builder *b, uint32_t c, bool data)
{
    char text[16];
    int n = c < 0x10000 ? snprintf(text, sizeof text, "\\u%04x", c)
                        : snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD7C0 + (c >> 10),
                                   0xDC00 + (c & 0x3FF));
    builder_bytes(b, text, (size_t)n, data);
}

static void put_string(struct builder *b, struct text text, bool ascii)
{
    static const char plain[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    put(b, "\"");
    for (size_t at = 0, n; at < text.len; at += n) {
        const uint32_t c = utf8_read((const unsigned char *)text.at + at, &n);
        const char *known = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (known) {
            const char pair[2] = {'\\', letters[known - plain]};
            builder_bytes(b, pair, 2, data_at(text, at));
        } else if (c < 0x20 || (ascii && c > 0x7E)) {
            put_unicode(b, c, data_at(text, at));
        } else {
            builder_add(b, text_cut(text, at, at + n));
        }
    }
    put(b, "\"");
}

struct writer {
    struct run *run;
    struct builder *b;
    const struct json_style *style;
};

static enum gdn_status put_json(struct writer *w, const struct value *value, int depth);

static void new_line(struct writer *w, int depth)
{
    if (!w->style->indent) return;
    put(w->b, "\n");
    for (int i = 0; i < depth; i++) builder_add(w->b, *w->style->indent);
}

static enum gdn_status put_json_list(struct writer *w, const struct list *list, int depth)
{
    put(w->b, "[");
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0) builder_add(w->b, w->style->item);
        new_line(w, depth);
        TRY(put_json(w, &list->at[i], depth));
    }
    if (list->count > 0) new_line(w, depth - 1);
    put(w->b, "]");
    return GDN_OK;
}

static enum gdn_status put_json_key(struct writer *w, const struct value *key, int depth)
{
    if (key->kind == VALUE_TEXT) return put_json(w, key, depth);
    put(w->b, "\"");
    TRY(put_json(w, key, depth));
    put(w->b, "\"");
    return GDN_OK;
}

/* By insertion: the keys of one object are few, and the steps are counted. */
static enum gdn_status sort_pairs(struct run *r, const struct map *map, struct pair **out)
{
    struct pair *pairs = heap_take(&r->heap, (map->count + 1) * sizeof *pairs);
    if (!pairs) return run_full(r);
    for (uint32_t i = 0; i < map->count; i++) {
        uint32_t k = i;
        for (int way; k > 0; k--) {
            TRY(op_order(r, &map->pairs[i].key, &pairs[k - 1].key, &way));
            if (way >= 0) break;
            pairs[k] = pairs[k - 1];
        }
        pairs[k] = map->pairs[i];
    }
    *out = pairs;
    return GDN_OK;
}

static enum gdn_status put_json_map(struct writer *w, const struct map *map, int depth)
{
    struct pair *pairs = map->pairs;
    if (w->style->sort) TRY(sort_pairs(w->run, map, &pairs));
    put(w->b, "{");
    for (uint32_t i = 0; i < map->count; i++) {
        if (i > 0) builder_add(w->b, w->style->item);
        new_line(w, depth);
        TRY(put_json_key(w, &pairs[i].key, depth));
        builder_add(w->b, w->style->key);
        TRY(put_json(w, &pairs[i].value, depth));
    }
    if (map->count > 0) new_line(w, depth - 1);
    put(w->b, "}");
    return GDN_OK;
}

static enum gdn_status put_json(struct writer *w, const struct value *value, int depth)
{
    TRY(run_charge(w->run, 1));
    if (depth > VALUE_DEPTH)
        return run_bad(w->run, "found values nested deeper than %d", VALUE_DEPTH);
    if (w->b->failed) return run_full(w->run);
    switch (value->kind) {
    case VALUE_NONE: put(w->b, "null"); return GDN_OK;
    case VALUE_BOOL: put(w->b, value->as.is ? "true" : "false"); return GDN_OK;
    case VALUE_FLOAT:
        if (isfinite(value->as.real))
            put_float(w->b, value->as.real);
        else
            put(w->b, isnan(value->as.real) ? "NaN"
                      : value->as.real < 0  ? "-Infinity" : "Infinity");
        return GDN_OK;
    case VALUE_INT:
    case VALUE_BIG: return put_repr(w->run, w->b, value, depth);
    case VALUE_TEXT:
        put_string(w->b, value->as.text, w->style->ascii);
        return run_charge_bytes(w->run, value->as.text.len);
    case VALUE_LIST:
    case VALUE_TUPLE: return put_json_list(w, value->as.list, depth + 1);
    case VALUE_MAP: return put_json_map(w, value->as.map, depth + 1);
    default:
        return run_bad(w->run, "found a value of type %s, which JSON cannot hold",
                       value_type(value));
    }
}

enum gdn_status print_json(struct run *r, struct builder *b, const struct json_style *style,
                           const struct value *value)
{
    struct writer writer = {r, b, style};
    return put_json(&writer, value, 0);
}
