/* weights_save.c: the checkpoint as it was read: each file with the header it had, each tensor
 * where and of the type it was, with the values that the model has now. What the model left alone
 * and what nobody has changed comes out byte for byte. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/weights.h"

enum { PIECE = 8192, INDEX_LIMIT = 100000000 };

/* A tensor of the checkpoint: where its bytes lie, and whose values they are. */
struct saved {
    const struct st_entry *entry;
    const struct weight *weight; /* NULL: left alone */
    int64_t first;               /* of the weight's elements */
};

struct save {
    const struct weights *w;
    struct gdn_error *err;
    struct saved *list; /* [shards.count], file after file */
};

static bool make_list(struct save *s)
{
    const struct shards *shards = &s->w->shards;
    s->list = mem_take_array(shards->count, sizeof *s->list);
    for (size_t i = 0; s->list && i < shards->count; i++)
        s->list[i] = (struct saved){.entry = shards->tensors[i].entry};
    for (int32_t i = 0; s->list && i < s->w->count; i++) {
        const struct weight *weight = &s->w->list[i];
        int64_t first = 0;
        for (int j = 0; j < weight->origins; j++) {
            const struct st_entry *e = weight->origin[j]->entry;
            struct saved *saved = &s->list[weight->origin[j] - shards->tensors];
            saved->weight = weight;
            saved->first = first;
            first += (int64_t)(e->bytes / st_dtype_size(e->dtype));
        }
    }
    return s->list;
}

static void put_values(struct file_out *out, const struct saved *saved)
{
    const struct st_entry *e = saved->entry;
    const struct tensor *from = &saved->weight->tensor;
    const int64_t n = (int64_t)(e->bytes / st_dtype_size(e->dtype));
    const enum dtype to = weight_dtype(e->dtype);
    uint32_t piece[PIECE];
    for (int64_t i = 0; i < n;) {
        int64_t k = 0;
        for (; k < PIECE && i < n; k++, i++)
            dtype_store(piece, to, k, dtype_load(from->data, from->dtype, saved->first + i));
        file_write(out, piece, (size_t)k * dtype_size(to));
    }
}

static int by_place(const void *a, const void *b)
{
    const unsigned char *x = ((const struct saved *)a)->entry->data;
    const unsigned char *y = ((const struct saved *)b)->entry->data;
    return (x > y) - (x < y);
}

/* list: the file's own tensors. */
static enum gdn_status save_file(const struct safetensors *file, struct saved *list,
                                 const char *path, struct gdn_error *err)
{
    struct file_out out;
    TRY(file_create(&out, path, err));
    if (file->count > 0) qsort(list, file->count, sizeof *list, by_place);
    const size_t body = file->count > 0 ? safetensors_offset(file, list[0].entry) : file->len;
    file_write(&out, file->data, body);
    for (size_t i = 0; i < file->count; i++) {
        const struct st_entry *e = list[i].entry;
        /* What still is where the file is mapped is written as it is, and what was quantised since:
         * such weights are not trained. */
        const struct tensor *now = list[i].weight ? &list[i].weight->tensor : NULL;
        if (now && now->data != (const void *)e->data && !dtype_quantised(now->dtype))
            put_values(&out, &list[i]);
        else
            file_write(&out, e->data, e->bytes);
    }
    return file_commit(&out, err);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The index of a checkpoint in several files says nothing that a new value changes. */
static enum gdn_status copy_index(const struct save *s, const char *folder)
{
    static const char name[] = "model.safetensors.index.json";
    const char *first = s->w->shards.files[0].path;
    char from[4096], to[4096], *text;
    struct file_out out;
    size_t len;
    const int n = (int)(base_name(first) - first);
    if (n >= (int)(sizeof from - sizeof name) || !file_join(to, sizeof to, folder, name))
        return error_set(s->err, GDN_ERR_USAGE, "%s: the name is too long", st_path_tail(folder));
    memcpy(from, first, (size_t)n);
    memcpy(from + n, name, sizeof name);
    if (!file_exists(from)) return GDN_OK;
    TRY(file_read(from, INDEX_LIMIT, &text, &len, s->err));
    enum gdn_status status = file_create(&out, to, s->err);
    if (status == GDN_OK) {
        file_write(&out, text, len);
        status = file_commit(&out, s->err);
    }
    mem_give(text);
    return status;
}

enum gdn_status weights_save(const struct weights *w, const char *folder, struct gdn_error *err)
{
    struct save s = {.w = w, .err = err};
    enum gdn_status status = GDN_OK;
    if (w->device)
        return error_set(err, GDN_ERR_UNSUPPORTED, "weights in the memory of device %s are not "
                         "saved", w->device->name);
    if (!make_list(&s))
        return error_set(err, GDN_ERR_MEMORY, "no memory to list %zu tensors", w->shards.count);
    struct saved *list = s.list;
    for (size_t i = 0; status == GDN_OK && i < w->shards.file_count; i++) {
        char path[4096];
        const struct safetensors *file = &w->shards.files[i];
        if (file_join(path, sizeof path, folder, base_name(file->path)))
            status = save_file(file, list, path, err);
        else
            status = error_set(err, GDN_ERR_USAGE, "%s: the name is too long",
                               st_path_tail(folder));
        list += file->count;
    }
    mem_give(s.list);
    return status == GDN_OK ? copy_index(&s, folder) : status;
}
