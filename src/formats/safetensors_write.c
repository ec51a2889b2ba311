#include "formats/safetensors_write.h"

#include <string.h>

#include "base/checked.h"
#include "base/json.h"
#include "base/memory.h"
#include "formats/order.h"

/* What the writer remembers of a tensor. */
struct st_written {
    size_t name; /* where in writer.names */
    size_t bytes;
};

static const struct st_written *written(const struct st_writer *w, size_t i)
{
    return (const struct st_written *)(const void *)w->tensors.at + i;
}

static const char *name_of(const struct st_writer *w, size_t i)
{
    return w->names.at + written(w, i)->name;
}

static bool works(const struct st_writer *w) { return w->open && w->error.status == GDN_OK; }

#define bad(w, status, ...) error_set(&(w)->error, status, __VA_ARGS__)

/* The kept failure, handed to the caller. */
static enum gdn_status report(const struct st_writer *w, struct gdn_error *err)
{
    if (w->error.status == GDN_OK) return GDN_OK;
    return error_set(err, w->error.status, "%s", w->error.text);
}

enum gdn_status st_write_create(struct st_writer *w, const char *path, struct gdn_error *err)
{
    *w = (struct st_writer){0};
    TRY(file_create(&w->out, path, err));
    w->open = true;
    return GDN_OK;
}

void st_write_metadata(struct st_writer *w, const char *key, const char *value)
{
    if (!works(w)) return;
    if (w->metadata.len) bytes_add_text(&w->metadata, ",");
    json_put_string(&w->metadata, key, strlen(key));
    bytes_add_text(&w->metadata, ":");
    json_put_string(&w->metadata, value, strlen(value));
}

/* Puts `"name":{...}` to the header and gives the tensor its place behind the one before. */
static void add_tensor(struct st_writer *w, const char *name, enum st_dtype dtype, int rank,
                       const int64_t *shape, size_t bytes)
{
    struct st_written tensor = {.name = w->names.len, .bytes = bytes};
    size_t end;
    if (!checked_add(w->data_len, bytes, &end) || end > INT64_MAX) {
        bad(w, GDN_ERR_USAGE, "tensor \"%.100s\": the file would be too long", name);
        return;
    }
    bytes_add(&w->names, name, strlen(name) + 1);
    bytes_add(&w->tensors, &tensor, sizeof tensor);
    if (w->header.len) bytes_add_text(&w->header, ",");
    json_put_string(&w->header, name, strlen(name));
    bytes_addf(&w->header, ":{\"dtype\":\"%s\",\"shape\":[", st_dtype_name(dtype));
    for (int i = 0; i < rank; i++)
        bytes_addf(&w->header, "%s%lld", i ? "," : "", (long long)shape[i]);
    bytes_addf(&w->header, "],\"data_offsets\":[%zu,%zu]}", w->data_len, end);
    if (w->names.failed || w->tensors.failed || w->header.failed) {
        bad(w, GDN_ERR_MEMORY, "%s: no memory for the header", st_path_tail(w->out.path));
        return;
    }
    w->data_len = end;
    w->count++;
}

void st_write_declare(struct st_writer *w, const char *name, enum st_dtype dtype, int rank,
                      const int64_t *shape)
{
    if (!works(w)) return;
    size_t bytes = st_dtype_size(dtype), dim;
    if (w->begun)
        bad(w, GDN_ERR_INTERNAL, "tensor \"%.100s\": declared after the header", name);
    else if (w->count == ST_TENSORS)
        bad(w, GDN_ERR_USAGE, "tensor \"%.100s\": need at most %d tensors", name, (int)ST_TENSORS);
    else if (!st_name_good(name, strlen(name)) || strcmp(name, "__metadata__") == 0)
        bad(w, GDN_ERR_USAGE, "\"%.100s\" is not a name for a tensor", name);
    else if (rank < 0 || rank > ST_RANK)
        bad(w, GDN_ERR_USAGE, "tensor \"%.100s\": found rank %d, need 0 to %d", name, rank,
            (int)ST_RANK);
    for (int i = 0; works(w) && i < rank; i++)
        if (!checked_size(shape[i], &dim) || !checked_mul(bytes, dim, &bytes))
            bad(w, GDN_ERR_USAGE, "tensor \"%.100s\": the shape does not fit 64 bits", name);
    if (works(w)) add_tensor(w, name, dtype, rank, shape, bytes);
}

