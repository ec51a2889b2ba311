/* delta_ring.cuh: a study of how the delta rule of one row a sequence can run at the memory's
 * rate, as a kernel by itself (delta_ring.cu times and checks it). f32 anchors, one gate a head, heads 16/32 of 128,
 * keys in bf16, logs as state/ lays them out. What it shows is in docs/kernels/cuda.md; the product's
 * kernels are src/kernels/cuda/delta_*. Issue 8.
 *
 * A block stays on its multiprocessor and goes from head to head (or from strip to strip of 32
 * columns, when there are few). Warps have roles: 3 bring anchors and 1 brings logs and rows, both
 * ahead of what is computed, by copies of 16 bytes that no register waits for; 8 compute:
 *
 *     a = e^G (A k), b = e^G (A q), K_i = e^(G - G_i) k_i.k, Q_i = e^(G - G_i) k_i.q
 *     u = beta (v - a - sum_i K_i u_i);  o = b + sum_i Q_i u_i + (k.q) u
 *
 * A full log is folded first, in shared memory: A = e^G_15 A + sum_i e^(G_15 - G_i) k_i u_i. */
#ifndef BENCH_DELTA_RING_CUH
#define BENCH_DELTA_RING_CUH

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

enum { D = 128, STRIP = 32, BLOCK = 16, HK = 16, HV = 32, WARP = 32 };
enum { COMPUTE = 8, BRING_ROWS = 1, BRING_ANCHORS = 3 };
enum { THREADS = (COMPUTE + BRING_ROWS + BRING_ANCHORS) * WARP };

/* [slot][BLOCK][heads][D], anchors [slot][HV][strips][D][STRIP]; rows [b][heads][D]. */
struct call {
    float *anchor, *u_log, *G_log;
    __nv_bfloat16 *k_log, *o;
    const __nv_bfloat16 *q, *k, *v;
    const float *g, *beta;
    const int *slot, *pos;
    int *base;
    unsigned *arrivals;
    int B, step; /* step: how far a fold moves the base (0 when timing: it happens again) */
};

template <int STRIPS> struct log_stage {
    float U[BLOCK][STRIP * STRIPS];
    uint16_t K[BLOCK][D], q[D], k[D], v[STRIP * STRIPS];
    float G[BLOCK], g, beta;
    int m, slot;
    float pad[12];
};
template <int STRIPS, int STAGES, int LOGS> struct hall {
    float A[STAGES][STRIPS][D][STRIP];
    log_stage<STRIPS> L[LOGS];
    float part[2][STRIPS == 4 ? 2 : 8][2][STRIP * STRIPS];
    float2 pair[2][BLOCK + 1];
    uint64_t full_A[STAGES], empty_A[STAGES], full_L[LOGS], empty_L[LOGS];
};

/* ---- barriers and copies --------------------------------------------------------------------- */

