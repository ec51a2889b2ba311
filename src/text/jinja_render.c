/* jinja_render.c: variables out of JSON, and the way from them to the output. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "text/jinja_run.h"

/* ---- JSON into values ------------------------------------------------------------------------ */

struct reader {
    struct run *run;
    const struct jinja_variable *variable;
    struct json json;
    struct value open[JSON_DEPTH]; /* lists and maps that are not complete */
    struct value key[JSON_DEPTH];  /* of the value that comes next, in each map */
    int depth;
};

static const char *name_of(const struct jinja_variable *variable)
{
    return variable->name ? variable->name : "variables";
}

static enum gdn_status bad_json(struct reader *d)
{
    return error_set(d->run->err, GDN_ERR_INPUT, "%s, byte %zu: not JSON: %s",
                     name_of(d->variable), json_offset(&d->json), d->json.error);
}

static enum gdn_status read_text(struct reader *d, const struct json_token *token,
                                 struct value *out)
{
    const bool data = !d->variable->trusted;
    const char *at = token->text;
    size_t len = token->len;
    if (token->escaped) {
        char *plain = heap_take(&d->run->heap, len + 1);
        if (!plain) return run_full(d->run);
        json_text(token, plain, len + 1, &len);
        at = plain;
    }
    *out = value_text((struct text){.at = at, .len = (uint32_t)len, .data = data});
    return GDN_OK;
}

static enum gdn_status read_number(struct reader *d, const struct json_token *token,
                                   struct value *out)
{
    int64_t integer;
    double real;
    if (json_int(token, INT64_MIN, INT64_MAX, &integer)) {
        *out = value_int(integer);
        return GDN_OK;
    }
    bool whole = true;
    for (size_t i = 0; i < token->len; i++)
        if (strchr(".eE", token->text[i])) whole = false;
    if (whole) {
        TRY(read_text(d, token, out));
        out->kind = VALUE_BIG;
        return GDN_OK;
    }
    if (!json_double(token, &real)) real = token->text[0] == '-' ? -INFINITY : INFINITY;
    *out = value_float(real);
    return GDN_OK;
}

/* A value that begins with this token; lists and maps are opened. */
static enum gdn_status read_value(struct reader *d, const struct json_token *token,
                                  struct value *out)
{
    struct run *r = d->run;
    switch (token->kind) {
    case JSON_STRING: return read_text(d, token, out);
    case JSON_NUMBER: return read_number(d, token, out);
    case JSON_TRUE: *out = value_bool(true); return GDN_OK;
    case JSON_FALSE: *out = value_bool(false); return GDN_OK;
    case JSON_OBJECT:
        *out = (struct value){.kind = VALUE_MAP, .as.map = map_new(&r->heap)};
        return out->as.map ? GDN_OK : run_full(r);
    case JSON_ARRAY:
        *out = (struct value){.kind = VALUE_LIST, .as.list = list_new(&r->heap, 0)};
        return out->as.list ? GDN_OK : run_full(r);
    default: *out = value_none(); return GDN_OK;
    }
}

/* Into the innermost list or map that is open. */
static enum gdn_status place(struct reader *d, struct value value)
{
    struct run *r = d->run;
    const struct value *into = &d->open[d->depth - 1];
    if (into->kind == VALUE_MAP) return run_put(r, into->as.map, d->key[d->depth - 1], value);
    return list_add(&r->heap, into->as.list, value) ? GDN_OK : run_full(r);
}

static enum gdn_status read_json(struct run *r, const struct jinja_variable *variable,
                                 struct value *out)
{
    struct reader d = {.run = r, .variable = variable};
    struct json_token token;
    struct value value;
    *out = value_none();
    json_open(&d.json, variable->json, variable->len);
    for (;;) {
        switch (json_next(&d.json, &token)) {
        case JSON_ERROR: return bad_json(&d);
        case JSON_END: return GDN_OK;
        case JSON_KEY:
            TRY(read_text(&d, &token, &d.key[d.depth - 1]));
            continue;
        case JSON_OBJECT_END:
        case JSON_ARRAY_END: d.depth--; continue;
        default: break;
        }
        TRY(read_value(&d, &token, &value));
        if (d.depth > 0)
            TRY(place(&d, value));
        else
            *out = value;
        if (token.kind == JSON_OBJECT || token.kind == JSON_ARRAY) d.open[d.depth++] = value;
    }
}

