/* delta_walk.cuh: one block of 16 entries of a prompt, as the threads of delta_prompt.cu walk over it:
 * how its rows come, the state meets its keys and queries, w, u and o are made, and the fold. */
#ifndef KERNELS_CUDA_DELTA_WALK_CUH
#define KERNELS_CUDA_DELTA_WALK_CUH

#include "kernels/cuda/delta_prompt.cuh"

enum { COLUMNS = 16, SHARE = 32, STAGES = 4, STEPS = SHARE / 16, TILES = SHARE / 8,
       LOADERS = 2 };

/* Shared memory of a block of threads. 16 bytes of number c of a row stand at c ^ row % 8. */
template <int WARPS> struct stage {
    enum { PITCH = (WARPS * SHARE + 63) / 64 * 64 };
    uint16_t k[BLOCK][PITCH], q[BLOCK][PITCH];
    uint16_t v[BLOCK][COLUMNS];
    struct delta_record record;
};
template <int WARPS> struct hall {
    struct stage<WARPS> stage[STAGES];
    float4 share[2][WARPS][4][WARP]; /* of S k and S q: 8 floats a lane each; blocks in turn */
};

/* Where a block of threads works. */
struct place {
    struct delta_prompt_run run;
    int64_t h, kh, record; /* record: of the first block and this head */
    int32_t column;
};

/* A matrix 16 x 16 transposed [column][entry] by halves of 8 entries: lane (g, q) has columns g, g+8
 * of entries 2q, 2q + 1. It is left by products and, packed, the left side of others. */
typedef float tile[2][4];

static __device__ inline void pack_left(const tile &x, uint32_t (&part)[3][4])
{
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            uint32_t three[3];
            split_pair(x[n][2 * r], x[n][2 * r + 1], three);
#pragma unroll
            for (int i = 0; i < 3; i++) part[i][2 * n + r] = three[i];
        }
}

/* ---- what comes ------------------------------------------------------------------------------ */

template <int WARPS> static __device__ inline shared_at row_spot(const uint16_t *rows, int row, int c)
{
    return shared_address(rows) + (row * stage<WARPS>::PITCH * 2 + ((c ^ (row & 7)) << 4));
}

/* By the loaders: four lanes have a row. */
template <int WARPS>
static __device__ void load_block(const struct delta_prompt_call &call, const struct place &p,
                                  int32_t j, struct hall<WARPS> *s)
{
    enum { LANES = LOADERS * WARP };
    const struct delta_call &a = call.a;
    const int lane = (int)threadIdx.x % LANES, row = lane / 4;
    struct stage<WARPS> *to = &s->stage[j % STAGES];
    const uint16_t *k = delta_key(a, p.run, j * BLOCK + row, p.kh);
    const uint16_t *q = delta_query(a, p.run, j * BLOCK + row, p.kh);
#pragma unroll
    for (int i = 0; i < WARPS; i++) {
        const int c = lane % 4 + 4 * i;
        copy_later(row_spot<WARPS>(&to->k[0][0], row, c), k ? k + 8 * c : k, k != NULL);
        copy_later(row_spot<WARPS>(&to->q[0][0], row, c), q ? q + 8 * c : q, q != NULL);
    }
    if (lane % 4 < 2) {
        const int32_t e = j * BLOCK + row;
        const bool there = e >= p.run.c && e < p.run.c + p.run.n;
        const int64_t t = there ? p.run.first + e - p.run.c : p.run.first;
        copy_later(shared_address(&to->v[row][lane % 4 * 8]),
                   (const uint16_t *)a.v.data + view_at(a.v, t, p.h, p.column + lane % 4 * 8),
                   there);
    }
    const char *record = (const char *)(call.record + p.record + (int64_t)j * a.Hv);
#pragma unroll
    for (int i = 0; i < (int)(sizeof to->record / 16 + LANES - 1) / LANES; i++) {
        const int at = 16 * (lane + LANES * i);
        if (at < (int)sizeof to->record)
            copy_later(shared_address((char *)&to->record + at), record + at, true);
    }
}

/* ---- the state ------------------------------------------------------------------------------- */

