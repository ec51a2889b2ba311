/* delta_block.cuh: what a block of delta.cu does, step by step: its anchor in registers, the log and
 * rows in shared memory, pairs, products with the anchor, u and o, folds. EACH: rows of the anchor
 * that a thread holds; CHANNEL: a gate for each key channel. */
#ifndef KERNELS_CUDA_DELTA_BLOCK_CUH
#define KERNELS_CUDA_DELTA_BLOCK_CUH

#include "kernels/cuda/delta.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP, QUADS = STRIP / 4, GROUPS = THREADS / QUADS };

/* Shared memory of a block; D is Dk rounded up to a multiple of GROUPS, with zeros. */
struct hall {
    float *K, *Q;   /* keys [BLOCK][D] by entry; queries [stretch][D] by row */
    float *KE;      /* keys of the stretch, decayed; one gate a head: none, the sums are decayed */
    float *G;       /* [BLOCK][D or 1] */
    float *U, *V;   /* [BLOCK][STRIP], [stretch][STRIP] */
    float *KK, *KQ; /* [stretch][BLOCK] */
    float *part;    /* [WARPS][2][stretch][STRIP] */
    float *beta;    /* [stretch] */
};

/* Sets it up over `at`, or only counts: in floats. */
static inline __host__ __device__ int32_t hall_over(struct hall *s, float *at, int32_t D,
                                                    bool channel, int32_t stretch)
{
    const int32_t n[] = {BLOCK * D,         stretch * D,       channel ? stretch * D : 0,
                         channel ? BLOCK * D : BLOCK,          BLOCK * STRIP,
                         stretch * STRIP,   stretch * BLOCK,   stretch * BLOCK,
                         2 * WARPS * stretch * STRIP,          stretch};
    float **const to[] = {&s->K, &s->Q, &s->KE, &s->G, &s->U, &s->V, &s->KK, &s->KQ, &s->part,
                          &s->beta};
    int32_t sum = 0;
    for (int i = 0; i < 10; i++) {
        *to[i] = at + sum;
        sum += n[i];
    }
    return sum;
}

/* Where a block works. */
struct place {
    int64_t h, kh, strip;  /* value head, key head, strip of the head */
    int32_t column, width; /* first column, how many there are */
    int32_t b;
};

/* ---- the anchor ------------------------------------------------------------------------------ */

static __device__ inline int32_t group(void) { return (int32_t)threadIdx.x / QUADS; }
static __device__ inline int32_t quad(void) { return (int32_t)threadIdx.x % QUADS * 4; }

static __device__ int64_t anchor_at(const struct delta_call &a, int32_t slot, const struct place &p)
{
    const int64_t row = a.slots.anchor_row ? a.slots.anchor_row[slot] : slot;
    const int64_t strips = (a.Dv + STRIP - 1) / STRIP;
    return row * a.slots.anchor_elements + (p.h * strips + p.strip) * a.Dk * STRIP;
}

/* S0 of the thread's columns in row d, dense. */
static __device__ float4 first_state(const struct delta_call &a, const struct place &p, int32_t d)
{
    float x[4];
    for (int i = 0; i < 4; i++)
        x[i] = a.S0.data && quad() + i < p.width
                   ? get(a.S0, view_at(a.S0, p.b, p.h, p.column + quad() + i) + d * a.S0.stride[3])
                   : 0.0f;
    return float4{x[0], x[1], x[2], x[3]};
}

template <int EACH>
static __device__ void load_anchor(const struct delta_call &a, int32_t slot, const struct place &p,
                                   float4 (&A)[EACH])
{
    const int64_t from = a.slots.anchor ? anchor_at(a, slot, p) + quad() : 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int32_t d = group() + GROUPS * j;
        A[j] = d >= a.Dk        ? float4{0.0f, 0.0f, 0.0f, 0.0f}
               : a.slots.anchor ? load_four(a.slots.anchor, a.slots.anchor_type,
                                            from + (int64_t)d * STRIP, 4)
                                : first_state(a, p, d);
    }
}

