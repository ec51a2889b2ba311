#include "formats/safetensors.h"

#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/order.h"
#include "formats/safetensors_header.h"

static const struct {
    char name[12];
    unsigned char size;
} dtypes[ST_DTYPES] = {
    [ST_F64] = {"F64", 8},         [ST_F32] = {"F32", 4},         [ST_F16] = {"F16", 2},
    [ST_BF16] = {"BF16", 2},       [ST_F8_E4M3] = {"F8_E4M3", 1}, [ST_F8_E5M2] = {"F8_E5M2", 1},
    [ST_I64] = {"I64", 8},         [ST_I32] = {"I32", 4},         [ST_I16] = {"I16", 2},
    [ST_I8] = {"I8", 1},           [ST_U64] = {"U64", 8},         [ST_U32] = {"U32", 4},
    [ST_U16] = {"U16", 2},         [ST_U8] = {"U8", 1},           [ST_BOOL] = {"BOOL", 1},
};

const char *st_dtype_name(enum st_dtype dtype) { return dtypes[dtype].name; }

size_t st_dtype_size(enum st_dtype dtype) { return dtypes[dtype].size; }

bool st_name_good(const char *name, size_t len)
{
    if (len > ST_NAME_BYTES) return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) return false;
    return true;
}

const char *st_path_tail(const char *path)
{
    size_t n = strlen(path);
    return n > 160 ? path + n - 160 : path;
}

static int by_place(const void *context, uint32_t a, uint32_t b)
{
    const struct st_entry *x = (const struct st_entry *)context + a;
    const struct st_entry *y = (const struct st_entry *)context + b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *context, uint32_t a, uint32_t b)
{
    const struct st_entry *entries = context;
    return strcmp(entries[a].name, entries[b].name);
}

/* The tensors, taken in order of place, must fill the data from its first byte to its last. */
static enum gdn_status check_places(const struct safetensors *st, const uint32_t *order,
                                    size_t data_at, struct gdn_error *err)
{
    const char *path = st_path_tail(st->path), *last = "";
    const unsigned char *at = st->data + data_at, *end = st->data + st->len;
    for (size_t i = 0; i < st->count; i++) {
        const struct st_entry *entry = &st->entries[order[i]];
        size_t begin = safetensors_offset(st, entry);
        if (entry->data < at)
            return error_set(err, GDN_ERR_INPUT,
                             "%s: byte %zu: tensor \"%.100s\" begins inside tensor \"%.100s\", "
                             "which ends at byte %zu", path, begin, entry->name, last,
                             (size_t)(at - st->data));
        if (entry->data > at)
            return error_set(err, GDN_ERR_INPUT,
                             "%s: byte %zu: a hole of %zu bytes before tensor \"%.100s\"", path,
                             (size_t)(at - st->data), (size_t)(entry->data - at), entry->name);
        at += entry->bytes;
        last = entry->name;
    }
    if (at == end) return GDN_OK;
    return error_set(err, GDN_ERR_INPUT, "%s: byte %zu: %zu bytes behind the last tensor", path,
                     (size_t)(at - st->data), (size_t)(end - at));
}

static enum gdn_status check_names(const struct safetensors *st, struct gdn_error *err)
{
    for (size_t i = 1; i < st->count; i++) {
        const struct st_entry *a = &st->entries[st->by_name[i - 1]];
        const struct st_entry *b = &st->entries[st->by_name[i]];
        if (strcmp(a->name, b->name) == 0)
            return error_set(err, GDN_ERR_INPUT,
                             "%s: found tensor \"%.100s\" twice, at bytes %zu and %zu",
                             st_path_tail(st->path), a->name, safetensors_offset(st, a),
                             safetensors_offset(st, b));
    }
    return GDN_OK;
}

