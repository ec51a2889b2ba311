#include "cli/resolve.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/settings.h"

enum { PLACES = 5, NAMES = 64, NAME_BYTES = 128 };

/* Folders of models, the first that has a name wins. */
struct places {
    char path[PLACES][RESOLVE_BYTES];
    int count;
};

/* Beside the program: where make install puts the models, and where the source tree has them. */
static void add_own(struct places *p)
{
    static const char *const from_program[] = {"../share/gdn/models", "../../models",
                                               "../../../models"};
    char program[RESOLVE_BYTES - 64];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return;
    program[n] = 0;
    char *name = strrchr(program, '/');
    if (!name) return;
    *name = 0;
    for (size_t i = 0; i < sizeof from_program / sizeof *from_program; i++)
        snprintf(p->path[p->count++], RESOLVE_BYTES, "%s/%s", program, from_program[i]);
}

static void find_places(const char *folder, struct places *p)
{
    p->count = 0;
    if (folder) snprintf(p->path[p->count++], RESOLVE_BYTES, "%s", folder);
    if (settings_path(p->path[p->count], RESOLVE_BYTES, "XDG_DATA_HOME", ".local/share", "models"))
        p->count++;
    add_own(p);
}

static bool is_model(const char *folder)
{
    char config[RESOLVE_BYTES];
    return file_join(config, sizeof config, folder, "config.json") && file_exists(config);
}

/* ---- names that are there -------------------------------------------------------------------- */

struct names {
    char text[NAMES][NAME_BYTES];
    char path[NAMES][RESOLVE_BYTES];
    int count;
};

static bool has(const struct names *names, const char *name)
{
    for (int i = 0; i < names->count; i++)
        if (strcmp(names->text[i], name) == 0) return true;
    return false;
}

static void add_names(const char *folder, struct names *names)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir)) && names->count < NAMES;) {
        char *path = names->path[names->count];
        const size_t len = strlen(e->d_name);
        if (e->d_name[0] == '.' || len >= NAME_BYTES || has(names, e->d_name) ||
            !file_join(path, RESOLVE_BYTES, folder, e->d_name) || !is_model(path))
            continue;
        memcpy(names->text[names->count++], e->d_name, len + 1);
    }
    if (dir) closedir(dir);
}

static void find_names(const char *folder, struct names *names)
{
    struct places places;
    find_places(folder, &places);
    names->count = 0;
    for (int i = 0; i < places.count; i++) add_names(places.path[i], names);
}

static struct names found; /* too large for a stack */

void resolve_list(const char *folder, struct bytes *out)
{
    char clean[RESOLVE_BYTES];
    find_names(folder, &found);
    for (int i = 0; i < found.count; i++) {
        bytes_addf(out, "  %-18s ", found.text[i]);
        bytes_add_text(out, realpath(found.path[i], clean) ? clean : found.path[i]);
        bytes_add_text(out, "\n");
    }
}

/* ---- what is meant --------------------------------------------------------------------------- */

static bool ends(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A file of a model stands for its folder. */
static bool is_part(const char *path)
{
    return ends(path, ".safetensors") || ends(path, ".safetensors.index.json") ||
           ends(path, "config.json") || ends(path, "tokenizer.json");
}

static enum gdn_status not_there(const char *model, const char *folder, struct gdn_error *err)
{
    const char *list[NAMES];
    find_names(folder, &found);
    for (int i = 0; i < found.count; i++) list[i] = found.text[i];
    const char *near = nearest_name(model, list, found.count);
    return error_set(err, GDN_ERR_INPUT, "%.200s: no such folder, and no model of that name%s%s%s "
                     "(gdn doctor lists where names are looked up)", model,
                     near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

enum gdn_status resolve_model(const char *model, const char *folder, char path[RESOLVE_BYTES],
                              struct gdn_error *err)
{
    if (strlen(model) >= RESOLVE_BYTES - 2)
        return error_set(err, GDN_ERR_USAGE, "%.40s...: the name is too long", model);
    snprintf(path, RESOLVE_BYTES, "%s", model);
    if (file_exists(model)) {
        if (file_is_folder(model) || !is_part(model)) return GDN_OK;
        char *name = strrchr(path, '/');
        if (!name) snprintf(path, RESOLVE_BYTES, ".");
        else name[name == path] = 0;
        return GDN_OK;
    }
    if (strchr(model, '/'))
        return error_set(err, GDN_ERR_INPUT, "%.200s: no such file or folder", model);
    struct places places;
    find_places(folder, &places);
    for (int i = 0; i < places.count; i++)
        if (file_join(path, RESOLVE_BYTES, places.path[i], model) && is_model(path)) return GDN_OK;
    return not_there(model, folder, err);
}
