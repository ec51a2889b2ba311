/* attn.cu: causal attention over pages, or over dense keys. Truth: kernels/ref/attn.c.
 *
 *     o = sum_j softmax_j(scale q.k_j) v_j         over positions 0..p
 *
 * Positions are cut where they stand: pages of 64 are folded one after another into the running
 * maximum, weight and sum of their chunk of 256, and chunks, in order, into those of the row. So it
 * is the same arithmetic whether one block walks all chunks of a row or each chunk has its own block
 * (few rows, long past), and a row's bits depend on its position only. Prompts in bf16 are another
 * kernel's (attn_prompt.cu), other rows in bf16 attn_mix.cu's where it is asked. */
#include "kernels/cuda/attn.cuh"

enum { THREADS = 128, WARPS = THREADS / WARP, CHUNK = 4 * PAGE, MOST_VALUES = 8 };

/* Which sequences: the others have another kernel. */
enum takes { ALL, ALL_BUT_PROMPTS, PROMPTS };

struct attn_call {
    struct view q, k, v, o;
    struct rows rows;
    struct kv_pages pages; /* k NULL: dense */
    float scale;
    enum takes takes;
    float *partial; /* [T][Hq][chunks][Dv + 2]: a chunk's sums, weight and maximum; or NULL */
    int32_t chunks;
};

/* ---- pages ----------------------------------------------------------------------------------- */

static __device__ inline int64_t page_row(const struct kv_pages &p, int32_t slot, int64_t position)
{
    return p.table[(int64_t)slot * p.row_pages + position / PAGE] * (int64_t)PAGE + position % PAGE;
}

static __global__ void write_pages(struct attn_call a)
{
    let_next_start();
    wait_for_input();
    const int32_t t = (int32_t)blockIdx.x, b = sequence_of(a.rows, t);
    const struct kv_pages &p = a.pages;
    if (absent(a.rows, b)) return;
    const int64_t row = page_row(p, a.rows.slot[b], a.rows.pos[b] + t - a.rows.start[b]) * p.Hkv;
    for (int64_t i = threadIdx.x; i < (int64_t)p.Hkv * p.D; i += THREADS)
        store(p.k, p.dtype, row * p.D + i, get(a.k, view_at(a.k, t, i / p.D, i % p.D)));
    for (int64_t i = threadIdx.x; p.v && i < (int64_t)p.Hkv * p.Dv; i += THREADS)
        store(p.v, p.dtype, row * p.Dv + i, get(a.v, view_at(a.v, t, i / p.Dv, i % p.Dv)));
}

/* Where the key, or the value, of a position begins. */
static __device__ inline int64_t place(const struct attn_call &a, bool value, int32_t b, int64_t h,
                                       int64_t position)
{
    const struct kv_pages &p = a.pages;
    if (p.k) {
        const int64_t row = page_row(p, a.rows.slot[b], position) * p.Hkv + h;
        return row * (value && p.v ? p.Dv : p.D);
    }
    return view_at(value ? a.v : a.k, a.rows.start[b] + position, h, 0);
}

/* ---- one row and head ------------------------------------------------------------------------ */

/* What softmax has seen so far; a thread has every 128th value. */
struct running {
    float max, weight, sum[MOST_VALUES];
};

static __device__ inline void start(struct running *r)
{
    r->max = -INFINITY;
    r->weight = 0.0f;
#pragma unroll
    for (int i = 0; i < MOST_VALUES; i++) r->sum[i] = 0.0f;
}

struct stage {
    float score[PAGE];
};

