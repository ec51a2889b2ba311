/* jinja_text.c: methods of texts. Cuts share the bytes they are cut from. */
#include <string.h>

#include "text/jinja_run.h"
#include "text/utf8.h"

static const char *find_in(const char *at, size_t len, struct text what)
{
    if (what.len == 0) return at;
    return len >= what.len ? memmem(at, len, what.at, what.len) : NULL;
}

const char *text_find(struct text text, struct text what)
{
    return find_in(text.at, text.len, what);
}

/* ---- strip ----------------------------------------------------------------------------------- */

/* Does one of the code points in `chars` stand at `at`, and how long is it? */
static size_t one_of(struct text chars, const char *at, size_t len)
{
    for (size_t i = 0, n; i < chars.len; i += n) {
        utf8_read((const unsigned char *)chars.at + i, &n);
        if (n <= len && memcmp(chars.at + i, at, n) == 0) return n;
    }
    return 0;
}

static size_t strip_left(struct text text, struct text chars)
{
    size_t at = 0, n;
    while (at < text.len && (n = one_of(chars, text.at + at, text.len - at)) > 0) at += n;
    return at;
}

static size_t strip_right(struct text text, struct text chars)
{
    size_t len = text.len;
    while (len > 0) {
        size_t head = len - 1;
        while (head > 0 && ((unsigned char)text.at[head] & 0xC0) == 0x80) head--;
        if (one_of(chars, text.at + head, len - head) == 0) break;
        len = head;
    }
    return len;
}

struct text text_strip(struct text text, const struct text *chars, bool left, bool right)
{
    if (left)
        text = text_cut(text, chars ? strip_left(text, *chars)
                                    : utf8_space_head(text.at, text.len), text.len);
    if (right)
        text = text_cut(text, 0, chars ? strip_right(text, *chars)
                                       : utf8_trim_end(text.at, text.len));
    return text;
}

static enum gdn_status strip(struct run *r, const struct value *self, const struct args *args,
                             bool left, bool right, struct value *out)
{
    struct text chars;
    const bool given = args->at[0].kind == VALUE_TEXT;
    TRY(arg_text(r, args, 0, "", &chars));
    TRY(run_charge(r, (uint64_t)self->as.text.len / 64 * (given ? chars.len : 1)));
    *out = value_text(text_strip(self->as.text, given ? &chars : NULL, left, right));
    return GDN_OK;
}

static enum gdn_status method_strip(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    return strip(r, self, args, true, true, out);
}

static enum gdn_status method_lstrip(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    return strip(r, self, args, true, false, out);
}

static enum gdn_status method_rstrip(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    return strip(r, self, args, false, true, out);
}

/* ---- split ----------------------------------------------------------------------------------- */

static enum gdn_status add_piece(struct run *r, struct list *list, struct text text, size_t begin,
                                 size_t end)
{
    if (!list_add(&r->heap, list, value_text(text_cut(text, begin, end)))) return run_full(r);
    return run_charge(r, 1);
}

static enum gdn_status split_by(struct run *r, struct text text, struct text by, int64_t most,
                                struct list *list)
{
    size_t begin = 0;
    if (by.len == 0) return run_bad(r, "found an empty separator to split by");
    while (most < 0 || list->count < most) {
        const char *found = find_in(text.at + begin, text.len - begin, by);
        if (!found) break;
        const size_t end = (size_t)(found - text.at);
        TRY(add_piece(r, list, text, begin, end));
        begin = end + by.len;
    }
    return add_piece(r, list, text, begin, text.len);
}

static enum gdn_status split_words(struct run *r, struct text text, int64_t most,
                                   struct list *list)
{
    size_t at = 0;
    for (;;) {
        at += utf8_space_head(text.at + at, text.len - at);
        if (at == text.len) return GDN_OK;
        const size_t begin = at;
        size_t n;
        if (most >= 0 && list->count == most)
            return add_piece(r, list, text, begin, text.len);
        while (at < text.len && !utf8_is_space(utf8_read((const unsigned char *)text.at + at, &n)))
            at += n;
        TRY(add_piece(r, list, text, begin, at));
    }
}

