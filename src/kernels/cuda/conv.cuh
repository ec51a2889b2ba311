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

/* Row i of sequence b enters the ring. */
static __device__ inline void conv_keep(const struct conv_call &a, int32_t b, int64_t i, int64_t c)
{
    store(a.slots.x, a.slots.dtype, ring_at(a.slots, a.rows.slot[b], a.rows.pos[b] + i, c),
          get(a.x, (a.rows.start[b] + i) * a.x.stride[0] + c));
}

#endif
