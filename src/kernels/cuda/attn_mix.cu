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
#include "kernels/cuda/attn.cuh"
#include "kernels/cuda/tiles.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP, CHUNK = 4 * PAGE, ROWS = 16, PITCH_P = PAGE + 8 };
enum { MOST_WIDTH = 256, TILES = MOST_WIDTH / 16 / WARPS }; /* TILES: of 16 columns, a warp's */

struct mix_call {
    struct view x, q_norm, k_norm, y, q; /* q [T, Hq, D]: scratch */
    struct rows rows;
    struct kv_pages pages;
    int32_t Hq, Hkv, D, rot, gap; /* gap: from one head of q to the next */
    float eps, scale;
    double log2_theta;
    bool gated, centred, few_only;
    float *partial; /* [T][Hq][stretches][D + 2]: sums, weight, maximum */
    int32_t stretch, stretches; /* pages of a stretch: 1, 4, or all */
};

/* Is the row of a sequence that this file serves; *b: which. */
static __device__ inline bool serves(const struct mix_call &a, int32_t t, int32_t *b)
{
    *b = sequence_of(a.rows, t);
    if (absent(a.rows, *b)) return false;
    return !a.few_only || !is_prompt(a.rows, *b);
}

static __device__ inline int64_t position_of(const struct mix_call &a, int32_t t, int32_t b)
{
    return (int64_t)a.rows.pos[b] + t - a.rows.start[b];
}

static __device__ inline int64_t page_row(const struct kv_pages &p, int32_t slot, int64_t position)
{
    return p.table[(int64_t)slot * p.row_pages + position / PAGE] * (int64_t)PAGE + position % PAGE;
}

/* ---- enter ----------------------------------------------------------------------------------- */

/* row = x r c of a head, in shared memory. */
static __device__ void norm_head(const struct mix_call &a, int64_t from, const struct view &w,
                                 float *row)
{
    const int lane = (int)threadIdx.x % WARP;
    float sum = 0.0f;
    for (int32_t d = lane; d < a.D; d += WARP) {
        row[d] = get(a.x, from + d);
        sum = fmaf(row[d], row[d], sum);
    }
    if (!w.data) return;
    const float r = 1.0f / sqrtf(warp_sum(sum) / (float)a.D + a.eps);
    for (int32_t d = lane; d < a.D; d += WARP) {
        const float weight = get(w, d);
        row[d] = rounded(a.x.dtype, row[d] * r * (a.centred ? 1.0f + weight : weight));
    }
}

/* Element d of the head at its position: pairs (i, i + rot/2) turn by position theta^(-2i/rot). */
static __device__ float turned(const struct mix_call &a, const float *row, int32_t d,
                               int64_t position)
{
    if (d >= a.rot) return row[d];
    const int32_t half = a.rot / 2, pair = d % half;
    const double turns = (double)position * exp2(-2.0 * (double)pair / a.rot * a.log2_theta) *
                         0.15915494309189533577;
    float s, c;
    sincospif((float)(2.0 * (turns - rint(turns))), &s, &c);
    return d < half ? fmaf(row[pair], c, -(row[pair + half] * s))
                    : fmaf(row[pair + half], c, row[pair] * s);
}

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

/* Shared memory of a block: q [16][D + 8], keys and values of a page [64][D + 8], scores [16][64],
 * weights as two bf16 [2][16][64 + 8], of each head the page's maximum and weight. */
struct desk {
    uint16_t *q, *k, *v, *p;
    float *s, *max, *weight;
};

static __host__ __device__ inline size_t desk_bytes(int32_t D)
{
    return sizeof(uint16_t) * ((size_t)(ROWS + 2 * PAGE) * (size_t)(D + 8) + 2 * ROWS * PITCH_P) +
           sizeof(float) * (ROWS * PAGE + 2 * ROWS);
}

