/* delta_pairs.cu: what a block of 16 entries of a prompt is without the state: one record a block and
 * value head (delta_prompt.cuh). A warp makes one. */
#include "kernels/cuda/delta_prompt.cuh"

enum { WARPS = 4, PITCH = BLOCK + 1 };

/* Of one warp: products of the block's keys with keys and queries, then A and P in their place. */
struct room {
    float K[BLOCK][PITCH], Q[BLOCK][PITCH]; /* [t][i] */
    float decay[BLOCK], G[BLOCK], beta[BLOCK];
};

static __device__ inline uint4 eight(const uint16_t *row, int32_t d)
{
    return row ? *(const uint4 *)(row + d) : make_uint4(0u, 0u, 0u, 0u);
}

/* x y^T of 16 x 16 over 32 channels; a lane has channels 8q.. of its rows g and g + 8. Which of them
 * are neighbours in an instruction is the same for both. */
static __device__ inline void meet(float (&d)[2][4], const uint4 (&x)[2], const uint4 (&y)[2])
{
    const uint32_t low[4] = {x[0].x, x[1].x, x[0].y, x[1].y};
    const uint32_t high[4] = {x[0].z, x[1].z, x[0].w, x[1].w};
#pragma unroll
    for (int n = 0; n < 2; n++) {
        tile_multiply(d[n], low, y[n].x, y[n].y);
        tile_multiply(d[n], high, y[n].z, y[n].w);
    }
}

static __device__ void meet_keys(const struct delta_call &a, const struct delta_prompt_run &r,
                                 int32_t first, int64_t kh, struct room *s)
{
    const int lane = (int)threadIdx.x % WARP, g = lane / 4, q = lane % 4;
    const uint16_t *key[2], *query[2];
    float kk[2][4] = {}, qk[2][4] = {};
    for (int h = 0; h < 2; h++) {
        key[h] = delta_key(a, r, first + g + 8 * h, kh);
        query[h] = delta_query(a, r, first + g + 8 * h, kh);
    }
    for (int32_t d = 8 * q; d < a.Dk; d += 32) {
        const uint4 k[2] = {eight(key[0], d), eight(key[1], d)};
        const uint4 y[2] = {eight(query[0], d), eight(query[1], d)};
        meet(kk, k, k);
        meet(qk, y, k);
    }
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s->K[g + e / 2 * 8][8 * n + 2 * q + e % 2] = kk[n][e];
            s->Q[g + e / 2 * 8][8 * n + 2 * q + e % 2] = qk[n][e];
        }
}

/* beta and G of the block's entries; lanes 0..15 have one each. What is beyond the rows is 0. */
static __device__ void take_gates(const struct delta_call &a, const struct delta_prompt_run &r,
                                  int32_t first, int64_t h, struct room *s)
{
    const int32_t lane = (int32_t)threadIdx.x % WARP, e = first + lane;
    const bool known = e < r.c, there = e < r.c + r.n;
    const int64_t t = r.first + e - r.c;
    float G = 0.0f;
    if (lane < BLOCK) {
        s->beta[lane] = known ? 1.0f : there ? get(a.beta, view_at(a.beta, t, h, 0)) : 0.0f;
        s->decay[lane] = known ? ((const float *)a.slots.G)[delta_G_at(a, r.slot, e, h)]
                               : there ? delta_decay(a, t, h, 0) : 0.0f;
    }
    __syncwarp();
    for (int32_t i = 0; i <= lane && lane < BLOCK; i++)
        G = first + i < r.c ? s->decay[i] : G + s->decay[i];
    if (lane < BLOCK) s->G[lane] = G;
    __syncwarp();
}

/* A and P. */
static __device__ void weigh(const struct delta_prompt_run &r, int32_t first, struct room *s)
{
    for (int32_t j = (int32_t)threadIdx.x % WARP; j < BLOCK * BLOCK; j += WARP) {
        const int32_t t = j / BLOCK, i = j % BLOCK;
        const float e = i <= t ? expf(s->G[t] - s->G[i]) : 0.0f;
        const bool free = i < t && first + t >= r.c;
        s->K[t][i] = free ? s->beta[t] * (e * s->K[t][i]) : 0.0f;
        s->Q[t][i] = i <= t ? e * s->Q[t][i] : 0.0f;
    }
    __syncwarp();
}

/* M in the place of A: lane j makes column j. */
static __device__ void invert(struct room *s)
{
    const int32_t j = (int32_t)threadIdx.x % WARP;
    float x[BLOCK];
#pragma unroll
    for (int t = 0; t < BLOCK; t++) {
        x[t] = t == j ? 1.0f : 0.0f;
#pragma unroll
        for (int i = 0; i < t; i++) x[t] = fmaf(-s->K[t][i], x[i], x[t]);
    }
    __syncwarp();
#pragma unroll
    for (int t = 0; t < BLOCK; t++)
        if (j < BLOCK) s->K[t][j] = x[t] * s->beta[j];
    __syncwarp();
}

static __device__ void pack(const float (&x)[BLOCK][PITCH], uint32_t (&to)[2][WARP][3][2])
{
    const int lane = (int)threadIdx.x % WARP, g = lane / 4, q = lane % 4;
    for (int n = 0; n < 2; n++)
        for (int half = 0; half < 2; half++) {
            const float *at = &x[8 * n + g][8 * half + 2 * q];
            uint32_t part[3];
            split_pair(at[0], at[1], part);
            for (int i = 0; i < 3; i++) to[n][lane][i][half] = part[i];
        }
}

static __global__ void __launch_bounds__(WARPS *WARP) pairs(struct delta_prompt_call call)
{
    __shared__ struct room rooms[WARPS];
    const struct delta_call &a = call.a;
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t h = (int64_t)blockIdx.x * WARPS + warp;
    const int32_t b = (int32_t)blockIdx.z;
    if (h >= a.Hv || !is_prompt(a.rows, b) || absent(a.rows, b)) return;
    const struct delta_prompt_run r = delta_prompt_run_of(a, b);
    struct room *s = &rooms[warp];
    for (int32_t j = (int32_t)blockIdx.y; j < r.blocks; j += (int32_t)gridDim.y) {
        struct delta_record *to = call.record + (delta_first_block(r.first, b) + j) * a.Hv + h;
        meet_keys(a, r, j * BLOCK, h / (a.Hv / a.Hk), s);
        take_gates(a, r, j * BLOCK, h, s);
        weigh(r, j * BLOCK, s);
        invert(s);
        pack(s->K, to->part[MATRIX_M]);
        pack(s->Q, to->part[MATRIX_P]);
        const float whole = s->G[BLOCK - 1];
        if (lane < BLOCK) {
            to->into[lane] = expf(s->G[lane]);
            to->out[lane] = expf(whole - s->G[lane]);
        }
        if (lane < 4) to->whole[lane] = expf(whole);
        __syncwarp();
    }
}

void delta_pairs(struct device *device, const struct delta_prompt_call &call)
{
    const dim3 grid(blocks_for(call.a.Hv, WARPS), blocks_for(call.a.rows.T, BLOCK),
                    (unsigned)call.a.rows.B);
    launch(device, pairs, grid, WARPS * WARP, 0, call);
}
