/* jinja_list.c: the filters that go over lists. */
#include <string.h>

#include "text/jinja_run.h"

static enum gdn_status new_list(struct run *r, size_t room, struct list **list, struct value *out)
{
    *list = list_new(&r->heap, room);
    if (!*list) return run_full(r);
    *out = (struct value){.kind = VALUE_LIST, .as.list = *list};
    return GDN_OK;
}

static enum gdn_status filter_list(struct run *r, const struct value *self, const struct args *args,
                                   struct value *out)
{
    struct list items, *list;
    (void)args;
    TRY(op_items(r, self, &items));
    TRY(new_list(r, items.count, &list, out));
    for (uint32_t i = 0; i < items.count; i++) list_add(&r->heap, list, items.at[i]);
    return run_charge(r, items.count);
}

static enum gdn_status filter_first(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    struct list items;
    (void)args;
    TRY(op_items(r, self, &items));
    *out = items.count > 0 ? items.at[0] : undefined_of(text_of("the first of none"));
    return GDN_OK;
}

static enum gdn_status filter_last(struct run *r, const struct value *self, const struct args *args,
                                   struct value *out)
{
    struct list items;
    (void)args;
    TRY(op_items(r, self, &items));
    *out = items.count > 0 ? items.at[items.count - 1] : undefined_of(text_of("the last of none"));
    return GDN_OK;
}

static enum gdn_status filter_reverse(struct run *r, const struct value *self,
                                      const struct args *args, struct value *out)
{
    const struct value back = value_int(-1);
    (void)args;
    return op_slice(r, self, NULL, NULL, &back, out);
}

/* "function.name" or a number: attributes one after the other; the fallback may be NULL. */
static enum gdn_status walk(struct run *r, const struct value *item, const struct value *path,
                            const struct value *fallback, struct value *out)
{
    *out = *item;
    if (path->kind != VALUE_TEXT) return op_item(r, item, path, out);
    struct text rest = path->as.text;
    for (bool more = true; more;) {
        const char *dot = rest.len > 0 ? memchr(rest.at, '.', rest.len) : NULL;
        const size_t end = dot ? (size_t)(dot - rest.at) : rest.len;
        const struct value from = *out, name = value_text(text_cut(rest, 0, end));
        more = dot != NULL;
        if (more) rest = text_cut(rest, end + 1, rest.len);
        TRY(op_item(r, &from, &name, out));
        if (fallback && out->kind == VALUE_UNDEFINED) *out = *fallback;
    }
    return GDN_OK;
}

static enum gdn_status filter_join(struct run *r, const struct value *self, const struct args *args,
                                   struct value *out)
{
    struct builder b = {.heap = &r->heap};
    struct list items;
    struct text between;
    TRY(op_items(r, self, &items));
    TRY(arg_text(r, args, 0, "", &between));
    for (uint32_t i = 0; i < items.count; i++) {
        struct value item = items.at[i];
        if (args->at[1].kind != VALUE_UNDEFINED)
            TRY(walk(r, &items.at[i], &args->at[1], NULL, &item));
        if (i > 0) builder_add(&b, between);
        TRY(print_value(r, &b, &item));
        TRY(run_charge(r, 1));
    }
    return run_built(r, &b, out);
}

/* ---- choosing -------------------------------------------------------------------------------- */

/* The items, or an attribute of them, that pass a test; without a test, those that are true. */
static enum gdn_status choose(struct run *r, const struct value *self, const struct args *args,
                              bool by_attribute, bool keep, struct value *out)
{
    struct args rest = *args;
    struct list items, *list;
    struct text name = {.at = ""};
    if (rest.count < by_attribute) return run_bad(r, "found no attribute to choose by");
    const struct value *attribute = by_attribute ? rest.at : NULL;
    rest.at += by_attribute;
    rest.count -= by_attribute;
    const bool tested = rest.count > 0;
    if (tested) {
        TRY(arg_text(r, &rest, 0, NULL, &name));
        rest.at++;
        rest.count--;
    }
    const struct function *test = test_find(name);
    TRY(op_items(r, self, &items));
    TRY(new_list(r, 0, &list, out));
    for (uint32_t i = 0; i < items.count; i++) {
        struct value value = items.at[i];
        TRY(run_charge(r, 1));
        if (attribute) TRY(walk(r, &items.at[i], attribute, NULL, &value));
        bool is = op_truth(&value);
        if (tested) TRY(test_call(r, test, name, &value, &rest, &is));
        if (is == keep && !list_add(&r->heap, list, items.at[i])) return run_full(r);
    }
    return GDN_OK;
}

static enum gdn_status filter_select(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    return choose(r, self, args, false, true, out);
}

static enum gdn_status filter_reject(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    return choose(r, self, args, false, false, out);
}

static enum gdn_status filter_selectattr(struct run *r, const struct value *self,
                                         const struct args *args, struct value *out)
{
    return choose(r, self, args, true, true, out);
}

static enum gdn_status filter_rejectattr(struct run *r, const struct value *self,
                                         const struct args *args, struct value *out)
{
    return choose(r, self, args, true, false, out);
}

static const struct value *named(const struct args *args, const char *name)
{
    for (int i = 0; i < args->named_count; i++)
        if (text_is(args->named[i].name, name)) return &args->named[i].value;
    return NULL;
}

