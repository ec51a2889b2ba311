#include "formats/shards.h"

#include <dirent.h>
#include <string.h>

#include "base/memory.h"
#include "formats/order.h"
#include "formats/shards_index.h"

enum { PATH_ROOM = 4096 };

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static bool is_pickle(const char *name)
{
    static const char *const ends[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle",
                                       ".bin.index.json"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i])) return true;
    return false;
}

static enum gdn_status refuse_pickle(const char *path, const char *name, struct gdn_error *err)
{
    return error_set(err, GDN_ERR_UNSUPPORTED,
                     "%s: found %.100s, a pickled checkpoint, which is never read because loading "
                     "one can run code: convert it to safetensors", st_path_tail(path), name);
}

/* Neither of the two names is there: say what is. */
static enum gdn_status explain_missing(const char *folder, struct gdn_error *err)
{
    enum gdn_status status = GDN_OK;
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && status == GDN_OK && (e = readdir(dir));)
        if (is_pickle(e->d_name)) status = refuse_pickle(folder, e->d_name, err);
    if (dir) closedir(dir);
    if (status != GDN_OK) return status;
    return error_set(err, GDN_ERR_INPUT,
                     "%s: found neither model.safetensors nor model.safetensors.index.json",
                     st_path_tail(folder));
}

static int by_name(const void *context, uint32_t a, uint32_t b)
{
    const struct shard_tensor *tensors = context;
    return strcmp(tensors[a].entry->name, tensors[b].entry->name);
}

static enum gdn_status check_names(const struct shards *shards, struct gdn_error *err)
{
    for (size_t i = 1; i < shards->count; i++) {
        const struct shard_tensor *a = &shards->tensors[shards->by_name[i - 1]];
        const struct shard_tensor *b = &shards->tensors[shards->by_name[i]];
        if (strcmp(a->entry->name, b->entry->name) == 0)
            return error_set(err, GDN_ERR_INPUT, "%s: tensor \"%.100s\" lies also in %s",
                             st_path_tail(b->file->path), a->entry->name,
                             st_path_tail(a->file->path));
    }
    return GDN_OK;
}

/* The files are open: one list over all of them. */
static enum gdn_status list_tensors(struct shards *shards, const char *path, struct gdn_error *err)
{
    size_t count = 0;
    for (size_t f = 0; f < shards->file_count; f++) count += shards->files[f].count;
    if (count > SHARDS_TENSORS)
        return error_set(err, GDN_ERR_INPUT, "%s: found %zu tensors, need at most %d",
                         st_path_tail(path), count, (int)SHARDS_TENSORS);
    shards->count = count;
    shards->tensors = mem_take_array(count, sizeof *shards->tensors);
    shards->by_name = mem_take_array(count, sizeof *shards->by_name);
    uint32_t *spare = mem_take_array(count, sizeof *spare);
    if (!shards->tensors || !shards->by_name || !spare) {
        mem_give(spare);
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory for a list of %zu tensors",
                         st_path_tail(path), count);
    }
    struct shard_tensor *out = shards->tensors;
    for (size_t f = 0; f < shards->file_count; f++)
        for (size_t i = 0; i < shards->files[f].count; i++)
            *out++ = (struct shard_tensor){&shards->files[f], &shards->files[f].entries[i]};
    order_make(shards->by_name, spare, count, by_name, shards->tensors);
    mem_give(spare);
    return check_names(shards, err);
}

static enum gdn_status open_file(struct shards *shards, const char *path, struct gdn_error *err)
{
    shards->files = mem_take(sizeof *shards->files);
    if (!shards->files)
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory", st_path_tail(path));
    TRY(safetensors_open(shards->files, path, err));
    shards->file_count = 1;
    return list_tensors(shards, path, err);
}

static enum gdn_status open_listed(struct shards *shards, const char *folder,
                                   const struct shards_index *index, struct gdn_error *err)
{
    char path[PATH_ROOM];
    shards->files = mem_take_array(index->file_count, sizeof *shards->files);
    if (!shards->files)
        return error_set(err, GDN_ERR_MEMORY, "%s: no memory for %zu files", st_path_tail(folder),
                         index->file_count);
    for (size_t f = 0; f < index->file_count; f++) {
        if (!file_join(path, sizeof path, folder, index->files[f]))
            return error_set(err, GDN_ERR_INPUT, "%s: the path is too long", st_path_tail(folder));
        TRY(safetensors_open(&shards->files[f], path, err));
        shards->file_count++;
    }
    TRY(list_tensors(shards, folder, err));
    return shards_index_match(index, shards, err);
}

static enum gdn_status open_index(struct shards *shards, const char *folder, const char *path,
                                  struct gdn_error *err)
{
    struct shards_index index = {0};
    char *text;
    size_t len;
    TRY(file_read(path, SHARDS_INDEX_BYTES, &text, &len, err));
    enum gdn_status status = shards_index_read(&index, path, text, len, err);
    if (status == GDN_OK) status = open_listed(shards, folder, &index, err);
    mem_give(index.files);
    mem_give(text);
    return status;
}

static enum gdn_status open_any(struct shards *shards, const char *path, struct gdn_error *err)
{
    char file[PATH_ROOM];
    if (!file_is_folder(path))
        return is_pickle(path) && file_exists(path) ? refuse_pickle(path, "it", err)
                                                    : open_file(shards, path, err);
    /* The order of transformers: a whole file wins over an index that was left beside it. */
    if (!file_join(file, sizeof file, path, "model.safetensors"))
        return error_set(err, GDN_ERR_INPUT, "%s: the path is too long", st_path_tail(path));
    if (file_exists(file)) return open_file(shards, file, err);
    if (!file_join(file, sizeof file, path, "model.safetensors.index.json"))
        return error_set(err, GDN_ERR_INPUT, "%s: the path is too long", st_path_tail(path));
    if (file_exists(file)) return open_index(shards, path, file, err);
    return explain_missing(path, err);
}

enum gdn_status shards_open(struct shards *shards, const char *path, struct gdn_error *err)
{
    *shards = (struct shards){0};
    enum gdn_status status = open_any(shards, path, err);
    if (status != GDN_OK) shards_close(shards);
    return status;
}

void shards_close(struct shards *shards)
{
    for (size_t f = 0; f < shards->file_count; f++) safetensors_close(&shards->files[f]);
    mem_give(shards->files);
    mem_give(shards->tensors);
    mem_give(shards->by_name);
    *shards = (struct shards){0};
}

const struct shard_tensor *shards_find(const struct shards *shards, const char *name)
{
    size_t low = 0, high = shards->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct shard_tensor *tensor = &shards->tensors[shards->by_name[middle]];
        int order = strcmp(name, tensor->entry->name);
        if (order == 0) return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
