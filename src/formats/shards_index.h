/* shards_index.h: private to shards.c: the text of model.safetensors.index.json. */
#ifndef FORMATS_SHARDS_INDEX_H
#define FORMATS_SHARDS_INDEX_H

#include "formats/shards.h"

/* The longest file name that an index may give. */
enum { SHARD_FILE_BYTES = 128 };

struct shards_index {
    const char *path; /* for messages */
    const char *text;
    size_t len;
    char (*files)[SHARD_FILE_BYTES + 1]; /* [file_count], ascending */
    size_t file_count;
    size_t tensor_count;
};

/* Checks the text and collects the files it names. On success and on failure the caller gives
 * index->files back. */
enum gdn_status shards_index_read(struct shards_index *index, const char *path, const char *text,
                                  size_t len, struct gdn_error *err);

/* Holds the text against the opened files (shards->files [i] is index->files [i]). */
enum gdn_status shards_index_match(const struct shards_index *index, const struct shards *shards,
                                   struct gdn_error *err);

#endif
