#include "cli/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* ---- the table ------------------------------------------------------------------------------- */

static void add(struct options *o, const struct option *row)
{
    GDN_CHECK(o->count < OPTIONS_ROWS, "no room for option %s", row->name);
    o->rows[o->count] = *row;
    o->rows[o->count++].line_only = o->line_only;
}

void options_group(struct options *o, const char *title)
{
    add(o, &(struct option){.name = title, .kind = OPTION_GROUP});
}

void options_flag(struct options *o, const char *name, bool *to, const char *help)
{
    add(o, &(struct option){.name = name, .kind = OPTION_FLAG, .to.flag = to, .help = help});
}

void options_integer(struct options *o, const char *name, int64_t *to, int64_t least, int64_t most,
                     const char *fallback, const char *help)
{
    add(o, &(struct option){.name = name, .kind = OPTION_INTEGER, .to.integer = to, .least = least,
                            .most = most, .value = "N", .fallback = fallback, .help = help});
}

void options_real(struct options *o, const char *name, double *to, double low, double high,
                  const char *fallback, const char *help)
{
    add(o, &(struct option){.name = name, .kind = OPTION_REAL, .to.real = to, .low = low,
                            .high = high, .value = "X", .fallback = fallback, .help = help});
}

void options_text(struct options *o, const char *name, const char **to, const char *value,
                  const char *help)
{
    add(o, &(struct option){.name = name, .kind = OPTION_TEXT, .to.text = to, .value = value,
                            .help = help});
}

void options_choice(struct options *o, const char *name, int *to, const char *words,
                    const char *fallback, const char *help)
{
    add(o, &(struct option){.name = name, .kind = OPTION_CHOICE, .to.choice = to, .value = words,
                            .fallback = fallback, .help = help});
}

void options_list(struct options *o, const char *name, struct option_list *to, const char *value,
                  const char *help)
{
    add(o, &(struct option){.name = name, .kind = OPTION_LIST, .to.list = to, .value = value,
                            .help = help});
}

void options_pair(struct options *o, const char *a, const char *b)
{
    GDN_CHECK(o->pairs < OPTIONS_PAIRS, "no room for a pair of %s", a);
    o->pair[o->pairs][0] = a;
    o->pair[o->pairs++][1] = b;
}

void options_line_only(struct options *o) { o->line_only = true; }

/* ---- reading one value ----------------------------------------------------------------------- */

static bool read_integer(const struct option *row, const char *text)
{
    const bool negative = *text == '-';
    int64_t v = 0;
    text += negative;
    if (!*text) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, *text - '0', &v))
            return false;
    }
    if (negative) v = -v;
    if (v < row->least || v > row->most) return false;
    *row->to.integer = v;
    return true;
}

static bool read_real(const struct option *row, const char *text)
{
    char *end;
    /* strtod also knows hexadecimal numbers, infinities and NaN, which nobody means. */
    if (!*text || strspn(text, "0123456789.eE+-") != strlen(text)) return false;
    const double v = strtod(text, &end);
    if (*end || !(v >= row->low && v <= row->high)) return false;
    *row->to.real = v;
    return true;
}

static bool read_choice(const struct option *row, const char *text)
{
    const size_t len = strlen(text);
    const char *word = row->value;
    for (int i = 0;; i++) {
        const size_t n = strcspn(word, "|");
        if (n == len && strncmp(word, text, n) == 0) {
            *row->to.choice = i;
            return true;
        }
        if (!word[n]) return false;
        word += n + 1;
    }
}

static enum gdn_status read_item(const struct option *row, const char *text, struct gdn_error *err)
{
    if (!*text)
        return error_set(err, GDN_ERR_USAGE, "%s: found an empty text, need %s", row->name,
                         row->value);
    if (row->kind == OPTION_TEXT) {
        *row->to.text = text;
        return GDN_OK;
    }
    struct option_list *list = row->to.list;
    if (list->count == OPTION_ITEMS)
        return error_set(err, GDN_ERR_USAGE, "%s: found more than %d of them", row->name,
                         OPTION_ITEMS);
    list->item[list->count++] = text;
    return GDN_OK;
}