static __device__ void fold_page(const struct attn_call &a, int32_t b, int64_t h, int64_t first,
                                 int64_t n, const float *q, struct stage *s, struct running *r)
{
    const bool paged = a.pages.k != NULL;
    const enum dtype type = paged ? a.pages.dtype : a.k.dtype;
    const void *keys = paged ? a.pages.k : a.k.data;
    const void *values = !paged ? a.v.data : a.pages.v ? a.pages.v : a.pages.k;
    const int lane = (int)threadIdx.x % WARP;
    const int64_t D = a.q.dim[2], Dv = a.o.dim[2];
    __syncthreads();
    for (int64_t j = threadIdx.x / WARP; j < n; j += WARPS) {
        const int64_t at = place(a, false, b, h, first + j);
        float dot = 0.0f;
        for (int64_t d = lane; d < D; d += WARP) dot = fmaf(q[d], load(keys, type, at + d), dot);
        dot = warp_sum(dot) * a.scale;
        if (lane == 0) s->score[j] = dot;
    }
    __syncthreads();
    const float low = lane < n ? s->score[lane] : -INFINITY;
    const float high = lane + WARP < n ? s->score[lane + WARP] : -INFINITY;
    const float max = fmaxf(r->max, warp_max(fmaxf(low, high))), shrink = expf(r->max - max);
    const float some = (lane < n ? expf(low - max) : 0.0f) +
                       (lane + WARP < n ? expf(high - max) : 0.0f);
    r->weight = fmaf(r->weight, shrink, warp_sum(some));
    r->max = max;
#pragma unroll
    for (int i = 0; i < MOST_VALUES; i++) r->sum[i] *= shrink;
    for (int64_t j = 0; j < n; j++) {
        const float e = expf(s->score[j] - max);
        const int64_t at = place(a, true, b, h, first + j);
#pragma unroll
        for (int i = 0; i < MOST_VALUES; i++) {
            const int64_t d = threadIdx.x + i * THREADS;
            if (d < Dv) r->sum[i] = fmaf(e, load(values, type, at + d), r->sum[i]);
        }
    }
}

/* A chunk joins what came before it. */
static __device__ inline void join(struct running *all, const struct running *chunk)
{
    const float max = fmaxf(all->max, chunk->max);
    const float old = expf(all->max - max), now = expf(chunk->max - max);
    all->weight = fmaf(all->weight, old, chunk->weight * now);
    all->max = max;
#pragma unroll
    for (int i = 0; i < MOST_VALUES; i++)
        all->sum[i] = fmaf(all->sum[i], old, chunk->sum[i] * now);
}

static __device__ void fold_chunk(const struct attn_call &a, int32_t b, int64_t h, int64_t first,
                                  int64_t end, const float *q, struct stage *s, struct running *r)
{
    start(r);
    for (int64_t at = first; at < first + CHUNK && at < end; at += PAGE)
        fold_page(a, b, h, at, end - at < PAGE ? end - at : (int64_t)PAGE, q, s, r);
}

static __device__ void finish(const struct attn_call &a, int64_t t, int64_t h,
                              const struct running *r)
{
#pragma unroll
    for (int i = 0; i < MOST_VALUES; i++) {
        const int64_t d = threadIdx.x + i * THREADS;
        if (d < a.o.dim[2]) put(a.o, view_at(a.o, t, h, d), r->sum[i] / r->weight);
    }
}

static __device__ inline bool takes(const struct attn_call &a, int32_t b)
{
    return a.takes == ALL || is_prompt(a.rows, b) == (a.takes == PROMPTS);
}

static __device__ inline float *partial_of(const struct attn_call &a, int64_t t, int64_t h,
                                           int64_t chunk)
{
    return a.partial + ((t * a.q.dim[1] + h) * a.chunks + chunk) * (a.o.dim[2] + 2);
}

/* A block a row and head, or one for each of its chunks. */
static __global__ void attend(struct attn_call a)
{
    let_next_start();
    wait_for_input();
    DYNAMIC_SHARED(q);
    __shared__ struct stage s;
    const int32_t t = (int32_t)blockIdx.x, b = sequence_of(a.rows, t);
    const int64_t Hkv = a.pages.k ? a.pages.Hkv : a.k.dim[1], Dv = a.o.dim[2];
    const int64_t h = blockIdx.y, key_head = h / (a.q.dim[1] / Hkv);
    const int64_t end = (int64_t)a.rows.pos[b] + t - a.rows.start[b] + 1;
    struct running all, chunk;
    if (!takes(a, b)) return;
    if (absent(a.rows, b)) {
        for (int64_t d = threadIdx.x; d < Dv && blockIdx.z == 0; d += THREADS)
            put(a.o, view_at(a.o, t, h, d), 0.0f);
        return;
    }
    for (int64_t d = threadIdx.x; d < a.q.dim[2]; d += THREADS) q[d] = get(a.q, view_at(a.q, t, h, d));
    if (a.partial) {
        const int64_t first = (int64_t)blockIdx.z * CHUNK;
        if (first >= end) return;
        fold_chunk(a, b, key_head, first, end, q, &s, &chunk);
        float *to = partial_of(a, t, h, blockIdx.z);
        for (int i = 0; i < MOST_VALUES; i++)
            if (threadIdx.x + i * THREADS < Dv) to[threadIdx.x + i * THREADS] = chunk.sum[i];
        if (threadIdx.x == 0) to[Dv] = chunk.weight, to[Dv + 1] = chunk.max;
        return;
    }
    start(&all);
    for (int64_t first = 0; first < end; first += CHUNK) {
        fold_chunk(a, b, key_head, first, end, q, &s, &chunk);
        join(&all, &chunk);
    }
    finish(a, t, h, &all);
}