static enum gdn_status method_split(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    struct list *list = list_new(&r->heap, 0);
    struct text by;
    int64_t most;
    if (!list) return run_full(r);
    const bool words = args->at[0].kind == VALUE_UNDEFINED || args->at[0].kind == VALUE_NONE;
    if (!words) TRY(arg_text(r, args, 0, "", &by));
    TRY(arg_integer(r, args, 1, -1, &most));
    TRY(run_charge_bytes(r, self->as.text.len));
    *out = (struct value){.kind = VALUE_LIST, .as.list = list};
    return words ? split_words(r, self->as.text, most, list)
                 : split_by(r, self->as.text, by, most, list);
}

static enum gdn_status method_splitlines(struct run *r, const struct value *self,
                                         const struct args *args, struct value *out)
{
    const struct text text = self->as.text;
    const bool keep = arg_truth(args, 0, false);
    struct list *list = list_new(&r->heap, 0);
    if (!list) return run_full(r);
    for (size_t begin = 0, end; begin < text.len; begin = end) {
        size_t stop = begin;
        while (stop < text.len && text.at[stop] != '\n' && text.at[stop] != '\r') stop++;
        end = stop + (stop < text.len);
        if (end < text.len && text.at[stop] == '\r' && text.at[end] == '\n') end++;
        TRY(add_piece(r, list, text, begin, keep ? end : stop));
    }
    *out = (struct value){.kind = VALUE_LIST, .as.list = list};
    return run_charge_bytes(r, text.len);
}

/* ---- find ------------------------------------------------------------------------------------ */

static bool has_edge(struct text text, struct text edge, bool end)
{
    if (edge.len > text.len) return false;
    return text_same(end ? text_cut(text, text.len - edge.len, text.len)
                         : text_cut(text, 0, edge.len), edge);
}

/* A text, or several of them of which one suffices. */
static enum gdn_status edge(struct run *r, const struct value *self, const struct args *args,
                            bool end, struct value *out)
{
    struct list single = {.at = args->at, .count = 1};
    const struct list *list = args->at[0].kind == VALUE_TUPLE ? args->at[0].as.list : &single;
    bool is = false;
    for (uint32_t i = 0; i < list->count && !is; i++) {
        if (list->at[i].kind != VALUE_TEXT)
            return run_bad(r, "found a value of type %s, need a str", value_type(&list->at[i]));
        is = has_edge(self->as.text, list->at[i].as.text, end);
        TRY(run_charge_bytes(r, list->at[i].as.text.len));
    }
    *out = value_bool(is);
    return GDN_OK;
}

static enum gdn_status method_startswith(struct run *r, const struct value *self,
                                         const struct args *args, struct value *out)
{
    return edge(r, self, args, false, out);
}

static enum gdn_status method_endswith(struct run *r, const struct value *self,
                                       const struct args *args, struct value *out)
{
    return edge(r, self, args, true, out);
}

static enum gdn_status method_removeprefix(struct run *r, const struct value *self,
                                           const struct args *args, struct value *out)
{
    struct text what;
    TRY(arg_text(r, args, 0, NULL, &what));
    const struct text text = self->as.text;
    *out = value_text(text_cut(text, has_edge(text, what, false) ? what.len : 0, text.len));
    return GDN_OK;
}

static enum gdn_status method_removesuffix(struct run *r, const struct value *self,
                                           const struct args *args, struct value *out)
{
    struct text what;
    TRY(arg_text(r, args, 0, NULL, &what));
    const struct text text = self->as.text;
    *out = value_text(text_cut(text, 0, text.len - (has_edge(text, what, true) ? what.len : 0)));
    return GDN_OK;
}

static enum gdn_status method_locate(struct run *r, const struct value *self,
                                   const struct args *args, struct value *out)
{
    struct text what;
    size_t place = 0;
    TRY(arg_text(r, args, 0, NULL, &what));
    TRY(run_charge_bytes(r, self->as.text.len));
    const char *found = text_find(self->as.text, what);
    if (found) {
        const struct value head =
            value_text(text_cut(self->as.text, 0, (size_t)(found - self->as.text.at)));
        TRY(op_length(r, &head, &place));
    }
    *out = value_int(found ? (int64_t)place : -1);
    return GDN_OK;
}

static enum gdn_status method_count(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    struct list pieces = {0};
    struct text what;
    TRY(arg_text(r, args, 0, NULL, &what));
    TRY(run_charge_bytes(r, self->as.text.len));
    TRY(split_by(r, self->as.text, what, -1, &pieces));
    *out = value_int(pieces.count - 1);
    return GDN_OK;
}

/* ---- change ---------------------------------------------------------------------------------- */