/* ---- the rendering --------------------------------------------------------------------------- */

enum { STEPS = 5000000, MEMORY = 64 << 20, OUTPUT = 1 << 20 };

static void set_limits(struct run *r, size_t input, const struct jinja_limits *limits,
                       size_t *memory)
{
    const struct jinja_limits given = limits ? *limits : (struct jinja_limits){0};
    const size_t most = (size_t)2 << 30;
    r->steps_max = given.steps ? given.steps : STEPS + input;
    r->output_max = given.output ? given.output : OUTPUT + 4 * (input + r->jinja->source_len);
    *memory = given.memory ? given.memory : MEMORY + 16 * input;
    if (*memory > most) *memory = most;
}

/* What the template never names is not kept. */
static enum gdn_status set_variable(struct run *r, struct text name, struct value value)
{
    const struct value *symbol = map_find_text(r->jinja->symbols, name);
    return symbol ? scope_set(r, r->scope, (uint32_t)symbol->as.integer, value) : GDN_OK;
}

static enum gdn_status set_variables(struct run *r, const struct jinja_variable *variables,
                                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct value value;
        TRY(read_json(r, &variables[i], &value));
        if (variables[i].name) {
            TRY(set_variable(r, text_of(variables[i].name), value));
            continue;
        }
        if (value.kind != VALUE_MAP)
            return error_set(r->err, GDN_ERR_INPUT, "variables: found a %s, need an object",
                             value_type(&value));
        const struct map *map = value.as.map;
        for (uint32_t k = 0; k < map->count; k++)
            TRY(set_variable(r, map->pairs[k].key.as.text, map->pairs[k].value));
    }
    return GDN_OK;
}

static enum gdn_status hand_out(struct run *r, const struct builder *b, struct jinja_output *out)
{
    if (b->len > r->output_max)
        return run_bad(r, "gives more than %zu bytes of output", r->output_max);
    bytes_add(&out->text, b->at ? b->at : "", b->len);
    bytes_add(&out->marks, b->at ? b->at : "", b->len);
    if (out->text.failed || out->marks.failed)
        return error_set(r->err, GDN_ERR_MEMORY, "no memory for the text of the template");
    if (b->marks)
        memcpy(out->marks.at, b->marks, b->len);
    else
        memset(out->marks.at, b->data, b->len);
    return GDN_OK;
}

static enum gdn_status render(struct run *r, const struct jinja_variable *variables, size_t count,
                              struct jinja_output *out)
{
    struct builder whole = {.heap = &r->heap};
    struct scope scope = {0};
    r->scope = &scope;
    r->out = &whole;
    r->whole = &whole;
    TRY(set_variables(r, variables, count));
    TRY(exec(r, r->jinja->body));
    return hand_out(r, &whole, out);
}

enum gdn_status jinja_render(const struct jinja *jinja, const struct jinja_variable *variables,
                             size_t count, const struct tm *now, const struct jinja_limits *limits,
                             struct jinja_output *out, struct gdn_error *err)
{
    struct run r = {.jinja = jinja, .err = err, .now = now};
    size_t input = 0, memory;
    for (size_t i = 0; i < count; i++) {
        if (variables[i].len > JINJA_INPUT_MAX - input)
            return error_set(err, GDN_ERR_INPUT, "%s: found more than %d bytes of variables",
                             name_of(&variables[i]), JINJA_INPUT_MAX);
        input += variables[i].len;
    }
    set_limits(&r, input, limits, &memory);
    if (!heap_open(&r.heap, memory))
        return error_set(err, GDN_ERR_MEMORY, "no memory to render %.100s", jinja->name);
    const enum gdn_status status = render(&r, variables, count, out);
    if (status != GDN_OK) jinja_output_free(out);
    heap_close(&r.heap);
    return status;
}

void jinja_output_free(struct jinja_output *out)
{
    bytes_free(&out->text);
    bytes_free(&out->marks);
}