/* Element (d, column) of the anchor: d of the lane's tile, and column g or g + 8. */
static __device__ inline int64_t anchor_at(const struct delta_call &a, const struct place &p,
                                           int32_t d, int32_t column)
{
    const int64_t row = a.slots.anchor_row ? a.slots.anchor_row[p.run.slot] : p.run.slot;
    const int64_t strips = (a.Dv + STRIP - 1) / STRIP, c = p.column + column;
    return row * a.slots.anchor_elements +
           ((p.h * strips + c / STRIP) * a.Dk + d) * STRIP + c % STRIP;
}

/* Loads it, or stores it. */
template <bool STORES>
static __device__ void move_anchor(const struct delta_call &a, const struct place &p,
                                   float (&S)[TILES][4])
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const enum dtype type = a.slots.anchor_type;
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int64_t at = anchor_at(a, p, warp * SHARE + 8 * n + lane % 4 * 2 + e % 2,
                                         lane / 4 + e / 2 * 8);
            if (STORES)
                store(a.slots.anchor, type, at, S[n][e]);
            else
                S[n][e] = load(a.slots.anchor, type, at);
        }
}

/* S = e^G_15 S + sum_i e^(G_15 - G_i) u_i k_i^T, rounded as it is stored. */
template <int WARPS>
static __device__ void fold(const struct delta_call &a, const struct stage<WARPS> *at, const tile &u,
                            float (&S)[TILES][4])
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const float whole = at->record.whole[0];
    tile left;
    uint32_t part[3][4];
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            left[n][e] = u[n][e] * at->record.out[8 * n + lane % 4 * 2 + e % 2];
    pack_left(left, part);
#pragma unroll
    for (int n = 0; n < TILES; n += 2) {
        uint32_t k[4];
        tile_load_turned(k, row_spot<WARPS>(&at->k[0][0], lane % 16,
                                            warp * (SHARE / 8) + n + lane / 16));
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int e = 0; e < 4; e++) S[n + h][e] *= whole;
#pragma unroll
            for (int i = 0; i < 3; i++) tile_multiply(S[n + h], part[i], k[2 * h], k[2 * h + 1]);
#pragma unroll
            for (int e = 0; e < 4; e++) S[n + h][e] = rounded(a.slots.anchor_type, S[n + h][e]);
        }
    }
}

/* ---- a block of 16 entries ------------------------------------------------------------------- */

/* This warp's share of S k and S q, for all of them to see. */
template <int WARPS>
static __device__ void meet_state(const struct stage<WARPS> *at, const float (&S)[TILES][4],
                                  float4 (*share)[WARP])
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    tile r = {}, o = {};
#pragma unroll
    for (int d = 0; d < STEPS; d++) {
        uint32_t part[3][4], k[4], q[4];
        const tile left = {{S[2 * d][0], S[2 * d][1], S[2 * d][2], S[2 * d][3]},
                           {S[2 * d + 1][0], S[2 * d + 1][1], S[2 * d + 1][2], S[2 * d + 1][3]}};
        const int row = lane % 8 + lane / 16 * 8, c = warp * (SHARE / 8) + 2 * d + lane / 8 % 2;
        tile_load(k, row_spot<WARPS>(&at->k[0][0], row, c));
        tile_load(q, row_spot<WARPS>(&at->q[0][0], row, c));
        pack_left(left, part);
#pragma unroll
        for (int i = 0; i < 3; i++)
#pragma unroll
            for (int n = 0; n < 2; n++) {
                tile_multiply(r[n], part[i], k[2 * n], k[2 * n + 1]);
                tile_multiply(o[n], part[i], q[2 * n], q[2 * n + 1]);
            }
    }
#pragma unroll
    for (int n = 0; n < 2; n++) {
        share[n][lane] = float4{r[n][0], r[n][1], r[n][2], r[n][3]};
        share[2 + n][lane] = float4{o[n][0], o[n][1], o[n][2], o[n][3]};
    }
}

