/* conv.cuh: the input of the short convolution: rows of the call, and before them the ring or tail_in. */
#ifndef KERNELS_CUDA_CONV_CUH
#define KERNELS_CUDA_CONV_CUH

#include "kernels/cuda/launch.cuh"

struct conv_call {
    struct view x, w, tail_in, y, tail_out;
    struct rows rows;
    struct conv_slots slots; /* x NULL: dense */
    bool plain;
};

static __device__ inline int64_t ring_at(const struct conv_slots &s, int32_t slot, int64_t position,
                                         int64_t c)
{
    return ((int64_t)slot * s.ring + position % s.ring) * s.C + c;
}

/* Input i of sequence b, counted from its first row of the call; may be negative. */
static __device__ inline float conv_input(const struct conv_call &a, int32_t b, int64_t i, int64_t c)
{
    if (i >= 0) {
        const float x = get(a.x, (a.rows.start[b] + i) * a.x.stride[0] + c);
        return a.slots.x ? rounded(a.slots.dtype, x) : x;
    }
    if (a.slots.x) {
        const int64_t position = a.rows.pos[b] + i;
        if (position < 0) return 0.0f;
        return load(a.slots.x, a.slots.dtype, ring_at(a.slots, a.rows.slot[b], position, c));
    }
    if (!a.tail_in.data) return 0.0f;
    return get(a.tail_in, view_at(a.tail_in, b, a.w.dim[1] - 1 + i, c));
}

/* y[t, c], row i of sequence b:  silu(sum_j w[c, j] x[i-(W-1)+j, c]), j ascending; plain: the sum. */
static __device__ inline float conv_output(const struct conv_call &a, int32_t b, int64_t i, int64_t c)
{
    const int64_t W = a.w.dim[1];
    float sum = 0.0f;
    for (int64_t j = 0; j < W; j++)
        sum = fmaf(get(a.w, c * a.w.stride[0] + j), conv_input(a, b, i - (W - 1) + j, c), sum);
    return a.plain ? sum : act_of(ACT_SILU, sum);
}

/* ---- four channels at a time, of up to four taps --------------------------------------------- */

enum { CONV_TAPS = 4 };

/* Taps of channels c..c+3, the newest in w[..][3]: 0 where there are fewer. */
struct conv_taps {
    float w[4][CONV_TAPS];
};

static __device__ inline struct conv_taps conv_taps_of(const struct conv_call &a, int64_t c)
{
    struct conv_taps taps;
    const int32_t W = (int32_t)a.w.dim[1];
    const char *at = (const char *)a.w.data + c * a.w.stride[0] * 4;
    if (W == CONV_TAPS && a.w.dtype == DTYPE_F32 && a.w.stride[0] == CONV_TAPS && (size_t)at % 16 == 0) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float4 x = ((const float4 *)at)[e];
            taps.w[e][0] = x.x, taps.w[e][1] = x.y, taps.w[e][2] = x.z, taps.w[e][3] = x.w;
        }
        return taps;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
#pragma unroll
        for (int j = 0; j < CONV_TAPS; j++)
            taps.w[e][j] =
                j + W < CONV_TAPS ? 0.0f : get(a.w, (c + e) * a.w.stride[0] + j + W - CONV_TAPS);
    return taps;
}

/* Whether rows and ring are bf16, and four channels lie together. */
static __host__ __device__ inline bool conv_in_fours(const struct conv_call &a)
{
    return a.w.dim[1] <= CONV_TAPS && a.slots.x && a.x.dtype == DTYPE_BF16 &&
           a.slots.dtype == DTYPE_BF16 && a.slots.C % 4 == 0 && a.x.stride[0] % 4 == 0 &&
           ((size_t)a.x.data | (size_t)a.slots.x) % 8 == 0;
}

/* conv_output of channels c..c+3 as conv_in_fours asks for; x: row i itself. */
static __device__ inline float4 conv_four(const struct conv_call &a, const struct conv_taps &taps,
                                          int32_t b, int32_t i, int64_t c, uint2 *x)
{
    const int32_t W = (int32_t)a.w.dim[1], pos = a.rows.pos[b], ring = a.slots.ring;
    const uint16_t *row = (const uint16_t *)a.x.data + (a.rows.start[b] + i) * a.x.stride[0] + c;
    const uint16_t *kept =
        (const uint16_t *)a.slots.x + (int64_t)a.rows.slot[b] * ring * a.slots.C + c;
    const int32_t now = (pos + i) % ring;
    uint2 in[CONV_TAPS];
#pragma unroll
    for (int j = 0; j < CONV_TAPS; j++) {
        const int32_t back = CONV_TAPS - 1 - j, at = now - back < 0 ? now - back + ring : now - back;
        in[j] = uint2{0, 0};
        if (back >= W || pos + i < back) continue;
        in[j] = back <= i ? *(const uint2 *)(row - back * a.x.stride[0])
                          : *(const uint2 *)(kept + (int64_t)at * a.slots.C);
    }
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < CONV_TAPS; j++) {
        if (j + W < CONV_TAPS) continue;
        sum[0] = fmaf(taps.w[0][j], __uint_as_float(in[j].x << 16), sum[0]);
        sum[1] = fmaf(taps.w[1][j], __uint_as_float(in[j].x & 0xffff0000u), sum[1]);
        sum[2] = fmaf(taps.w[2][j], __uint_as_float(in[j].y << 16), sum[2]);
        sum[3] = fmaf(taps.w[3][j], __uint_as_float(in[j].y & 0xffff0000u), sum[3]);
    }
    *x = in[CONV_TAPS - 1];
    if (a.plain) return float4{sum[0], sum[1], sum[2], sum[3]};
    return float4{act_of(ACT_SILU, sum[0]), act_of(ACT_SILU, sum[1]), act_of(ACT_SILU, sum[2]),
                  act_of(ACT_SILU, sum[3])};
}

/* Row i of sequence b enters the ring. */
static __device__ inline void conv_keep(const struct conv_call &a, int32_t b, int64_t i, int64_t c)
{
    store(a.slots.x, a.slots.dtype, ring_at(a.slots, a.rows.slot[b], a.rows.pos[b] + i, c),
          get(a.x, (a.rows.start[b] + i) * a.x.stride[0] + c));
}

#endif