static __device__ inline struct desk desk_at(float *room, int32_t D)
{
    struct desk d;
    d.q = (uint16_t *)room;
    d.k = d.q + ROWS * (D + 8);
    d.v = d.k + PAGE * (D + 8);
    d.p = d.v + PAGE * (D + 8);
    d.s = (float *)(d.p + 2 * ROWS * PITCH_P);
    d.max = d.s + ROWS * PAGE;
    d.weight = d.max + ROWS;
    return d;
}

/* `n` rows of D, `apart` elements from one to the next, into rows of D + 8; zeros up to `all`. */
static __device__ void fetch(uint16_t *to, const uint16_t *from, int64_t apart, int n, int all,
                             int32_t D)
{
    const int units = D / 8;
    for (int i = (int)threadIdx.x; i < all * units; i += THREADS) {
        const int row = i / units, unit = i % units;
        copy_later(shared_address(to + row * (D + 8) + 8 * unit),
                   from + (row < n ? row * apart : 0) + 8 * unit, row < n);
    }
}

static __device__ void fetch_page(const struct mix_call &a, const struct desk *s, int32_t slot,
                                  int64_t head, int64_t first, int n)
{
    const struct kv_pages &p = a.pages;
    const int64_t at = (page_row(p, slot, first) * p.Hkv + head) * a.D;
    fetch(s->k, (const uint16_t *)p.k + at, (int64_t)p.Hkv * a.D, n, PAGE, a.D);
    copies_end();
    fetch(s->v, (const uint16_t *)p.v + at, (int64_t)p.Hkv * a.D, n, PAGE, a.D);
    copies_end();
}

/* scores [16][64] = scale q k: a warp makes 16 positions. */
static __device__ void score(const struct mix_call &a, const struct desk *s, int n)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int pitch = a.D + 8, row = lane % 8, matrix = lane / 8;
    float d[2][4] = {};
    for (int k = 0; k < a.D; k += 16) {
        uint32_t q[4], key[4]; /* keys: 8 positions k, k + 8, and the next 8 positions */
        tile_load(q, shared_address(s->q + (row + 8 * (matrix % 2)) * pitch + k +
                                  8 * (matrix / 2)));
        tile_load(key, shared_address(s->k + (16 * warp + row + 8 * (matrix / 2)) * pitch + k +
                                      8 * (matrix % 2)));
        tile_multiply(d[0], q, key[0], key[1]);
        tile_multiply(d[1], q, key[2], key[3]);
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int r = lane / 4 + 8 * (e / 2), j = 16 * warp + 8 * i + lane % 4 * 2 + e % 2;
            s->s[r * PAGE + j] = j < n ? d[i][e] * a.scale : -INFINITY;
        }
}

/* Of each row of scores: its maximum, e^(s - maximum) as two bf16, their sum. A warp has 4 rows. */
static __device__ void weigh(const struct desk *s)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    for (int r = warp; r < ROWS; r += WARPS) {
        const float low = s->s[r * PAGE + lane], high = s->s[r * PAGE + lane + WARP];
        const float max = warp_max(fmaxf(low, high));
        const float e[2] = {expf(low - max), expf(high - max)};
        const float sum = warp_sum(e[0] + e[1]);
        for (int i = 0; i < 2; i++) {
            const uint16_t head = bf16_of(e[i]);
            s->p[r * PITCH_P + lane + i * WARP] = head;
            s->p[(ROWS + r) * PITCH_P + lane + i * WARP] = bf16_of(e[i] - bf16_value(head));
        }
        if (lane == 0) s->max[r] = max, s->weight[r] = sum;
    }
}

