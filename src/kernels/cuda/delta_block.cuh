/* delta_block.cuh: what a block of delta.cu does, step by step: anchor, log and rows come into shared
 * memory; pairs, products with the anchor, u and o, folds.
 *
 * A team of 4 warps has a strip of 32 columns: lane c column c, warp w the quarter w of the channels
 * d. A block has one or more teams, strips of one head, which share log, rows and pairs.
 * HALF: the anchor is bf16. CHANNEL: a gate for each key channel. MIX: delta_rows.cuh. */
#ifndef KERNELS_CUDA_DELTA_BLOCK_CUH
#define KERNELS_CUDA_DELTA_BLOCK_CUH

#include "kernels/cuda/delta_append.cuh"

enum { QUARTERS = 4, TEAM = QUARTERS * WARP, MOST_TEAMS = 4 };

/* Shared memory of a block; D is Dk rounded up to 16, with zeros; W columns. */
struct hall {
    float *A;       /* [teams][D][STRIP] of the anchor's type */
    float *K, *Q;   /* keys [BLOCK][D] by entry; queries [stretch][D] by row */
    float *KE, *QE; /* those of the stretch, decayed; one gate a head: none, the sums are */
    float *G;       /* [BLOCK][D or 1] */
    float *U, *V;   /* [BLOCK][W], [stretch][W] */
    float *KK, *KQ; /* [stretch][BLOCK] */
    float *part;    /* [2][QUARTERS][2][ROWS][W] */
    float *beta, *E; /* [stretch]; E: e^G */
};

/* Where a thread works. */
struct place {
    int64_t h, kh;         /* value head, key head */
    int32_t strip, column; /* of the head: strip of its team; first column of the block */
    int32_t D, W, width;   /* W: columns of the block, width: how many of them there are */
    int32_t b, team, warp, lane; /* warp: of its team, so a quarter */
};

/* Sets it up over `at`, or only counts: in floats. */
static inline __host__ __device__ int32_t hall_over(struct hall *s, float *at, int32_t D, int32_t W,
                                                    bool half, bool channel, int32_t stretch,
                                                    int32_t rows)
{
    const int32_t decayed = channel ? stretch * D : 0;
    const int32_t n[] = {D * W / (half ? 2 : 1), BLOCK * D,   stretch * D,     decayed,
                         decayed,                channel ? BLOCK * D : BLOCK,  BLOCK * W,
                         stretch * W,            stretch * BLOCK, stretch * BLOCK,
                         4 * QUARTERS * rows * W, BLOCK,       BLOCK};
    float **const to[] = {&s->A, &s->K,  &s->Q,  &s->KE,   &s->QE,   &s->G, &s->U,
                          &s->V, &s->KK, &s->KQ, &s->part, &s->beta, &s->E};
    int32_t sum = 0;
    for (int i = 0; i < 13; i++) {
        *to[i] = at + sum;
        sum += n[i];
    }
    return sum;
}

/* Column of this thread inside the block, and whether there is one. */
static __device__ inline int32_t own(const struct place &p) { return p.team * STRIP + p.lane; }
static __device__ inline bool real(const struct place &p) { return own(p) < p.width; }

/* Warps of the block take turns: EACH_TURN(i, n) goes over those of this one. */
#define EACH_TURN(i, n)                                                               \
    for (int32_t i = (int32_t)threadIdx.x / WARP; i < (n); i += (int32_t)blockDim.x / WARP)

/* ---- the anchor ------------------------------------------------------------------------------ */

/* Bytes of a strip, here and in the slot. */
template <bool HALF> static __device__ inline int32_t strip_bytes(int32_t channels)
{
    return channels * STRIP * (HALF ? 2 : 4);
}

template <bool HALF>
static __device__ char *strip_at(const struct delta_call &a, int32_t slot, const struct place &p)
{
    const int64_t row = a.slots.anchor_row ? a.slots.anchor_row[slot] : slot;
    const int64_t strips = (a.Dv + STRIP - 1) / STRIP;
    const int64_t element = row * a.slots.anchor_elements + (p.h * strips + p.strip) * a.Dk * STRIP;
    return (char *)a.slots.anchor + element * (HALF ? 2 : 4);
}

/* The team's strip begins to come. Columns behind the last one
 * and channels behind Dk are 0. */
