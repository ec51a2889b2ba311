/* jinja_parse.c: the statements of a template, and what both halves of the parser share. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "text/jinja_node.h"
#include "text/show.h"
#include "text/utf8.h"

/* Trees take up to a few hundred bytes for a byte of source. */
enum { HEAP_LEAST = 64 << 10, HEAP_MOST = 64 << 20, HEAP_RATE = 512 };

static enum gdn_status no_room(struct parser *p)
{
    return lexer_full(&p->lexer, p->token.place);
}

enum gdn_status parser_step(struct parser *p)
{
    p->token = p->after;
    return p->token.kind == TOKEN_END ? GDN_OK : lexer_next(&p->lexer, &p->after);
}

bool token_is(const struct template_token *token, enum token_kind kind, const char *text)
{
    return token->kind == kind && (!text || text_is(token->text, text));
}

bool parser_sees(const struct parser *p, enum token_kind kind, const char *text)
{
    return token_is(&p->token, kind, text);
}

enum gdn_status parser_skip(struct parser *p, enum token_kind kind, const char *text, bool *there)
{
    *there = parser_sees(p, kind, text);
    return *there ? parser_step(p) : GDN_OK;
}

enum gdn_status parser_need(struct parser *p, const char *need)
{
    static const char *const kinds[] = {
        [TOKEN_END] = "the end of the template", [TOKEN_TEXT] = "text",
        [TOKEN_OPEN] = "\"{{\"",                 [TOKEN_CLOSE] = "\"}}\"",
        [TOKEN_TAG_OPEN] = "\"{%\"",             [TOKEN_TAG_CLOSE] = "\"%}\"",
        [TOKEN_STRING] = "a string",             [TOKEN_INTEGER] = "a number",
        [TOKEN_REAL] = "a number"};
    char shown[48], quoted[56];
    const char *found = p->token.kind == TOKEN_NAME || p->token.kind == TOKEN_OPERATOR
                            ? NULL : kinds[p->token.kind];
    if (!found) {
        show_bytes(shown, sizeof shown, p->token.text.at, p->token.text.len);
        snprintf(quoted, sizeof quoted, "\"%s\"", shown);
        found = quoted;
    }
    return lexer_bad(&p->lexer, p->token.place, GDN_ERR_INPUT, "found %s, need %s", found, need);
}

enum gdn_status parser_expect(struct parser *p, enum token_kind kind, const char *text)
{
    char need[40];
    if (parser_sees(p, kind, text)) return parser_step(p);
    snprintf(need, sizeof need, "\"%s\"", text ? text : kind == TOKEN_CLOSE ? "}}" : "%}");
    return parser_need(p, need);
}

enum gdn_status parser_down(struct parser *p)
{
    if (++p->depth <= JINJA_DEPTH) return GDN_OK;
    return lexer_bad(&p->lexer, p->token.place, GDN_ERR_INPUT,
                     "found blocks and brackets nested deeper than %d", JINJA_DEPTH);
}

enum gdn_status node_new(struct parser *p, enum node_kind kind, struct token_place place,
                         struct node **out)
{
    struct node *node = heap_take(p->heap, sizeof *node);
    if (!node) return no_room(p);
    *node = (struct node){.kind = kind, .place = place, .depth = 1};
    *out = node;
    return GDN_OK;
}

enum gdn_status node_close(struct parser *p, struct node *node)
{
    const struct node *children[] = {node->a, node->b, node->c, node->d, node->e};
    int deepest = 0;
    for (size_t i = 0; i < sizeof children / sizeof *children; i++)
        for (const struct node *n = children[i]; n; n = n->next)
            if (n->depth > deepest) deepest = n->depth;
    node->depth = (uint16_t)(deepest + 1);
    if (deepest < JINJA_CHAIN) return GDN_OK;
    return lexer_bad(&p->lexer, node->place, GDN_ERR_INPUT,
                     "found an expression of more than %d operators in a row", JINJA_CHAIN);
}

enum gdn_status symbol_of(struct parser *p, struct text name, uint32_t *symbol)
{
    struct map *symbols = p->jinja->symbols;
    const struct value *known = map_find_text(symbols, name);
    *symbol = known ? (uint32_t)known->as.integer : symbols->count;
    if (known) return GDN_OK;
    switch (map_put(p->heap, symbols, value_text(name), value_int(symbols->count))) {
    case MAP_PUT: return GDN_OK;
    case MAP_NO_MEMORY: return no_room(p);
    default:
        return lexer_bad(&p->lexer, p->token.place, GDN_ERR_INPUT,
                         "found names that all fall together");
    }
}

/* ---- statements ------------------------------------------------------------------------------ */

/* Statements up to a tag that begins with one of the words in `ends` ("endif else"), whose name is
 * then the token; NULL: up to the end of the template. */
static enum gdn_status parse_body(struct parser *p, const char *ends, struct node **out);

static bool is_word_of(struct text word, const char *words)
{
    while (words && *words) {
        const size_t n = strcspn(words, " ");
        if (n == word.len && memcmp(words, word.at, n) == 0) return true;
        words += n + (words[n] == ' ');
    }
    return false;
}