enum gdn_status text_replace(struct run *r, struct text text, struct text from, struct text to,
                             int64_t most, struct value *out)
{
    struct builder b = {.heap = &r->heap};
    size_t at = 0, step;
    for (int64_t done = 0; (most < 0 || done < most) && !b.failed; done++) {
        const char *found = find_in(text.at + at, text.len - at, from);
        if (!found) break;
        const size_t place = (size_t)(found - text.at);
        TRY(run_charge(r, 1));
        builder_add(&b, text_cut(text, at, place));
        builder_add(&b, to);
        at = place + from.len;
        if (from.len > 0) continue;
        if (at == text.len) break;
        utf8_read((const unsigned char *)text.at + at, &step);
        builder_add(&b, text_cut(text, at, at + step));
        at += step;
    }
    builder_add(&b, text_cut(text, at, text.len));
    TRY(run_charge_bytes(r, text.len));
    return run_built(r, &b, out);
}

static enum gdn_status method_replace(struct run *r, const struct value *self,
                                      const struct args *args, struct value *out)
{
    struct text from, to;
    int64_t most;
    TRY(arg_text(r, args, 0, NULL, &from));
    TRY(arg_text(r, args, 1, NULL, &to));
    TRY(arg_integer(r, args, 2, -1, &most));
    return text_replace(r, self->as.text, from, to, most, out);
}

static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

/* 'u'pper, 'l'ower, 'c'apitalize (the first letter), 't'itle (of every word). */
enum gdn_status text_case(struct run *r, struct text text, char how, struct value *out)
{
    char *changed = heap_take(&r->heap, text.len);
    bool inside = false;
    if (!changed) return run_full(r);
    for (uint32_t i = 0; i < text.len; i++) {
        const char c = text.at[i];
        const bool letter = is_upper(c) || is_lower(c);
        if ((unsigned char)c >= 0x80)
            return run_fail(r, GDN_ERR_UNSUPPORTED,
                            "found letters beyond ASCII, whose case cannot be changed here");
        const bool up = how == 'u' || (how != 'l' && !inside);
        changed[i] = (char)(up && is_lower(c) ? c - 32 : !up && is_upper(c) ? c + 32 : c);
        inside = how == 't' ? letter : true;
    }
    text.at = changed;
    *out = value_text(text);
    return run_charge_bytes(r, text.len);
}

static enum gdn_status method_upper(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    (void)args;
    return text_case(r, self->as.text, 'u', out);
}

static enum gdn_status method_lower(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    (void)args;
    return text_case(r, self->as.text, 'l', out);
}

static enum gdn_status method_capitalize(struct run *r, const struct value *self,
                                         const struct args *args, struct value *out)
{
    (void)args;
    return text_case(r, self->as.text, 'c', out);
}

static enum gdn_status method_title(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    (void)args;
    return text_case(r, self->as.text, 't', out);
}

static enum gdn_status method_join(struct run *r, const struct value *self,
                                   const struct args *args, struct value *out)
{
    struct builder b = {.heap = &r->heap};
    struct list items;
    TRY(op_items(r, &args->at[0], &items));
    for (uint32_t i = 0; i < items.count && !b.failed; i++) {
        if (items.at[i].kind != VALUE_TEXT)
            return run_bad(r, "found a value of type %s, need a str", value_type(&items.at[i]));
        if (i > 0) builder_add(&b, self->as.text);
        builder_add(&b, items.at[i].as.text);
        TRY(run_charge(r, 1));
    }
    return run_built(r, &b, out);
}

const struct function text_methods[] = {
    {"strip", "chars", 0, method_strip},
    {"lstrip", "chars", 0, method_lstrip},
    {"rstrip", "chars", 0, method_rstrip},
    {"split", "sep maxsplit", 0, method_split},
    {"splitlines", "keepends", 0, method_splitlines},
    {"startswith", "prefix", 1, method_startswith},
    {"endswith", "suffix", 1, method_endswith},
    {"removeprefix", "prefix", 1, method_removeprefix},
    {"removesuffix", "suffix", 1, method_removesuffix},
    {"find", "sub", 1, method_locate},
    {"count", "sub", 1, method_count},
    {"replace", "old new count", 2, method_replace},
    {"upper", "", 0, method_upper},
    {"lower", "", 0, method_lower},
    {"capitalize", "", 0, method_capitalize},
    {"title", "", 0, method_title},
    {"join", "iterable", 1, method_join},
};
const size_t text_method_count = sizeof text_methods / sizeof *text_methods;