/* Both passes, and what they cannot see: how the tensors stand to each other. */
static enum gdn_status read_tensors(struct safetensors *st, size_t header_len,
                                    struct gdn_error *err)
{
    size_t name_bytes;
    TRY(st_header_pass(st, header_len, &name_bytes, err));
    st->entries = mem_take_array(st->count, sizeof *st->entries);
    st->names = mem_take(name_bytes);
    st->by_name = mem_take_array(st->count, sizeof *st->by_name);
    uint32_t *spare = mem_take_array(st->count, sizeof *spare);
    enum gdn_status status;
    if (!st->entries || !st->names || !st->by_name || !spare) {
        status = error_set(err, GDN_ERR_MEMORY, "%s: no memory for a list of %zu tensors",
                           st_path_tail(st->path), st->count);
    } else {
        status = st_header_pass(st, header_len, &name_bytes, err);
        if (status == GDN_OK) {
            order_make(st->by_name, spare, st->count, by_place, st->entries);
            status = check_places(st, st->by_name, 8 + header_len, err);
        }
        if (status == GDN_OK) {
            order_make(st->by_name, spare, st->count, by_name, st->entries);
            status = check_names(st, err);
        }
    }
    mem_give(spare);
    return status;
}

static enum gdn_status read_file(struct safetensors *st, struct gdn_error *err)
{
    const char *path = st_path_tail(st->path);
    if (st->len < 8)
        return error_set(err, GDN_ERR_INPUT,
                         "%s: found %zu bytes, need at least 8 for the header length", path,
                         st->len);
    uint64_t header_len = bytes_u64(st->data);
    if (header_len > ST_HEADER_BYTES)
        return error_set(err, GDN_ERR_INPUT,
                         "%s: byte 0: found a header length of %llu, need at most %d", path,
                         (unsigned long long)header_len, (int)ST_HEADER_BYTES);
    if (header_len > st->len - 8)
        return error_set(err, GDN_ERR_INPUT,
                         "%s: byte 0: found a header length of %llu, and only %zu bytes follow: "
                         "the file is damaged or incomplete", path, (unsigned long long)header_len,
                         st->len - 8);
    if (header_len == 0 || st->data[8] != '{')
        return error_set(err, GDN_ERR_INPUT, "%s: byte 8: the header does not begin with {", path);
    return read_tensors(st, (size_t)header_len, err);
}

enum gdn_status safetensors_parse(struct safetensors *st, const void *data, size_t len,
                                  const char *path, struct gdn_error *err)
{
    *st = (struct safetensors){.data = data, .len = len, .path = mem_text(path)};
    enum gdn_status status = st->path ? read_file(st, err)
                                      : error_set(err, GDN_ERR_MEMORY, "%s: no memory for a name",
                                                  st_path_tail(path));
    if (status != GDN_OK) safetensors_close(st);
    return status;
}

enum gdn_status safetensors_open(struct safetensors *st, const char *path, struct gdn_error *err)
{
    struct file_map map;
    *st = (struct safetensors){0};
    TRY(file_map_open(&map, path, err));
    enum gdn_status status = safetensors_parse(st, map.data, map.len, path, err);
    if (status == GDN_OK)
        st->map = map;
    else
        file_map_close(&map);
    return status;
}

void safetensors_close(struct safetensors *st)
{
    mem_give(st->path);
    mem_give(st->entries);
    mem_give(st->by_name);
    mem_give(st->names);
    file_map_close(&st->map);
    *st = (struct safetensors){0};
}

const struct st_entry *safetensors_find(const struct safetensors *st, const char *name)
{
    size_t low = 0, high = st->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct st_entry *entry = &st->entries[st->by_name[middle]];
        int order = strcmp(name, entry->name);
        if (order == 0) return entry;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

size_t safetensors_offset(const struct safetensors *st, const struct st_entry *entry)
{
    return (size_t)(entry->data - st->data);
}

bool safetensors_metadata(const struct safetensors *st, const char *key, char *out, size_t room)
{
    struct json json;
    struct json_token t;
    if (!st->metadata) return false;
    json_open(&json, st->metadata, st->metadata_len);
    json_next(&json, &t);
    while (json_next(&json, &t) == JSON_KEY) {
        bool found = json_is(&t, key);
        json_next(&json, &t);
        if (found) return json_text(&t, out, room, NULL);
    }
    return false;
}