/* The rest of the tag that opens a block, and the block. */
static enum gdn_status parse_block(struct parser *p, const char *ends, struct node **out)
{
    bool there;
    TRY(parser_skip(p, TOKEN_OPERATOR, ":", &there));
    TRY(parser_expect(p, TOKEN_TAG_CLOSE, NULL));
    TRY(parser_down(p));
    TRY(parse_body(p, ends, out));
    p->depth--;
    return GDN_OK;
}

static enum gdn_status end_tag(struct parser *p)
{
    TRY(parser_step(p));
    return parser_expect(p, TOKEN_TAG_CLOSE, NULL);
}

/* The IFs of an if hang behind one another in `c`: the last of them is a BLOCK for its else. */
static enum gdn_status parse_if(struct parser *p, struct node *node)
{
    struct node *branch = node;
    for (;;) {
        TRY(parse_tuple(p, false, &branch->a));
        TRY(parse_block(p, "endif elif else", &branch->b));
        TRY(node_close(p, branch));
        if (!parser_sees(p, TOKEN_NAME, "elif")) break;
        TRY(node_new(p, NODE_IF, p->token.place, &branch->c));
        branch = branch->c;
        TRY(parser_step(p));
    }
    if (parser_sees(p, TOKEN_NAME, "else")) {
        TRY(node_new(p, NODE_BLOCK, p->token.place, &branch->c));
        TRY(parser_step(p));
        TRY(parse_block(p, "endif", &branch->c->b));
        TRY(node_close(p, branch->c));
    }
    return end_tag(p);
}

static enum gdn_status parse_for(struct parser *p, struct node *node)
{
    bool there;
    TRY(parse_target(p, false, &node->a));
    TRY(parser_expect(p, TOKEN_NAME, "in"));
    TRY(parse_tuple(p, false, &node->d));
    TRY(parser_skip(p, TOKEN_NAME, "if", &there));
    if (there) TRY(parse_expression(p, &node->e));
    if (parser_sees(p, TOKEN_NAME, "recursive"))
        return lexer_bad(&p->lexer, p->token.place, GDN_ERR_UNSUPPORTED,
                         "found a recursive loop, need one without");
    p->loops++;
    TRY(parse_block(p, "endfor else", &node->b));
    p->loops--;
    if (parser_sees(p, TOKEN_NAME, "else")) {
        TRY(parser_step(p));
        TRY(parse_block(p, "endfor", &node->c));
    }
    return end_tag(p);
}

static enum gdn_status parse_set(struct parser *p, struct node *node)
{
    bool there;
    TRY(parse_target(p, true, &node->a));
    TRY(parser_skip(p, TOKEN_OPERATOR, "=", &there));
    if (there) {
        TRY(parse_tuple(p, true, &node->b));
        return parser_expect(p, TOKEN_TAG_CLOSE, NULL);
    }
    node->kind = NODE_CAPTURE;
    TRY(node_new(p, NODE_SLOT, p->token.place, &node->c));
    TRY(parse_filters(p, &node->c));
    TRY(parse_block(p, "endset", &node->b));
    return end_tag(p);
}

static enum gdn_status parse_macro(struct parser *p, struct node *node)
{
    const int loops = p->loops;
    struct node **last = &node->b;
    bool there;
    if (p->token.kind != TOKEN_NAME) return parser_need(p, "the name of the macro");
    node->constant = value_text(p->token.text);
    TRY(symbol_of(p, p->token.text, &node->symbol));
    TRY(parser_step(p));
    TRY(parser_expect(p, TOKEN_OPERATOR, "("));
    while (!parser_sees(p, TOKEN_OPERATOR, ")")) {
        if (node->b) TRY(parser_expect(p, TOKEN_OPERATOR, ","));
        if (p->token.kind != TOKEN_NAME) return parser_need(p, "the name of a parameter or \")\"");
        struct node *parameter = NULL;
        TRY(node_new(p, NODE_PARAMETER, p->token.place, &parameter));
        TRY(symbol_of(p, p->token.text, &parameter->symbol));
        parameter->constant = value_text(p->token.text);
        TRY(parser_step(p));
        TRY(parser_skip(p, TOKEN_OPERATOR, "=", &there));
        if (there) TRY(parse_expression(p, &parameter->a));
        TRY(node_close(p, parameter));
        *last = parameter;
        last = &parameter->next;
    }
    TRY(parser_step(p));
    p->loops = 0;
    TRY(parse_block(p, "endmacro", &node->c));
    p->loops = loops;
    return end_tag(p);
}

/* {% generation %} marks what an assistant says, for training: here its body is just there. */
static enum gdn_status parse_generation(struct parser *p, struct node *node)
{
    TRY(parse_block(p, "endgeneration", &node->b));
    return end_tag(p);
}

