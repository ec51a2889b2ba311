/* jinja_node.h: a template as a tree. Every node has the same shape; the table says what its fields
 * hold. Lists of nodes are linked by `next`. Trees are at most JINJA_DEPTH blocks and brackets and
 * JINJA_CHAIN operators deep, so that they may be walked by recursion. */
#ifndef TEXT_JINJA_NODE_H
#define TEXT_JINJA_NODE_H

#include "text/jinja.h"
#include "text/jinja_lex.h"
#include "text/jinja_value.h"

enum node_kind {
    /* Expressions.       a                b              c            others */
    NODE_CONSTANT,     /*                                              constant */
    NODE_NAME,         /*                                              symbol */
    NODE_ATTRIBUTE,    /* object                                       constant: its name */
    NODE_ITEM,         /* object           index or SLICE */
    NODE_SLICE,        /* start or NULL    stop or NULL   step or NULL */
    NODE_CALL,         /* what is called   arguments */
    NODE_KEYWORD,      /* value                                        constant: its name */
    NODE_FILTER,       /* value            arguments                   function, constant: name */
    NODE_TEST,         /* value            arguments                   function, constant: name */
    NODE_NOT,          /* value */
    NODE_SIGN,         /* value                                        op: '-' or '+' */
    NODE_BINARY,       /* left             right                       op: + - * / % d(//) p(**) */
    NODE_AND,          /* left             right */
    NODE_OR,           /* left             right */
    NODE_COMPARE,      /* left             OPERANDs */
    NODE_OPERAND,      /* value                                       op: = ! < > l g (<= >=) i n */
    NODE_CONCAT,       /*                  parts */
    NODE_CHOICE,       /* condition        if so          else or NULL */
    NODE_LIST,         /*                  items */
    NODE_TUPLE,        /*                  items */
    NODE_MAP,          /*                  PAIRs */
    NODE_PAIR,         /* key              value */
    /* Statements. */
    NODE_OUTPUT,       /* value */
    NODE_IF,           /* condition        body           the IF or BLOCK after it, or NULL */
    NODE_BLOCK,        /*                  body */
    NODE_FOR,          /* target           body           else         d: over what, e: condition */
    NODE_SET,          /* target           value */
    NODE_CAPTURE,      /* target           body           FILTERs around a SLOT, or NULL */
    NODE_SLOT,         /*                                              (the captured text) */
    NODE_MACRO,        /*                  PARAMETERs     body         symbol */
    NODE_PARAMETER,    /* default or NULL                              symbol, constant: its name */
    NODE_BREAK,
    NODE_CONTINUE
};

struct node {
    enum node_kind kind;
    char op;
    uint16_t depth; /* of the tree below it */
    struct token_place place;
    uint32_t symbol;
    struct value constant;
    const struct function *function; /* NULL: not known, refused when it is reached */
    struct node *a, *b, *c, *d, *e, *next;
};

struct jinja {
    struct heap heap;
    const char *name;
    size_t source_len;
    struct node *body;
    struct map *symbols; /* name -> number */
};

/* The parser, for its two files. */
struct parser {
    struct lexer lexer;
    struct template_token token, after; /* the one to be read, and the one behind it */
    struct jinja *jinja;
    struct heap *heap;
    int depth;
    int loops; /* around this place, within the macro */
};

enum gdn_status parse_template(struct parser *p, const char *source, size_t len,
                               struct gdn_error *err);
/* `a, b` makes a tuple. `choice`: X if Y else Z may stand there. */
enum gdn_status parse_tuple(struct parser *p, bool choice, struct node **out);
enum gdn_status parse_expression(struct parser *p, struct node **out);
/* Names, or NAME.attribute where `attributes`, with commas between them. */
enum gdn_status parse_target(struct parser *p, bool attributes, struct node **out);
/* A value with its signs and what stands behind it; `filters` and tests too. */
enum gdn_status parse_unary(struct parser *p, bool filters, struct node **out);
/* `| name(...)`, as often as it is there. */
enum gdn_status parse_filters(struct parser *p, struct node **subject);

enum gdn_status parser_step(struct parser *p); /* the next token */
bool parser_sees(const struct parser *p, enum token_kind kind, const char *text);
bool token_is(const struct template_token *token, enum token_kind kind, const char *text);
/* Passes over it when it is there. */
enum gdn_status parser_skip(struct parser *p, enum token_kind kind, const char *text, bool *there);
enum gdn_status parser_expect(struct parser *p, enum token_kind kind, const char *text);
/* "found X, need Y" at the token. */
enum gdn_status parser_need(struct parser *p, const char *need);
enum gdn_status parser_down(struct parser *p); /* one level deeper; p->depth-- leaves it */
enum gdn_status node_new(struct parser *p, enum node_kind kind, struct token_place place,
                         struct node **out);
/* Sets the depth from the children, once they are there. */
enum gdn_status node_close(struct parser *p, struct node *node);
enum gdn_status symbol_of(struct parser *p, struct text name, uint32_t *symbol);

#endif
