/* safetensors.h: one safetensors file, mapped and read-only.
 *
 *   0          8                      8 + n                              file length
 *   | n (u64)  | {"name":{...},...}   | tensor bytes, in any order,      |
 *   |          |  header, n bytes     | without a hole or an overlap     |
 *
 * The header is read twice: once to check every number in it, then, with memory for exactly the
 * tensors that are there, to keep them. Nothing is taken from the heap on the word of a number in
 * the file, and all of it together stays below twice the header plus 1 MiB. Tensor bytes are never
 * touched here. It knows names, types and shapes; what they mean is the model's business. */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"

/* Limits; each is refused at one more. */
enum {
    ST_HEADER_BYTES = 100000000,
    ST_TENSORS = 100000,
    ST_RANK = 8,
    ST_NAME_BYTES = 256
};

enum st_dtype {
    ST_F64,
    ST_F32,
    ST_F16,
    ST_BF16,
    ST_F8_E4M3,
    ST_F8_E5M2,
    ST_I64,
    ST_I32,
    ST_I16,
    ST_I8,
    ST_U64,
    ST_U32,
    ST_U16,
    ST_U8,
    ST_BOOL,
    ST_DTYPES /* how many */
};

/* The name as it stands in files, and the bytes of one element. */
const char *st_dtype_name(enum st_dtype dtype);
size_t st_dtype_size(enum st_dtype dtype);

struct st_entry {
    const char *name;          /* UTF-8 without control characters, zero-ended */
    const unsigned char *data; /* in the file; aligned to nothing */
    size_t bytes;              /* = product of the shape * st_dtype_size */
    enum st_dtype dtype;
    int rank;
    int64_t shape[ST_RANK]; /* the first `rank` count */
};

struct safetensors {
    char *path;
    const unsigned char *data; /* the whole file */
    size_t len;
    struct st_entry *entries; /* in the order of the header */
    size_t count;
    const char *metadata; /* the JSON object under __metadata__, as written; NULL when absent */
    size_t metadata_len;
    uint32_t *by_name; /* [count], private */
    char *names;       /* private */
    struct file_map map;
};

/* GDN_ERR_INPUT with file, tensor, field, found, needed and byte when anything is wrong, and
 * GDN_ERR_UNSUPPORTED for a dtype that exists but is not in the list above. After a failure there
 * is nothing to close. */
enum gdn_status safetensors_open(struct safetensors *st, const char *path, struct gdn_error *err);
/* The same over a file's bytes in memory, which must outlive `st`; `path` is for messages. */
enum gdn_status safetensors_parse(struct safetensors *st, const void *data, size_t len,
                                  const char *path, struct gdn_error *err);
void safetensors_close(struct safetensors *st);

/* By exact name, O(log count); NULL when there is none. */
const struct st_entry *safetensors_find(const struct safetensors *st, const char *name);

/* Where in the file the entry's bytes begin. */
size_t safetensors_offset(const struct safetensors *st, const struct st_entry *entry);

/* The text under `key` of __metadata__, unescaped into out; false when absent or too long. */
bool safetensors_metadata(const struct safetensors *st, const char *key, char *out, size_t room);

/* Is this a name for a tensor: at most ST_NAME_BYTES, no control characters? Names are C strings
 * and end up on terminals. */
bool st_name_good(const char *name, size_t len);

/* `path` for a message: its last 160 bytes. */
const char *st_path_tail(const char *path);

#endif
