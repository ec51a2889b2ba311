/* jinja_op.c: what operators do, as in Python. */
#include <math.h>
#include <string.h>

#include "text/jinja_run.h"

bool op_truth(const struct value *value)
{
    switch (value->kind) {
    case VALUE_UNDEFINED:
    case VALUE_NONE: return false;
    case VALUE_BOOL: return value->as.is;
    case VALUE_INT: return value->as.integer != 0;
    case VALUE_FLOAT: return value->as.real != 0;
    case VALUE_TEXT: return value->as.text.len > 0;
    case VALUE_LIST:
    case VALUE_TUPLE: return value->as.list->count > 0;
    case VALUE_MAP: return value->as.map->count > 0;
    default: return true;
    }
}

bool op_integer(const struct value *value, int64_t *integer)
{
    if (value->kind == VALUE_BOOL) *integer = value->as.is;
    if (value->kind == VALUE_INT) *integer = value->as.integer;
    return value->kind == VALUE_BOOL || value->kind == VALUE_INT;
}

bool op_number(const struct value *value, double *real)
{
    int64_t integer;
    if (value->kind == VALUE_FLOAT) {
        *real = value->as.real;
        return true;
    }
    if (!op_integer(value, &integer)) return false;
    *real = (double)integer;
    return true;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static enum gdn_status equal(struct run *r, const struct value *a, const struct value *b, int depth,
                             bool *is);

static enum gdn_status equal_lists(struct run *r, const struct list *a, const struct list *b,
                                   int depth, bool *is)
{
    *is = a->count == b->count;
    for (uint32_t i = 0; i < a->count && *is; i++)
        TRY(equal(r, &a->at[i], &b->at[i], depth, is));
    return GDN_OK;
}

static enum gdn_status equal_maps(struct run *r, const struct map *a, const struct map *b,
                                  int depth, bool *is)
{
    *is = a->count == b->count;
    for (uint32_t i = 0; i < a->count && *is; i++) {
        const struct value *other = map_find(b, &a->pairs[i].key);
        *is = other != NULL;
        if (other) TRY(equal(r, &a->pairs[i].value, other, depth, is));
    }
    return GDN_OK;
}

static enum gdn_status equal(struct run *r, const struct value *a, const struct value *b, int depth,
                             bool *is)
{
    int64_t i, j;
    double x, y;
    TRY(run_charge(r, 1));
    if (depth > VALUE_DEPTH) return run_bad(r, "found values nested deeper than %d", VALUE_DEPTH);
    if (op_integer(a, &i) && op_integer(b, &j)) {
        *is = i == j;
        return GDN_OK;
    }
    if (op_number(a, &x) && op_number(b, &y)) {
        *is = x == y;
        return GDN_OK;
    }
    *is = a->kind == b->kind;
    if (!*is) return GDN_OK;
    switch (a->kind) {
    case VALUE_TEXT:
    case VALUE_BIG:
        *is = text_same(a->as.text, b->as.text);
        return run_charge_bytes(r, a->as.text.len);
    case VALUE_LIST:
    case VALUE_TUPLE: return equal_lists(r, a->as.list, b->as.list, depth + 1, is);
    case VALUE_MAP: return equal_maps(r, a->as.map, b->as.map, depth + 1, is);
    case VALUE_UNDEFINED:
    case VALUE_NONE: return GDN_OK;
    case VALUE_METHOD: *is = false; return GDN_OK;
    default: *is = a->as.map == b->as.map; return GDN_OK; /* the same object */
    }
}

enum gdn_status op_equal(struct run *r, const struct value *a, const struct value *b, bool *is)
{
    return equal(r, a, b, 0, is);
}

static enum gdn_status order(struct run *r, const struct value *a, const struct value *b, int depth,
                             int *result)
{
    int64_t i, j;
    double x, y;
    TRY(run_charge(r, 1));
    if (depth > VALUE_DEPTH) return run_bad(r, "found values nested deeper than %d", VALUE_DEPTH);
    if (op_integer(a, &i) && op_integer(b, &j)) {
        *result = (i > j) - (i < j);
        return GDN_OK;
    }
    if (op_number(a, &x) && op_number(b, &y)) {
        *result = (x > y) - (x < y);
        return GDN_OK;
    }
    if (a->kind == VALUE_TEXT && b->kind == VALUE_TEXT) {
        /* The order of UTF-8 is that of the code points. */
        const struct text s = a->as.text, t = b->as.text;
        const uint32_t n = s.len < t.len ? s.len : t.len;
        *result = n > 0 ? memcmp(s.at, t.at, n) : 0;
        if (*result == 0) *result = (s.len > t.len) - (s.len < t.len);
        return run_charge_bytes(r, n);
    }
    if (a->kind != b->kind || (a->kind != VALUE_LIST && a->kind != VALUE_TUPLE))
        return run_bad(r, "found %s and %s, which have no order", value_type(a), value_type(b));
    const struct list *s = a->as.list, *t = b->as.list;
    *result = 0;
    for (uint32_t k = 0; k < s->count && k < t->count && *result == 0; k++)
        TRY(order(r, &s->at[k], &t->at[k], depth + 1, result));
    if (*result == 0) *result = (s->count > t->count) - (s->count < t->count);
    return GDN_OK;
}

enum gdn_status op_order(struct run *r, const struct value *a, const struct value *b, int *result)
{
    return order(r, a, b, 0, result);
}

/* a in b */
static enum gdn_status contains(struct run *r, const struct value *a, const struct value *b,
                                bool *is)
{
    *is = false;
    if (b->kind == VALUE_TEXT) {
        if (a->kind != VALUE_TEXT)
            return run_bad(r, "found %s in a str, need a str", value_type(a));
        *is = text_find(b->as.text, a->as.text) != NULL;
        return run_charge_bytes(r, b->as.text.len);
    }
    if (b->kind == VALUE_MAP) {
        if (!map_can_key(a) && a->kind != VALUE_NONE && a->kind != VALUE_UNDEFINED)
            return run_bad(r, "found a key of type %s, need a str or an int", value_type(a));
        *is = map_find(b->as.map, a) != NULL;
        return GDN_OK;
    }
    struct list items;
    TRY(op_items(r, b, &items));
    for (uint32_t i = 0; i < items.count && !*is; i++) TRY(op_equal(r, a, &items.at[i], is));
    return GDN_OK;
}

enum gdn_status op_compare(struct run *r, char op, const struct value *a, const struct value *b,
                           bool *is)
{
    int way = 0;
    if (op == 'i' || op == 'n') {
        TRY(contains(r, a, b, is));
        *is = *is == (op == 'i');
        return GDN_OK;
    }
    if (op == '=' || op == '!') {
        TRY(op_equal(r, a, b, is));
        *is = *is == (op == '=');
        return GDN_OK;
    }
    TRY(op_order(r, a, b, &way));
    *is = op == '<' ? way < 0 : op == '>' ? way > 0 : op == 'l' ? way <= 0 : way >= 0;
    return GDN_OK;
}

/* ---- computing ------------------------------------------------------------------------------- */

static enum gdn_status no_operator(struct run *r, char op, const struct value *a,
                                   const struct value *b)
{
    const char name[3] = {op == 'd' ? '/' : op == 'p' ? '*' : op,
                          op == 'd' ? '/' : op == 'p' ? '*' : 0};
    return run_bad(r, "found %s %s %s, which is not defined", value_type(a), name, value_type(b));
}

static enum gdn_status add_lists(struct run *r, const struct value *a, const struct value *b,
                                 struct value *out)
{
    const size_t count = (size_t)a->as.list->count + b->as.list->count;
    struct list *list = list_new(&r->heap, count);
    if (!list) return run_full(r);
    for (uint32_t i = 0; i < a->as.list->count; i++)
        list_add(&r->heap, list, a->as.list->at[i]);
    for (uint32_t i = 0; i < b->as.list->count; i++)
        list_add(&r->heap, list, b->as.list->at[i]);
    *out = (struct value){.kind = a->kind, .as.list = list};
    return run_charge(r, count);
}

static enum gdn_status add_texts(struct run *r, const struct value *a, const struct value *b,
                                 struct value *out)
{
    struct builder text = {.heap = &r->heap};
    builder_add(&text, a->as.text);
    builder_add(&text, b->as.text);
    return run_built(r, &text, out);
}

static enum gdn_status repeat(struct run *r, const struct value *what, int64_t times,
                              struct value *out)
{
    const bool is_text = what->kind == VALUE_TEXT;
    const uint64_t size = is_text ? what->as.text.len : what->as.list->count;
    if (times < 0 || size == 0) times = 0;
    if (times > 0 && size > r->heap.arena.size / (uint64_t)times) return run_full(r);
    TRY(run_charge(r, is_text ? (uint64_t)times + size : (uint64_t)times * size));
    if (is_text) {
        struct builder text = {.heap = &r->heap};
        for (int64_t i = 0; i < times && !text.failed; i++) builder_add(&text, what->as.text);
        return run_built(r, &text, out);
    }
    struct list *list = list_new(&r->heap, (uint64_t)times * size);
    if (!list) return run_full(r);
    for (int64_t i = 0; i < times; i++)
        for (uint32_t k = 0; k < size; k++)
            list_add(&r->heap, list, what->as.list->at[k]);
    *out = (struct value){.kind = what->kind, .as.list = list};
    return GDN_OK;
}

/* Rounded down, with a remainder of the divisor's sign. */
static void divide(int64_t a, int64_t b, int64_t *quotient, int64_t *rest)
{
    *quotient = a / b;
    *rest = a % b;
    if (*rest != 0 && (*rest < 0) != (b < 0)) {
        --*quotient;
        *rest += b;
    }
}

static bool power(int64_t base, int64_t exponent, int64_t *result)
{
    *result = 1;
    if (base >= -1 && base <= 1) exponent = base == -1 ? exponent % 2 : exponent > 0;
    for (int64_t i = 0; i < exponent; i++)
        if (__builtin_mul_overflow(*result, base, result)) return false;
    return true;
}

/* False when the result is beyond 64 bits. */
static bool integer_op(char op, int64_t i, int64_t j, int64_t *result)
{
    int64_t rest;
    switch (op) {
    case '+': return !__builtin_add_overflow(i, j, result);
    case '-': return !__builtin_sub_overflow(i, j, result);
    case '*': return !__builtin_mul_overflow(i, j, result);
    case 'p': return power(i, j, result);
    default:
        if (i == INT64_MIN && j == -1) return false;
        divide(i, j, result, &rest);
        if (op == '%') *result = rest;
        return true;
    }
}

static enum gdn_status real_op(struct run *r, char op, double x, double y, struct value *out)
{
    double result = 0;
    if (y == 0 && (op == '/' || op == 'd' || op == '%')) return run_bad(r, "found a division by 0");
    switch (op) {
    case '+': result = x + y; break;
    case '-': result = x - y; break;
    case '*': result = x * y; break;
    case '/': result = x / y; break;
    case 'd': result = floor(x / y); break;
    case 'p': result = pow(x, y); break;
    default:
        result = fmod(x, y);
        if (result != 0 && (result < 0) != (y < 0)) result += y;
    }
    *out = value_float(result);
    return GDN_OK;
}

static enum gdn_status number_op(struct run *r, char op, const struct value *a,
                                 const struct value *b, struct value *out)
{
    int64_t i, j, result;
    double x = 0, y = 0;
    if (op == '/' || !op_integer(a, &i) || !op_integer(b, &j) || (op == 'p' && j < 0)) {
        op_number(a, &x);
        op_number(b, &y);
        return real_op(r, op, x, y, out);
    }
    if (j == 0 && (op == 'd' || op == '%')) return run_bad(r, "found a division by 0");
    if (!integer_op(op, i, j, &result)) return run_bad(r, "found an integer beyond 64 bits");
    *out = value_int(result);
    return GDN_OK;
}

enum gdn_status op_binary(struct run *r, char op, const struct value *a, const struct value *b,
                          struct value *out)
{
    double x, y;
    int64_t times;
    if (op_number(a, &x) && op_number(b, &y)) return number_op(r, op, a, b, out);
    const bool list_a = a->kind == VALUE_LIST || a->kind == VALUE_TUPLE;
    const bool list_b = b->kind == VALUE_LIST || b->kind == VALUE_TUPLE;
    if (op == '+' && a->kind == VALUE_TEXT && b->kind == VALUE_TEXT) return add_texts(r, a, b, out);
    if (op == '+' && list_a && a->kind == b->kind) return add_lists(r, a, b, out);
    if (op == '*' && (a->kind == VALUE_TEXT || list_a) && op_integer(b, &times))
        return repeat(r, a, times, out);
    if (op == '*' && (b->kind == VALUE_TEXT || list_b) && op_integer(a, &times))
        return repeat(r, b, times, out);
    if (op == '%' && a->kind == VALUE_TEXT)
        return run_fail(r, GDN_ERR_UNSUPPORTED, "found str %% ..., need another way to format");
    return no_operator(r, op, a, b);
}
