/* shards_index.c: reads "weight_map": {"tensor": "file", ...} and trusts none of it. A file name
 * from an index becomes a path, so only plain names are let through. */
#include "formats/shards_index.h"

#include <string.h>

#include "base/json.h"
#include "base/memory.h"

/* One line of the weight map. */
struct line {
    char tensor[ST_NAME_BYTES + 1];
    char file[SHARD_FILE_BYTES + 1];
};

struct reader {
    const struct shards_index *index;
    struct gdn_error *err;
    struct json json;
};

static enum gdn_status bad(struct reader *r, const char *what)
{
    return error_set(r->err, GDN_ERR_INPUT, "%s: byte %zu: %s", st_path_tail(r->index->path),
                     json_offset(&r->json), what);
}

static enum gdn_status next(struct reader *r, struct json_token *token)
{
    if (json_next(&r->json, token) != JSON_ERROR) return GDN_OK;
    return bad(r, r->json.error);
}

static bool is_plain_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    size_t n = strlen(name);
    return n > 0 && name[0] != '.' && strspn(name, allowed) == n;
}

static enum gdn_status read_line(struct reader *r, const struct json_token *key, struct line *line)
{
    struct json_token t;
    size_t len;
    if (!json_text(key, line->tensor, sizeof line->tensor, &len) ||
        !st_name_good(line->tensor, len))
        return bad(r, "weight_map: a tensor name is too long or holds a control character");
    TRY(next(r, &t));
    if (t.kind != JSON_STRING) return bad(r, "weight_map: need a file name as text");
    if (!json_text(&t, line->file, sizeof line->file, &len) || strlen(line->file) != len ||
        !is_plain_name(line->file))
        return bad(r, "weight_map: a file name must be 1 to 128 letters, digits, '.', '_' or '-' "
                      "and not begin with '.'");
    return GDN_OK;
}

typedef enum gdn_status line_visit(void *context, const struct line *line, struct reader *r);

static enum gdn_status read_map(struct reader *r, line_visit *visit, void *context)
{
    struct json_token t;
    struct line line;
    TRY(next(r, &t));
    if (t.kind != JSON_OBJECT) return bad(r, "weight_map: need an object");
    for (;;) {
        TRY(next(r, &t));
        if (t.kind == JSON_OBJECT_END) return GDN_OK;
        TRY(read_line(r, &t, &line));
        TRY(visit(context, &line, r));
    }
}

/* Calls visit for every line of the one weight_map. */
static enum gdn_status read_index(const struct shards_index *index, line_visit *visit,
                                  void *context, struct gdn_error *err)
{
    struct reader r = {.index = index, .err = err};
    struct json_token t;
    bool found = false;
    json_open(&r.json, index->text, index->len);
    TRY(next(&r, &t));
    if (t.kind != JSON_OBJECT) return bad(&r, "an index must be an object");
    for (;;) {
        TRY(next(&r, &t));
        if (t.kind == JSON_OBJECT_END) break;
        if (!json_is(&t, "weight_map")) {
            if (!json_skip(&r.json, &t)) return bad(&r, r.json.error);
            continue;
        }
        if (found) return bad(&r, "found weight_map twice");
        found = true;
        TRY(read_map(&r, visit, context));
    }
    TRY(next(&r, &t));
    return found ? GDN_OK : bad(&r, "weight_map is missing");
}

/* Where `name` stands, or would stand, among the files. */
static size_t file_place(const struct shards_index *index, const char *name)
{
    size_t low = 0, high = index->file_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(index->files[middle], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static enum gdn_status collect(void *context, const struct line *line, struct reader *r)
{
    struct shards_index *index = context;
    size_t at = file_place(index, line->file);
    if (++index->tensor_count > SHARDS_TENSORS) return bad(r, "weight_map: too many tensors");
    if (at < index->file_count && strcmp(index->files[at], line->file) == 0) return GDN_OK;
    if (index->file_count == SHARDS_FILES) return bad(r, "weight_map: too many files");
    memmove(index->files[at + 1], index->files[at],
            (index->file_count - at) * sizeof *index->files);
    memcpy(index->files[at], line->file, sizeof line->file);
    index->file_count++;
    return GDN_OK;
}

enum gdn_status shards_index_read(struct shards_index *index, const char *path, const char *text,
                                  size_t len, struct gdn_error *err)
{
    *index = (struct shards_index){.path = path, .text = text, .len = len};
    index->files = mem_take_array(SHARDS_FILES, sizeof *index->files);
    if (!index->files)
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory", st_path_tail(path));
    return read_index(index, collect, index, err);
}

struct match {
    const struct shards *shards;
    unsigned char *listed; /* [shards->count] */
};

static enum gdn_status match_line(void *context, const struct line *line, struct reader *r)
{
    struct match *m = context;
    const char *path = st_path_tail(r->index->path);
    const struct shard_tensor *tensor = shards_find(m->shards, line->tensor);
    if (!tensor)
        return error_set(r->err, GDN_ERR_INPUT,
                         "%s: tensor \"%.100s\" is listed for %s, which does not have it", path,
                         line->tensor, line->file);
    const char *file = r->index->files[tensor->file - m->shards->files];
    if (strcmp(file, line->file) != 0)
        return error_set(r->err, GDN_ERR_INPUT,
                         "%s: tensor \"%.100s\" is listed for %s and lies in %s", path,
                         line->tensor, line->file, file);
    size_t i = (size_t)(tensor - m->shards->tensors);
    if (m->listed[i])
        return error_set(r->err, GDN_ERR_INPUT, "%s: tensor \"%.100s\" is listed twice", path,
                         line->tensor);
    m->listed[i] = 1;
    return GDN_OK;
}

enum gdn_status shards_index_match(const struct shards_index *index, const struct shards *shards,
                                   struct gdn_error *err)
{
    struct match m = {.shards = shards, .listed = mem_take(shards->count)};
    if (!m.listed)
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory", st_path_tail(index->path));
    enum gdn_status status = read_index(index, match_line, &m, err);
    for (size_t i = 0; i < shards->count && status == GDN_OK; i++) {
        const struct shard_tensor *tensor = &shards->tensors[i];
        if (!m.listed[i])
            status = error_set(err, GDN_ERR_INPUT,
                               "%s: tensor \"%.100s\" lies in %s and is not listed",
                               st_path_tail(index->path), tensor->entry->name,
                               index->files[tensor->file - shards->files]);
    }
    mem_give(m.listed);
    return status;
}
