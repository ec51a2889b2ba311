/* weights_quant.c: which weights are quantised, and their rows made in parallel.
 *
 * Projections, experts, embedding and head are: their bytes are what a token costs. What stays as
 * it is costs little and decides much: routers and gates (write strength, decay), the low ranks a
 * decay goes through, and the expansion of latent attention, which is read as columns too.
 * Embedding and head are q8 under q4 as well. */
#include <string.h>

#include "base/memory.h"
#include "model/weights_load.h"
#include "tensor/quant.h"

enum { PIECE_BYTES = 8 << 20 };

static const char *const kept[] = {
    /* gates of the delta rule */
    "linear_attn.in_proj_a.weight", "linear_attn.in_proj_b.weight", "linear_attn.in_proj_ba.weight",
    "linear_attn.a_proj.weight", "linear_attn.b_proj.weight", "self_attn.b_proj.weight",
    /* low ranks */
    ".f_a_proj.weight", ".f_b_proj.weight", ".g_a_proj.weight", ".g_b_proj.weight",
    /* routers, the gate of a shared expert */
    "mlp.gate.weight", "block_sparse_moe.gate.weight", "shared_expert_gate.weight",
    /* latent attention */
    ".kv_b_proj.weight", ".embed_q.weight", ".unembed_out.weight"};

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static bool is_kept(const char *name)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (ends_with(name, kept[i])) return true;
    return false;
}

enum dtype weight_quantised(const struct weights *w, const struct weight *weight, enum dtype dtype)
{
    const struct tensor *t = &weight->tensor;
    if (weight->small || t->rank < 2 || tensor_width(t) < QUANT_BLOCK || is_kept(weight->name))
        return t->dtype;
    const bool ends = t == w->embed || t == w->head.part[0].w;
    return ends ? quant_fine : dtype;
}

enum dtype weights_quant(const struct weights *w)
{
    enum dtype found = DTYPE_COUNT;
    for (int32_t i = 0; i < w->count; i++) {
        const enum dtype dtype = w->list[i].tensor.dtype;
        if (dtype_quantised(dtype) && (found == DTYPE_COUNT || dtype > found)) found = dtype;
    }
    return found;
}

/* ---- other people's -------------------------------------------------------------------------- */

/* What stands beside a weight that somebody else quantised. */
static const struct {
    const char *end, *what;
} foreign[] = {{".qweight", "GPTQ or AWQ"},
               {".weight_packed", "compressed-tensors"},
               {".weight_scale_inv", "fp8 in blocks"},
               {".scales", "MLX"},
               {".weight.absmax", "bitsandbytes"}};