static __device__ inline uint32_t at(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
static __device__ inline void bar_init(uint64_t *b, int n)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at(b)), "r"(n) : "memory");
}
static __device__ inline void bar_arrive(uint64_t *b)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at(b)) : "memory");
}
static __device__ inline void bar_arrive_later(uint64_t *b) /* when this thread's copies are there */
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(at(b)) : "memory");
}
static __device__ inline void bar_wait(uint64_t *b, int parity)
{
    asm volatile("{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@!p bra again;\n}" ::"r"(at(b)), "r"(parity)
                 : "memory");
}
static __device__ inline void copy_16(uint32_t to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
static __device__ inline void copy_4(uint32_t to, const void *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
static __device__ inline void copies_wait(void) { asm volatile("cp.async.wait_all;" ::: "memory"); }
static __device__ inline void compute_meet(void) { asm volatile("bar.sync 1, 256;" ::: "memory"); }

static __device__ inline float low(uint32_t x) { return __uint_as_float(x << 16); }
static __device__ inline float high(uint32_t x) { return __uint_as_float(x & 0xffff0000u); }
static __device__ inline float of8(const uint4 &x, int e)
{
    const uint32_t w = e / 2 == 0 ? x.x : e / 2 == 1 ? x.y : e / 2 == 2 ? x.z : x.w;
    return e % 2 ? high(w) : low(w);
}

/* ---- what comes ------------------------------------------------------------------------------ */

struct where {
    int b, h, strip;
};
/* The n-th item of this block. Blocks take turns, so that heads that fold are spread. */
template <int STRIPS> static __device__ inline where where_of(int n)
{
    const int item = (int)blockIdx.x + n * (int)gridDim.x, parts = 4 / STRIPS;
    return {item / (HV * parts), item / parts % HV, item % parts * STRIPS};
}
template <int STRIPS> static __device__ inline int items_of(const call &a)
{
    return (a.B * HV * (4 / STRIPS) - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
}

/* Slots and lengths of logs are fetched by 32 items, a lane an item, long before they are needed. */
template <int STRIPS, int STAGES, int LOGS>
static __device__ void bring_rows(const call &a, hall<STRIPS, STAGES, LOGS> *s)
{
    const int lane = (int)threadIdx.x % WARP, items = items_of<STRIPS>(a);
    int slot = 0, m = 0, next_slot = 0, next_pos = 0, next_m = 0;
    auto begin = [&](int n) {
        if (n + lane >= items) return;
        const int b = where_of<STRIPS>(n + lane).b;
        next_slot = a.slot[b], next_pos = a.pos[b];
    };
    auto end = [&](int n) {
        if (n + lane < items) next_m = next_pos - a.base[next_slot];
    };
    begin(0), end(0);
    for (int n = 0; n < items; n++) {
        if (n % WARP == 0) slot = next_slot, m = next_m;
        if (n % WARP == 4) begin(n / WARP * WARP + WARP);
        if (n % WARP == 16) end(n / WARP * WARP + WARP);
        const where w = where_of<STRIPS>(n);
        const size_t sl = (size_t)__shfl_sync(~0u, slot, n % WARP);
        const int mm = __shfl_sync(~0u, m, n % WARP), wide = 8 * STRIPS;
        log_stage<STRIPS> *L = &s->L[n % LOGS];
        if (n >= LOGS) bar_wait(&s->empty_L[n % LOGS], (n / LOGS - 1) & 1);
        const __nv_bfloat16 *K = a.k_log + (sl * BLOCK * HK + w.h / 2) * D;
        const float *U = a.u_log + (sl * BLOCK * HV + w.h) * D + w.strip * STRIP;
        for (int i = lane; i < mm * 16; i += WARP)
            copy_16(at(L->K) + 16 * i, K + (size_t)(i / 16) * HK * D + i % 16 * 8);
        for (int i = lane; i < mm * wide; i += WARP)
            copy_16(at(L->U) + 16 * i, U + (size_t)(i / wide) * HV * D + i % wide * 4);
        if (lane < mm) copy_4(at(&L->G[lane]), a.G_log + (sl * BLOCK + lane) * HV + w.h);
        if (n == 0) asm volatile("griddepcontrol.wait;" ::: "memory"); /* rows are of this pass */
        const size_t key = ((size_t)w.b * HK + w.h / 2) * D, head = (size_t)w.b * HV + w.h;
        copy_16((lane < 16 ? at(L->q) : at(L->k)) + lane % 16 * 16,
                (lane < 16 ? a.q : a.k) + key + lane % 16 * 8);
        if (lane < 4 * STRIPS) copy_16(at(L->v) + 16 * lane, a.v + head * D + w.strip * STRIP + 8 * lane);
        if (lane == 16) copy_4(at(&L->g), a.g + head);
        if (lane == 17) copy_4(at(&L->beta), a.beta + head);
        bar_arrive_later(&s->full_L[n % LOGS]);
        if (lane == 0) {
            L->m = mm, L->slot = (int)sl;
            bar_arrive(&s->full_L[n % LOGS]);
        }
    }
    copies_wait();
}

template <int STRIPS, int STAGES, int LOGS>
static __device__ void bring_anchors(const call &a, hall<STRIPS, STAGES, LOGS> *s, int thread)
{
    const int lane = thread % WARP, items = items_of<STRIPS>(a);
    int slot = 0;
    for (int n = 0; n < items; n++) {
        if (n % WARP == 0 && n + lane < items) slot = a.slot[where_of<STRIPS>(n + lane).b];
        const where w = where_of<STRIPS>(n);
        const size_t sl = (size_t)__shfl_sync(~0u, slot, n % WARP);
        if (n >= STAGES) bar_wait(&s->empty_A[n % STAGES], (n / STAGES - 1) & 1);
        const float *from = a.anchor + ((sl * HV + w.h) * 4 + w.strip) * D * STRIP;
        const uint32_t to = at(s->A[n % STAGES]);
#pragma unroll 11
        for (int i = thread; i < STRIPS * D * STRIP / 4; i += BRING_ANCHORS * WARP)
            copy_16(to + 16 * i, from + 4 * i);
        bar_arrive_later(&s->full_A[n % STAGES]);
    }
    copies_wait();
}

/* ---- what is computed ------------------------------------------------------------------------ */

/* A thread has 4 columns and runs of up to 8 channels. */
template <int STRIPS>
static __device__ void fold(float (*A)[D][STRIP], const log_stage<STRIPS> *L, float *to)
{
    enum { FOURS = 8 * STRIPS, ALL = D * FOURS / 256, RUN = ALL < 8 ? ALL : 8 };
    const int four = (int)threadIdx.x % FOURS, strip = four / 8, c = four % 8 * 4;
    const float last = L->G[BLOCK - 1], all = expf(last);
    float4 u[BLOCK];
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        const float4 x = *(const float4 *)&L->U[i][4 * four];
        const float e = expf(last - L->G[i]);
        u[i] = float4{x.x * e, x.y * e, x.z * e, x.w * e};
    }
#pragma unroll 1
    for (int d = (int)threadIdx.x / FOURS * ALL, end = d + ALL; d < end; d += RUN) {
        float4 x[RUN];
#pragma unroll
        for (int e = 0; e < RUN; e++) {
            x[e] = *(const float4 *)&A[strip][d + e][c];
            x[e] = float4{x[e].x * all, x[e].y * all, x[e].z * all, x[e].w * all};
        }
#pragma unroll
        for (int i = 0; i < BLOCK; i++) {
            const uint2 *key = (const uint2 *)&L->K[i][d];
            const uint2 lower = key[0], upper = RUN == 8 ? key[1] : uint2{0, 0};
            const uint4 k8 = {lower.x, lower.y, upper.x, upper.y};
#pragma unroll
            for (int e = 0; e < RUN; e++) {
                const float k = of8(k8, e);
                x[e].x = fmaf(k, u[i].x, x[e].x), x[e].y = fmaf(k, u[i].y, x[e].y);
                x[e].z = fmaf(k, u[i].z, x[e].z), x[e].w = fmaf(k, u[i].w, x[e].w);
            }
        }
#pragma unroll
        for (int e = 0; e < RUN; e++) {
            *(float4 *)&A[strip][d + e][c] = x[e];
            *(float4 *)(to + (strip * D + d + e) * STRIP + c) = x[e];
        }
    }
}

/* K_i and Q_i of the log, and of the row itself (i = m); a warp an entry. */
template <int STRIPS>
static __device__ void make_pairs(const log_stage<STRIPS> *L, int m, float G, float2 *pair)
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const uint2 k = *(const uint2 *)&L->k[4 * lane], q = *(const uint2 *)&L->q[4 * lane];
    for (int i = warp; i <= m; i += COMPUTE) {
        const uint2 x = i < m ? *(const uint2 *)&L->K[i][4 * lane] : k;
        float kk = low(x.x) * low(k.x), kq = low(x.x) * low(q.x);
        kk = fmaf(high(x.x), high(k.x), kk), kq = fmaf(high(x.x), high(q.x), kq);
        kk = fmaf(low(x.y), low(k.y), kk), kq = fmaf(low(x.y), low(q.y), kq);
        kk = fmaf(high(x.y), high(k.y), kk), kq = fmaf(high(x.y), high(q.y), kq);
        const bool first = lane < 16; /* two sums in one tree */
        float sum = (first ? kk : kq) + __shfl_xor_sync(~0u, first ? kq : kk, 16);
        for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
        const float e = i < m ? expf(G - L->G[i]) : 1.0f;
        if (lane == 0) pair[i].x = sum * e;
        if (lane == 16) pair[i].y = sum * e;
    }
}

/* A k and A q, by runs of 16 channels: four columns a lane and four runs a warp when all strips are
 * here, a column a lane and a run a warp for one strip. */
template <int STRIPS>
static __device__ void meet_anchor(const log_stage<STRIPS> *L, float (*A)[D][STRIP],
                                   float (*part)[2][STRIP * STRIPS])
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    enum { WIDE = STRIPS == 4 ? 4 : 1 };
    const int strip = STRIPS == 4 ? warp % 4 : 0, c = STRIPS == 4 ? lane % 8 * 4 : lane;
    const int first = STRIPS == 4 ? warp / 4 * 64 + lane / 8 * 16 : warp * 16;
    float x[WIDE] = {}, y[WIDE] = {};
#pragma unroll
    for (int j = 0; j < 16; j += 8) {
        const uint4 k = *(const uint4 *)&L->k[first + j], q = *(const uint4 *)&L->q[first + j];
#pragma unroll
        for (int e = 0; e < 8; e++) {
            float S[WIDE];
            if (STRIPS == 4)
                *(float4 *)S = *(const float4 *)&A[strip][first + j + e][c];
            else
                S[0] = A[0][first + j + e][c];
#pragma unroll
            for (int i = 0; i < WIDE; i++)
                x[i] = fmaf(S[i], of8(k, e), x[i]), y[i] = fmaf(S[i], of8(q, e), y[i]);
        }
    }
    if (STRIPS == 4) {
#pragma unroll
        for (int step = 8; step < WARP; step *= 2)
#pragma unroll
            for (int i = 0; i < WIDE; i++) {
                x[i] += __shfl_xor_sync(~0u, x[i], step);
                y[i] += __shfl_xor_sync(~0u, y[i], step);
            }
        float *to = &part[warp / 4][lane / 8 % 2][strip * STRIP + c];
        if (lane < 8) *(float4 *)to = *(const float4 *)x;
        if (lane >= 8 && lane < 16) *(float4 *)to = *(const float4 *)y;
    } else {
        part[warp][0][lane] = x[0], part[warp][1][lane] = y[0];
    }
}

