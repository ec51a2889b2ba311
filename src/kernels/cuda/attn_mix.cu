/* attn_mix.cu: a layer's attention from its packed projection: norms, rope, pages, attention, gate.
 * Truth: the parts, one by one (ops/mix.c).
 *
 *     enter   a warp a row and head: q normed and turned, k and v into their pages
 *     attend  a block a row, key head and stretch of the past: 64 or 256 positions, or all
 *     leave   stretches joined in order, o sigmoid(gate)
 *
 * The heads of a group share their keys, so they are the 16 rows of m16n8k16: s = q K^T, then, with the
 * page's own maximum, p = e^(s - max) as two bf16 (16 bits of it) times V. Pages of 64 are folded into
 * the running maximum, weight and sum of their chunk of 256, and chunks, in order, into those of the
 * row. So a row's bits depend on its own past only, however blocks share it. That is for sequences
 * without a prompt in this pass (prompt.cuh), in bf16; what else there is goes to attn.cu. */
#include "kernels/cuda/attn_few.cuh"

/* ---- enter ----------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) enter(struct mix_call a)
{
    __shared__ float room[WARPS][MOST_WIDTH];
    let_next_start();
    wait_for_input();
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int32_t t = (int32_t)blockIdx.x, h = (int32_t)blockIdx.y * WARPS + warp;
    const int32_t b = sequence_of(a.rows, t), key = h - a.Hq, value = key - a.Hkv;
    if (h >= a.Hq + 2 * a.Hkv || absent(a.rows, b)) return;
    const int64_t position = position_of(a, t, b), row = t * a.x.stride[0];
    const struct kv_pages &p = a.pages;
    const int64_t at = page_row(p, a.rows.slot[b], position) * p.Hkv * a.D;
    const int64_t keys = row + (int64_t)a.Hq * a.gap, values = keys + (int64_t)a.Hkv * a.D;
    if (value >= 0) {
        for (int32_t d = lane; d < a.D; d += WARP)
            store(p.v, p.dtype, at + (int64_t)value * a.D + d, get(a.x, values + (int64_t)value * a.D + d));
        return;
    }
    const int64_t from = key < 0 ? row + (int64_t)h * a.gap : keys + (int64_t)key * a.D;
    norm_head(a, from, key < 0 ? a.q_norm : a.k_norm, room[warp]);
    __syncwarp();
    for (int32_t d = lane; d < a.D; d += WARP) {
        const float x = turned(a, room[warp], d, position);
        if (key < 0)
            put(a.q, view_at(a.q, t, h, d), x);
        else
            store(p.k, p.dtype, at + (int64_t)key * a.D + d, x);
    }
}

/* ---- attend ---------------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(THREADS) attend_few(struct mix_call a)
{
    DYNAMIC_SHARED(room);
    const struct desk s = desk_at(room, a.D);
    const int32_t t = (int32_t)blockIdx.x, head = (int32_t)blockIdx.y, group = a.Hq / a.Hkv;
    let_next_start();
    wait_for_input();
    int32_t b;
    if (!serves(a, t, &b)) return;
    const int64_t past = position_of(a, t, b) + 1, first = (int64_t)blockIdx.z * a.stretch * PAGE;
    const int64_t last = first + (int64_t)a.stretch * PAGE, end = past < last ? past : last;
    if (first >= end) return;
    struct running all = {{-INFINITY, -INFINITY}, {}, {}}, chunk;
    fetch(s.q, (const uint16_t *)a.q.data + view_at(a.q, t, head * group, 0), a.q.stride[1], group,
          ROWS, a.D);
    for (int64_t at = first; at < end; at += CHUNK) {
        attend_chunk(a, &s, a.rows.slot[b], head, at, end, &chunk);
        fold_in(&all, chunk);
    }
    hand_over(a, t, head, (int32_t)blockIdx.z, &all);
}

/* ---- leave ----------------------------------------------------------------------------------- */

/* Stretches of a chunk, then chunks; y = o sigmoid(gate). A thread has every 128th column. */
static __global__ void __launch_bounds__(THREADS) leave(struct mix_call a)
{
    enum { EACH = MOST_WIDTH / THREADS };
    const int32_t t = (int32_t)blockIdx.x, h = (int32_t)blockIdx.y;
    let_next_start();
    wait_for_input();
    int32_t b;
    const bool mine = serves(a, t, &b);
    if (!mine && !absent(a.rows, b)) return;
    const int32_t past = mine ? (int32_t)(position_of(a, t, b) / PAGE) + 1 : 0; /* pages */
    const int32_t stretches = (past + a.stretch - 1) / a.stretch, per_chunk = a.stretch == 1 ? 4 : 1;
    float max = -INFINITY, weight = 0.0f, sum[EACH] = {};
    for (int32_t c = 0; c < stretches; c += per_chunk) {
        float chunk_max = -INFINITY, chunk_weight = 0.0f, chunk[EACH] = {}, now;
        for (int32_t i = c; i < c + per_chunk && i < stretches; i++) {
            const float *from = a.partial + (((int64_t)t * a.Hq + h) * a.stretches + i) * (a.D + 2);
            const float old = fold(&chunk_max, &chunk_weight, from[a.D + 1], from[a.D], &now);
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                const int32_t d = (int32_t)threadIdx.x + e * THREADS;
                if (d < a.D) chunk[e] = fmaf(chunk[e], old, from[d] * now);
            }
        }
        const float old = fold(&max, &weight, chunk_max, chunk_weight, &now);
#pragma unroll
        for (int e = 0; e < EACH; e++) sum[e] = fmaf(sum[e], old, chunk[e] * now);
    }
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int32_t d = (int32_t)threadIdx.x + e * THREADS;
        if (d >= a.D) break;
        float o = mine ? sum[e] / weight : 0.0f;
        if (a.gated) o *= sigmoid(get(a.x, t * a.x.stride[0] + (int64_t)h * a.gap + a.D + d));
        put(a.y, t * a.y.stride[0] + (int64_t)h * a.D + d, o);
    }
}