template <int EACH>
static __device__ void store_anchor(const struct delta_call &a, int32_t slot, const struct place &p,
                                    const float4 (&A)[EACH])
{
    const int64_t to = anchor_at(a, slot, p) + quad();
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int32_t d = group() + GROUPS * j;
        if (d < a.Dk)
            store_four(a.slots.anchor, a.slots.anchor_type, to + (int64_t)d * STRIP, A[j]);
    }
}

template <int EACH>
static __device__ void store_dense(const struct delta_call &a, const struct place &p,
                                   const float4 (&A)[EACH])
{
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int32_t d = group() + GROUPS * j;
        const float x[4] = {A[j].x, A[j].y, A[j].z, A[j].w};
        for (int i = 0; i < 4 && d < a.Dk; i++)
            if (quad() + i < p.width)
                put(a.S1, view_at(a.S1, p.b, p.h, p.column + quad() + i) + d * a.S1.stride[3],
                    x[i]);
    }
}

static __device__ inline void add_four(float4 &sum, const float4 &x, float by)
{
    sum.x = fmaf(x.x, by, sum.x);
    sum.y = fmaf(x.y, by, sum.y);
    sum.z = fmaf(x.z, by, sum.z);
    sum.w = fmaf(x.w, by, sum.w);
}

/* A = e^G A + sum_i e^(G - G_i) k_i u_i over m entries, G that of the last one. The keys are
 * decayed where they stand: nobody reads them after a fold. */
template <int EACH, bool CHANNEL>
static __device__ void fold(const struct delta_call &a, const struct hall &s, int32_t m,
                            float4 (&A)[EACH])
{
    const int32_t D = EACH * GROUPS;
    const float *last = s.G + (m - 1) * (CHANNEL ? D : 1);
    for (int32_t i = (int32_t)threadIdx.x; i < m * D; i += THREADS)
        s.K[i] *= CHANNEL ? expf(last[i % D] - s.G[i]) : expf(last[0] - s.G[i / D]);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int32_t d = group() + GROUPS * j;
        const float e = expf(last[CHANNEL ? d : 0]);
        A[j] = float4{A[j].x * e, A[j].y * e, A[j].z * e, A[j].w * e};
    }
    for (int32_t i = 0; i < m; i++) {
        const float4 u = *(const float4 *)(s.U + i * STRIP + quad());
#pragma unroll
        for (int j = 0; j < EACH; j++) add_four(A[j], u, s.K[i * D + group() + GROUPS * j]);
    }
    if (a.slots.anchor) {
        const enum dtype type = a.slots.anchor_type;
#pragma unroll
        for (int j = 0; j < EACH; j++)
            A[j] = float4{rounded(type, A[j].x), rounded(type, A[j].y), rounded(type, A[j].z),
                          rounded(type, A[j].w)};
    }
    __syncthreads();
}

/* ---- the log --------------------------------------------------------------------------------- */

/* Entries first..first+n-1 of the slot become entries 0..n-1 here. */
template <int EACH, bool CHANNEL>
static __device__ void load_log(const struct delta_call &a, int32_t slot, const struct place &p,
                                const struct hall &s, int32_t first, int32_t n)
{
    const int32_t D = EACH * GROUPS;
    for (int32_t i = 4 * (int32_t)threadIdx.x; i < n * D; i += 4 * THREADS)
        *(float4 *)(s.K + i) = load_four(a.slots.k, a.slots.k_type,
                                         delta_k_at(a, slot, first + i / D, p.kh) + i % D,
                                         a.Dk - i % D);
    for (int32_t i = 4 * (int32_t)threadIdx.x; i < n * STRIP; i += 4 * THREADS)
        *(float4 *)(s.U + i) = load_four(a.slots.u, DTYPE_F32,
                                         delta_u_at(a, slot, first + i / STRIP, p.h) + p.column +
                                             i % STRIP,
                                         p.width - i % STRIP);
    const float *G = (const float *)a.slots.G;
    for (int32_t i = (int32_t)threadIdx.x; CHANNEL && i < n * D; i += THREADS)
        s.G[i] = i % D < a.Dk ? G[delta_G_at(a, slot, first + i / D, p.h) + i % D] : 0.0f;
    for (int32_t i = (int32_t)threadIdx.x; !CHANNEL && i < n; i += THREADS)
        s.G[i] = G[delta_G_at(a, slot, first + i, p.h)];
    __syncthreads();
}

