/* jinja_expr.c: the expressions of a template, by precedence from weak to strong:
 * X if C else Y · or · and · not · compare, in · + - · ~ · * / // % · ** · signs · . [] () | is */
#include "text/jinja_node.h"

/* ---- operators ------------------------------------------------------------------------------- */

struct level {
    const char *operators[4]; /* of this precedence */
    char ops[4];
};

enum { LEVEL_SUM, LEVEL_CONCAT, LEVEL_PRODUCT, LEVEL_POWER, LEVELS };
static const struct level levels[LEVELS] = {
    [LEVEL_SUM] = {{"+", "-"}, "+-"},
    [LEVEL_CONCAT] = {{"~"}, "~"},
    [LEVEL_PRODUCT] = {{"*", "/", "//", "%"}, {'*', '/', 'd', '%'}},
    [LEVEL_POWER] = {{"**"}, "p"},
};

static char operator_of(const struct parser *p, const struct level *level)
{
    for (int i = 0; i < 4 && level->operators[i]; i++)
        if (parser_sees(p, TOKEN_OPERATOR, level->operators[i])) return level->ops[i];
    return 0;
}

static enum gdn_status parse_binary(struct parser *p, int level, struct node **out);

/* The parts of a ~ b ~ c, which are one node, behind the first. */
static enum gdn_status parse_concat(struct parser *p, struct node **out)
{
    struct node *concat, **last = &(*out)->next;
    TRY(node_new(p, NODE_CONCAT, p->token.place, &concat));
    for (bool more = true; more; last = &(*last)->next) {
        TRY(parser_step(p));
        TRY(parse_binary(p, LEVEL_CONCAT + 1, last));
        more = parser_sees(p, TOKEN_OPERATOR, "~");
    }
    concat->b = *out;
    *out = concat;
    return node_close(p, concat);
}

static enum gdn_status parse_binary(struct parser *p, int level, struct node **out)
{
    if (level == LEVELS) return parse_unary(p, true, out);
    TRY(parse_binary(p, level + 1, out));
    for (char op; (op = operator_of(p, &levels[level])) != 0;) {
        struct node *node;
        if (op == '~') {
            TRY(parse_concat(p, out));
            continue;
        }
        TRY(node_new(p, NODE_BINARY, p->token.place, &node));
        TRY(parser_step(p));
        TRY(parse_binary(p, level + 1, &node->b));
        node->op = op;
        node->a = *out;
        TRY(node_close(p, node));
        *out = node;
    }
    return GDN_OK;
}

/* The comparison at the token, 0 when there is none; "not in" takes two tokens. */
static char comparison_of(const struct parser *p, int *tokens)
{
    static const struct {
        const char *text;
        char op;
    } known[] = {{"==", '='}, {"!=", '!'}, {"<", '<'}, {">", '>'}, {"<=", 'l'}, {">=", 'g'}};
    *tokens = 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (parser_sees(p, TOKEN_OPERATOR, known[i].text)) return known[i].op;
    if (parser_sees(p, TOKEN_NAME, "in")) return 'i';
    *tokens = 2;
    return parser_sees(p, TOKEN_NAME, "not") && token_is(&p->after, TOKEN_NAME, "in") ? 'n' : 0;
}

static enum gdn_status parse_compare(struct parser *p, struct node **out)
{
    struct node *compare = NULL, **last = NULL;
    int tokens;
    TRY(parse_binary(p, 0, out));
    for (char op; (op = comparison_of(p, &tokens)) != 0;) {
        struct node *operand;
        if (!compare) {
            TRY(node_new(p, NODE_COMPARE, p->token.place, &compare));
            compare->a = *out;
            last = &compare->b;
            *out = compare;
        }
        TRY(node_new(p, NODE_OPERAND, p->token.place, &operand));
        operand->op = op;
        while (tokens-- > 0) TRY(parser_step(p));
        TRY(parse_binary(p, 0, &operand->a));
        TRY(node_close(p, operand));
        *last = operand;
        last = &operand->next;
    }
    return compare ? node_close(p, compare) : GDN_OK;
}

static enum gdn_status parse_not(struct parser *p, struct node **out)
{
    if (!parser_sees(p, TOKEN_NAME, "not")) return parse_compare(p, out);
    TRY(node_new(p, NODE_NOT, p->token.place, out));
    TRY(parser_step(p));
    TRY(parser_down(p));
    TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return node_close(p, *out);
}