template <bool HALF>
static __device__ void begin_anchor(const struct delta_call &a, int32_t slot, const struct place &p,
                                    const struct hall &s)
{
    const int32_t bytes = p.strip * STRIP < a.Dv ? strip_bytes<HALF>(a.Dk) : 0;
    const int32_t all = strip_bytes<HALF>(p.D), i = 16 * ((int32_t)threadIdx.x % TEAM);
    const char *from = strip_at<HALF>(a, slot, p);
    char *to = (char *)s.A + p.team * all;
    if ((size_t)from % 16 == 0)
#pragma unroll 8
        for (int32_t at = i; at < bytes; at += 16 * TEAM) copy_later(shared_address(to + at), from + at, true);
    else
        for (int32_t at = i; at < bytes; at += 16 * TEAM)
            for (int32_t e = 0; e < 16; e += 2)
                *(uint16_t *)(to + at + e) = *(const uint16_t *)(from + at + e);
    for (int32_t at = i; at < all; at += 16 * TEAM)
        if (at >= bytes) *(float4 *)(to + at) = float4{0.0f, 0.0f, 0.0f, 0.0f};
}

/* Back into the slot. */
template <bool HALF>
static __device__ void store_anchor(const struct delta_call &a, int32_t slot, const struct place &p,
                                    const struct hall &s)
{
    if (p.strip * STRIP >= a.Dv) return;
    const char *from = (const char *)s.A + p.team * strip_bytes<HALF>(p.D);
    char *to = strip_at<HALF>(a, slot, p);
    for (int32_t at = 16 * ((int32_t)threadIdx.x % TEAM); at < strip_bytes<HALF>(a.Dk);
         at += 16 * TEAM)
        if ((size_t)to % 16 == 0)
            *(float4 *)(to + at) = *(const float4 *)(from + at);
        else
            for (int32_t e = 0; e < 16; e += 2)
                *(uint16_t *)(to + at + e) = *(const uint16_t *)(from + at + e);
}

/* Element of the thread's column in channel j of its quarter. */
template <bool HALF>
static __device__ inline int32_t anchor_at(const struct place &p, int32_t j)
{
    return ((p.team * QUARTERS + p.warp) * (p.D / QUARTERS) + j) * STRIP + p.lane;
}

template <bool HALF> static __device__ inline float anchor_get(const struct hall &s, int32_t i)
{
    return HALF ? bf16_value(((const uint16_t *)s.A)[i]) : s.A[i];
}

template <bool HALF>
static __device__ inline void anchor_put(const struct hall &s, int32_t i, float x)
{
    if (HALF)
        ((uint16_t *)s.A)[i] = bf16_of(x);
    else
        s.A[i] = x;
}

/* The same out of S0 and into S1, each thread its own elements. */
static __device__ void load_dense(const struct delta_call &a, const struct place &p,
                                  const struct hall &s)
{
    const bool there = a.S0.data && real(p);
    const int64_t from = there ? view_at(a.S0, p.b, p.h, p.column + own(p)) : 0;
    for (int32_t j = 0; j < p.D / QUARTERS; j++) {
        const int32_t d = p.warp * (p.D / QUARTERS) + j;
        anchor_put<false>(s, anchor_at<false>(p, j),
                          there && d < a.Dk ? get(a.S0, from + d * a.S0.stride[3]) : 0.0f);
    }
}

static __device__ void store_dense(const struct delta_call &a, const struct place &p,
                                   const struct hall &s)
{
    if (!real(p)) return;
    const int64_t to = view_at(a.S1, p.b, p.h, p.column + own(p));
    for (int32_t j = 0; j < p.D / QUARTERS; j++) {
        const int32_t d = p.warp * (p.D / QUARTERS) + j;
        if (d < a.Dk)
            put(a.S1, to + d * a.S1.stride[3], anchor_get<false>(s, anchor_at<false>(p, j)));
    }
}

/* A = e^G A + sum_i e^(G - G_i) k_i u_i over m entries, G that of the last one. The keys are
 * decayed where they stand: nobody reads them after a fold. */
