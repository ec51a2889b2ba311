/* jinja_access.c: parts of values: attributes, items, slices, what a loop goes over. Only data and
 * the listed methods can be reached: there are no attributes of the machine behind a value. */
#include "text/jinja_run.h"
#include "text/show.h"
#include "text/utf8.h"

struct value undefined_of(struct text name)
{
    return (struct value){.kind = VALUE_UNDEFINED, .as.text = name};
}

static struct value method_of(struct run *r, const struct value *object,
                              const struct function *function)
{
    struct method *method = heap_take(&r->heap, sizeof *method);
    if (!method) return (struct value){.kind = VALUE_UNDEFINED};
    *method = (struct method){*object, function};
    return (struct value){.kind = VALUE_METHOD, .as.method = method};
}

static enum gdn_status is_undefined(struct run *r, const struct value *value)
{
    char shown[48];
    return run_bad(r, "'%s' is undefined",
                   show_bytes(shown, sizeof shown, value->as.text.at, value->as.text.len));
}

static bool loop_attribute(const struct loop *loop, struct text name, struct value *out)
{
    const uint32_t at = loop->at, count = loop->items->count;
    const struct {
        const char *name;
        struct value value;
    } known[] = {
        {"index", value_int(at + 1)},
        {"index0", value_int(at)},
        {"revindex", value_int(count - at)},
        {"revindex0", value_int(count - at - 1)},
        {"first", value_bool(at == 0)},
        {"last", value_bool(at + 1 == count)},
        {"length", value_int(count)},
        {"depth", value_int(1)},
        {"depth0", value_int(0)},
        {"previtem", at > 0 ? loop->items->at[at - 1] : undefined_of(text_of("previtem"))},
        {"nextitem",
         at + 1 < count ? loop->items->at[at + 1] : undefined_of(text_of("nextitem"))},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!text_is(name, known[i].name)) continue;
        *out = known[i].value;
        return true;
    }
    return false;
}

/* A method, then what the value holds under that name. */
enum gdn_status op_attribute(struct run *r, const struct value *object, struct text name,
                             struct value *out)
{
    if (object->kind == VALUE_UNDEFINED) return is_undefined(r, object);
    const struct function *function = method_find(object->kind, name);
    if (function) {
        *out = method_of(r, object, function);
        return out->kind == VALUE_UNDEFINED ? run_full(r) : GDN_OK;
    }
    const struct value *found = NULL;
    if (object->kind == VALUE_MAP || object->kind == VALUE_NAMESPACE)
        found = map_find_text(object->as.map, name);
    if (object->kind == VALUE_LOOP && loop_attribute(object->as.loop, name, out)) return GDN_OK;
    *out = found ? *found : undefined_of(name);
    return GDN_OK;
}

/* Where in [0, count) a Python index points to. */
static bool place_of(int64_t index, size_t count, size_t *place)
{
    if (index < 0) index += (int64_t)count;
    if (index < 0 || (uint64_t)index >= count) return false;
    *place = (size_t)index;
    return true;
}

/* The byte at which code point `place` begins; at most len. */
static size_t byte_of(struct text text, size_t place)
{
    size_t at = 0, n;
    while (place-- > 0 && at < text.len) {
        utf8_read((const unsigned char *)text.at + at, &n);
        at += n;
    }
    return at;
}

static size_t text_length(struct text text)
{
    size_t count = 0;
    for (uint32_t i = 0; i < text.len; i++) count += ((unsigned char)text.at[i] & 0xC0) != 0x80;
    return count;
}

enum gdn_status op_length(struct run *r, const struct value *value, size_t *length)
{
    switch (value->kind) {
    case VALUE_UNDEFINED: *length = 0; return GDN_OK;
    case VALUE_TEXT:
        *length = text_length(value->as.text);
        return run_charge_bytes(r, value->as.text.len);
    case VALUE_LIST:
    case VALUE_TUPLE: *length = value->as.list->count; return GDN_OK;
    case VALUE_MAP: *length = value->as.map->count; return GDN_OK;
    case VALUE_LOOP: *length = value->as.loop->items->count; return GDN_OK;
    default: return run_bad(r, "found a value of type %s, which has no length", value_type(value));
    }
}

enum gdn_status op_item(struct run *r, const struct value *object, const struct value *index,
                        struct value *out)
{
    const bool named = index->kind == VALUE_TEXT;
    int64_t integer;
    size_t length, place;
    if (object->kind == VALUE_UNDEFINED) return is_undefined(r, object);
    *out = undefined_of(named ? index->as.text : text_of("an item"));
    if (object->kind == VALUE_MAP) {
        const struct value *found = map_find(object->as.map, index);
        if (found) *out = *found;
        if (found) return GDN_OK;
    }
    if (named) return op_attribute(r, object, index->as.text, out);
    const bool text = object->kind == VALUE_TEXT;
    if (!text && object->kind != VALUE_LIST && object->kind != VALUE_TUPLE) return GDN_OK;
    if (!op_integer(index, &integer)) return GDN_OK;
    TRY(op_length(r, object, &length));
    if (!place_of(integer, length, &place)) return GDN_OK;
    if (!text) {
        *out = object->as.list->at[place];
        return GDN_OK;
    }
    const size_t begin = byte_of(object->as.text, place);
    const struct text rest = text_cut(object->as.text, begin, object->as.text.len);
    *out = value_text(text_cut(rest, 0, byte_of(rest, 1)));
    return run_charge_bytes(r, begin);
}