/* u and o of a column. */
template <int STRIPS>
static __device__ void solve(const call &a, const log_stage<STRIPS> *L, const where &w, int m, float G,
                             const float (*part)[2][STRIP * STRIPS], const float2 *pair)
{
    const int c = (int)threadIdx.x;
    float sum[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if constexpr (STRIPS == 4)
            sum[i] = part[0][i][c] + part[1][i][c];
        else
            sum[i] = ((part[0][i][c] + part[1][i][c]) + (part[2][i][c] + part[3][i][c])) +
                     ((part[4][i][c] + part[5][i][c]) + (part[6][i][c] + part[7][i][c]));
        sum[i] *= expf(G);
    }
    float x = sum[0], o = sum[1];
#pragma unroll 5
    for (int i = 0; i < m; i++)
        x = fmaf(pair[i].x, L->U[i][c], x), o = fmaf(pair[i].y, L->U[i][c], o);
    const float u = L->beta * (__uint_as_float((uint32_t)L->v[c] << 16) - x);
    o = fmaf(pair[m].y, u, o);
    a.o[((size_t)w.b * HV + w.h) * D + w.strip * STRIP + c] = __float2bfloat16(o);
    a.u_log[(((size_t)L->slot * BLOCK + m) * HV + w.h) * D + w.strip * STRIP + c] = u;
}

