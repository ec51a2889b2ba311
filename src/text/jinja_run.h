/* jinja_run.h: one rendering: where its memory, limits and variables are, and what its files give
 * each other. Everything that can fail returns a status; a failure ends the rendering. */
#ifndef TEXT_JINJA_RUN_H
#define TEXT_JINJA_RUN_H

#include "text/jinja.h"
#include "text/jinja_node.h"
#include "text/jinja_value.h"

/* ---- the rendering --------------------------------------------------------------------------- */

struct binding {
    uint32_t symbol;
    struct value value;
    struct binding *next;
};
struct scope {
    struct binding *first;
    struct scope *outer;
};

struct run {
    const struct jinja *jinja;
    struct heap heap;
    struct gdn_error *err;
    const struct tm *now;
    uint64_t steps, steps_max;
    size_t output_max;
    int depth;              /* of the C stack: expressions and statements begun */
    const struct node *at;  /* for messages */
    struct scope *scope;
    struct builder *out;    /* of the template, a macro or a captured block */
    const struct builder *whole; /* the template's own */
    struct text captured;   /* what a NODE_SLOT stands for */
    enum { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE } jump;
};

enum gdn_status run_bad(struct run *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum gdn_status run_fail(struct run *r, enum gdn_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum gdn_status run_full(struct run *r); /* the heap is */
/* Counts against the limit of steps; so does looking at many bytes. */
enum gdn_status run_charge(struct run *r, uint64_t steps);
enum gdn_status run_charge_bytes(struct run *r, size_t bytes);
/* Puts a pair into a map; refuses a key that cannot be one. */
enum gdn_status run_put(struct run *r, struct map *map, struct value key, struct value value);
/* What was built becomes a text value. */
enum gdn_status run_built(struct run *r, const struct builder *b, struct value *out);

struct args;
struct loop {
    struct list *items;
    uint32_t at;
};
struct macro {
    const struct node *node;
    struct scope *scope; /* where it was defined */
};

/* jinja_eval.c, jinja_exec.c */
enum gdn_status eval(struct run *r, const struct node *node, struct value *out);
enum gdn_status exec(struct run *r, const struct node *statements);
enum gdn_status scope_set(struct run *r, struct scope *scope, uint32_t symbol, struct value value);
enum gdn_status macro_call(struct run *r, const struct macro *macro, const struct args *args,
                           struct value *out);

/* ---- values ---------------------------------------------------------------------------------- */

/* Nesting of values that are shown, written as JSON or compared. */
enum { VALUE_DEPTH = 2 * JINJA_DEPTH };

/* jinja_print.c: as Python's str() and repr() show it. */
enum gdn_status print_value(struct run *r, struct builder *b, const struct value *value);
/* The text of a text, otherwise what print_value says. */
enum gdn_status print_text(struct run *r, const struct value *value, struct text *out);

/* ... and as JSON. */
struct json_style {
    bool ascii, sort;
    struct text item, key;  /* separators */
    const struct text *indent; /* of one level; NULL: on one line */
};
enum gdn_status print_json(struct run *r, struct builder *b, const struct json_style *style,
                           const struct value *value);

/* jinja_op.c: what operators do. */
bool op_truth(const struct value *value);
bool op_number(const struct value *value, double *real); /* INT, FLOAT or BOOL */
bool op_integer(const struct value *value, int64_t *integer); /* INT or BOOL */
enum gdn_status op_equal(struct run *r, const struct value *a, const struct value *b, bool *is);
/* Negative, 0 or positive; refuses what has no order. */
enum gdn_status op_order(struct run *r, const struct value *a, const struct value *b, int *order);
enum gdn_status op_compare(struct run *r, char op, const struct value *a, const struct value *b,
                           bool *is);
enum gdn_status op_binary(struct run *r, char op, const struct value *a, const struct value *b,
                          struct value *out);

/* jinja_access.c: parts of values. */
enum gdn_status op_attribute(struct run *r, const struct value *object, struct text name,
                             struct value *out);
enum gdn_status op_item(struct run *r, const struct value *object, const struct value *index,
                        struct value *out);
/* Any of the three may be NULL. */
enum gdn_status op_slice(struct run *r, const struct value *object, const struct value *start,
                         const struct value *stop, const struct value *step, struct value *out);
/* What a loop goes over, as a list that stays as it is. */
enum gdn_status op_items(struct run *r, const struct value *value, struct list *out);
/* Code points of a text, keys of a map ...; refuses what has no length. */
enum gdn_status op_length(struct run *r, const struct value *value, size_t *length);
struct value undefined_of(struct text name);

/* ---- functions: filters, tests, methods and globals ------------------------------------------ */

struct keyword {
    struct text name;
    struct value value;
};
struct args {
    struct value *at;
    int count;
    struct keyword *named;
    int named_count;
};

enum { PARAMS_MAX = 5 };
struct function {
    const char *name;
    /* Names of the parameters ("width first"): then args->at has one for each, undefined where
     * nothing was given. NULL: the arguments as they are. */
    const char *params;
    /* At least so many must be given; of a test without `run`, the kinds that pass, as bits. */
    int need;
    enum gdn_status (*run)(struct run *r, const struct value *self, const struct args *args,
                           struct value *out);
};
struct method {
    struct value self;
    const struct function *function;
};

/* NULL when there is none of this name. */
const struct function *filter_find(struct text name);
const struct function *test_find(struct text name);
const struct function *global_find(struct text name);
const struct function *method_find(enum value_kind kind, struct text name);
const struct function *function_find(const struct function *table, size_t count, struct text name);

enum gdn_status function_call(struct run *r, const struct function *function,
                              const struct value *self, const struct args *args,
                              struct value *out);
enum gdn_status filter_call(struct run *r, const struct function *function, struct text name,
                            const struct value *self, const struct args *args, struct value *out);
enum gdn_status test_call(struct run *r, const struct function *function, struct text name,
                          const struct value *self, const struct args *args, bool *is);

/* Arguments of certain kinds; undefined stands for the fallback. */
enum gdn_status arg_text(struct run *r, const struct args *args, int i, const char *fallback,
                         struct text *out);
enum gdn_status arg_integer(struct run *r, const struct args *args, int i, int64_t fallback,
                            int64_t *out);
bool arg_truth(const struct args *args, int i, bool fallback);

/* jinja_text.c: work on texts, shared by methods and filters. A NULL `chars`: white space. */
struct text text_strip(struct text text, const struct text *chars, bool left, bool right);
enum gdn_status text_replace(struct run *r, struct text text, struct text from, struct text to,
                             int64_t most, struct value *out);
enum gdn_status text_case(struct run *r, struct text text, char how, struct value *out);
const char *text_find(struct text text, struct text what);
enum gdn_status map_items(struct run *r, const struct value *self, const struct args *args,
                          struct value *out);
extern const struct function text_methods[];
extern const size_t text_method_count;

/* jinja_list.c */
extern const struct function list_filters[];
extern const size_t list_filter_count;

#endif