/* An attribute of each item (attribute=, default=), or what a filter makes of it. */
static enum gdn_status filter_map(struct run *r, const struct value *self, const struct args *args,
                                  struct value *out)
{
    const struct value *attribute = named(args, "attribute"), *fallback = named(args, "default");
    struct list items, *list;
    struct args rest = *args;
    struct text name = {.at = ""};
    if (!attribute && rest.count == 0) return run_bad(r, "map: found neither filter nor attribute");
    if (!attribute) {
        TRY(arg_text(r, &rest, 0, NULL, &name));
        rest.at++;
        rest.count--;
    }
    const struct function *filter = filter_find(name);
    TRY(op_items(r, self, &items));
    TRY(new_list(r, items.count, &list, out));
    for (uint32_t i = 0; i < items.count; i++) {
        struct value value;
        TRY(run_charge(r, 1));
        if (attribute)
            TRY(walk(r, &items.at[i], attribute, fallback, &value));
        else
            TRY(filter_call(r, filter, name, &items.at[i], &rest, &value));
        list_add(&r->heap, list, value);
    }
    return GDN_OK;
}

/* ---- order ----------------------------------------------------------------------------------- */

struct keyed {
    struct value key, item;
};

/* Merges halves, stable, with room for `count` in `spare`. */
static enum gdn_status merge_sort(struct run *r, struct keyed *at, struct keyed *spare,
                                  uint32_t count, bool down)
{
    for (uint32_t width = 1; width < count; width *= 2) {
        for (uint32_t begin = 0; begin < count; begin += 2 * width) {
            const uint32_t middle = begin + width < count ? begin + width : count;
            const uint32_t end = begin + 2 * width < count ? begin + 2 * width : count;
            uint32_t left = begin, right = middle;
            for (uint32_t i = begin; i < end; i++) {
                int way = 0;
                if (left < middle && right < end)
                    TRY(op_order(r, &at[left].key, &at[right].key, &way));
                const bool first = right == end || (down ? way >= 0 : way <= 0);
                spare[i] = at[left < middle && first ? left++ : right++];
            }
        }
        memcpy(at, spare, count * sizeof *at);
    }
    return GDN_OK;
}

static bool is_plain_ascii(struct text text)
{
    for (uint32_t i = 0; i < text.len; i++)
        if ((unsigned char)text.at[i] >= 0x80) return false;
    return true;
}

/* Texts are ordered without regard to case unless that is asked for. */
static enum gdn_status sort_key(struct run *r, const struct value *item, const struct value *path,
                                bool cased, struct value *key)
{
    *key = *item;
    if (path->kind != VALUE_UNDEFINED) TRY(walk(r, item, path, NULL, key));
    if (cased || key->kind != VALUE_TEXT || !is_plain_ascii(key->as.text)) return GDN_OK;
    return text_case(r, key->as.text, 'l', key);
}

static enum gdn_status sort_items(struct run *r, const struct list *items, bool down, bool cased,
                                  const struct value *path, struct value *out)
{
    struct list *list;
    struct keyed *keyed = heap_take(&r->heap, (items->count + 1) * sizeof *keyed);
    struct keyed *spare = heap_take(&r->heap, (items->count + 1) * sizeof *spare);
    if (!keyed || !spare) return run_full(r);
    for (uint32_t i = 0; i < items->count; i++) {
        keyed[i].item = items->at[i];
        TRY(sort_key(r, &items->at[i], path, cased, &keyed[i].key));
    }
    TRY(merge_sort(r, keyed, spare, items->count, down));
    TRY(new_list(r, items->count, &list, out));
    for (uint32_t i = 0; i < items->count; i++) list_add(&r->heap, list, keyed[i].item);
    return GDN_OK;
}

static enum gdn_status filter_sort(struct run *r, const struct value *self, const struct args *args,
                                   struct value *out)
{
    struct list items;
    TRY(op_items(r, self, &items));
    return sort_items(r, &items, arg_truth(args, 0, false), arg_truth(args, 1, false),
                      &args->at[2], out);
}

/* Pairs of a map by key, or by value. */
static enum gdn_status filter_dictsort(struct run *r, const struct value *self,
                                       const struct args *args, struct value *out)
{
    struct value pairs;
    struct text by;
    if (self->kind != VALUE_MAP)
        return run_bad(r, "dictsort: found a value of type %s, need a dict", value_type(self));
    TRY(map_items(r, self, args, &pairs));
    TRY(arg_text(r, args, 1, "key", &by));
    const struct value path = value_int(text_is(by, "value"));
    return sort_items(r, pairs.as.list, arg_truth(args, 2, false), arg_truth(args, 0, false), &path,
                      out);
}

static enum gdn_status filter_unique(struct run *r, const struct value *self,
                                     const struct args *args, struct value *out)
{
    const bool cased = arg_truth(args, 0, false);
    struct list items, keys = {0}, *list;
    TRY(op_items(r, self, &items));
    TRY(new_list(r, 0, &list, out));
    for (uint32_t i = 0; i < items.count; i++) {
        struct value key;
        bool known = false;
        TRY(sort_key(r, &items.at[i], &args->at[1], cased, &key));
        for (uint32_t k = 0; k < keys.count && !known; k++)
            TRY(op_equal(r, &key, &keys.at[k], &known));
        if (known) continue;
        if (!list_add(&r->heap, &keys, key) || !list_add(&r->heap, list, items.at[i]))
            return run_full(r);
    }
    return GDN_OK;
}

const struct function list_filters[] = {
    {"list", "", 0, filter_list},
    {"first", "", 0, filter_first},
    {"last", "", 0, filter_last},
    {"reverse", "", 0, filter_reverse},
    {"join", "d attribute", 0, filter_join},
    {"select", NULL, 0, filter_select},
    {"reject", NULL, 0, filter_reject},
    {"selectattr", NULL, 0, filter_selectattr},
    {"rejectattr", NULL, 0, filter_rejectattr},
    {"map", NULL, 0, filter_map},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort},
    {"unique", "case_sensitive attribute", 0, filter_unique},
};
const size_t list_filter_count = sizeof list_filters / sizeof *list_filters;