/* Of the rows that attn.cu serves: y = y sigmoid(gate). */
static __global__ void __launch_bounds__(THREADS) gate_many(struct mix_call a)
{
    const int32_t t = (int32_t)blockIdx.x, h = (int32_t)blockIdx.y;
    let_next_start();
    wait_for_input();
    int32_t b;
    if (a.few_only && serves(a, t, &b)) return;
    for (int32_t d = (int32_t)threadIdx.x; d < a.D; d += THREADS) {
        const int64_t at = t * a.y.stride[0] + (int64_t)h * a.D + d;
        const float gate = get(a.x, t * a.x.stride[0] + (int64_t)h * a.gap + a.D + d);
        put(a.y, at, get(a.y, at) * sigmoid(gate));
    }
}

/* ---- the call -------------------------------------------------------------------------------- */

/* Which stretch keeps a GPU busy, and has room for what comes of it. */
static bool take_partial(struct arena *scratch, struct mix_call *call, int32_t T)
{
    enum { BUSY = 1024 };
    const int32_t most = call->pages.row_pages, reach = (call->rows.reach + PAGE - 1) / PAGE;
    const int32_t past = reach > 0 && reach < most ? reach : most;
    const size_t one = sizeof(float) * (size_t)T * (size_t)call->Hq * ((size_t)call->D + 2);
    call->stretch = (int64_t)T * call->Hkv * past <= BUSY ? 1 : T * call->Hkv < BUSY ? 4 : past;
    call->stretches = (past + call->stretch - 1) / call->stretch;
    if (scratch->size - scratch->used < one * (size_t)call->stretches + 64)
        call->stretch = past, call->stretches = 1;
    call->partial = (float *)arena_take(scratch, one * (size_t)call->stretches);
    return call->partial != NULL;
}

static void run_few(struct device *device, struct arena *scratch, struct mix_call call, int32_t T)
{
    if (!take_partial(scratch, &call, T)) return;
    const dim3 blocks((unsigned)T, (unsigned)call.Hkv, (unsigned)call.stretches);
    launch_early(device, attend_few, blocks, THREADS, desk_bytes(call.D), call);
    launch_early(device, leave, dim3((unsigned)T, (unsigned)call.Hq), THREADS, 0, call);
}

static void run_many(struct device *device, struct arena *scratch, const struct attn_mix_args *a,
                     struct tensor *q, const struct mix_call &call)
{
    struct tensor o = tensor_over(a->y->data, a->y->dtype, 3, q->dim);
    o.stride[0] = a->y->stride[0];
    const struct attn_args args = {.q = q, .o = &o, .rows = a->rows, .pages = a->pages,
                                   .scale = 1.0 / sqrt((double)a->D)};
    attn_paged(device, scratch, &args, call.few_only);
    if (a->gated)
        launch_early(device, gate_many, dim3((unsigned)q->dim[0], (unsigned)a->Hq), THREADS, 0,
                     call);
}

void cuda_attn_mix(struct device *device, struct arena *scratch, const void *args)
{
    const struct attn_mix_args *a = (const struct attn_mix_args *)args;
    const int32_t T = a->rows->T;
    GDN_CHECK(a->pages && a->rows->slot && !a->wide && a->D <= MOST_WIDTH, "attn_mix: pages, heads");
    const bool tiles = a->x->dtype == DTYPE_BF16 && a->pages->dtype == DTYPE_BF16 &&
                       a->D % 16 == 0 && a->Hq / a->Hkv <= ROWS &&
                       ((size_t)a->pages->k | (size_t)a->pages->v) % 16 == 0;
    const bool many = !tiles || may_be_prompts(a->rows);
    const int64_t dim[] = {T, a->Hq, a->D};
    struct tensor q = tensor_over(NULL, a->x->dtype, 3, dim);
    q.data = arena_take(scratch, (size_t)(T * a->Hq * a->D) * dtype_size(q.dtype));
    if (!q.data) return;
    struct mix_call call = {};
    call.x = view_of(a->x), call.y = view_of(a->y), call.q = view_of(&q);
    call.q_norm = view_of(a->q_norm), call.k_norm = view_of(a->k_norm);
    call.rows = *a->rows, call.pages = *a->pages;
    call.Hq = a->Hq, call.Hkv = a->Hkv, call.D = a->D, call.rot = a->rot;
    call.gap = a->gated ? 2 * a->D : a->D;
    call.eps = (float)a->eps, call.scale = (float)(1.0 / sqrt((double)a->D));
    call.log2_theta = log2(a->theta);
    call.gated = a->gated, call.centred = a->centred, call.few_only = many;
    const unsigned heads = (unsigned)(a->Hq + 2 * a->Hkv);
    launch_early(device, enter, dim3((unsigned)T, blocks_for(heads, WARPS)), THREADS, 0, call);
    if (tiles) run_few(device, scratch, call, T);
    call.few_only = many && tiles;
    if (many) run_many(device, scratch, a, &q, call);
}
