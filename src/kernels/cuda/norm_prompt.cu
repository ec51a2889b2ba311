/* norm_prompt.cu: add_norm of bf16 rows, gated_norm and l2norm of many. Truth: kernels/ref/norm.c. The
 * sums of norm.cu, in their order: thread i of a row has elements 4 i .. 4 i + 3, lanes meet in a tree,
 * warps in order. Here a thread has no more than these, and narrow rows share a block. What a decode step
 * runs has few instructions: each launch fetches them anew (docs/kernels/cuda.md). */
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/prompt.cuh"
#include "kernels/cuda/tiles.cuh"

enum { MANY = 2 * PROMPT, HEADS = 8, MOST_WIDTH = 4096 };

static __device__ inline float4 four_of(const uint2 &x)
{
    return float4{low_value(x.x), high_value(x.x), low_value(x.y), high_value(x.y)};
}

static __device__ inline uint2 *four_at(const struct view &v, int64_t at)
{
    return (uint2 *)((uint16_t *)v.data + at);
}

static __device__ inline uint2 packed(float x, float y, float z, float w)
{
    return uint2{bf16_pair(x, y), bf16_pair(z, w)};
}

/* ---- wide rows: a block each ----------------------------------------------------------------- */

static __global__ void add_norm_many(struct view x, struct view d, struct view w, struct view x1,
                                     struct view y, struct norm_constants c)
{
    __shared__ float room[WARP];
    const int64_t t = blockIdx.x;
    const int32_t i = 4 * (int32_t)threadIdx.x;
    const float4 weight = *(const float4 *)((const float *)w.data + i);
    let_next_start();
    wait_for_input();
    const float4 a = four_of(*four_at(x, t * x.stride[0] + i));
    const float4 b = four_of(*four_at(d, t * d.stride[0] + i));
    const uint2 sum = packed(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
    const float4 v = four_of(sum);
    *four_at(x1, t * x1.stride[0] + i) = sum;
    const float r = 1.0f / sqrtf(block_sum(add_squares(0.0f, v), room) / (float)y.dim[1] + c.eps);
    *four_at(y, t * y.stride[0] + i) =
        packed(normed(v.x, r, weight.x, DTYPE_BF16, c), normed(v.y, r, weight.y, DTYPE_BF16, c),
               normed(v.z, r, weight.z, DTYPE_BF16, c), normed(v.w, r, weight.w, DTYPE_BF16, c));
}

static bool in_fours(const struct tensor *t)
{
    bool fits = t->dtype == DTYPE_BF16 && (size_t)t->data % 8 == 0;
    for (int i = 0; i + 1 < t->rank; i++) fits = fits && t->stride[i] % 4 == 0;
    return fits;
}

static bool wide_weight(const struct tensor *w)
{
    return w->dtype == DTYPE_F32 && (size_t)w->data % 16 == 0;
}

bool add_norm_prompt(struct device *device, const struct add_norm_args *a)
{
    const int64_t width = a->x->dim[1];
    if (!a->d || width % (4 * WARP) != 0 || width > MOST_WIDTH ||
        !in_fours(a->x) || !in_fours(a->d) || !in_fours(a->x1) || !in_fours(a->y) ||
        !wide_weight(a->w))
        return false;
    const struct norm_constants c = {(float)a->eps, a->centred, a->late};
    launch_early(device, add_norm_many, dim3((unsigned)a->x->dim[0]), (unsigned)(width / 4), 0,
           view_of(a->x), view_of(a->d), view_of(a->w), view_of(a->x1), view_of(a->y), c);
    return true;
}

/* ---- heads: a warp each ---------------------------------------------------------------------- */

/* Element 0 of row `row` of [T, H, D]. */
static __device__ inline int64_t head_at(const struct view &v, int32_t row, int32_t H)
{
    return view_at(v, row / H, row % H, 0);
}

/* y = x r w act(z), or with w NULL: y = scale x r */
static __global__ void __launch_bounds__(HEADS *WARP)
    norm_heads(struct view x, struct view z, struct view w, struct view y, float eps, float scale,
               enum act act)
{
    const int32_t H = (int32_t)y.dim[1], D = (int32_t)y.dim[2];
    const int32_t row = (int32_t)blockIdx.x * HEADS + (int32_t)threadIdx.x / WARP;
    const int32_t i = 4 * ((int32_t)threadIdx.x % WARP);
    if (row >= y.dim[0] * H) return;
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (i < D) v = four_of(*four_at(x, head_at(x, row, H) + i));
    const float sum = warp_sum(add_squares(0.0f, v));
    if (i >= D) return;
    uint2 *to = four_at(y, head_at(y, row, H) + i);
    if (!w.data) {
        const float r = scale / sqrtf(sum + eps);
        *to = packed(v.x * r, v.y * r, v.z * r, v.w * r);
        return;
    }
    const float r = 1.0f / sqrtf(sum / (float)D + eps);
    const float4 h = *(const float4 *)((const float *)w.data + i);
    const float4 e = four_of(*four_at(z, head_at(z, row, H) + i));
    *to = packed(v.x * r * h.x * act_of(act, e.x), v.y * r * h.y * act_of(act, e.y),
                 v.z * r * h.z * act_of(act, e.z), v.w * r * h.w * act_of(act, e.w));
}

static bool are_heads(const struct tensor *t)
{
    return t->rank == 3 && t->dim[2] % 4 == 0 && t->dim[2] <= 4 * WARP && in_fours(t);
}

bool gated_norm_prompt(struct device *device, const struct gated_norm_args *a)
{
    if (a->x->dim[0] < MANY || !are_heads(a->x) || !are_heads(a->z) || !are_heads(a->y) ||
        !wide_weight(a->w))
        return false;
    launch(device, norm_heads, dim3(blocks_for(view_rows(a->y), HEADS)), HEADS * WARP, 0,
           view_of(a->x), view_of(a->z), view_of(a->w), view_of(a->y), (float)a->eps, 1.0f, a->act);
    return true;
}

bool l2norm_prompt(struct device *device, const struct l2norm_args *a)
{
    if (a->x->dim[0] < MANY || !are_heads(a->x) || !are_heads(a->y)) return false;
    const struct view none = view_of(NULL);
    launch(device, norm_heads, dim3(blocks_for(view_rows(a->y), HEADS)), HEADS * WARP, 0,
           view_of(a->x), none, none, view_of(a->y), (float)a->eps, (float)a->scale, ACT_SILU);
    return true;
}