/* d = weights times values: a warp makes every fourth pair of 8 columns. */
static __device__ void sum_values(const struct mix_call &a, const struct desk *s,
                                  float (*d)[2][4])
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int pitch = a.D + 8, row = lane % 8, matrix = lane / 8;
#pragma unroll
    for (int part = 0; part < 2; part++)
        for (int j = 0; j < PAGE; j += 16) {
            uint32_t p[4];
            tile_load(p, shared_address(s->p + (part * ROWS + row + 8 * (matrix % 2)) * PITCH_P +
                                        j + 8 * (matrix / 2)));
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                const int column = 16 * (warp + i * WARPS);
                if (column >= a.D) break;
                uint32_t v[4]; /* 16 positions of 8 columns, and of the next 8 */
                tile_load_turned(v, shared_address(s->v + (j + row + 8 * (matrix % 2)) * pitch +
                                                   column + 8 * (matrix / 2)));
                tile_multiply(d[i][0], p, v[0], v[1]);
                tile_multiply(d[i][1], p, v[2], v[3]);
            }
        }
}

/* What softmax has seen so far of two rows of a thread's: lane / 4 and 8 behind it. */
struct running {
    float max[2], weight[2], sum[TILES][2][4];
};

static __device__ inline float fold(float *max, float *weight, float more_max, float more_weight,
                                    float *now)
{
    const float both = fmaxf(*max, more_max), old = expf(*max - both);
    *now = expf(more_max - both);
    *weight = fmaf(*weight, old, more_weight * *now);
    *max = both;
    return old;
}

static __device__ void fold_page(const struct mix_call &a, const struct desk *s, struct running *r)
{
    const int lane = (int)threadIdx.x % WARP;
    float d[TILES][2][4] = {}, old[2], now[2];
    sum_values(a, s, d);
    for (int i = 0; i < 2; i++) {
        const int row = lane / 4 + 8 * i;
        old[i] = fold(&r->max[i], &r->weight[i], s->max[row], s->weight[row], &now[i]);
    }
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                r->sum[i][j][e] = fmaf(r->sum[i][j][e], old[e / 2], d[i][j][e] * now[e / 2]);
}

static __device__ void fold_chunk(struct running *r, const struct running &chunk)
{
    float old[2], now[2];
    for (int i = 0; i < 2; i++)
        old[i] = fold(&r->max[i], &r->weight[i], chunk.max[i], chunk.weight[i], &now[i]);
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                r->sum[i][j][e] = fmaf(r->sum[i][j][e], old[e / 2], chunk.sum[i][j][e] * now[e / 2]);
}

/* Sums, weight and maximum of the group's heads into their places. */
static __device__ void hand_over(const struct mix_call &a, int32_t t, int32_t head, int32_t stretch,
                                 const struct running *r)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int32_t group = a.Hq / a.Hkv;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int32_t g = lane / 4 + 8 * half;
        if (g >= group) continue;
        float *to = a.partial + (((int64_t)t * a.Hq + head * group + g) * a.stretches + stretch) *
                                    (a.D + 2);
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int column = 16 * (warp + i * WARPS) + 8 * (e / 2) + lane % 4 * 2 + e % 2;
                if (column < a.D) to[column] = r->sum[i][e / 2][2 * half + e % 2];
            }
        if (warp == 0 && lane % 4 == 0) to[a.D] = r->weight[half], to[a.D + 1] = r->max[half];
    }
}

/* The pages of a chunk from `first` on, into a running sum of its own. */
static __device__ void attend_chunk(const struct mix_call &a, const struct desk *s, int32_t slot,
                                    int32_t head, int64_t first, int64_t end, struct running *r)
{
    *r = {{-INFINITY, -INFINITY}, {}, {}};
    for (int64_t at = first; at < first + CHUNK && at < end; at += PAGE) {
        const int n = end - at < PAGE ? (int)(end - at) : (int)PAGE;
        fetch_page(a, s, slot, head, at, n);
        copies_wait<1>();
        __syncthreads();
        score(a, s, n);
        __syncthreads();
        weigh(s);
        copies_wait<0>();
        __syncthreads();
        fold_page(a, s, r);
        __syncthreads();
    }
}

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
        fold_chunk(&all, chunk);
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
