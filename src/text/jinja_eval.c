/* jinja_eval.c: the value of an expression. */
#include "text/jinja_run.h"
#include "text/show.h"

typedef enum gdn_status eval_kind(struct run *r, const struct node *node, struct value *out);

static enum gdn_status eval_constant(struct run *r, const struct node *node, struct value *out)
{
    (void)r;
    *out = node->constant;
    return GDN_OK;
}

static enum gdn_status eval_name(struct run *r, const struct node *node, struct value *out)
{
    uint64_t seen = 0;
    for (const struct scope *scope = r->scope; scope; scope = scope->outer)
        for (const struct binding *b = scope->first; b; b = b->next, seen++) {
            if (b->symbol != node->symbol) continue;
            *out = b->value;
            return run_charge(r, seen / 16);
        }
    const struct function *function = global_find(node->constant.as.text);
    if (function)
        *out = (struct value){.kind = VALUE_FUNCTION, .as.function = function};
    else
        *out = undefined_of(node->constant.as.text);
    return run_charge(r, seen / 16);
}

static enum gdn_status eval_attribute(struct run *r, const struct node *node, struct value *out)
{
    struct value object;
    TRY(eval(r, node->a, &object));
    r->at = node;
    return op_attribute(r, &object, node->constant.as.text, out);
}

static enum gdn_status eval_item(struct run *r, const struct node *node, struct value *out)
{
    struct value object, index, part[3];
    TRY(eval(r, node->a, &object));
    if (node->b->kind == NODE_SLICE) {
        const struct node *parts[] = {node->b->a, node->b->b, node->b->c};
        for (int i = 0; i < 3; i++)
            if (parts[i]) TRY(eval(r, parts[i], &part[i]));
        r->at = node;
        return op_slice(r, &object, parts[0] ? &part[0] : NULL, parts[1] ? &part[1] : NULL,
                        parts[2] ? &part[2] : NULL, out);
    }
    TRY(eval(r, node->b, &index));
    r->at = node;
    return op_item(r, &object, &index, out);
}

static enum gdn_status eval_args(struct run *r, const struct node *list, struct args *args)
{
    size_t count = 0;
    for (const struct node *n = list; n; n = n->next) count++;
    *args = (struct args){.at = heap_take(&r->heap, (count + 1) * sizeof *args->at),
                          .named = heap_take(&r->heap, (count + 1) * sizeof *args->named)};
    if (!args->at || !args->named) return run_full(r);
    for (const struct node *n = list; n; n = n->next) {
        struct value value;
        if (n->kind != NODE_KEYWORD) {
            TRY(eval(r, n, &value));
            if (args->named_count > 0)
                return run_bad(r, "found an argument without a name behind one with a name");
            args->at[args->count++] = value;
        } else {
            TRY(eval(r, n->a, &value));
            args->named[args->named_count++] = (struct keyword){n->constant.as.text, value};
        }
    }
    return GDN_OK;
}

static enum gdn_status eval_call(struct run *r, const struct node *node, struct value *out)
{
    struct value callee;
    struct args args;
    char shown[48];
    TRY(eval(r, node->a, &callee));
    TRY(eval_args(r, node->b, &args));
    r->at = node;
    switch (callee.kind) {
    case VALUE_MACRO: return macro_call(r, callee.as.macro, &args, out);
    case VALUE_FUNCTION: return function_call(r, callee.as.function, NULL, &args, out);
    case VALUE_METHOD:
        return function_call(r, callee.as.method->function, &callee.as.method->self, &args, out);
    case VALUE_UNDEFINED:
        return run_bad(r, "'%s' is undefined, need a function",
                       show_bytes(shown, sizeof shown, callee.as.text.at, callee.as.text.len));
    default: return run_bad(r, "found a value of type %s, need a function", value_type(&callee));
    }
}

static enum gdn_status eval_filter(struct run *r, const struct node *node, struct value *out)
{
    struct value subject;
    struct args args;
    TRY(eval(r, node->a, &subject));
    TRY(eval_args(r, node->b, &args));
    r->at = node;
    return filter_call(r, node->function, node->constant.as.text, &subject, &args, out);
}

static enum gdn_status eval_test(struct run *r, const struct node *node, struct value *out)
{
    struct value subject;
    struct args args;
    bool is;
    TRY(eval(r, node->a, &subject));
    TRY(eval_args(r, node->b, &args));
    r->at = node;
    TRY(test_call(r, node->function, node->constant.as.text, &subject, &args, &is));
    *out = value_bool(is);
    return GDN_OK;
}

static enum gdn_status eval_not(struct run *r, const struct node *node, struct value *out)
{
    struct value value;
    TRY(eval(r, node->a, &value));
    *out = value_bool(!op_truth(&value));
    return GDN_OK;
}