template <bool HALF, bool CHANNEL>
static __device__ void fold(const struct place &p, const struct hall &s, int32_t m)
{
    const int32_t D = p.D, first = p.warp * (D / QUARTERS);
    const float *last = s.G + (m - 1) * (CHANNEL ? D : 1);
    EACH_TURN(i, m)
    for (int32_t d = p.lane; d < D; d += WARP)
        s.K[i * D + d] *= CHANNEL ? expf(last[d] - s.G[i * D + d]) : expf(last[0] - s.G[i]);
    float u[BLOCK];
#pragma unroll
    for (int32_t i = 0; i < BLOCK; i++) u[i] = i < m ? s.U[i * p.W + own(p)] : 0.0f;
    __syncthreads();
    const float all = CHANNEL ? 0.0f : expf(last[0]);
    for (int32_t j = 0; j < D / QUARTERS; j += 4) {
        float A[4];
#pragma unroll
        for (int e = 0; e < 4; e++)
            A[e] = anchor_get<HALF>(s, anchor_at<HALF>(p, j + e)) *
                   (CHANNEL ? expf(last[first + j + e]) : all);
#pragma unroll
        for (int32_t i = 0; i < BLOCK; i++) {
            if (i >= m) continue;
            const float4 k = *(const float4 *)(s.K + i * D + first + j);
            A[0] = fmaf(k.x, u[i], A[0]), A[1] = fmaf(k.y, u[i], A[1]);
            A[2] = fmaf(k.z, u[i], A[2]), A[3] = fmaf(k.w, u[i], A[3]);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) anchor_put<HALF>(s, anchor_at<HALF>(p, j + e), A[e]);
    }
    __syncthreads();
}

/* ---- the log --------------------------------------------------------------------------------- */

/* Entries first..first+n-1 of the slot become entries 0..n-1 here; G with a gate a channel only. */
template <bool CHANNEL>
static __device__ void begin_log(const struct delta_call &a, int32_t slot, const struct place &p,
                                 const struct hall &s, int32_t first, int32_t n)
{
    EACH_TURN(i, n)
    {
        const int32_t e = first + i;
        begin_row(s.K + i * p.D, a.slots.k, a.slots.k_type, delta_k_at(a, slot, e, p.kh), a.Dk);
        begin_row(s.U + i * p.W, a.slots.u, DTYPE_F32, delta_u_at(a, slot, e, p.h) + p.column,
                  p.width);
        if (CHANNEL)
            begin_row(s.G + i * p.D, a.slots.G, DTYPE_F32, delta_G_at(a, slot, e, p.h), a.Dk);
    }
}

/* After bring_wait. */
template <bool CHANNEL>
static __device__ void end_log(const struct delta_call &a, const struct place &p,
                               const struct hall &s, int32_t n)
{
    EACH_TURN(i, n)
    {
        if (a.slots.k_type != DTYPE_F32 || a.Dk < p.D)
            end_row(s.K + i * p.D, a.slots.k_type, a.Dk, p.D, DTYPE_F32);
        if (p.width < p.W) end_row(s.U + i * p.W, DTYPE_F32, p.width, p.W, DTYPE_F32);
        if (CHANNEL && a.Dk < p.D) end_row(s.G + i * p.D, DTYPE_F32, a.Dk, p.D, DTYPE_F32);
    }
}

/* G of entries first.., one gate a head: lane i of every warp that asks gets that of entry i. */
static __device__ float log_gate(const struct delta_call &a, int32_t slot, const struct place &p,
                                 int32_t first, int32_t n)
{
    return p.lane < n ? ((const float *)a.slots.G)[delta_G_at(a, slot, first + p.lane, p.h)] : 0.0f;
}

/* Own column of u goes to an entry of the slot. */
static __device__ void store_u(const struct delta_call &a, int32_t slot, const struct place &p,
                               int32_t entry, float u)
{
    if (real(p))
        ((float *)a.slots.u)[delta_u_at(a, slot, entry, p.h) + p.column + own(p)] = u;
}

/* k and G of the stretch go to entries `to`.. of the log, each by one block. */
template <bool CHANNEL>
static __device__ void append_now(const struct delta_call &a, const struct delta_run &run,
                                  const struct place &p, const struct hall &s, int32_t m, int32_t n,
                                  int32_t to)
{
    if (p.column > 0) return;
    const bool keys = (int32_t)p.h % (a.Hv / a.Hk) == 0;
    EACH_TURN(i, n)
    {
        const int64_t k = delta_k_at(a, run.slot, to + i, p.kh);
        float *G = (float *)a.slots.G + delta_G_at(a, run.slot, to + i, p.h);
        for (int32_t d = p.lane; keys && d < a.Dk; d += WARP)
            store(a.slots.k, a.slots.k_type, k + d, s.K[(m + i) * p.D + d]);
        for (int32_t d = p.lane; d < a.gates; d += WARP)
            G[d] = s.G[CHANNEL ? (m + i) * p.D + d : m + i];
    }
}