/* Own columns of u: entry e of the current block goes to entry first + e of the slot. */
static __device__ void store_u(const struct delta_call &a, int32_t slot, const struct place &p,
                               const struct hall &s, int32_t first, int32_t e)
{
    const int32_t c = (int32_t)threadIdx.x;
    if (c < p.width)
        ((float *)a.slots.u)[delta_u_at(a, slot, first + e, p.h) + p.column + c] =
            s.U[e * STRIP + c];
}

/* ---- a stretch of rows inside a block -------------------------------------------------------- */

/* G of rows t.. as entries m.., channel d. */
static __device__ void load_gates(const struct delta_call &a, const struct place &p, int64_t t,
                                  int32_t m, int32_t n, int32_t d, float *G, int32_t step)
{
    float sum = m > 0 ? G[(m - 1) * step] : 0.0f;
    for (int32_t i = 0; i < n; i++) {
        sum += d < a.gates ? delta_decay(a, t + i, p.h, d) : 0.0f;
        G[(m + i) * step] = sum;
    }
}

/* Rows t.. become entries m..m+n-1. */
template <int EACH, bool CHANNEL>
static __device__ void load_rows(const struct delta_call &a, const struct place &p,
                                 const struct hall &s, int64_t t, int32_t m, int32_t n)
{
    const int32_t D = EACH * GROUPS;
    const enum dtype type = a.slots.anchor ? a.slots.k_type : a.k.dtype;
    for (int32_t i = (int32_t)threadIdx.x; i < n * D; i += THREADS) {
        const int32_t d = i % D;
        const bool real = d < a.Dk;
        s.K[m * D + i] = real ? rounded(type, get(a.k, view_at(a.k, t + i / D, p.kh, d))) : 0.0f;
        s.Q[i] = real ? get(a.q, view_at(a.q, t + i / D, p.kh, d)) : 0.0f;
    }
    for (int32_t i = (int32_t)threadIdx.x; i < n * STRIP; i += THREADS)
        s.V[i] = i % STRIP < p.width
                     ? get(a.v, view_at(a.v, t + i / STRIP, p.h, p.column + i % STRIP))
                     : 0.0f;
    for (int32_t i = (int32_t)threadIdx.x; i < n; i += THREADS)
        s.beta[i] = get(a.beta, view_at(a.beta, t + i, p.h, 0));
    for (int32_t d = (int32_t)threadIdx.x; d < (CHANNEL ? D : 1); d += THREADS)
        load_gates(a, p, t, m, n, d, s.G + d, CHANNEL ? D : 1);
    __syncthreads();
}

