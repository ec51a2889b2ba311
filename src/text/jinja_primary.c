/* jinja_primary.c: values in a template and what may stand behind them: . [] () | is. */
#include "text/jinja_node.h"
#include "text/jinja_run.h"

static enum gdn_status parse_primary(struct parser *p, struct node **out);

/* What stands between a bracket that was passed and `end`, with commas; one may end it. */
typedef enum gdn_status parse_item(struct parser *p, struct node **out);

static enum gdn_status parse_items(struct parser *p, const char *end, parse_item *item,
                                   struct node **out)
{
    bool there, first = true;
    for (*out = NULL;; first = false, out = &(*out)->next) {
        TRY(parser_skip(p, TOKEN_OPERATOR, end, &there));
        if (there) return GDN_OK;
        if (!first) {
            TRY(parser_expect(p, TOKEN_OPERATOR, ","));
            TRY(parser_skip(p, TOKEN_OPERATOR, end, &there));
            if (there) return GDN_OK;
        }
        TRY(item(p, out));
    }
}

static enum gdn_status parse_pair(struct parser *p, struct node **out)
{
    TRY(node_new(p, NODE_PAIR, p->token.place, out));
    TRY(parse_expression(p, &(*out)->a));
    TRY(parser_expect(p, TOKEN_OPERATOR, ":"));
    TRY(parse_expression(p, &(*out)->b));
    return node_close(p, *out);
}

static enum gdn_status parse_argument(struct parser *p, struct node **out)
{
    if (p->token.kind != TOKEN_NAME || !token_is(&p->after, TOKEN_OPERATOR, "="))
        return parse_expression(p, out);
    TRY(node_new(p, NODE_KEYWORD, p->token.place, out));
    (*out)->constant = value_text(p->token.text);
    TRY(parser_step(p));
    TRY(parser_step(p));
    TRY(parse_expression(p, &(*out)->a));
    return node_close(p, *out);
}

/* ---- what stands behind a value -------------------------------------------------------------- */

static enum gdn_status parse_slice_part(struct parser *p, struct node **out)
{
    if (parser_sees(p, TOKEN_OPERATOR, ":") || parser_sees(p, TOKEN_OPERATOR, "]")) return GDN_OK;
    return parse_expression(p, out);
}

/* Behind a [. */
static enum gdn_status parse_index(struct parser *p, struct node **out)
{
    struct node *slice, *start = NULL;
    const struct token_place place = p->token.place;
    bool colon;
    if (parser_sees(p, TOKEN_OPERATOR, "]")) return parser_need(p, "an index");
    TRY(parse_slice_part(p, &start));
    TRY(parser_skip(p, TOKEN_OPERATOR, ":", &colon));
    *out = start;
    if (!colon) return parser_expect(p, TOKEN_OPERATOR, "]");
    TRY(node_new(p, NODE_SLICE, place, &slice));
    slice->a = start;
    TRY(parse_slice_part(p, &slice->b));
    TRY(parser_skip(p, TOKEN_OPERATOR, ":", &colon));
    if (colon) TRY(parse_slice_part(p, &slice->c));
    *out = slice;
    TRY(node_close(p, slice));
    return parser_expect(p, TOKEN_OPERATOR, "]");
}

/* Behind a dot: a name, or a number as in Django's templates. */
static enum gdn_status parse_member(struct parser *p, struct node *node)
{
    if (p->token.kind == TOKEN_INTEGER) {
        node->kind = NODE_ITEM;
        return parse_primary(p, &node->b);
    }
    if (p->token.kind != TOKEN_NAME) return parser_need(p, "the name of an attribute");
    node->constant = value_text(p->token.text);
    return parser_step(p);
}

static enum gdn_status parse_postfix(struct parser *p, struct node **out)
{
    static const struct {
        const char *text;
        enum node_kind kind;
    } known[] = {{".", NODE_ATTRIBUTE}, {"[", NODE_ITEM}, {"(", NODE_CALL}};
    for (;;) {
        size_t i = 0;
        while (i < 3 && !parser_sees(p, TOKEN_OPERATOR, known[i].text)) i++;
        if (i == 3) return GDN_OK;
        struct node *node;
        TRY(node_new(p, known[i].kind, p->token.place, &node));
        node->a = *out;
        TRY(parser_step(p));
        if (i == 0) TRY(parse_member(p, node));
        if (i == 1) TRY(parse_index(p, &node->b));
        if (i == 2) TRY(parse_items(p, ")", parse_argument, &node->b));
        TRY(node_close(p, node));
        *out = node;
    }
}

static enum gdn_status parse_filter(struct parser *p, struct node **out)
{
    struct node *node;
    bool arguments;
    TRY(parser_step(p));
    if (p->token.kind != TOKEN_NAME) return parser_need(p, "the name of a filter");
    TRY(node_new(p, NODE_FILTER, p->token.place, &node));
    node->a = *out;
    node->constant = value_text(p->token.text);
    node->function = filter_find(p->token.text);
    TRY(parser_step(p));
    TRY(parser_skip(p, TOKEN_OPERATOR, "(", &arguments));
    if (arguments) TRY(parse_items(p, ")", parse_argument, &node->b));
    *out = node;
    return node_close(p, node);
}

enum gdn_status parse_filters(struct parser *p, struct node **subject)
{
    while (parser_sees(p, TOKEN_OPERATOR, "|")) TRY(parse_filter(p, subject));
    return GDN_OK;
}