static int by_name(const void *context, uint32_t a, uint32_t b)
{
    return strcmp(name_of(context, a), name_of(context, b));
}

static void check_names(struct st_writer *w)
{
    uint32_t *order = mem_take_array(w->count, 2 * sizeof *order);
    if (!order) {
        bad(w, GDN_ERR_MEMORY, "%s: no memory for the header", st_path_tail(w->out.path));
        return;
    }
    order_make(order, order + w->count, w->count, by_name, w);
    for (size_t i = 1; i < w->count; i++)
        if (by_name(w, order[i - 1], order[i]) == 0)
            bad(w, GDN_ERR_USAGE, "tensor \"%.100s\" is declared twice", name_of(w, order[i]));
    mem_give(order);
}

enum gdn_status st_write_header(struct st_writer *w, struct gdn_error *err)
{
    struct bytes text = {0};
    if (works(w)) check_names(w);
    bytes_add_text(&text, "{");
    if (w->metadata.len) {
        bytes_add_text(&text, "\"__metadata__\":{");
        bytes_add(&text, w->metadata.at, w->metadata.len);
        bytes_add_text(&text, w->header.len ? "}," : "}");
    }
    bytes_add(&text, w->header.at, w->header.len);
    bytes_add_text(&text, "}");
    /* Spaces up to a multiple of 8, as the reference writer does: the data begins aligned. */
    while (text.len % 8 && !text.failed) bytes_add_text(&text, " ");
    if (text.failed || w->metadata.failed)
        bad(w, GDN_ERR_MEMORY, "%s: no memory for the header", st_path_tail(w->out.path));
    else if (text.len > ST_HEADER_BYTES)
        bad(w, GDN_ERR_USAGE, "%s: the header would have %zu bytes, need at most %d",
            st_path_tail(w->out.path), text.len, (int)ST_HEADER_BYTES);
    if (works(w)) {
        unsigned char len[8];
        bytes_put_u64(len, text.len);
        file_write(&w->out, len, sizeof len);
        file_write(&w->out, text.at, text.len);
        w->begun = true;
    }
    bytes_free(&text);
    return report(w, err);
}

/* Goes past every tensor that has all its bytes. */
static void pass_full(struct st_writer *w)
{
    while (w->current < w->count && w->filled == written(w, w->current)->bytes) {
        w->current++;
        w->filled = 0;
    }
}

void st_write_data(struct st_writer *w, size_t tensor, const void *data, size_t len)
{
    if (!works(w) || len == 0) return;
    pass_full(w);
    if (!w->begun || tensor >= w->count || tensor != w->current) {
        bad(w, GDN_ERR_INTERNAL, "%s: found data for tensor %zu, need tensor %zu of %zu",
            st_path_tail(w->out.path), tensor, w->current, w->count);
        return;
    }
    size_t need = written(w, tensor)->bytes - w->filled;
    if (len > need) {
        bad(w, GDN_ERR_INTERNAL, "%s: tensor \"%.100s\": found %zu bytes of data, need %zu",
            st_path_tail(w->out.path), name_of(w, tensor), len, need);
        return;
    }
    file_write(&w->out, data, len);
    w->filled += len;
}

enum gdn_status st_write_commit(struct st_writer *w, struct gdn_error *err)
{
    if (works(w) && !w->begun) st_write_header(w, NULL);
    if (works(w)) pass_full(w);
    if (works(w) && w->current < w->count)
        bad(w, GDN_ERR_INTERNAL, "%s: tensor \"%.100s\": found %zu bytes of data, need %zu",
            st_path_tail(w->out.path), name_of(w, w->current), w->filled,
            written(w, w->current)->bytes);
    enum gdn_status status = report(w, err);
    if (status == GDN_OK) status = file_commit(&w->out, err);
    st_write_abandon(w);
    return status;
}

void st_write_abandon(struct st_writer *w)
{
    if (!w->open) return;
    file_abandon(&w->out);
    bytes_free(&w->metadata);
    bytes_free(&w->header);
    bytes_free(&w->names);
    bytes_free(&w->tensors);
    w->open = false;
}