/* K_ti and Q_ti, a warp a pair. */
template <int EACH, bool CHANNEL>
static __device__ void make_pairs(const struct hall &s, int32_t m, int32_t n)
{
    const int32_t D = EACH * GROUPS;
    const int32_t lane = (int32_t)threadIdx.x % WARP, warp = (int32_t)threadIdx.x / WARP;
    for (int32_t t = 0; t < n; t++) {
        const float *q = s.Q + t * D, *k = s.K + (m + t) * D;
        const float *G = s.G + (m + t) * (CHANNEL ? D : 1);
        for (int32_t i = warp; i <= m + t; i += WARPS) {
            const float *key = s.K + i * D, *Gi = s.G + i * (CHANNEL ? D : 1);
            float kk = 0.0f, kq = 0.0f;
#pragma unroll
            for (int32_t d = lane; d < D; d += WARP) {
                const float x = CHANNEL ? key[d] * expf(G[d] - Gi[d]) : key[d];
                kk = fmaf(x, k[d], kk);
                kq = fmaf(x, q[d], kq);
            }
            kk = warp_sum(kk);
            kq = warp_sum(kq);
            const float e = CHANNEL ? 1.0f : expf(G[0] - Gi[0]);
            if (lane == 0) s.KK[t * BLOCK + i] = kk * e, s.KQ[t * BLOCK + i] = kq * e;
        }
    }
    if (!CHANNEL) return;
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < n * D; i += THREADS) {
        const float e = expf(s.G[m * D + i]);
        s.KE[i] = s.K[m * D + i] * e;
        s.Q[i] *= e;
    }
    __syncthreads();
}

static __device__ inline float4 groups_sum(float4 x)
{
#pragma unroll
    for (int step = QUADS; step < WARP; step *= 2) {
        x.x += __shfl_xor_sync(~0u, x.x, step);
        x.y += __shfl_xor_sync(~0u, x.y, step);
        x.z += __shfl_xor_sync(~0u, x.z, step);
        x.w += __shfl_xor_sync(~0u, x.w, step);
    }
    return x;
}

/* Each warp's share of A k and A q. */
template <int EACH>
static __device__ void meet_anchor(const struct hall &s, const float *keys, int32_t stretch,
                                   int32_t n, const float4 (&A)[EACH])
{
    const int32_t D = EACH * GROUPS, warp = (int32_t)threadIdx.x / WARP;
    for (int32_t t = 0; t < n; t++) {
        float4 k = {0.0f, 0.0f, 0.0f, 0.0f}, q = k;
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            add_four(k, A[j], keys[t * D + group() + GROUPS * j]);
            add_four(q, A[j], s.Q[t * D + group() + GROUPS * j]);
        }
        k = groups_sum(k);
        q = groups_sum(q);
        if ((int32_t)threadIdx.x % WARP < QUADS) {
            *(float4 *)(s.part + ((warp * 2) * stretch + t) * STRIP + quad()) = k;
            *(float4 *)(s.part + ((warp * 2 + 1) * stretch + t) * STRIP + quad()) = q;
        }
    }
    __syncthreads();
}

static __device__ float parts_sum(const struct hall &s, int32_t stretch, int32_t which, int32_t t,
                                  int32_t c)
{
    float sum = s.part[(which * stretch + t) * STRIP + c];
#pragma unroll
    for (int32_t w = 1; w < WARPS; w++) sum += s.part[((2 * w + which) * stretch + t) * STRIP + c];
    return sum;
}

/* Row after row: u and o of one column. */
template <bool CHANNEL>
static __device__ void solve(const struct delta_call &a, const struct place &p,
                             const struct hall &s, int64_t t0, int32_t m, int32_t n)
{
    const int32_t c = (int32_t)threadIdx.x;
    for (int32_t t = 0; t < n; t++) {
        const float e = CHANNEL ? 1.0f : expf(s.G[m + t]);
        const float *KK = s.KK + t * BLOCK, *KQ = s.KQ + t * BLOCK;
        float r = e * parts_sum(s, a.stretch, 0, t, c), o = e * parts_sum(s, a.stretch, 1, t, c);
        for (int32_t i = 0; i < m + t; i++) {
            r = fmaf(KK[i], s.U[i * STRIP + c], r);
            o = fmaf(KQ[i], s.U[i * STRIP + c], o);
        }
        const float u = s.beta[t] * (s.V[t * STRIP + c] - r);
        s.U[(m + t) * STRIP + c] = u;
        o = fmaf(KQ[m + t], u, o);
        if (c < p.width) put(a.o, view_at(a.o, t0 + t, p.h, p.column + c), o);
    }
}

#endif
