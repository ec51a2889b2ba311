#include "model/convert.h"

#include <stdio.h>

#include "base/memory.h"
#include "formats/safetensors_write.h"
#include "tensor/quant.h"

enum { PIECE_BYTES = 8 << 20 };

struct convert {
    const struct weights *w;
    const struct weight **weight; /* [shards.count] whose values a tensor has; NULL: left alone */
    enum dtype dtype;
    struct pool *pool;
    const struct weights_watch *watch;
    int64_t read, all; /* bytes of the checkpoint */
    struct st_writer out;
    float *room; /* a row for each thread */
    char *rows;  /* some rows made */
};

/* What becomes of tensor i. */
static enum dtype type_of(const struct convert *c, size_t i)
{
    const struct weight *weight = c->weight[i];
    return weight ? weight_quantised(c->w, weight, c->dtype) : DTYPE_COUNT;
}

static bool is_made(const struct convert *c, size_t i)
{
    return dtype_quantised(type_of(c, i)) && !dtype_quantised(c->weight[i]->tensor.dtype);
}

static int64_t piece_rows(const struct tensor *t)
{
    return 1 + PIECE_BYTES / (tensor_width(t) * (int64_t)sizeof(float));
}

static void declare(struct convert *c, size_t i)
{
    const struct st_entry *e = c->w->shards.tensors[i].entry;
    if (!is_made(c, i)) {
        st_write_declare(&c->out, e->name, e->dtype, e->rank, e->shape);
        return;
    }
    const enum dtype to = type_of(c, i);
    const struct tensor *t = &c->weight[i]->tensor;
    char name[ST_NAME_BYTES + 4];
    int64_t shape[TENSOR_RANK];
    snprintf(name, sizeof name, "%s.%s", e->name, dtype_name(to));
    for (int d = 0; d < t->rank; d++) shape[d] = t->dim[d];
    shape[t->rank - 1] = quant_row_bytes(to, tensor_width(t));
    st_write_declare(&c->out, name, ST_U8, t->rank, shape);
}

static void tell(struct convert *c, size_t bytes)
{
    c->read += (int64_t)bytes;
    if (c->watch->tell) c->watch->tell(c->watch->context, c->read, c->all);
}

static enum gdn_status write_made(struct convert *c, size_t i, struct gdn_error *err)
{
    const struct weight *weight = c->weight[i];
    const struct tensor *t = &weight->tensor;
    const enum dtype to = type_of(c, i);
    const int64_t K = tensor_width(t), rows = tensor_elements(t) / K, some = piece_rows(t);
    for (int64_t at = 0; at < rows; at += some) {
        const int64_t end = at + some < rows ? at + some : rows;
        TRY(weight_make_rows(weight, to, at, end, c->pool, c->room, c->rows, err));
        const size_t bytes = (size_t)((end - at) * K) * dtype_size(t->dtype);
        st_write_data(&c->out, i, c->rows, (size_t)((end - at) * quant_row_bytes(to, K)));
        file_map_forget(&weight->origin[0]->file->map, tensor_at(t, at * K), bytes);
        tell(c, bytes);
    }
    return GDN_OK;
}

static enum gdn_status write_all(struct convert *c, struct gdn_error *err)
{
    const struct shards *s = &c->w->shards;
    st_write_metadata(&c->out, "format", "gdn");
    st_write_metadata(&c->out, "quant", dtype_name(c->dtype));
    for (size_t i = 0; i < s->count; i++) {
        declare(c, i);
        c->all += (int64_t)s->tensors[i].entry->bytes;
    }
    TRY(st_write_header(&c->out, err));
    for (size_t i = 0; i < s->count; i++) {
        const struct st_entry *e = s->tensors[i].entry;
        if (is_made(c, i)) {
            TRY(write_made(c, i, err));
        } else {
            st_write_data(&c->out, i, e->data, e->bytes);
            file_map_forget(&s->tensors[i].file->map, e->data, e->bytes);
            tell(c, e->bytes);
        }
    }
    return st_write_commit(&c->out, err);
}

static bool take_room(struct convert *c)
{
    const struct weights *w = c->w;
    int64_t widest = 1, most = 1;
    c->weight = mem_take_array(w->shards.count, sizeof *c->weight);
    for (int32_t i = 0; c->weight && i < w->count; i++)
        for (int j = 0; j < w->list[i].origins; j++)
            c->weight[w->list[i].origin[j] - w->shards.tensors] = &w->list[i];
    for (size_t i = 0; c->weight && i < w->shards.count; i++) {
        if (!is_made(c, i)) continue;
        const struct tensor *t = &c->weight[i]->tensor;
        const int64_t bytes = piece_rows(t) * quant_row_bytes(type_of(c, i), tensor_width(t));
        if (tensor_width(t) > widest) widest = tensor_width(t);
        if (bytes > most) most = bytes;
    }
    const size_t threads = c->pool ? (size_t)pool_threads(c->pool) : 1;
    c->room = mem_take_array(threads * (size_t)widest, sizeof *c->room);
    c->rows = mem_take_dirty((size_t)most);
    return c->weight && c->room && c->rows;
}

enum gdn_status weights_convert(const struct weights *w, enum dtype dtype, struct pool *pool,
                                const char *path, const struct weights_watch *watch,
                                struct gdn_error *err)
{
    struct convert c = {.w = w, .dtype = dtype, .pool = pool, .watch = watch};
    TRY(weights_quantisable(w, dtype, err));
    enum gdn_status status = GDN_OK;
    if (!take_room(&c)) status = error_set(err, GDN_ERR_MEMORY, "no memory to convert with");
    if (status == GDN_OK) status = st_write_create(&c.out, path, err);
    if (status == GDN_OK) status = write_all(&c, err);
    st_write_abandon(&c.out);
    mem_give(c.weight);
    mem_give(c.room);
    mem_give(c.rows);
    return status;
}