static enum gdn_status read_value(const struct option *row, const char *text, struct gdn_error *err)
{
    switch (row->kind) {
    case OPTION_INTEGER:
        if (read_integer(row, text)) return GDN_OK;
        return error_set(err, GDN_ERR_USAGE, "%s: found \"%.80s\", need a whole number from %lld "
                         "to %lld", row->name, text, (long long)row->least, (long long)row->most);
    case OPTION_REAL:
        if (read_real(row, text)) return GDN_OK;
        return error_set(err, GDN_ERR_USAGE, "%s: found \"%.80s\", need a number from %g to %g",
                         row->name, text, row->low, row->high);
    case OPTION_CHOICE:
        if (read_choice(row, text)) return GDN_OK;
        return error_set(err, GDN_ERR_USAGE, "%s: found \"%.80s\", need one of %s", row->name, text,
                         row->value);
    default: return read_item(row, text, err);
    }
}

/* ---- who wins -------------------------------------------------------------------------------- */

static void note_origin(struct option *row, enum option_rank rank, const char *origin)
{
    /* A list begins anew where a stronger source names it. */
    if (row->kind == OPTION_LIST && row->rank != (int)rank) row->to.list->count = 0;
    row->rank = (int)rank;
    snprintf(row->origin, sizeof row->origin, "%s", origin);
}

/* The other flag of its pair, when that is set. */
static struct option *rival(struct options *o, const struct option *row)
{
    for (int i = 0; i < o->pairs; i++)
        for (int k = 0; k < 2; k++) {
            struct option *other = options_find(o, o->pair[i][!k]);
            if (strcmp(o->pair[i][k], row->name) == 0 && other && *other->to.flag) return other;
        }
    return NULL;
}

static bool is_word(const char *text, const char *a, const char *b)
{
    return strcmp(text, a) == 0 || strcmp(text, b) == 0;
}

static enum gdn_status assign_flag(struct options *o, struct option *row, const char *value,
                                   enum option_rank rank, const char *origin,
                                   struct gdn_error *err)
{
    const bool on = is_word(value, "true", "1");
    if (!on && !is_word(value, "false", "0"))
        return error_set(err, GDN_ERR_USAGE, "%s: found \"%.80s\", need true or false", row->name,
                         value);
    struct option *other = on ? rival(o, row) : NULL;
    if (other && other->rank > (int)rank) return GDN_OK;
    if (other && other->rank < (int)rank) {
        *other->to.flag = false;
        other->rank = OPTION_DEFAULT;
    }
    *row->to.flag = on;
    note_origin(row, rank, origin);
    return GDN_OK;
}

struct option *options_find(struct options *o, const char *name)
{
    name += strspn(name, "-");
    for (int i = 0; i < o->count; i++) {
        struct option *row = &o->rows[i];
        if (row->kind != OPTION_GROUP && strcmp(row->name + strspn(row->name, "-"), name) == 0)
            return row;
    }
    return NULL;
}

enum gdn_status options_assign(struct options *o, struct option *row, const char *value,
                               enum option_rank rank, const char *origin, struct gdn_error *err)
{
    if (row->rank > (int)rank) return GDN_OK;
    if (row->kind == OPTION_FLAG) return assign_flag(o, row, value, rank, origin, err);
    note_origin(row, rank, origin);
    return read_value(row, value, err);
}

/* ---- reading a line -------------------------------------------------------------------------- */

static struct option *find(struct options *o, const char *arg, size_t len)
{
    if (len == 2 && strncmp(arg, "-h", 2) == 0) return find(o, "--help", 6);
    for (int i = 0; i < o->count; i++) {
        struct option *row = &o->rows[i];
        if (row->kind != OPTION_GROUP && strlen(row->name) == len &&
            strncmp(row->name, arg, len) == 0)
            return row;
    }
    return NULL;
}

