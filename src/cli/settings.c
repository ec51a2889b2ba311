#include "cli/settings.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/memory.h"
#include "gdn/gdn.h"

enum { SETTINGS_BYTES = 1 << 16, PATH_BYTES = 1024 };

static const char *bare(const char *name) { return name + strspn(name, "-"); }

static bool is_known(const char *const *list, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(list[i], name) == 0) return true;
    return false;
}

void settings_note(struct settings_names *names, const struct options *o)
{
    for (int i = 0; i < o->count; i++) {
        const struct option *row = &o->rows[i];
        if (row->kind == OPTION_GROUP || row->line_only ||
            is_known(names->option, names->options, bare(row->name)))
            continue;
        GDN_CHECK(names->options < SETTINGS_NAMES, "no room for the name %s", row->name);
        names->option[names->options++] = bare(row->name);
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

struct settings_file {
    struct options *options;
    const char *command, *path;
    const struct settings_names *names;
    int line;
    bool here, top; /* in a section of this command; above all sections */
};

/* Cuts white space from both ends. */
static char *trim(char *text)
{
    static const char space[] = " \t\r";
    text += strspn(text, space);
    size_t n = strlen(text);
    while (n > 0 && strchr(space, text[n - 1])) n--;
    text[n] = 0;
    return text;
}

static enum gdn_status unknown(const char *what, const char *word, const char *const *list,
                               int count, struct gdn_error *err)
{
    const char *near = nearest_name(word, list, count);
    return error_set(err, GDN_ERR_INPUT, "%s \"%.80s\" is unknown%s%s%s", what, word,
                     near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static enum gdn_status read_section(struct settings_file *f, char *text, struct gdn_error *err)
{
    const size_t n = strlen(text);
    if (text[n - 1] != ']')
        return error_set(err, GDN_ERR_INPUT, "found \"%.80s\", need [COMMAND]", text);
    text[n - 1] = 0;
    const char *name = trim(text + 1);
    if (!is_known(f->names->command, f->names->commands, name))
        return unknown("command", name, f->names->command, f->names->commands, err);
    f->top = false;
    f->here = strcmp(name, f->command) == 0;
    return GDN_OK;
}

static enum gdn_status read_key(struct settings_file *f, const char *key, const char *value,
                                struct gdn_error *err)
{
    char origin[64];
    struct option *row = options_find(f->options, key);
    if (row && row->line_only) row = NULL;
    if (!row && f->here)
        return error_set(err, GDN_ERR_INPUT, "option \"%.80s\" is not one of gdn %s", key,
                         f->command);
    if (!is_known(f->names->option, f->names->options, key))
        return unknown("option", key, f->names->option, f->names->options, err);
    if (!row || !(f->here || f->top)) return GDN_OK;
    snprintf(origin, sizeof origin, "line %d of the config file", f->line);
    return options_assign(f->options, row, value, f->here ? OPTION_SECTION : OPTION_FILE, origin,
                          err);
}

static enum gdn_status read_line(struct settings_file *f, char *text, struct gdn_error *err)
{
    text = trim(text);
    if (!*text || *text == '#') return GDN_OK;
    if (*text == '[') return read_section(f, text, err);
    char *value = strchr(text, '=');
    if (!value)
        return error_set(err, GDN_ERR_INPUT, "found \"%.80s\", need KEY = VALUE", text);
    *value++ = 0;
    value = trim(value);
    const size_t n = strlen(value);
    if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
        value[n - 1] = 0;
        value++;
    }
    return read_key(f, trim(text), value, err);
}

enum gdn_status settings_parse(struct options *o, const char *command,
                             const struct settings_names *names, const char *path, char *text,
                             struct gdn_error *err)
{
    struct settings_file f = {.options = o, .command = command, .path = path, .names = names,
                            .top = true};
    for (char *next; text; text = next) {
        next = strchr(text, '\n');
        if (next) *next++ = 0;
        f.line++;
        if (read_line(&f, text, err) == GDN_OK) continue;
        error_prefix(err, "%s, line %d", path, f.line);
        if (err) err->status = GDN_ERR_INPUT;
        return GDN_ERR_INPUT;
    }
    return GDN_OK;
}

/* ---- where it is ----------------------------------------------------------------------------- */

bool settings_path(char *out, size_t room, const char *variable, const char *home, const char *name)
{
    const char *folder = gdn_env(variable), *user = gdn_env("HOME");
    const int n = folder ? snprintf(out, room, "%s/gdn/%s", folder, name)
                : user   ? snprintf(out, room, "%s/%s/gdn/%s", user, home, name) : -1;
    return n > 0 && (size_t)n < room;
}

static enum gdn_status read_file(struct options *o, const char *command,
                                 const struct settings_names *names, const char *path,
                                 struct gdn_error *err)
{
    static char kept[SETTINGS_BYTES + 1]; /* values point into it until the program ends */
    char own[PATH_BYTES], *text;
    size_t len;
    if (path && strcmp(path, "none") == 0) return GDN_OK;
    if (!path) {
        if (!settings_path(own, sizeof own, "XDG_CONFIG_HOME", ".config", "config") ||
            !file_exists(own))
            return GDN_OK;
        path = own;
    }
    TRY(file_read(path, SETTINGS_BYTES, &text, &len, err));
    memcpy(kept, text, len + 1);
    mem_give(text);
    if (strlen(kept) != len)
        return error_set(err, GDN_ERR_INPUT, "%s: found a zero byte at %zu, need text", path,
                         strlen(kept));
    return settings_parse(o, command, names, path, kept, err);
}

/* "--top-k" -> "GDN_TOP_K" */
static void variable_of(const char *name, char out[64])
{
    snprintf(out, 64, "GDN_%s", bare(name));
    for (char *c = out; *c; c++)
        *c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
}

static enum gdn_status read_environment(struct options *o, struct gdn_error *err)
{
    for (int i = 0; i < o->count; i++) {
        char variable[64];
        struct option *row = &o->rows[i];
        if (row->kind == OPTION_GROUP || row->line_only) continue;
        variable_of(row->name, variable);
        const char *value = gdn_env(variable);
        if (!value) continue;
        if (options_assign(o, row, value, OPTION_ENVIRONMENT, variable, err) == GDN_OK) continue;
        error_prefix(err, "%s", variable);
        return GDN_ERR_USAGE;
    }
    return GDN_OK;
}

enum gdn_status settings_read(struct options *o, const char *command,
                            const struct settings_names *names, const char *path,
                            struct gdn_error *err)
{
    if (!path) path = gdn_env("GDN_CONFIG");
    TRY(read_file(o, command, names, path, err));
    return read_environment(o, err);
}

/* ---- printing -------------------------------------------------------------------------------- */

static void add_text(const char *text, struct bytes *out)
{
    bytes_add_text(out, "\"");
    bytes_add_text(out, text);
    bytes_add_text(out, "\"");
}

static void add_value(const struct option *row, struct bytes *out)
{
    const char *word = row->value;
    switch (row->kind) {
    case OPTION_FLAG: bytes_add_text(out, *row->to.flag ? "true" : "false"); return;
    case OPTION_INTEGER: bytes_addf(out, "%lld", (long long)*row->to.integer); return;
    case OPTION_REAL: bytes_addf(out, "%.17g", *row->to.real); return;
    case OPTION_TEXT: add_text(*row->to.text, out); return;
    case OPTION_LIST:
        for (int i = 0; i < row->to.list->count; i++) {
            if (i > 0) bytes_addf(out, "\n%s = ", bare(row->name));
            add_text(row->to.list->item[i], out);
        }
        return;
    case OPTION_CHOICE:
        for (int i = 0; i < *row->to.choice; i++) word = strchr(word, '|') + 1;
        bytes_addf(out, "%.*s", (int)strcspn(word, "|"), word);
        return;
    case OPTION_GROUP: return;
    }
}

void settings_print(const struct options *o, const char *command, struct bytes *out)
{
    bytes_addf(out, "[%s]\n", command);
    for (int i = 0; i < o->count; i++) {
        const struct option *row = &o->rows[i];
        if (row->line_only) continue;
        if (row->kind == OPTION_GROUP) {
            bytes_addf(out, "\n# %s\n", row->name);
        } else if (row->rank == OPTION_DEFAULT) {
            bytes_addf(out, "# %s is not set%s%s%s\n", bare(row->name),
                       row->fallback ? " (default: " : "", row->fallback ? row->fallback : "",
                       row->fallback ? ")" : "");
        } else {
            bytes_addf(out, "# from %s%s\n%s = ", row->rank == OPTION_LINE ? "the " : "",
                       row->origin, bare(row->name));
            add_value(row, out);
            bytes_add_text(out, "\n");
        }
    }
}