/* 0 - x and 0 + x, but for the sign of a zero. */
static enum gdn_status eval_sign(struct run *r, const struct node *node, struct value *out)
{
    const struct value zero = value_int(0);
    struct value value;
    TRY(eval(r, node->a, &value));
    r->at = node;
    if (value.kind == VALUE_FLOAT) {
        *out = value_float(node->op == '-' ? -value.as.real : value.as.real);
        return GDN_OK;
    }
    return op_binary(r, node->op, &zero, &value, out);
}

static enum gdn_status eval_binary(struct run *r, const struct node *node, struct value *out)
{
    struct value left, right;
    TRY(eval(r, node->a, &left));
    TRY(eval(r, node->b, &right));
    r->at = node;
    return op_binary(r, node->op, &left, &right, out);
}

static enum gdn_status eval_logic(struct run *r, const struct node *node, struct value *out)
{
    TRY(eval(r, node->a, out));
    return op_truth(out) == (node->kind == NODE_OR) ? GDN_OK : eval(r, node->b, out);
}

static enum gdn_status eval_compare(struct run *r, const struct node *node, struct value *out)
{
    struct value left, right;
    bool is = true;
    TRY(eval(r, node->a, &left));
    for (const struct node *n = node->b; n && is; n = n->next, left = right) {
        TRY(eval(r, n->a, &right));
        r->at = n;
        TRY(op_compare(r, n->op, &left, &right, &is));
    }
    *out = value_bool(is);
    return GDN_OK;
}

static enum gdn_status eval_concat(struct run *r, const struct node *node, struct value *out)
{
    struct builder b = {.heap = &r->heap};
    for (const struct node *n = node->b; n; n = n->next) {
        struct value part;
        TRY(eval(r, n, &part));
        r->at = node;
        TRY(print_value(r, &b, &part));
    }
    return run_built(r, &b, out);
}

static enum gdn_status eval_choice(struct run *r, const struct node *node, struct value *out)
{
    struct value condition;
    TRY(eval(r, node->a, &condition));
    if (op_truth(&condition)) return eval(r, node->b, out);
    if (node->c) return eval(r, node->c, out);
    *out = undefined_of(text_of("an if without else"));
    return GDN_OK;
}

static enum gdn_status eval_list(struct run *r, const struct node *node, struct value *out)
{
    struct list *list = list_new(&r->heap, 0);
    if (!list) return run_full(r);
    for (const struct node *n = node->b; n; n = n->next) {
        struct value item;
        TRY(eval(r, n, &item));
        if (!list_add(&r->heap, list, item)) return run_full(r);
    }
    *out = (struct value){.kind = node->kind == NODE_LIST ? VALUE_LIST : VALUE_TUPLE,
                          .as.list = list};
    return GDN_OK;
}

static enum gdn_status eval_map(struct run *r, const struct node *node, struct value *out)
{
    struct map *map = map_new(&r->heap);
    if (!map) return run_full(r);
    for (const struct node *n = node->b; n; n = n->next) {
        struct value key, value;
        TRY(eval(r, n->a, &key));
        TRY(eval(r, n->b, &value));
        r->at = n;
        TRY(run_put(r, map, key, value));
    }
    *out = (struct value){.kind = VALUE_MAP, .as.map = map};
    return GDN_OK;
}

static enum gdn_status eval_slot(struct run *r, const struct node *node, struct value *out)
{
    (void)node;
    *out = value_text(r->captured);
    return GDN_OK;
}

enum gdn_status eval(struct run *r, const struct node *node, struct value *out)
{
    static eval_kind *const kinds[] = {
        [NODE_CONSTANT] = eval_constant, [NODE_NAME] = eval_name,
        [NODE_ATTRIBUTE] = eval_attribute, [NODE_ITEM] = eval_item, [NODE_CALL] = eval_call,
        [NODE_FILTER] = eval_filter, [NODE_TEST] = eval_test, [NODE_NOT] = eval_not,
        [NODE_SIGN] = eval_sign, [NODE_BINARY] = eval_binary, [NODE_AND] = eval_logic,
        [NODE_OR] = eval_logic, [NODE_COMPARE] = eval_compare, [NODE_CONCAT] = eval_concat,
        [NODE_CHOICE] = eval_choice, [NODE_LIST] = eval_list, [NODE_TUPLE] = eval_list,
        [NODE_MAP] = eval_map, [NODE_SLOT] = eval_slot};
    r->at = node;
    TRY(run_charge(r, 1));
    if (r->depth == JINJA_CALLS)
        return run_bad(r, "found calls nested deeper than %d steps", JINJA_CALLS);
    r->depth++;
    TRY(kinds[node->kind](r, node, out));
    r->depth--;
    return GDN_OK;
}