/* The chunks of a row and head, in order. */
static __global__ void join_chunks(struct attn_call a)
{
    let_next_start();
    wait_for_input();
    const int32_t t = (int32_t)blockIdx.x, b = sequence_of(a.rows, t);
    const int64_t h = blockIdx.y, Dv = a.o.dim[2];
    const int64_t end = (int64_t)a.rows.pos[b] + t - a.rows.start[b] + 1;
    struct running all, chunk;
    if (absent(a.rows, b) || !takes(a, b)) return;
    start(&all);
    for (int64_t c = 0; c * CHUNK < end; c++) {
        const float *from = partial_of(a, t, h, c);
#pragma unroll
        for (int i = 0; i < MOST_VALUES; i++)
            chunk.sum[i] = threadIdx.x + i * THREADS < Dv ? from[threadIdx.x + i * THREADS] : 0.0f;
        chunk.weight = from[Dv], chunk.max = from[Dv + 1];
        join(&all, &chunk);
    }
    finish(a, t, h, &all);
}

/* ---- the call -------------------------------------------------------------------------------- */

enum { ENOUGH_BLOCKS = 1024 }; /* with so many a GPU is busy without cutting rows in chunks */

/* Room for the sums of chunks, when there are few rows and a long past may be behind them. */
static float *take_partial(struct arena *scratch, const struct attn_call *a)
{
    const size_t rows = (size_t)a->q.dim[0] * (size_t)a->q.dim[1] * (size_t)a->chunks;
    const size_t bytes = rows * ((size_t)a->o.dim[2] + 2) * sizeof(float);
    if (a->chunks < 2 || rows / (size_t)a->chunks >= ENOUGH_BLOCKS) return NULL;
    if (scratch->size - scratch->used < bytes + 64) return NULL;
    return (float *)arena_take(scratch, bytes);
}

static struct attn_call call_of(const struct attn_args *a)
{
    struct attn_call call = {};
    call.q = view_of(a->q), call.k = view_of(a->k), call.v = view_of(a->v), call.o = view_of(a->o);
    call.rows = *a->rows;
    call.scale = (float)a->scale;
    GDN_CHECK(!a->pages || a->rows->slot, "attn: pages belong to slots");
    GDN_CHECK(a->o->dim[2] <= MOST_VALUES * THREADS, "attn: values of %lld", (long long)a->o->dim[2]);
    if (a->pages) call.pages = *a->pages;
    return call;
}

static void run(struct device *device, struct arena *scratch, struct attn_call call,
                enum takes takes)
{
    const struct rows *rows = &call.rows;
    call.takes = takes;
    if (call.pages.k) {
        const int32_t most = call.pages.row_pages * PAGE;
        const int32_t reach = rows->reach > 0 && rows->reach < most ? rows->reach : most;
        call.chunks = (reach + CHUNK - 1) / CHUNK;
        call.partial = take_partial(scratch, &call);
    }
    const unsigned T = (unsigned)rows->T, Hq = (unsigned)call.q.dim[1];
    const dim3 grid(T, Hq, call.partial ? (unsigned)call.chunks : 1);
    launch_early(device, attend, grid, THREADS, sizeof(float) * (size_t)call.q.dim[2], call);
    if (call.partial) launch_early(device, join_chunks, dim3(T, Hq), THREADS, 0, call);
}

/* Keys and values are in their pages, where there are any. */
static void attend_written(struct device *device, struct arena *scratch,
                           const struct attn_args *args)
{
    const bool fits = attn_prompt_fits(args);
    if (fits) attn_prompt(device, args);
    if (fits && must_be_prompts(args->rows)) return;
    run(device, scratch, call_of(args), fits ? ALL_BUT_PROMPTS : ALL);
}

void attn_paged(struct device *device, struct arena *scratch, const struct attn_args *args,
                bool prompts_only)
{
    if (!prompts_only)
        attend_written(device, scratch, args);
    else if (attn_prompt_fits(args))
        attn_prompt(device, args);
    else
        run(device, scratch, call_of(args), PROMPTS);
}

void cuda_attn(struct device *device, struct arena *scratch, const void *args)
{
    const struct attn_args *a = (const struct attn_args *)args;
    if (a->pages)
        launch_early(device, write_pages, dim3((unsigned)a->rows->T), THREADS, 0, call_of(a));
    attend_written(device, scratch, a);
}
