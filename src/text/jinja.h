/* jinja.h: chat templates: a subset of Jinja, rendered as jinja2 does with the settings checkpoints
 * were made for (trim_blocks, lstrip_blocks, loop controls, a plain tojson, raise_exception,
 * strftime_now).
 *
 *   source ─ jinja_lex ─ jinja_parse, jinja_expr ─> tree ─ jinja_exec, jinja_eval ─> text and marks
 *
 * The one idea: every byte of a text remembers whether the template wrote it or whether it came
 * with the variables, through every cut, join and filter. Only what the template wrote whole may
 * become a control token (chat.c). A template is data of a stranger: it can compute with what it
 * is given and nothing else, within limits on steps, depth, memory and output. */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/bytes.h"
#include "base/status.h"

enum {
    JINJA_SOURCE_MAX = 256 << 10,
    JINJA_INPUT_MAX = 64 << 20, /* bytes of all variables */
    JINJA_DEPTH = 64,        /* of blocks and parentheses in the source, and of values */
    JINJA_CHAIN = 256,       /* operators in one expression that has no parentheses */
    JINJA_CALLS = 800,       /* expressions and statements inside one another while rendering */
    JINJA_RANGE_MAX = 100000 /* as in jinja2's sandbox */
};

struct jinja; /* immutable, shared by threads */

/* `name` is what messages call it ("chat_template.jinja") and is copied. A message has the place
 * ("NAME, line 3, column 7: found ..., need ..."). What a template may never come to (a filter that
 * is not known) is refused when it is reached; *out is NULL after a failure. */
enum gdn_status jinja_open(const char *name, const char *source, size_t len, struct jinja **out,
                           struct gdn_error *err);
void jinja_close(struct jinja *jinja);

/* A variable of the template, as JSON; without a name an object of variables. Texts in it are
 * marked as data unless they are trusted, which is for what the model's own files say. */
struct jinja_variable {
    const char *name, *json;
    size_t len;
    bool trusted;
};

/* For one rendering; 0 stands for what the comment says, where n is the bytes of all variables. */
struct jinja_limits {
    uint64_t steps; /* 5,000,000 + n: nodes evaluated, items looped over, 64 bytes looked at */
    size_t memory;  /* 64 MiB + 16 n; at most 2 GiB */
    size_t output;  /* 1 MiB + 4 (n + bytes of the source) */
};

struct jinja_output {
    struct bytes text;
    struct bytes marks; /* of the same length: 1 for a byte of data, 0 for one of the template */
};

/* `now` is for strftime_now; NULL: it fails. `limits` may be NULL. The output starts as {0} and is
 * empty after a failure: GDN_ERR_INPUT for what the template or its variables do wrong (the
 * sentence of raise_exception as it is), GDN_ERR_UNSUPPORTED for what this subset has not. */
enum gdn_status jinja_render(const struct jinja *jinja, const struct jinja_variable *variables,
                             size_t count, const struct tm *now, const struct jinja_limits *limits,
                             struct jinja_output *out, struct gdn_error *err);
void jinja_output_free(struct jinja_output *out);

#endif