/* A test may have one argument without brackets: `is divisibleby 3`. */
static bool begins_argument(const struct parser *p)
{
    static const char *const words[] = {"else", "or", "and", "is"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (parser_sees(p, TOKEN_NAME, words[i])) return false;
    return (p->token.kind >= TOKEN_NAME && p->token.kind <= TOKEN_REAL) ||
           parser_sees(p, TOKEN_OPERATOR, "[") || parser_sees(p, TOKEN_OPERATOR, "{");
}

static enum gdn_status parse_test(struct parser *p, struct node **out)
{
    struct node *node, *outer;
    bool negated, arguments;
    const struct token_place place = p->token.place;
    TRY(parser_step(p));
    TRY(parser_skip(p, TOKEN_NAME, "not", &negated));
    if (p->token.kind != TOKEN_NAME) return parser_need(p, "the name of a test");
    TRY(node_new(p, NODE_TEST, p->token.place, &node));
    node->a = *out;
    node->constant = value_text(p->token.text);
    node->function = test_find(p->token.text);
    TRY(parser_step(p));
    TRY(parser_skip(p, TOKEN_OPERATOR, "(", &arguments));
    if (arguments) {
        TRY(parse_items(p, ")", parse_argument, &node->b));
    } else if (begins_argument(p)) {
        TRY(parse_primary(p, &node->b));
        TRY(parse_postfix(p, &node->b));
    }
    if (parser_sees(p, TOKEN_NAME, "is")) return parser_need(p, "brackets around the first test");
    TRY(node_close(p, node));
    *out = node;
    if (!negated) return GDN_OK;
    TRY(node_new(p, NODE_NOT, place, &outer));
    outer->a = node;
    *out = outer;
    return node_close(p, outer);
}

/* ---- values ---------------------------------------------------------------------------------- */

static enum gdn_status parse_string(struct parser *p, struct node *node)
{
    struct builder b = {.heap = p->heap};
    while (p->token.kind == TOKEN_STRING) {
        builder_add(&b, p->token.text);
        TRY(parser_step(p));
    }
    node->constant = value_text(builder_text(&b));
    return b.failed ? lexer_full(&p->lexer, node->place) : GDN_OK;
}

static enum gdn_status parse_name(struct parser *p, struct node *node)
{
    static const struct {
        const char *word;
        struct value value;
    } known[] = {
        {"true", {VALUE_BOOL, {.is = true}}},   {"True", {VALUE_BOOL, {.is = true}}},
        {"false", {VALUE_BOOL, {.is = false}}}, {"False", {VALUE_BOOL, {.is = false}}},
        {"none", {VALUE_NONE, {.is = false}}},  {"None", {VALUE_NONE, {.is = false}}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!parser_sees(p, TOKEN_NAME, known[i].word)) continue;
        node->constant = known[i].value;
        return parser_step(p);
    }
    node->kind = NODE_NAME;
    node->constant = value_text(p->token.text);
    TRY(symbol_of(p, p->token.text, &node->symbol));
    return parser_step(p);
}

/* Behind a (: an empty tuple, a tuple or just an expression. */
static enum gdn_status parse_round(struct parser *p, struct node **node)
{
    bool empty;
    TRY(parser_skip(p, TOKEN_OPERATOR, ")", &empty));
    if (empty) {
        (*node)->kind = NODE_TUPLE;
        return GDN_OK;
    }
    TRY(parse_tuple(p, true, node));
    return parser_expect(p, TOKEN_OPERATOR, ")");
}

static enum gdn_status parse_primary(struct parser *p, struct node **out)
{
    bool there;
    TRY(node_new(p, NODE_CONSTANT, p->token.place, out));
    struct node *node = *out;
    if (p->token.kind == TOKEN_STRING) return parse_string(p, node);
    if (p->token.kind == TOKEN_NAME) return parse_name(p, node);
    if (p->token.kind == TOKEN_INTEGER || p->token.kind == TOKEN_REAL) {
        node->constant = p->token.kind == TOKEN_REAL ? value_float(p->token.real)
                                                     : value_int(p->token.integer);
        return parser_step(p);
    }
    TRY(parser_skip(p, TOKEN_OPERATOR, "(", &there));
    if (there) return parse_round(p, out);
    TRY(parser_skip(p, TOKEN_OPERATOR, "[", &there));
    if (there) {
        node->kind = NODE_LIST;
        TRY(parse_items(p, "]", parse_expression, &node->b));
        return node_close(p, node);
    }
    TRY(parser_skip(p, TOKEN_OPERATOR, "{", &there));
    if (!there) return parser_need(p, "a value");
    node->kind = NODE_MAP;
    TRY(parse_items(p, "}", parse_pair, &node->b));
    return node_close(p, node);
}

enum gdn_status parse_unary(struct parser *p, bool filters, struct node **out)
{
    if (parser_sees(p, TOKEN_OPERATOR, "-") || parser_sees(p, TOKEN_OPERATOR, "+")) {
        TRY(node_new(p, NODE_SIGN, p->token.place, out));
        (*out)->op = p->token.text.at[0];
        TRY(parser_step(p));
        TRY(parser_down(p));
        TRY(parse_unary(p, false, &(*out)->a));
        p->depth--;
        TRY(node_close(p, *out));
    } else {
        TRY(parse_primary(p, out));
    }
    TRY(parse_postfix(p, out));
    while (filters) {
        if (parser_sees(p, TOKEN_OPERATOR, "|"))
            TRY(parse_filter(p, out));
        else if (parser_sees(p, TOKEN_NAME, "is"))
            TRY(parse_test(p, out));
        else if (parser_sees(p, TOKEN_OPERATOR, "("))
            TRY(parse_postfix(p, out));
        else
            break;
    }
    return GDN_OK;
}