static enum gdn_status unknown(const struct options *o, const char *arg, size_t len,
                               struct gdn_error *err)
{
    char name[80];
    snprintf(name, sizeof name, "%.*s", len < sizeof name ? (int)len : (int)sizeof name, arg);
    const char *names[OPTIONS_ROWS];
    int count = 0;
    for (int i = 0; i < o->count; i++)
        if (o->rows[i].kind != OPTION_GROUP) names[count++] = o->rows[i].name;
    const char *near = nearest_name(name, names, count);
    return error_set(err, GDN_ERR_USAGE, "%s: unknown option%s%s%s", name,
                     near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* A value that looks like a long option is more often one that was forgotten; "--name=--text" says
 * what is meant. */
static bool is_value(const char *arg) { return arg && strncmp(arg, "--", 2) != 0; }

static enum gdn_status read_option(struct options *o, char **argv, int *i, struct gdn_error *err)
{
    const char *arg = argv[*i], *value = strchr(arg, '=');
    const size_t len = value ? (size_t)(value - arg) : strlen(arg);
    struct option *row = find(o, arg, len);
    if (!row) return unknown(o, arg, len, err);
    note_origin(row, OPTION_LINE, "command line");
    if (row->kind == OPTION_FLAG) {
        if (value)
            return error_set(err, GDN_ERR_USAGE, "%s: found \"%.80s\", takes no value", row->name,
                             value + 1);
        *row->to.flag = true;
        return GDN_OK;
    }
    if (value) return read_value(row, value + 1, err);
    if (!is_value(argv[*i + 1]))
        return error_set(err, GDN_ERR_USAGE, "%s: its value is missing, need %s", row->name,
                         row->value);
    *i += 1;
    return read_value(row, argv[*i], err);
}

enum gdn_status options_read(struct options *o, int argc, char **argv, struct gdn_error *err)
{
    bool words_only = false;
    for (int i = 0; i < argc; i++) {
        if (!words_only && strcmp(argv[i], "--") == 0) {
            words_only = true;
        } else if (!words_only && argv[i][0] == '-' && argv[i][1]) {
            TRY(read_option(o, argv, &i, err));
        } else {
            if (o->word_count < OPTIONS_WORDS) o->words[o->word_count] = argv[i];
            o->word_count++;
        }
    }
    return GDN_OK;
}

/* ---- help and suggestions -------------------------------------------------------------------- */

void options_print(const struct options *o, struct bytes *page)
{
    for (int i = 0; i < o->count; i++) {
        const struct option *row = &o->rows[i];
        if (row->kind == OPTION_GROUP) {
            bytes_addf(page, "\n%s\n", row->name);
            continue;
        }
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", row->name, row->value ? " " : "",
                 row->value ? row->value : "");
        bytes_addf(page, "  %-23s %s", left, row->help);
        if (row->fallback) bytes_addf(page, " (default: %s)", row->fallback);
        bytes_add_text(page, "\n");
    }
}

enum { NAME_MAX_LEN = 40 };

/* How many letters must be inserted, dropped or replaced to make one text of the other. */
static size_t distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    if (n > NAME_MAX_LEN || m > NAME_MAX_LEN) return NAME_MAX_LEN;
    size_t row[NAME_MAX_LEN + 1];
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *nearest_name(const char *word, const char *const *names, int count)
{
    const char *best = NULL;
    /* A third of the letters may be wrong, but never all of a short name. */
    size_t limit = strlen(word) / 3 + 2;
    for (int i = 0; i < count; i++) {
        const size_t d = distance(word, names[i]);
        if (d >= limit || d >= strlen(names[i])) continue;
        best = names[i];
        limit = d;
    }
    return best;
}