/* e^G_t of all shares of half n, in rising order. */
template <int WARPS>
static __device__ inline void gather(const struct delta_record &record,
                                     const float4 (*share)[4][WARP], int part, int n, float (&x)[4])
{
    const int lane = (int)threadIdx.x % WARP, q = lane % 4;
    float4 sum = share[0][part + n][lane];
#pragma unroll
    for (int w = 1; w < WARPS; w++) {
        const float4 more = share[w][part + n][lane];
        sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    const float low = record.into[8 * n + 2 * q], high = record.into[8 * n + 2 * q + 1];
    x[0] = low * sum.x, x[1] = high * sum.y, x[2] = low * sum.z, x[3] = high * sum.w;
}

/* to += left (16 x 16, split) times half n of a matrix of the record: what is above 2^-24 of it, in
 * two chains. */
static __device__ inline void multiply(float (&to)[4], const uint32_t (&left)[3][4],
                                       const uint32_t (&right)[WARP][3][2])
{
    const int lane = (int)threadIdx.x % WARP;
    float more[4] = {};
#pragma unroll
    for (int j = 0; j < 3; j++) tile_multiply(to, left[0], right[lane][j][0], right[lane][j][1]);
#pragma unroll
    for (int i = 1; i < 3; i++)
#pragma unroll
        for (int j = 0; i + j < 3; j++)
            tile_multiply(more, left[i], right[lane][j][0], right[lane][j][1]);
#pragma unroll
    for (int e = 0; e < 4; e++) to[e] += more[e];
}

/* w_t = v_t - e^G_t S k_t; of an entry that the log has, its u. */
template <int WARPS>
static __device__ void make_w(const struct delta_call &a, const struct place &p, int32_t j,
                              const struct stage<WARPS> *at, const float4 (*share)[4][WARP], tile &w)
{
    const int lane = (int)threadIdx.x % WARP, g = lane / 4, q = lane % 4;
    uint32_t v[4];
    tile_load_turned(v, shared_address(&at->v[lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8]));
#pragma unroll
    for (int n = 0; n < 2; n++) {
        float r[4];
        gather<WARPS>(at->record, share, 0, n, r);
#pragma unroll
        for (int e = 0; e < 4; e++)
            w[n][e] = (e % 2 ? high_value(v[2 * n + e / 2]) : low_value(v[2 * n + e / 2])) - r[e];
    }
    if (j * BLOCK >= p.run.c) return;
    for (int n = 0; n < 2; n++)
        for (int e = 0; e < 4; e++) {
            const int32_t entry = j * BLOCK + 8 * n + 2 * q + e % 2;
            if (entry < p.run.c)
                w[n][e] = ((const float *)a.slots.u)[delta_u_at(a, p.run.slot, entry, p.h) +
                                                     p.column + g + e / 2 * 8];
        }
}

/* Half n of o, by one warp. */
template <int WARPS>
static __device__ void make_o(const struct delta_call &a, const struct place &p, int32_t j,
                              const struct stage<WARPS> *at, const float4 (*share)[4][WARP],
                              const tile &u, int n)
{
    const int lane = (int)threadIdx.x % WARP, g = lane / 4, q = lane % 4;
    uint32_t left[3][4];
    float o[4];
    gather<WARPS>(at->record, share, 2, n, o);
    pack_left(u, left);
    multiply(o, left, at->record.part[MATRIX_P][n]);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const int32_t entry = j * BLOCK + 8 * n + 2 * q + e % 2;
        if (entry >= p.run.c && entry < p.run.c + p.run.n)
            put(a.o, view_at(a.o, p.run.first + entry - p.run.c, p.h, p.column + g + e / 2 * 8),
                o[e]);
    }
}

static __device__ void keep_u(const struct delta_call &a, const struct place &p, int32_t entries,
                              const tile &u)
{
    const int lane = (int)threadIdx.x % WARP, g = lane / 4, q = lane % 4;
    for (int n = 0; n < 2; n++)
        for (int e = 0; e < 4; e++) {
            const int32_t entry = 8 * n + 2 * q + e % 2;
            if (entry < entries)
                ((float *)a.slots.u)[delta_u_at(a, p.run.slot, entry, p.h) + p.column + g +
                                     e / 2 * 8] = u[n][e];
        }
}

/* u of all 16 entries, transposed. */
template <int WARPS>
static __device__ inline void make_u(const struct delta_call &a, const struct place &p, int32_t j,
                                     const struct stage<WARPS> *at, const float4 (*share)[4][WARP],
                                     tile &u)
{
    tile w;
    uint32_t left[3][4];
    make_w<WARPS>(a, p, j, at, share, w);
    pack_left(w, left);
#pragma unroll
    for (int n = 0; n < 2; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++) u[n][e] = 0.0f;
        multiply(u[n], left, at->record.part[MATRIX_M][n]);
    }
}

#endif