/* ---- a stretch of rows inside a block -------------------------------------------------------- */

/* Rows t.. become entries m..m+n-1: k, q, v; with a gate a channel decays, for now in KE. */
template <bool CHANNEL, bool MIX>
static __device__ void begin_rows(const struct delta_call &a, const struct place &p,
                                  const struct hall &s, int64_t t, int32_t m, int32_t n)
{
    EACH_TURN(i, 4 * n)
    {
        const int32_t r = i / 4, part = i % 4;
        if (part == 0) begin_key<MIX>(a, t + r, p.kh, s.K + (m + r) * p.D);
        if (part == 1) begin_query<MIX>(a, t + r, p.kh, s.Q + r * p.D);
        if (part == 2) begin_value<MIX>(a, t + r, p.h, p.column, p.width, s.V + r * p.W);
        if (part == 3)
            for (int32_t d = p.lane; CHANNEL && d < p.D; d += WARP)
                s.KE[r * p.D + d] = d < a.Dk ? row_decay<MIX>(a, t + r, p.h, d) : 0.0f;
    }
}

/* After bring_wait. */
template <bool MIX>
static __device__ void end_rows(const struct delta_call &a, const struct place &p,
                                const struct hall &s, int64_t t, int32_t m, int32_t n)
{
    EACH_TURN(i, 4 * n)
    {
        const int32_t r = i / 4, part = i % 4;
        if (part == 0) end_key<MIX>(a, p.b, t + r, p.kh, s.K + (m + r) * p.D, p.D);
        if (part == 1) end_query<MIX>(a, p.b, t + r, p.kh, s.Q + r * p.D, p.D);
        if (part == 2)
            end_value<MIX>(a, p.b, t + r, p.h, p.column, p.width, s.V + r * p.W, p.W);
    }
}

/* beta, and with one gate a head G, from that of the log (in its lanes): one warp's work. */
template <bool CHANNEL, bool MIX>
static __device__ void load_gates(const struct delta_call &a, const struct place &p,
                                  const struct hall &s, int64_t t, int32_t m, int32_t n, float log)
{
    const int32_t i = p.lane;
    if (i < n) s.beta[i] = row_strength<MIX>(a, t + i, p.h);
    if (CHANNEL) return;
    const float g = i < n ? row_decay<MIX>(a, t + i, p.h, 0) : 0.0f;
    float sum = m > 0 ? __shfl_sync(~0u, log, m - 1) : 0.0f;
    if (i < m) s.G[i] = log;
    for (int32_t r = 0; r < n; r++) {
        sum += __shfl_sync(~0u, g, r);
        if (i == r) s.G[m + r] = sum, s.E[r] = expf(sum);
    }
}

/* With a gate a channel: G of the rows, and k and q decayed to the anchor. */
static __device__ void decay_rows(const struct place &p, const struct hall &s, int32_t m, int32_t n)
{
    for (int32_t d = (int32_t)threadIdx.x; d < p.D; d += (int32_t)blockDim.x) {
        float sum = m > 0 ? s.G[(m - 1) * p.D + d] : 0.0f;
        for (int32_t r = 0; r < n; r++) {
            sum += s.KE[r * p.D + d];
            s.G[(m + r) * p.D + d] = sum;
            const float e = expf(sum);
            s.KE[r * p.D + d] = s.K[(m + r) * p.D + d] * e;
            s.QE[r * p.D + d] = s.Q[r * p.D + d] * e;
        }
    }
}