/* A fold that waits for the other heads of its sequence: the last one appends all keys and moves the
 * base, for until then others read them. Looked at an item later, when the counter's answer is there. */
struct pending {
    int b, slot;
    unsigned before;
};
static __device__ void settle(const call &a, struct pending *p, int parts)
{
    const int lane = (int)threadIdx.x % WARP;
    if (p->b >= 0 && __shfl_sync(~0u, p->before, 0) == (unsigned)(HV * parts - 1)) {
        uint4 *to = (uint4 *)(a.k_log + (size_t)p->slot * BLOCK * HK * D);
        const uint4 *from = (const uint4 *)(a.k + (size_t)p->b * HK * D);
        for (int i = lane; i < HK * D / 8; i += WARP) to[i] = from[i];
        if (lane == 0) a.base[p->slot] += a.step, a.arrivals[p->b] = 0;
    }
    p->b = -1;
}

template <int STRIPS>
static __device__ void append(const call &a, const log_stage<STRIPS> *L, const where &w, int m, float G,
                              bool folds, struct pending *p)
{
    const int lane = (int)threadIdx.x % WARP;
    const size_t entry = (size_t)L->slot * BLOCK + m;
    settle(a, p, 4 / STRIPS);
    if (folds) {
        *p = {w.b, L->slot, 0};
        if (lane == 0) p->before = atomicAdd(&a.arrivals[w.b], 1u);
    } else if (w.h % 2 == 0 && w.strip == 0) {
        ((uint2 *)(a.k_log + (entry * HK + w.h / 2) * D))[lane] = *(const uint2 *)&L->k[4 * lane];
    }
    if (lane == 0 && w.strip == 0) a.G_log[entry * HV + w.h] = G;
}

