/* options.h: the options of one command: a table that is filled, read from a command line, and
 * printed as help.
 *
 * An option writes where its row points to and nowhere else; what stands there before is the
 * default. `fallback` tells the default in words and may be NULL. Names are given with their
 * dashes. Values come as "--name value" or "--name=value"; the last one wins, but for a list, which
 * has all that the strongest of its sources says. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

enum option_kind {
    OPTION_GROUP,
    OPTION_FLAG,
    OPTION_INTEGER,
    OPTION_REAL,
    OPTION_TEXT,
    OPTION_CHOICE,
    OPTION_LIST
};

enum { OPTION_ITEMS = 32 };
struct option_list {
    const char *item[OPTION_ITEMS];
    int count;
};

struct option {
    const char *name;
    enum option_kind kind;
    union {
        bool *flag;
        int64_t *integer;
        double *real;
        const char **text;
        int *choice; /* number of the word in `value`, from 0 */
        struct option_list *list;
    } to;
    int64_t least, most; /* of an integer */
    double low, high;    /* of a real */
    const char *value;   /* how its value is called: "FILE"; of a choice, the words: "f32|bf16" */
    const char *fallback, *help;
    bool line_only;      /* stands on the command line or nowhere */
    int rank;            /* of what set it: enum option_rank */
    char origin[64];     /* that in words: "GDN_TEMP" */
};

/* The stronger wins, in whatever order they are read. */
enum option_rank { OPTION_DEFAULT, OPTION_FILE, OPTION_SECTION, OPTION_ENVIRONMENT, OPTION_LINE };

enum { OPTIONS_ROWS = 64, OPTIONS_WORDS = 8, OPTIONS_PAIRS = 4 };

struct options {
    struct option rows[OPTIONS_ROWS];
    int count;
    const char *pair[OPTIONS_PAIRS][2]; /* flags of which the stronger wins */
    int pairs;
    bool line_only; /* of the rows that are added */
    const char *words[OPTIONS_WORDS]; /* what is not an option, in order */
    int word_count;                   /* may be larger than OPTIONS_WORDS: those are dropped */
};

void options_group(struct options *o, const char *title);
void options_flag(struct options *o, const char *name, bool *to, const char *help);
void options_integer(struct options *o, const char *name, int64_t *to, int64_t least, int64_t most,
                     const char *fallback, const char *help);
void options_real(struct options *o, const char *name, double *to, double low, double high,
                  const char *fallback, const char *help);
void options_text(struct options *o, const char *name, const char **to, const char *value,
                  const char *help);
void options_choice(struct options *o, const char *name, int *to, const char *words,
                    const char *fallback, const char *help);
/* A text that may be given several times. */
void options_list(struct options *o, const char *name, struct option_list *to, const char *value,
                  const char *help);

/* Of these two flags a stronger one takes the weaker one back. */
void options_pair(struct options *o, const char *a, const char *b);
/* The options from now on are for the command line only. */
void options_line_only(struct options *o);

/* The option called `name`, without its dashes; NULL: there is none. */
struct option *options_find(struct options *o, const char *name);
/* Gives it a value from somewhere else than the command line, unless a stronger one is there: a
 * flag takes true and false. What is wrong is told as on the command line. */
enum gdn_status options_assign(struct options *o, struct option *row, const char *value,
                               enum option_rank rank, const char *origin, struct gdn_error *err);

/* GDN_ERR_USAGE names the option, what was found and what is needed. Everything after "--" is a
 * word, and so is "-". */
enum gdn_status options_read(struct options *o, int argc, char **argv, struct gdn_error *err);

/* The table as indented lines under their groups. */
void options_print(const struct options *o, struct bytes *page);

/* Of `count` names the one nearest to `word`, or NULL when none is near. */
const char *nearest_name(const char *word, const char *const *names, int count);

#endif
