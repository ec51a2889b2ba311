/* jinja_function.c: calling functions, the globals, the methods of lists, maps and loops. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/show.h"

/* ---- calling --------------------------------------------------------------------------------- */

const struct function *function_find(const struct function *table, size_t count, struct text name)
{
    for (size_t i = 0; i < count; i++)
        if (text_is(name, table[i].name)) return &table[i];
    return NULL;
}

/* The place of a name in "width first", or -1; with an empty name, how many there are. */
static int parameter_place(const char *params, struct text name)
{
    int place = 0;
    while (*params) {
        const size_t n = strcspn(params, " ");
        if (n == name.len && memcmp(params, name.at, n) == 0) return place;
        params += n + (params[n] == ' ');
        place++;
    }
    return name.len == 0 ? place : -1;
}

static enum gdn_status bind(struct run *r, const struct function *function,
                            const struct args *args, struct value *bound)
{
    char shown[48];
    const int room = parameter_place(function->params, (struct text){.at = ""});
    for (int i = 0; i < PARAMS_MAX; i++) bound[i] = (struct value){.kind = VALUE_UNDEFINED};
    if (args->count > room)
        return run_bad(r, "%s: found %d arguments, need at most %d", function->name, args->count,
                       room);
    for (int i = 0; i < args->count; i++) bound[i] = args->at[i];
    int given = args->count;
    for (int i = 0; i < args->named_count; i++) {
        const struct text name = args->named[i].name;
        const int place = parameter_place(function->params, name);
        if (place < args->count)
            return run_bad(r, "%s: found an argument \"%s\", which it has not or has already",
                           function->name, show_bytes(shown, sizeof shown, name.at, name.len));
        bound[place] = args->named[i].value;
        given++;
    }
    if (given >= function->need) return GDN_OK;
    return run_bad(r, "%s: found %d arguments, need %d", function->name, given, function->need);
}

enum gdn_status function_call(struct run *r, const struct function *function,
                              const struct value *self, const struct args *args,
                              struct value *out)
{
    struct value bound[PARAMS_MAX];
    if (!function->params) return function->run(r, self, args, out);
    TRY(bind(r, function, args, bound));
    const struct args all = {.at = bound, .count = PARAMS_MAX};
    return function->run(r, self, &all, out);
}

enum gdn_status arg_text(struct run *r, const struct args *args, int i, const char *fallback,
                         struct text *out)
{
    const struct value *value = &args->at[i];
    if (value->kind == VALUE_TEXT) {
        *out = value->as.text;
        return GDN_OK;
    }
    if (!fallback || (value->kind != VALUE_UNDEFINED && value->kind != VALUE_NONE))
        return run_bad(r, "found an argument of type %s, need a str", value_type(value));
    *out = text_of(fallback);
    return GDN_OK;
}

enum gdn_status arg_integer(struct run *r, const struct args *args, int i, int64_t fallback,
                            int64_t *out)
{
    const struct value *value = &args->at[i];
    *out = fallback;
    if (op_integer(value, out) || value->kind == VALUE_UNDEFINED || value->kind == VALUE_NONE)
        return GDN_OK;
    return run_bad(r, "found an argument of type %s, need an int", value_type(value));
}

bool arg_truth(const struct args *args, int i, bool fallback)
{
    return args->at[i].kind == VALUE_UNDEFINED ? fallback : op_truth(&args->at[i]);
}

/* ---- globals --------------------------------------------------------------------------------- */

static enum gdn_status global_range(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    int64_t first, second, step;
    (void)self;
    const bool one = args->at[1].kind == VALUE_UNDEFINED;
    TRY(arg_integer(r, args, 0, 0, &first));
    TRY(arg_integer(r, args, 1, 0, &second));
    TRY(arg_integer(r, args, 2, 1, &step));
    if (step == 0) return run_bad(r, "range: found the step 0");
    const int64_t start = one ? 0 : first, stop = one ? first : second;
    struct list *list = list_new(&r->heap, 0);
    if (!list) return run_full(r);
    *out = (struct value){.kind = VALUE_LIST, .as.list = list};
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (list->count == JINJA_RANGE_MAX)
            return run_bad(r, "range: found more than %d numbers", JINJA_RANGE_MAX);
        if (!list_add(&r->heap, list, value_int(i))) return run_full(r);
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return run_charge(r, list->count);
}

