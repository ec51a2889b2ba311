/* shards.h: all the weights of a model, in however many safetensors files they lie.
 *
 * A path may be a folder with model.safetensors, a folder with model.safetensors.index.json and
 * the files it names, or one .safetensors file. Index and files must agree: each listed tensor is
 * in the file named for it, and each tensor in a file is listed, once. */
#ifndef FORMATS_SHARDS_H
#define FORMATS_SHARDS_H

#include "formats/safetensors.h"

/* Limits; each is refused at one more. */
enum {
    SHARDS_INDEX_BYTES = 100000000,
    SHARDS_FILES = 1000,
    SHARDS_TENSORS = 1000000 /* over all files */
};

struct shard_tensor {
    const struct safetensors *file; /* which of the files; its path is file->path */
    const struct st_entry *entry;
};

struct shards {
    struct safetensors *files; /* [file_count], by name */
    size_t file_count;
    struct shard_tensor *tensors; /* [count], file after file, each in the order of its header */
    size_t count;
    uint32_t *by_name; /* [count], private */
};

/* GDN_ERR_INPUT as safetensors_open; GDN_ERR_UNSUPPORTED when there are only pickled weights
 * (pytorch_model.bin, *.pt, *.pth ...), which are never read. After a failure there is nothing to
 * close. */
enum gdn_status shards_open(struct shards *shards, const char *path, struct gdn_error *err);
void shards_close(struct shards *shards);

/* By exact name, O(log count); NULL when there is none. */
const struct shard_tensor *shards_find(const struct shards *shards, const char *name);

#endif
