/* jinja_lex.h: the source of a template as tokens: text between tags, and what stands in tags.
 * White space around tags is settled here (trim_blocks, lstrip_blocks, `-` and `+`). */
#ifndef TEXT_JINJA_LEX_H
#define TEXT_JINJA_LEX_H

#include "text/jinja_value.h"

#include "base/status.h"

enum token_kind {
    TOKEN_END,       /* of the source */
    TOKEN_TEXT,      /* between tags; never empty */
    TOKEN_OPEN,      /* {{ */
    TOKEN_CLOSE,     /* }} */
    TOKEN_TAG_OPEN,  /* {% */
    TOKEN_TAG_CLOSE, /* %} */
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_REAL,
    TOKEN_OPERATOR /* text holds it: one or two characters */
};

struct token_place {
    uint32_t line, column; /* from 1; the column counts bytes */
};

struct template_token {
    enum token_kind kind;
    struct token_place place;
    struct text text;
    int64_t integer;
    double real;
};

struct lexer {
    const char *name;
    struct heap *heap;
    struct gdn_error *err;
    const char *source; /* with \n for every line end */
    size_t len, at;
    size_t line_at; /* where the line of `at` begins */
    uint32_t line;
    enum { LEX_OUTSIDE, LEX_VALUE, LEX_TAG } state;
    bool fresh;   /* what came before ended a line, or nothing came */
    bool pending; /* a tag begins at `at`; its mark has been passed */
    char open[64]; /* brackets inside a tag: the closing one each of them needs */
    int depth;
};

/* `source` must be well-formed UTF-8; a copy of it lives in the heap. */
enum gdn_status lexer_open(struct lexer *lexer, const char *name, const char *source, size_t len,
                           struct heap *heap, struct gdn_error *err);
enum gdn_status lexer_next(struct lexer *lexer, struct template_token *token);

/* GDN_ERR_INPUT (or another status) with the place. */
enum gdn_status lexer_bad(const struct lexer *lexer, struct token_place place,
                          enum gdn_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The heap is. */
enum gdn_status lexer_full(const struct lexer *lexer, struct token_place place);

#endif
