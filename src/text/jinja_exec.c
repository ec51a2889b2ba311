/* jinja_exec.c: the statements of a template, and a rendering as a whole. */
#include <stdarg.h>
#include <stdio.h>

#include "text/jinja_run.h"
#include "text/show.h"

/* ---- the rendering --------------------------------------------------------------------------- */

static enum gdn_status fail_at(struct run *r, enum gdn_status status, const char *format,
                               va_list args)
{
    char text[400];
    vsnprintf(text, sizeof text, format, args);
    if (!r->at) return error_set(r->err, status, "%.100s: %s", r->jinja->name, text);
    return error_set(r->err, status, "%.100s, line %u, column %u: %s", r->jinja->name,
                     r->at->place.line, r->at->place.column, text);
}

enum gdn_status run_fail(struct run *r, enum gdn_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    status = fail_at(r, status, format, args);
    va_end(args);
    return status;
}

enum gdn_status run_bad(struct run *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const enum gdn_status status = fail_at(r, GDN_ERR_INPUT, format, args);
    va_end(args);
    return status;
}

enum gdn_status run_full(struct run *r)
{
    return run_bad(r, "needs more than %zu bytes of memory", r->heap.arena.size);
}

enum gdn_status run_charge(struct run *r, uint64_t steps)
{
    if (steps <= r->steps_max - r->steps) {
        r->steps += steps;
        return GDN_OK;
    }
    return run_bad(r, "needs more than %llu steps", (unsigned long long)r->steps_max);
}

enum gdn_status run_charge_bytes(struct run *r, size_t bytes) { return run_charge(r, bytes / 64); }

enum gdn_status run_put(struct run *r, struct map *map, struct value key, struct value value)
{
    if (!map_can_key(&key))
        return run_bad(r, "found a key of type %s, need a str or an int", value_type(&key));
    switch (map_put(&r->heap, map, key, value)) {
    case MAP_PUT: return GDN_OK;
    case MAP_NO_MEMORY: return run_full(r);
    default: return run_bad(r, "found keys that all fall together");
    }
}

enum gdn_status run_built(struct run *r, const struct builder *b, struct value *out)
{
    if (b->failed) return run_full(r);
    *out = value_text(builder_text(b));
    return run_charge_bytes(r, b->len);
}

/* ---- variables ------------------------------------------------------------------------------- */

enum gdn_status scope_set(struct run *r, struct scope *scope, uint32_t symbol, struct value value)
{
    uint64_t seen = 0;
    struct binding *b = scope->first;
    for (; b && b->symbol != symbol; b = b->next) seen++;
    if (!b) {
        b = heap_take(&r->heap, sizeof *b);
        if (!b) return run_full(r);
        *b = (struct binding){.symbol = symbol, .next = scope->first};
        scope->first = b;
    }
    b->value = value;
    return run_charge(r, seen / 16);
}

static enum gdn_status scope_open(struct run *r, struct scope *outer, struct scope **out)
{
    *out = heap_take(&r->heap, sizeof **out);
    if (!*out) return run_full(r);
    **out = (struct scope){.outer = outer};
    return GDN_OK;
}