enum gdn_status weights_refuse_foreign(const struct shards *shards, struct gdn_error *err)
{
    for (size_t i = 0; i < shards->count; i++)
        for (size_t j = 0; j < sizeof foreign / sizeof *foreign; j++) {
            const char *name = shards->tensors[i].entry->name;
            if (!ends_with(name, foreign[j].end)) continue;
            return error_set(err, GDN_ERR_UNSUPPORTED, "%s: tensor %s: found weights quantised by "
                             "%s, need f32, bf16, f16, or what gdn convert makes of those",
                             st_path_tail(shards->tensors[i].file->path), name, foreign[j].what);
        }
    return GDN_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

struct making {
    const struct tensor *from;
    enum dtype dtype;
    int64_t first;
    float *room;
    char *to;
    int64_t *bad; /* [threads] a row that does not fit, or -1 */
};

static void make_some(void *context, int64_t begin, int64_t end, int thread)
{
    const struct making *m = context;
    const int64_t K = tensor_width(m->from), bytes = quant_row_bytes(m->dtype, K);
    float *row = m->room + thread * K;
    for (int64_t i = begin; i < end; i++) {
        quant_enter(row, tensor_at(m->from, (m->first + i) * K), m->from->dtype, K);
        if (!quant_store(m->to + i * bytes, m->dtype, row, K)) m->bad[thread] = m->first + i;
    }
}

enum gdn_status weight_make_rows(const struct weight *weight, enum dtype dtype, int64_t begin,
                                 int64_t end, struct pool *pool, float *room, void *to,
                                 struct gdn_error *err)
{
    enum { THREADS = 1024 };
    int64_t bad[THREADS];
    struct making m = {&weight->tensor, dtype, begin, room, to, bad};
    const int threads = pool ? pool_threads(pool) : 1;
    if (threads > THREADS) pool = NULL;
    for (int i = 0; i < THREADS; i++) bad[i] = -1;
    pool_run(pool, end - begin, 16, make_some, &m);
    for (int i = 0; i < THREADS; i++)
        if (bad[i] >= 0)
            return error_set(err, GDN_ERR_INPUT, "%s: tensor %s: row %lld holds a number that is "
                             "not finite or too large for %s",
                             st_path_tail(weight->origin[0]->file->path), weight->name,
                             (long long)bad[i], dtype_name(dtype));
    return GDN_OK;
}

/* ---- the model ------------------------------------------------------------------------------- */

static enum gdn_status quantise(struct weights *w, struct weight *weight, enum dtype dtype,
                                struct pool *pool, float *room, struct gdn_error *err)
{
    const struct tensor from = weight->tensor;
    const struct shard_tensor *origin = weight->origin[0];
    const int64_t K = tensor_width(&from), rows = tensor_elements(&from) / K;
    const int64_t bytes = quant_row_bytes(dtype, K), each = K * (int64_t)dtype_size(from.dtype);
    const int64_t some = 1 + PIECE_BYTES / each;
    char *made = mem_take_dirty((size_t)(rows * bytes));
    if (!made)
        return error_set(err, GDN_ERR_MEMORY, "no memory for tensor %s (%lld bytes)", weight->name,
                         (long long)(rows * bytes));
    for (int64_t at = 0; at < rows; at += some) {
        const int64_t end = at + some < rows ? at + some : rows;
        const enum gdn_status status = weight_make_rows(weight, dtype, at, end, pool, room,
                                                        made + at * bytes, err);
        file_map_forget(&origin->file->map, tensor_at(&from, at * K), (size_t)((end - at) * each));
        if (status == GDN_OK) continue;
        mem_give(made);
        return status;
    }
    if (weight->copy)
        w->copied_bytes -= (int64_t)origin->entry->bytes;
    else
        w->file_bytes -= (int64_t)origin->entry->bytes;
    mem_give(weight->copy);
    weight->copy = made;
    weight->tensor = tensor_over(made, dtype, from.rank, from.dim);
    w->copied_bytes += rows * bytes;
    return GDN_OK;
}

static enum gdn_status check_stored(const struct weights *w, const struct weight *weight,
                                    enum dtype dtype, struct gdn_error *err)
{
    const enum dtype found = weight->tensor.dtype;
    if (!dtype_quantised(found) || found == weight_quantised(w, weight, dtype)) return GDN_OK;
    return error_set(err, GDN_ERR_INPUT, "%s: tensor %s: found %s, need f32, bf16 or f16 to make "
                     "%s of it", st_path_tail(weight->origin[0]->file->path), weight->name,
                     dtype_name(found), dtype_name(dtype));
}

enum gdn_status weights_quantisable(const struct weights *w, enum dtype dtype,
                                    struct gdn_error *err)
{
    for (int32_t i = 0; i < w->count; i++) TRY(check_stored(w, &w->list[i], dtype, err));
    return GDN_OK;
}

static int64_t bytes_of(const struct tensor *t)
{
    return dtype_quantised(t->dtype) ? 0 : tensor_elements(t) * (int64_t)dtype_size(t->dtype);
}

enum gdn_status weights_quantise(struct weights *w, enum dtype dtype, struct pool *pool,
                                 const struct weights_watch *watch, struct gdn_error *err)
{
    int64_t widest = 1, done = 0, all = 0;
    TRY(weights_quantisable(w, dtype, err));
    for (int32_t i = 0; i < w->count; i++) {
        const int64_t width = tensor_width(&w->list[i].tensor);
        if (width > widest) widest = width;
        all += bytes_of(&w->list[i].tensor);
    }
    const int threads = pool ? pool_threads(pool) : 1;
    float *room = mem_take_array((size_t)threads * (size_t)widest, sizeof *room);
    if (!room) return error_set(err, GDN_ERR_MEMORY, "no memory for a row for each thread");
    enum gdn_status status = GDN_OK;
    for (int32_t i = 0; status == GDN_OK && i < w->count; i++) {
        struct weight *weight = &w->list[i];
        const enum dtype to = weight_quantised(w, weight, dtype);
        done += bytes_of(&weight->tensor);
        if (to != weight->tensor.dtype) status = quantise(w, weight, to, pool, room, err);
        if (watch->tell) watch->tell(watch->context, done, all);
    }
    mem_give(room);
    return status;
}