template <int STRIPS, int STAGES, int LOGS>
static __device__ void compute(const call &a, hall<STRIPS, STAGES, LOGS> *s)
{
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int items = items_of<STRIPS>(a);
    struct pending pending = {-1, 0, 0};
    for (int n = 0; n < items; n++) {
        const log_stage<STRIPS> *L = &s->L[n % LOGS];
        float(*A)[D][STRIP] = s->A[n % STAGES];
        bar_wait(&s->full_L[n % LOGS], (n / LOGS) & 1);
        const where w = where_of<STRIPS>(n);
        const bool folds = L->m == BLOCK;
        const int m = folds ? 0 : L->m;
        if (folds) {
            bar_wait(&s->full_A[n % STAGES], (n / STAGES) & 1);
            fold<STRIPS>(A, L, a.anchor + (((size_t)L->slot * HV + w.h) * 4 + w.strip) * D * STRIP);
            compute_meet();
        }
        const float G = (m > 0 ? L->G[m - 1] : 0.0f) + fmaxf(L->g, -104.0f);
        make_pairs<STRIPS>(L, m, G, s->pair[n % 2]);
        if (!folds) bar_wait(&s->full_A[n % STAGES], (n / STAGES) & 1);
        meet_anchor<STRIPS>(L, A, s->part[n % 2]);
        __syncwarp();
        if (lane == 0) bar_arrive(&s->empty_A[n % STAGES]);
        compute_meet();
        if (warp < STRIPS) solve<STRIPS>(a, L, w, m, G, s->part[n % 2], s->pair[n % 2]);
        if (warp == COMPUTE - 1) append<STRIPS>(a, L, w, m, G, folds, &pending);
        __syncwarp();
        if (lane == 0) bar_arrive(&s->empty_L[n % LOGS]);
    }
    if (warp == COMPUTE - 1) settle(a, &pending, 4 / STRIPS);
}

template <int STRIPS, int STAGES, int LOGS>
static __global__ void __launch_bounds__(THREADS, 1) ring(const __grid_constant__ call a)
{
    extern __shared__ __align__(128) unsigned char room[];
    hall<STRIPS, STAGES, LOGS> *s = (hall<STRIPS, STAGES, LOGS> *)room;
    const int warp = (int)threadIdx.x / WARP;
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++)
            bar_init(&s->full_A[i], BRING_ANCHORS * WARP), bar_init(&s->empty_A[i], COMPUTE);
        for (int i = 0; i < LOGS; i++)
            bar_init(&s->full_L[i], WARP + 1), bar_init(&s->empty_L[i], COMPUTE);
    }
    __syncthreads();
    if (warp < COMPUTE)
        compute<STRIPS, STAGES, LOGS>(a, s);
    else if (warp < COMPUTE + BRING_ROWS)
        bring_rows<STRIPS, STAGES, LOGS>(a, s);
    else
        bring_anchors<STRIPS, STAGES, LOGS>(a, s, (int)threadIdx.x - (COMPUTE + BRING_ROWS) * WARP);
}

#endif