static enum gdn_status parse_jump(struct parser *p, struct node *node)
{
    if (p->loops == 0)
        return lexer_bad(&p->lexer, node->place, GDN_ERR_INPUT, "found %s outside of a loop",
                         node->kind == NODE_BREAK ? "break" : "continue");
    return parser_expect(p, TOKEN_TAG_CLOSE, NULL);
}

static const struct tag {
    const char *name;
    enum node_kind kind;
    enum gdn_status (*parse)(struct parser *p, struct node *node);
} tags[] = {
    {"if", NODE_IF, parse_if},
    {"for", NODE_FOR, parse_for},
    {"set", NODE_SET, parse_set},
    {"macro", NODE_MACRO, parse_macro},
    {"generation", NODE_BLOCK, parse_generation},
    {"break", NODE_BREAK, parse_jump},
    {"continue", NODE_CONTINUE, parse_jump},
};

/* Behind {%. */
static enum gdn_status parse_tag(struct parser *p, const char *ends, struct node **out)
{
    char need[120];
    if (p->token.kind != TOKEN_NAME) return parser_need(p, "the name of a tag");
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (!parser_sees(p, TOKEN_NAME, tags[i].name)) continue;
        TRY(node_new(p, tags[i].kind, p->token.place, out));
        TRY(parser_step(p));
        TRY(tags[i].parse(p, *out));
        return node_close(p, *out);
    }
    snprintf(need, sizeof need, "%s%sif, for, set, macro, generation, break or continue",
             ends ? ends : "", ends ? ", " : "");
    return parser_need(p, need);
}

static enum gdn_status parse_output(struct parser *p, struct node **out)
{
    TRY(node_new(p, NODE_OUTPUT, p->token.place, out));
    TRY(parse_tuple(p, true, &(*out)->a));
    TRY(parser_expect(p, TOKEN_CLOSE, NULL));
    return node_close(p, *out);
}

static enum gdn_status parse_text(struct parser *p, struct node **out)
{
    TRY(node_new(p, NODE_OUTPUT, p->token.place, out));
    TRY(node_new(p, NODE_CONSTANT, p->token.place, &(*out)->a));
    (*out)->a->constant = value_text(p->token.text);
    return parser_step(p);
}

static enum gdn_status parse_body(struct parser *p, const char *ends, struct node **out)
{
    bool tag, output;
    for (*out = NULL;; out = &(*out)->next) {
        if (p->token.kind == TOKEN_END && !ends) return GDN_OK;
        TRY(parser_skip(p, TOKEN_TAG_OPEN, NULL, &tag));
        if (tag && p->token.kind == TOKEN_NAME && is_word_of(p->token.text, ends)) return GDN_OK;
        if (tag) {
            TRY(parse_tag(p, ends, out));
            continue;
        }
        TRY(parser_skip(p, TOKEN_OPEN, NULL, &output));
        if (output)
            TRY(parse_output(p, out));
        else if (p->token.kind == TOKEN_TEXT)
            TRY(parse_text(p, out));
        else
            return parser_need(p, ends);
    }
}

enum gdn_status parse_template(struct parser *p, const char *source, size_t len,
                               struct gdn_error *err)
{
    p->heap = &p->jinja->heap;
    TRY(lexer_open(&p->lexer, p->jinja->name, source, len, p->heap, err));
    p->jinja->symbols = map_new(p->heap);
    if (!p->jinja->symbols) return no_room(p);
    TRY(lexer_next(&p->lexer, &p->token));
    if (p->token.kind != TOKEN_END) TRY(lexer_next(&p->lexer, &p->after));
    return parse_body(p, NULL, &p->jinja->body);
}

enum gdn_status jinja_open(const char *name, const char *source, size_t len, struct jinja **out,
                           struct gdn_error *err)
{
    *out = NULL;
    if (len > JINJA_SOURCE_MAX)
        return error_set(err, GDN_ERR_INPUT, "%.100s: found %zu bytes, need at most %d", name, len,
                         JINJA_SOURCE_MAX);
    const size_t good = utf8_good_len(source, len);
    if (good < len)
        return error_set(err, GDN_ERR_INPUT, "%.100s, byte %zu: found no UTF-8", name, good);
    struct jinja *jinja = mem_take(sizeof *jinja);
    char *copy = mem_text(name);
    const size_t room = HEAP_LEAST + HEAP_RATE * len;
    if (!jinja || !copy || !heap_open(&jinja->heap, room < HEAP_MOST ? room : HEAP_MOST)) {
        mem_give(copy);
        mem_give(jinja);
        return error_set(err, GDN_ERR_MEMORY, "no memory for %.100s", name);
    }
    jinja->name = copy;
    jinja->source_len = len;
    struct parser parser = {.jinja = jinja};
    const enum gdn_status status = parse_template(&parser, source, len, err);
    if (status != GDN_OK)
        jinja_close(jinja);
    else
        *out = jinja;
    return status;
}

void jinja_close(struct jinja *jinja)
{
    if (!jinja) return;
    heap_close(&jinja->heap);
    mem_give((char *)jinja->name);
    mem_give(jinja);
}