/* `and` binds stronger than `or`. */
static enum gdn_status parse_logic(struct parser *p, bool is_or, struct node **out)
{
    bool more;
    TRY(is_or ? parse_logic(p, false, out) : parse_not(p, out));
    for (;;) {
        const struct token_place place = p->token.place;
        TRY(parser_skip(p, TOKEN_NAME, is_or ? "or" : "and", &more));
        if (!more) return GDN_OK;
        struct node *node;
        TRY(node_new(p, is_or ? NODE_OR : NODE_AND, place, &node));
        node->a = *out;
        TRY(is_or ? parse_logic(p, false, &node->b) : parse_not(p, &node->b));
        TRY(node_close(p, node));
        *out = node;
    }
}

static enum gdn_status parse_choice(struct parser *p, struct node **out)
{
    bool there;
    TRY(parse_logic(p, true, out));
    for (;;) {
        const struct token_place place = p->token.place;
        TRY(parser_skip(p, TOKEN_NAME, "if", &there));
        if (!there) return GDN_OK;
        struct node *node;
        TRY(node_new(p, NODE_CHOICE, place, &node));
        node->b = *out;
        TRY(parse_logic(p, true, &node->a));
        TRY(parser_skip(p, TOKEN_NAME, "else", &there));
        if (there) TRY(parse_expression(p, &node->c));
        TRY(node_close(p, node));
        *out = node;
    }
}

enum gdn_status parse_expression(struct parser *p, struct node **out)
{
    TRY(parser_down(p));
    TRY(parse_choice(p, out));
    p->depth--;
    return GDN_OK;
}

/* ---- lists of things ------------------------------------------------------------------------- */

static bool ends_tuple(const struct parser *p)
{
    return p->token.kind == TOKEN_CLOSE || p->token.kind == TOKEN_TAG_CLOSE ||
           p->token.kind == TOKEN_END || parser_sees(p, TOKEN_OPERATOR, ")");
}

enum gdn_status parse_tuple(struct parser *p, bool choice, struct node **out)
{
    struct node *tuple = NULL, **last = NULL;
    const struct token_place place = p->token.place;
    bool comma = true;
    while (comma && !(tuple && ends_tuple(p))) {
        struct node *item;
        TRY(parser_down(p));
        TRY(choice ? parse_choice(p, &item) : parse_logic(p, true, &item));
        p->depth--;
        TRY(parser_skip(p, TOKEN_OPERATOR, ",", &comma));
        if (!tuple && !comma) {
            *out = item;
            return GDN_OK;
        }
        if (!tuple) {
            TRY(node_new(p, NODE_TUPLE, place, &tuple));
            last = &tuple->b;
        }
        *last = item;
        last = &item->next;
    }
    *out = tuple;
    return node_close(p, tuple);
}

static enum gdn_status parse_one_target(struct parser *p, bool attributes, struct node **out)
{
    if (p->token.kind != TOKEN_NAME) return parser_need(p, "a name");
    TRY(node_new(p, NODE_NAME, p->token.place, out));
    TRY(symbol_of(p, p->token.text, &(*out)->symbol));
    (*out)->constant = value_text(p->token.text);
    TRY(parser_step(p));
    if (!attributes || !parser_sees(p, TOKEN_OPERATOR, ".")) return GDN_OK;
    struct node *node;
    TRY(node_new(p, NODE_ATTRIBUTE, p->token.place, &node));
    TRY(parser_step(p));
    if (p->token.kind != TOKEN_NAME) return parser_need(p, "the name of an attribute");
    node->a = *out;
    node->constant = value_text(p->token.text);
    *out = node;
    TRY(parser_step(p));
    return node_close(p, node);
}

enum gdn_status parse_target(struct parser *p, bool attributes, struct node **out)
{
    bool round, comma;
    TRY(parser_skip(p, TOKEN_OPERATOR, "(", &round));
    TRY(parse_one_target(p, attributes, out));
    TRY(parser_skip(p, TOKEN_OPERATOR, ",", &comma));
    if (comma) {
        struct node *tuple, **last;
        TRY(node_new(p, NODE_TUPLE, (*out)->place, &tuple));
        tuple->b = *out;
        for (last = &(*out)->next; comma && p->token.kind == TOKEN_NAME &&
                                   !parser_sees(p, TOKEN_NAME, "in"); last = &(*last)->next) {
            TRY(parse_one_target(p, attributes, last));
            TRY(parser_skip(p, TOKEN_OPERATOR, ",", &comma));
        }
        *out = tuple;
        TRY(node_close(p, tuple));
    }
    return round ? parser_expect(p, TOKEN_OPERATOR, ")") : GDN_OK;
}
