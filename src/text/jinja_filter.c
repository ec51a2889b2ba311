/* jinja_filter.c: the filters of templates. Those that go over lists give lists where jinja2 gives
 * generators, which shows in no output. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "text/jinja_run.h"
#include "text/show.h"

/* ---- texts ----------------------------------------------------------------------------------- */

static enum gdn_status filter_trim(struct run *r, const struct value *self, const struct args *args,
                                   struct value *out)
{
    struct text text, chars;
    const bool given = args->at[0].kind == VALUE_TEXT;
    TRY(print_text(r, self, &text));
    TRY(arg_text(r, args, 0, "", &chars));
    TRY(run_charge(r, (uint64_t)text.len / 64 * (given ? chars.len : 1)));
    *out = value_text(text_strip(text, given ? &chars : NULL, true, true));
    return GDN_OK;
}

static enum gdn_status filter_string(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    struct text text;
    (void)args;
    TRY(print_text(r, self, &text));
    *out = value_text(text);
    return GDN_OK;
}

static enum gdn_status filter_safe(struct run *r, const struct value *self, const struct args *args,
                                   struct value *out)
{
    return filter_string(r, self, args, out);
}

static enum gdn_status change_case(struct run *r, const struct value *self, char how,
                                   struct value *out)
{
    struct text text;
    TRY(print_text(r, self, &text));
    return text_case(r, text, how, out);
}

static enum gdn_status filter_upper(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    (void)args;
    return change_case(r, self, 'u', out);
}

static enum gdn_status filter_lower(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    (void)args;
    return change_case(r, self, 'l', out);
}

static enum gdn_status filter_capitalize(struct run *r, const struct value *self,
                                         const struct args *args, struct value *out)
{
    (void)args;
    return change_case(r, self, 'c', out);
}

static enum gdn_status filter_replace(struct run *r, const struct value *self,
                                      const struct args *args, struct value *out)
{
    struct text text, from, to;
    int64_t most;
    TRY(print_text(r, self, &text));
    TRY(print_text(r, &args->at[0], &from));
    TRY(print_text(r, &args->at[1], &to));
    TRY(arg_integer(r, args, 2, -1, &most));
    return text_replace(r, text, from, to, most, out);
}

/* `width` blanks, or a text, before every line but (unless `first`) the first, and not before empty
 * lines (unless `blank`). */
static enum gdn_status filter_indent(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    const bool first = arg_truth(args, 1, false), blank = arg_truth(args, 2, false);
    struct builder b = {.heap = &r->heap};
    struct text text, by = text_of(" ");
    int64_t width = 1;
    TRY(print_text(r, self, &text));
    if (args->at[0].kind == VALUE_TEXT)
        by = args->at[0].as.text;
    else
        TRY(arg_integer(r, args, 0, 4, &width));
    struct value one = value_text(by), pad;
    const struct value times = value_int(width);
    TRY(op_binary(r, '*', &one, &times, &pad));
    for (size_t at = 0, end; at <= text.len && !b.failed; at = end + 1) {
        const char *newline = at < text.len ? memchr(text.at + at, '\n', text.len - at) : NULL;
        end = newline ? (size_t)(newline - text.at) : text.len;
        TRY(run_charge(r, 1));
        if (at == 0 ? first : (blank || end > at)) builder_add(&b, pad.as.text);
        builder_add(&b, text_cut(text, at, newline ? end + 1 : end));
    }
    return run_built(r, &b, out);
}

/* ---- JSON and numbers ------------------------------------------------------------------------ */

static enum gdn_status json_separators(struct run *r, const struct value *given,
                                       struct json_style *style)
{
    if (given->kind == VALUE_UNDEFINED || given->kind == VALUE_NONE) return GDN_OK;
    struct list items;
    TRY(op_items(r, given, &items));
    if (items.count != 2 || items.at[0].kind != VALUE_TEXT || items.at[1].kind != VALUE_TEXT)
        return run_bad(r, "tojson: found separators that are not two texts");
    style->item = items.at[0].as.text;
    style->key = items.at[1].as.text;
    return GDN_OK;
}

/* As transformers has it: json.dumps with letters as they are. */
static enum gdn_status filter_tojson(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    struct builder b = {.heap = &r->heap};
    struct json_style style = {.ascii = arg_truth(args, 0, false), .item = text_of(", "),
                               .key = text_of(": "), .sort = arg_truth(args, 3, false)};
    const struct value *indent = &args->at[1];
    struct value one = value_text(text_of(" ")), pad;
    if (indent->kind == VALUE_TEXT) {
        style.indent = &indent->as.text;
    } else if (indent->kind != VALUE_UNDEFINED && indent->kind != VALUE_NONE) {
        TRY(op_binary(r, '*', &one, indent, &pad));
        if (pad.kind != VALUE_TEXT) return run_bad(r, "tojson: found an indent that is no int");
        style.indent = &pad.as.text;
    }
    if (style.indent) style.item = text_of(",");
    TRY(json_separators(r, &args->at[2], &style));
    TRY(print_json(r, &b, &style, self));
    return run_built(r, &b, out);
}