/* Sums over a warp in one tree, two at a time: lanes below 16 get that of x, the others of y. */
static __device__ inline float two_sums(float x, float y, int32_t lane)
{
    const bool low = lane < WARP / 2;
    float sum = (low ? x : y) + __shfl_xor_sync(~0u, low ? y : x, WARP / 2);
    for (int step = WARP / 4; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    return sum;
}

/* K_ti and Q_ti, a warp a pair. */
template <bool CHANNEL>
static __device__ void make_pairs(const struct place &p, const struct hall &s, int32_t m, int32_t n)
{
    const int32_t D = p.D;
    for (int32_t t = 0; t < n; t++) {
        const float *q = s.Q + t * D, *k = s.K + (m + t) * D;
        const float *G = s.G + (m + t) * (CHANNEL ? D : 1);
        EACH_TURN(i, m + t + 1)
        {
            const float *key = s.K + i * D, *Gi = s.G + i * (CHANNEL ? D : 1);
            float kk = 0.0f, kq = 0.0f;
#pragma unroll 4
            for (int32_t d = p.lane; d < D; d += WARP) {
                const float x = CHANNEL ? key[d] * expf(G[d] - Gi[d]) : key[d];
                kk = fmaf(x, k[d], kk);
                kq = fmaf(x, q[d], kq);
            }
            const float sum = two_sums(kk, kq, p.lane) * (CHANNEL ? 1.0f : expf(G[0] - Gi[0]));
            if (p.lane == 0) s.KK[t * BLOCK + i] = sum;
            if (p.lane == WARP / 2) s.KQ[t * BLOCK + i] = sum;
        }
    }
}

/* Each quarter's share of A k and A q: rows t.. of the stretch. */
template <bool HALF, bool CHANNEL, int ROWS>
static __device__ void meet_anchor(const struct place &p, const struct hall &s, int32_t m,
                                   int32_t t, float *part)
{
    const int32_t D = p.D, quarter = D / QUARTERS;
    const float *keys = (CHANNEL ? s.KE + t * D : s.K + (m + t) * D) + p.warp * quarter;
    const float *queries = (CHANNEL ? s.QE : s.Q) + t * D + p.warp * quarter;
    float k[ROWS], q[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) k[r] = q[r] = 0.0f;
#pragma unroll 4
    for (int32_t j = 0; j < quarter; j += 4) {
        float A[4];
#pragma unroll
        for (int e = 0; e < 4; e++) A[e] = anchor_get<HALF>(s, anchor_at<HALF>(p, j + e));
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const float4 x = *(const float4 *)(keys + r * D + j);
            const float4 y = *(const float4 *)(queries + r * D + j);
            k[r] = fmaf(A[0], x.x, k[r]), q[r] = fmaf(A[0], y.x, q[r]);
            k[r] = fmaf(A[1], x.y, k[r]), q[r] = fmaf(A[1], y.y, q[r]);
            k[r] = fmaf(A[2], x.z, k[r]), q[r] = fmaf(A[2], y.z, q[r]);
            k[r] = fmaf(A[3], x.w, k[r]), q[r] = fmaf(A[3], y.w, q[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        part[((p.warp * 2) * ROWS + r) * p.W + own(p)] = k[r];
        part[((p.warp * 2 + 1) * ROWS + r) * p.W + own(p)] = q[r];
    }
}

template <int ROWS>
static __device__ float parts_sum(const struct place &p, const float *part, int32_t which, int32_t r)
{
    float sum = part[(which * ROWS + r) * p.W + own(p)];
#pragma unroll
    for (int32_t w = 1; w < QUARTERS; w++)
        sum += part[((2 * w + which) * ROWS + r) * p.W + own(p)];
    return sum;
}

/* Row after row: u and o of the lane's column, rows t..t+n-1 of the stretch, which begins at row
 * t0 of the call; u goes to entry `to` + t of the log. With MIX, o takes the place of v for now. */
template <bool CHANNEL, bool MIX, int ROWS>
static __device__ void solve(const struct delta_call &a, const struct delta_run &run,
                             const struct place &p, const struct hall &s, int64_t t0, int32_t m,
                             int32_t t, int32_t n, int32_t to, const float *part)
{
    float *const U = s.U + own(p);
    for (int32_t r = 0; r < n; r++, t++) {
        const float e = CHANNEL ? 1.0f : s.E[t];
        const float *KK = s.KK + t * BLOCK, *KQ = s.KQ + t * BLOCK;
        float x = e * parts_sum<ROWS>(p, part, 0, r), o = e * parts_sum<ROWS>(p, part, 1, r);
#pragma unroll 4
        for (int32_t i = 0; i < m + t; i++) {
            x = fmaf(KK[i], U[i * p.W], x);
            o = fmaf(KQ[i], U[i * p.W], o);
        }
        const float u = s.beta[t] * (s.V[t * p.W + own(p)] - x);
        U[(m + t) * p.W] = u;
        o = fmaf(KQ[m + t], u, o);
        if (MIX)
            s.V[t * p.W + own(p)] = rounded(a.mix.conv.x.dtype, o);
        else if (real(p))
            put(a.o, view_at(a.o, t0 + t, p.h, p.column + own(p)), o);
        if (to >= 0) store_u(a, run.slot, p, to + t, u);
    }
}

#endif