static enum gdn_status assign(struct run *r, const struct node *target, const struct value *value)
{
    r->at = target;
    if (target->kind == NODE_NAME) return scope_set(r, r->scope, target->symbol, *value);
    if (target->kind == NODE_ATTRIBUTE) {
        struct value object;
        TRY(eval(r, target->a, &object));
        r->at = target;
        if (object.kind != VALUE_NAMESPACE)
            return run_bad(r, "found a value of type %s, need a namespace to set an attribute",
                           value_type(&object));
        return run_put(r, object.as.map, target->constant, *value);
    }
    struct list items;
    uint32_t count = 0;
    TRY(op_items(r, value, &items));
    for (const struct node *n = target->b; n; n = n->next) count++;
    if (items.count != count)
        return run_bad(r, "found %u values, need %u to unpack", items.count, count);
    const struct value *item = items.at;
    for (const struct node *n = target->b; n; n = n->next) TRY(assign(r, n, item++));
    return GDN_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

static enum gdn_status exec_output(struct run *r, const struct node *node)
{
    struct value value;
    TRY(eval(r, node->a, &value));
    r->at = node;
    TRY(print_value(r, r->out, &value));
    if (r->out->failed) return run_full(r);
    if (r->whole->len > r->output_max)
        return run_bad(r, "gives more than %zu bytes of output", r->output_max);
    return GDN_OK;
}

static enum gdn_status exec_if(struct run *r, const struct node *node)
{
    for (; node && node->kind == NODE_IF; node = node->c) {
        struct value condition;
        TRY(eval(r, node->a, &condition));
        if (op_truth(&condition)) return exec(r, node->b);
    }
    return node ? exec(r, node->b) : GDN_OK;
}

/* The items the condition of the loop lets through. */
static enum gdn_status choose_items(struct run *r, const struct node *node, struct list *items)
{
    struct list *chosen = list_new(&r->heap, 0);
    if (!chosen) return run_full(r);
    for (uint32_t i = 0; i < items->count; i++) {
        struct value is;
        TRY(assign(r, node->a, &items->at[i]));
        TRY(eval(r, node->e, &is));
        if (op_truth(&is) && !list_add(&r->heap, chosen, items->at[i])) return run_full(r);
    }
    *items = *chosen;
    return GDN_OK;
}

static enum gdn_status loop_bind(struct run *r, struct loop *loop)
{
    const struct value *symbol = map_find_text(r->jinja->symbols, text_of("loop"));
    if (!symbol) return GDN_OK;
    return scope_set(r, r->scope, (uint32_t)symbol->as.integer,
                     (struct value){.kind = VALUE_LOOP, .as.loop = loop});
}

/* Each round has a scope of its own: what is set in one is not seen in the next. */
static enum gdn_status exec_rounds(struct run *r, const struct node *node, struct list *items)
{
    struct scope *const outer = r->scope, *inner;
    struct loop *loop = heap_take(&r->heap, sizeof *loop);
    if (!loop) return run_full(r);
    *loop = (struct loop){.items = items};
    TRY(scope_open(r, outer, &inner));
    for (; loop->at < items->count; loop->at++) {
        *inner = (struct scope){.outer = outer};
        r->scope = inner;
        r->at = node;
        TRY(run_charge(r, 1));
        TRY(loop_bind(r, loop));
        TRY(assign(r, node->a, &items->at[loop->at]));
        TRY(exec(r, node->b));
        const bool leave = r->jump == JUMP_BREAK;
        r->jump = JUMP_NONE;
        if (leave) break;
    }
    r->scope = outer;
    return GDN_OK;
}

static enum gdn_status exec_for(struct run *r, const struct node *node)
{
    struct scope *const outer = r->scope;
    struct list *items = list_new(&r->heap, 0);
    struct value over;
    if (!items) return run_full(r);
    TRY(eval(r, node->d, &over));
    r->at = node->d;
    TRY(op_items(r, &over, items));
    if (node->e) {
        TRY(scope_open(r, outer, &r->scope));
        TRY(choose_items(r, node, items));
        r->scope = outer;
    }
    if (items->count > 0) return exec_rounds(r, node, items);
    TRY(scope_open(r, outer, &r->scope));
    TRY(exec(r, node->c));
    r->scope = outer;
    return GDN_OK;
}

static enum gdn_status exec_set(struct run *r, const struct node *node)
{
    struct value value;
    TRY(eval(r, node->b, &value));
    return assign(r, node->a, &value);
}

/* Runs a body and gives what it would have put out. */
static enum gdn_status capture(struct run *r, const struct node *body, struct scope *scope,
                               struct value *out)
{
    struct builder *const outer_out = r->out;
    struct scope *const outer = r->scope;
    struct builder b = {.heap = &r->heap};
    r->out = &b;
    r->scope = scope;
    TRY(exec(r, body));
    r->scope = outer;
    r->out = outer_out;
    return run_built(r, &b, out);
}

static enum gdn_status exec_capture(struct run *r, const struct node *node)
{
    struct scope *scope;
    struct value value;
    TRY(scope_open(r, r->scope, &scope));
    TRY(capture(r, node->b, scope, &value));
    r->captured = value.as.text;
    TRY(eval(r, node->c, &value));
    return assign(r, node->a, &value);
}

static enum gdn_status exec_macro(struct run *r, const struct node *node)
{
    struct macro *macro = heap_take(&r->heap, sizeof *macro);
    if (!macro) return run_full(r);
    *macro = (struct macro){node, r->scope};
    return scope_set(r, r->scope, node->symbol,
                     (struct value){.kind = VALUE_MACRO, .as.macro = macro});
}

/* What a parameter gets: the argument at its place or of its name, or its default. */
static enum gdn_status bind_parameter(struct run *r, const struct node *parameter, int place,
                                      const struct args *args, int *used, struct value *value)
{
    const struct text name = parameter->constant.as.text;
    *value = undefined_of(name);
    if (place < args->count) {
        *value = args->at[place];
        return GDN_OK;
    }
    for (int i = 0; i < args->named_count; i++) {
        if (!text_same(args->named[i].name, name)) continue;
        *value = args->named[i].value;
        ++*used;
        return GDN_OK;
    }
    return parameter->a ? eval(r, parameter->a, value) : GDN_OK;
}

enum gdn_status macro_call(struct run *r, const struct macro *macro, const struct args *args,
                           struct value *out)
{
    struct scope *const outer = r->scope, *scope;
    const struct node *at = r->at;
    int place = 0, used = 0;
    TRY(scope_open(r, macro->scope, &scope));
    r->scope = scope;
    for (const struct node *n = macro->node->b; n; n = n->next, place++) {
        struct value value;
        TRY(bind_parameter(r, n, place, args, &used, &value));
        TRY(scope_set(r, scope, n->symbol, value));
    }
    r->scope = outer;
    r->at = at;
    if (args->count > place || used < args->named_count) {
        char shown[48];
        const struct text name = macro->node->constant.as.text;
        return run_bad(r, "found %d arguments, the macro %s has no more than %d and no others",
                       args->count + args->named_count,
                       show_bytes(shown, sizeof shown, name.at, name.len), place);
    }
    return capture(r, macro->node->c, scope, out);
}

static enum gdn_status exec_block(struct run *r, const struct node *node)
{
    return exec(r, node->b);
}

static enum gdn_status exec_jump(struct run *r, const struct node *node)
{
    r->jump = node->kind == NODE_BREAK ? JUMP_BREAK : JUMP_CONTINUE;
    return GDN_OK;
}

enum gdn_status exec(struct run *r, const struct node *node)
{
    static enum gdn_status (*const kinds[])(struct run *, const struct node *) = {
        [NODE_OUTPUT] = exec_output, [NODE_IF] = exec_if, [NODE_BLOCK] = exec_block,
        [NODE_FOR] = exec_for, [NODE_SET] = exec_set, [NODE_CAPTURE] = exec_capture,
        [NODE_MACRO] = exec_macro, [NODE_BREAK] = exec_jump, [NODE_CONTINUE] = exec_jump};
    if (r->depth == JINJA_CALLS)
        return run_bad(r, "found calls nested deeper than %d steps", JINJA_CALLS);
    r->depth++;
    for (; node && r->jump == JUMP_NONE; node = node->next) {
        r->at = node;
        TRY(run_charge(r, 1));
        TRY(kinds[node->kind](r, node));
    }
    r->depth--;
    return GDN_OK;
}
