/* delta_rows.cuh: where the delta rule's rows come from: tensors, or, with MIX, the projections of a
 * mixer, through convolution, l2norm and gates, as conv.cu, norm.cu and rows.cu would make them: the
 * same sums, rounded at the same places. */
#ifndef KERNELS_CUDA_DELTA_ROWS_CUH
#define KERNELS_CUDA_DELTA_ROWS_CUH

#include "kernels/cuda/bring.cuh"
#include "kernels/cuda/delta.cuh"

static const float L2_EPS = 1e-6f; /* of q and k, on the sum, in every family */

/* A warp's row of a head: lane l has elements 4l.. of the first 128, then of the next. */
enum { LANE_MOST = 256 / WARP };
struct lanes {
    float x[LANE_MOST];
};
static __device__ inline int32_t lane_element(int j)
{
    return 4 * ((int32_t)threadIdx.x % WARP) + j % 4 + j / 4 * (4 * WARP);
}

/* Sum of squares, in the order of norm.cu. */
static __device__ inline float lanes_squares(const struct lanes &l)
{
    float sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < LANE_MOST; j++) sum[j / 4] = fmaf(l.x[j], l.x[j], sum[j / 4]);
    return warp_sum(sum[0]) + warp_sum(sum[1]);
}

/* Row t of the call, channels first..first+n-1 behind the convolution; `scale` not 0: of length
 * `scale`. */
static __device__ struct lanes mixed_head(const struct delta_call &a, int32_t b, int64_t t,
                                          int64_t first, int32_t n, float scale)
{
    const struct conv_call &conv = a.mix.conv;
    struct lanes l;
#pragma unroll
    for (int j = 0; j < LANE_MOST; j++) {
        const int32_t d = lane_element(j);
        l.x[j] = d < n ? rounded(conv.x.dtype,
                                 conv_output(conv, b, t - a.rows.start[b], first + d))
                       : 0.0f;
    }
    if (scale == 0.0f) return l;
    const float r = scale / sqrtf(lanes_squares(l) + L2_EPS);
#pragma unroll
    for (int j = 0; j < LANE_MOST; j++) l.x[j] = rounded(conv.x.dtype, l.x[j] * r);
    return l;
}

/* Into shared memory, n of them, with zeros up to `all`. */
static __device__ inline void put_lanes(float *to, const struct lanes &l, int32_t n, int32_t all)
{
#pragma unroll
    for (int j = 0; j < LANE_MOST; j++)
        if (lane_element(j) < all) to[lane_element(j)] = lane_element(j) < n ? l.x[j] : 0.0f;
}

/* Key, query and value of row t of sequence b, by a warp, into shared memory: begin_, and after
 * bring_wait end_. The key is rounded to the type of the log. */
template <bool MIX>
static __device__ inline void begin_key(const struct delta_call &a, int64_t t, int64_t kh, float *to)
{
    if (!MIX) begin_row(to, a.k.data, a.k.dtype, view_at(a.k, t, kh, 0), a.Dk);
}

template <bool MIX>
static __device__ inline void end_key(const struct delta_call &a, int32_t b, int64_t t, int64_t kh,
                                      float *to, int32_t all)
{
    if (MIX)
        put_lanes(to, mixed_head(a, b, t, (a.Hk + kh) * a.Dk, a.Dk, 1.0f), a.Dk, all);
    else
        end_row(to, a.k.dtype, a.Dk, all, a.slots.anchor ? a.slots.k_type : a.k.dtype);
}

template <bool MIX>
static __device__ inline void begin_query(const struct delta_call &a, int64_t t, int64_t kh,
                                          float *to)
{
    if (!MIX) begin_row(to, a.q.data, a.q.dtype, view_at(a.q, t, kh, 0), a.Dk);
}

template <bool MIX>
static __device__ inline void end_query(const struct delta_call &a, int32_t b, int64_t t, int64_t kh,
                                        float *to, int32_t all)
{
    if (MIX)
        put_lanes(to, mixed_head(a, b, t, kh * a.Dk, a.Dk, a.mix.q_scale), a.Dk, all);
    else
        end_row(to, a.q.dtype, a.Dk, all, DTYPE_F32);
}

/* Columns column.. of the value, n of them. */
template <bool MIX>
static __device__ inline void begin_value(const struct delta_call &a, int64_t t, int64_t h,
                                          int32_t column, int32_t n, float *to)
{
    if (!MIX) begin_row(to, a.v.data, a.v.dtype, view_at(a.v, t, h, column), n);
}

template <bool MIX>
static __device__ inline void end_value(const struct delta_call &a, int32_t b, int64_t t, int64_t h,
                                        int32_t column, int32_t n, float *to, int32_t all)
{
    if (MIX)
        put_lanes(to, mixed_head(a, b, t, 2 * a.Hk * a.Dk + h * a.Dv + column, n, 0.0f), n, all);
    else
        end_row(to, a.v.dtype, n, all, DTYPE_F32);
}

template <bool MIX>
static __device__ inline float row_decay(const struct delta_call &a, int64_t t, int64_t h, int64_t d)
{
    const struct delta_mix &mix = a.mix;
    if (!MIX) return delta_decay(a, t, h, d);
    const float u = get(mix.a, view_at(mix.a, t, h, d)) +
                    get(mix.dt_bias, view_at(mix.dt_bias, h, d, 0));
    return fmaxf(gate_decay(u, get(mix.A_log, h), mix.gate), -104.0f);
}

template <bool MIX>
static __device__ inline float row_strength(const struct delta_call &a, int64_t t, int64_t h)
{
    if (MIX) return a.mix.gate.beta_scale * sigmoid(get(a.mix.b, view_at(a.mix.b, t, h, 0)));
    return get(a.beta, view_at(a.beta, t, h, 0));
}

/* o of row t, columns 0..Dv-1 in shared memory, through the gated norm: y = o r w act(z). */
static __device__ void put_normed(const struct delta_call &a, int64_t t, int64_t h, const float *o)
{
    const struct delta_mix &mix = a.mix;
    struct lanes l;
#pragma unroll
    for (int j = 0; j < LANE_MOST; j++) l.x[j] = lane_element(j) < a.Dv ? o[lane_element(j)] : 0.0f;
    const float r = 1.0f / sqrtf(lanes_squares(l) / (float)a.Dv + mix.eps);
#pragma unroll
    for (int j = 0; j < LANE_MOST; j++) {
        const int32_t d = lane_element(j);
        if (d < a.Dv)
            put(mix.y, t * mix.y.stride[0] + h * a.Dv + d,
                l.x[j] * r * get(mix.norm, d) *
                    act_of(mix.act, get(mix.z, t * mix.z.stride[0] + h * a.Dv + d)));
    }
}

#endif