/* A new map of what is given by name, behind a copy of a map that is given without. */
static enum gdn_status gather(struct run *r, const struct args *args, struct map **out)
{
    struct map *map = *out = map_new(&r->heap);
    if (!map) return run_full(r);
    if (args->count > 1 || (args->count == 1 && args->at[0].kind != VALUE_MAP))
        return run_bad(r, "found arguments without names, need at most one, a dict");
    const struct map *from = args->count == 1 ? args->at[0].as.map : NULL;
    for (uint32_t i = 0; from && i < from->count; i++)
        TRY(run_put(r, map, from->pairs[i].key, from->pairs[i].value));
    for (int i = 0; i < args->named_count; i++)
        TRY(run_put(r, map, value_text(args->named[i].name), args->named[i].value));
    return run_charge(r, map->count);
}

static enum gdn_status global_namespace(struct run *r, const struct value *self,
                                        const struct args *args, struct value *out)
{
    (void)self;
    *out = (struct value){.kind = VALUE_NAMESPACE};
    return gather(r, args, &out->as.map);
}

static enum gdn_status global_dict(struct run *r, const struct value *self,
                                   const struct args *args, struct value *out)
{
    (void)self;
    *out = (struct value){.kind = VALUE_MAP};
    return gather(r, args, &out->as.map);
}

/* The sentence of the template on one line, cut where it is too long for an error: what a terminal
 * could take for an order is spelled out. */
static enum gdn_status global_raise(struct run *r, const struct value *self,
                                    const struct args *args, struct value *out)
{
    struct text text;
    (void)self;
    (void)out;
    TRY(print_text(r, &args->at[0], &text));
    struct builder b = {.heap = &r->heap};
    for (uint32_t i = 0; i < text.len && i < 300; i++) {
        const unsigned char c = (unsigned char)text.at[i];
        char shown[8];
        const int n = snprintf(shown, sizeof shown, c < 0x20 || c == 0x7F ? "\\x%02X" : "%c", c);
        builder_bytes(&b, shown, (size_t)n, false);
    }
    if (b.failed) return run_full(r);
    return run_bad(r, "%.*s", (int)b.len, b.at ? b.at : "");
}

static enum gdn_status global_now(struct run *r, const struct value *self, const struct args *args,
                                  struct value *out)
{
    char format[128], text[512];
    struct text given = {.at = ""};
    (void)self;
    TRY(arg_text(r, args, 0, NULL, &given));
    if (!r->now) return run_fail(r, GDN_ERR_UNSUPPORTED, "strftime_now: the time is not known");
    if (given.len >= sizeof format || (given.len > 0 && memchr(given.at, 0, given.len)))
        return run_bad(r, "strftime_now: found a format of %u bytes, need less than %zu without "
                       "zeros", given.len, sizeof format);
    memcpy(format, given.at, given.len);
    format[given.len] = 0;
    struct builder b = {.heap = &r->heap};
    builder_bytes(&b, text, given.len > 0 ? strftime(text, sizeof text, format, r->now) : 0, false);
    return run_built(r, &b, out);
}

static const struct function globals[] = {
    {"range", "start stop step", 1, global_range},
    {"namespace", NULL, 0, global_namespace},
    {"dict", NULL, 0, global_dict},
    {"raise_exception", "message", 1, global_raise},
    {"strftime_now", "format", 1, global_now},
};

const struct function *global_find(struct text name)
{
    return function_find(globals, sizeof globals / sizeof *globals, name);
}

/* ---- methods of lists, maps and loops -------------------------------------------------------- */