/* A text as a number; the fallback when it is none. */
static void number_of(const struct value *self, const struct value *fallback, struct value *out)
{
    struct text text = text_strip(self->as.text, NULL, true, true);
    struct json_token token = {JSON_NUMBER, text.at, text.len, false};
    const bool digits = text.len > 0 && strspn(text.at, "-0123456789.eE+") >= text.len;
    struct json json;
    int64_t integer;
    double real;
    *out = *fallback;
    if (!digits || text.len > 64) return;
    json_open(&json, text.at, text.len);
    if (json_next(&json, &token) != JSON_NUMBER || token.len != text.len) return;
    if (json_int(&token, INT64_MIN, INT64_MAX, &integer))
        *out = value_int(integer);
    else if (json_double(&token, &real))
        *out = value_float(real);
}

static enum gdn_status filter_int(struct run *r, const struct value *self, const struct args *args,
                                  struct value *out)
{
    const struct value zero = value_int(0);
    const struct value *fallback = args->at[0].kind == VALUE_UNDEFINED ? &zero : &args->at[0];
    struct value number = *self;
    int64_t integer;
    (void)r;
    if (self->kind == VALUE_TEXT) number_of(self, fallback, &number);
    *out = *fallback;
    if (op_integer(&number, &integer)) *out = value_int(integer);
    if (number.kind == VALUE_FLOAT && fabs(number.as.real) < 9e18)
        *out = value_int((int64_t)number.as.real);
    return GDN_OK;
}

static enum gdn_status filter_float(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    const struct value zero = value_float(0);
    const struct value *fallback = args->at[0].kind == VALUE_UNDEFINED ? &zero : &args->at[0];
    struct value number = *self;
    double real;
    (void)r;
    if (self->kind == VALUE_TEXT) number_of(self, fallback, &number);
    *out = op_number(&number, &real) ? value_float(real) : *fallback;
    return GDN_OK;
}

static enum gdn_status filter_abs(struct run *r, const struct value *self, const struct args *args,
                                  struct value *out)
{
    const struct value zero = value_int(0);
    int way;
    (void)args;
    TRY(op_order(r, self, &zero, &way));
    *out = *self;
    return way < 0 ? op_binary(r, '-', &zero, self, out) : GDN_OK;
}

/* ---- any value ------------------------------------------------------------------------------- */

static enum gdn_status filter_length(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    size_t length;
    (void)args;
    TRY(op_length(r, self, &length));
    *out = value_int((int64_t)length);
    return GDN_OK;
}

static enum gdn_status filter_default(struct run *r, const struct value *self,
                                      const struct args *args, struct value *out)
{
    (void)r;
    const bool empty = arg_truth(args, 1, false) && !op_truth(self);
    *out = *self;
    if (self->kind == VALUE_UNDEFINED || empty)
        *out = args->at[0].kind == VALUE_UNDEFINED ? value_text(text_of("")) : args->at[0];
    return GDN_OK;
}

static enum gdn_status filter_items(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    if (self->kind == VALUE_MAP) return map_items(r, self, args, out);
    if (self->kind != VALUE_UNDEFINED)
        return run_bad(r, "items: found a value of type %s, need a dict", value_type(self));
    *out = (struct value){.kind = VALUE_LIST, .as.list = list_new(&r->heap, 0)};
    return out->as.list ? GDN_OK : run_full(r);
}

static const struct function filters[] = {
    {"trim", "chars", 0, filter_trim},
    {"string", "", 0, filter_string},
    {"safe", "", 0, filter_safe},
    {"upper", "", 0, filter_upper},
    {"lower", "", 0, filter_lower},
    {"capitalize", "", 0, filter_capitalize},
    {"replace", "old new count", 2, filter_replace},
    {"indent", "width first blank", 0, filter_indent},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson},
    {"int", "default", 0, filter_int},
    {"float", "default", 0, filter_float},
    {"abs", "", 0, filter_abs},
    {"length", "", 0, filter_length},
    {"count", "", 0, filter_length},
    {"default", "default_value boolean", 0, filter_default},
    {"d", "default_value boolean", 0, filter_default},
    {"items", "", 0, filter_items},
};

const struct function *filter_find(struct text name)
{
    const struct function *found = function_find(filters, sizeof filters / sizeof *filters, name);
    return found ? found : function_find(list_filters, list_filter_count, name);
}

enum gdn_status filter_call(struct run *r, const struct function *function, struct text name,
                            const struct value *self, const struct args *args, struct value *out)
{
    char shown[48];
    if (function) return function_call(r, function, self, args, out);
    return run_fail(r, GDN_ERR_UNSUPPORTED, "found the filter \"%s\", which is not known",
                    show_bytes(shown, sizeof shown, name.at, name.len));
}
