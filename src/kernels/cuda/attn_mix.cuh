/* attn_mix.cuh: a layer's attention from its packed projection: where things are, and a head of q or k normed
 * and turned. */
#ifndef KERNELS_CUDA_ATTN_MIX_CUH
#define KERNELS_CUDA_ATTN_MIX_CUH

#include "kernels/cuda/attn.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP, MOST_WIDTH = 256 };

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

#endif