static enum gdn_status list_append(struct run *r, const struct value *self,
                                   const struct args *args, struct value *out)
{
    *out = value_none();
    return list_add(&r->heap, self->as.list, args->at[0]) ? GDN_OK : run_full(r);
}

static enum gdn_status list_pop(struct run *r, const struct value *self, const struct args *args,
                                struct value *out)
{
    struct list *list = self->as.list;
    int64_t index;
    TRY(arg_integer(r, args, 0, -1, &index));
    if (index < 0) index += list->count;
    if (index < 0 || index >= list->count)
        return run_bad(r, "pop: found an index outside of a list of %u", list->count);
    *out = list->at[index];
    list->count--;
    for (int64_t i = index; i < list->count; i++) list->at[i] = list->at[i + 1];
    return run_charge(r, (uint64_t)(list->count - index) / 8);
}

static enum gdn_status map_get(struct run *r, const struct value *self, const struct args *args,
                               struct value *out)
{
    const struct value *found = map_find(self->as.map, &args->at[0]);
    (void)r;
    *out = found ? *found : args->at[1];
    if (out->kind == VALUE_UNDEFINED && !found) *out = value_none();
    return GDN_OK;
}

/* 'k'eys, 'v'alues or both. */
static enum gdn_status map_list(struct run *r, const struct map *map, char what, struct value *out)
{
    struct list *list = list_new(&r->heap, map->count);
    if (!list) return run_full(r);
    for (uint32_t i = 0; i < map->count; i++) {
        struct value item = what == 'k' ? map->pairs[i].key : map->pairs[i].value;
        if (what == 'b') {
            struct list *pair = list_new(&r->heap, 2);
            if (!pair) return run_full(r);
            list_add(&r->heap, pair, map->pairs[i].key);
            list_add(&r->heap, pair, map->pairs[i].value);
            item = (struct value){.kind = VALUE_TUPLE, .as.list = pair};
        }
        list_add(&r->heap, list, item);
    }
    *out = (struct value){.kind = VALUE_LIST, .as.list = list};
    return run_charge(r, map->count);
}

static enum gdn_status map_keys(struct run *r, const struct value *self, const struct args *args,
                                struct value *out)
{
    (void)args;
    return map_list(r, self->as.map, 'k', out);
}

static enum gdn_status map_values(struct run *r, const struct value *self, const struct args *args,
                                  struct value *out)
{
    (void)args;
    return map_list(r, self->as.map, 'v', out);
}

enum gdn_status map_items(struct run *r, const struct value *self, const struct args *args,
                          struct value *out)
{
    (void)args;
    return map_list(r, self->as.map, 'b', out);
}

static enum gdn_status loop_cycle(struct run *r, const struct value *self, const struct args *args,
                                  struct value *out)
{
    if (args->count == 0) return run_bad(r, "cycle: found no arguments");
    *out = args->at[self->as.loop->at % (uint32_t)args->count];
    return GDN_OK;
}

static const struct function list_methods[] = {
    {"append", "object", 1, list_append},
    {"pop", "index", 0, list_pop},
};
static const struct function map_methods[] = {
    {"get", "key default", 1, map_get},
    {"keys", "", 0, map_keys},
    {"values", "", 0, map_values},
    {"items", "", 0, map_items},
};
static const struct function loop_methods[] = {{"cycle", NULL, 0, loop_cycle}};

const struct function *method_find(enum value_kind kind, struct text name)
{
    switch (kind) {
    case VALUE_TEXT: return function_find(text_methods, text_method_count, name);
    case VALUE_LIST:
        return function_find(list_methods, sizeof list_methods / sizeof *list_methods, name);
    case VALUE_MAP:
        return function_find(map_methods, sizeof map_methods / sizeof *map_methods, name);
    case VALUE_LOOP:
        return function_find(loop_methods, sizeof loop_methods / sizeof *loop_methods, name);
    default: return NULL;
    }
}