/* ---- slices ---------------------------------------------------------------------------------- */

/* One end of a slice: NULL and none stand for the fallback, the rest is clamped to [low, high]. */
static enum gdn_status slice_end(struct run *r, const struct value *value, int64_t count,
                                 int64_t low, int64_t high, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (!value || value->kind == VALUE_NONE) return GDN_OK;
    if (!op_integer(value, out))
        return run_bad(r, "found %s in a slice, need an int", value_type(value));
    if (*out < 0) *out = *out < -count ? low : *out + count;
    if (*out < low) *out = low;
    if (*out > high) *out = high;
    return GDN_OK;
}

/* A step over everything is as good as a longer one. */
static enum gdn_status slice_step(struct run *r, const struct value *value, int64_t count,
                                  int64_t *out)
{
    *out = 1;
    if (!value || value->kind == VALUE_NONE) return GDN_OK;
    if (!op_integer(value, out))
        return run_bad(r, "found %s in a slice, need an int", value_type(value));
    if (*out == 0) return run_bad(r, "found a slice with the step 0");
    if (*out > count + 1) *out = count + 1;
    if (*out < -count - 1) *out = -count - 1;
    return GDN_OK;
}

static enum gdn_status slice_text(struct run *r, struct text text, int64_t start, int64_t stop,
                                  int64_t step, struct value *out)
{
    TRY(run_charge_bytes(r, text.len));
    if (step == 1) {
        const size_t begin = byte_of(text, (size_t)start);
        const struct text rest = text_cut(text, begin, text.len);
        *out = value_text(text_cut(rest, 0, stop > start ? byte_of(rest, (size_t)(stop - start))
                                                         : 0));
        return GDN_OK;
    }
    struct builder b = {.heap = &r->heap};
    struct list items;
    const struct value whole = value_text(text);
    TRY(op_items(r, &whole, &items));
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step)
        builder_add(&b, items.at[i].as.text);
    return run_built(r, &b, out);
}

enum gdn_status op_slice(struct run *r, const struct value *object, const struct value *start,
                         const struct value *stop, const struct value *step, struct value *out)
{
    int64_t from, to, by;
    size_t length;
    if (object->kind == VALUE_UNDEFINED) return is_undefined(r, object);
    if (object->kind != VALUE_TEXT && object->kind != VALUE_LIST && object->kind != VALUE_TUPLE) {
        *out = undefined_of(text_of("a slice"));
        return GDN_OK;
    }
    TRY(op_length(r, object, &length));
    const int64_t count = (int64_t)length;
    TRY(slice_step(r, step, count, &by));
    const int64_t low = by < 0 ? -1 : 0, high = by < 0 ? count - 1 : count;
    TRY(slice_end(r, start, count, low, high, by < 0 ? high : low, &from));
    TRY(slice_end(r, stop, count, low, high, by < 0 ? low : high, &to));
    if (object->kind == VALUE_TEXT) return slice_text(r, object->as.text, from, to, by, out);
    struct list *list = list_new(&r->heap, 0);
    if (!list) return run_full(r);
    for (int64_t i = from; by > 0 ? i < to : i > to; i += by)
        if (!list_add(&r->heap, list, object->as.list->at[i])) return run_full(r);
    *out = (struct value){.kind = object->kind, .as.list = list};
    return run_charge(r, list->count);
}

/* ---- loops ----------------------------------------------------------------------------------- */

static enum gdn_status text_items(struct run *r, struct text text, struct list *out)
{
    for (size_t at = 0, n; at < text.len; at += n) {
        utf8_read((const unsigned char *)text.at + at, &n);
        if (!list_add(&r->heap, out, value_text(text_cut(text, at, at + n)))) return run_full(r);
    }
    return run_charge(r, out->count);
}

enum gdn_status op_items(struct run *r, const struct value *value, struct list *out)
{
    *out = (struct list){0};
    switch (value->kind) {
    case VALUE_UNDEFINED: return GDN_OK;
    case VALUE_TEXT: return text_items(r, value->as.text, out);
    case VALUE_LIST:
    case VALUE_TUPLE: *out = *value->as.list; return GDN_OK;
    case VALUE_MAP:
        for (uint32_t i = 0; i < value->as.map->count; i++)
            if (!list_add(&r->heap, out, value->as.map->pairs[i].key)) return run_full(r);
        return run_charge(r, out->count);
    default:
        return run_bad(r, "found a value of type %s, need a list, a dict or a str to go over",
                       value_type(value));
    }
}
