/* norm.cu: norm, add_norm, gated_norm, l2norm. Truth: kernels/ref/norm.c.
 *
 * A block takes a row and keeps it in registers, four neighbours at a time: thread i of n has elements
 * 4 i, 4 (n + i), ... It sums their squares, lanes meet in a tree, warps in order. */
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/prompt.cuh"

enum { PARTS = 4, MOST_THREADS = 1024, MOST_WIDTH = PARTS * 4 * MOST_THREADS };

static unsigned threads_for(int64_t width)
{
    GDN_CHECK(width <= MOST_WIDTH, "norm: rows of %lld", (long long)width);
    return width >= 4 * MOST_THREADS ? MOST_THREADS : blocks_for(width, 4 * WARP) * WARP;
}

struct part {
    float4 at[PARTS];
};

/* Elements of this thread in part p; how many are there. */
static __device__ inline int64_t first_of(int p) { return 4 * (threadIdx.x + (int64_t)p * blockDim.x); }
static __device__ inline int32_t left_of(int p, int64_t n)
{
    const int64_t left = n - first_of(p);
    return left > 4 ? 4 : left > 0 ? (int32_t)left : 0;
}

static __device__ inline float4 get_four(const struct view &v, int64_t row, int p, int64_t n)
{
    return load_four(v.data, v.dtype, row + first_of(p), left_of(p, n));
}

static __device__ inline void put_four(const struct view &v, int64_t row, int p, int64_t n,
                                       const float4 &x)
{
    const int64_t at = row + first_of(p);
    const int32_t left = left_of(p, n);
    if (left == 4) {
        store_four(v.data, v.dtype, at, x);
        return;
    }
    if (left > 0) put(v, at, x.x);
    if (left > 1) put(v, at + 1, x.y);
    if (left > 2) put(v, at + 2, x.z);
}

static __device__ inline struct part get_row(const struct view &v, int64_t row, int64_t n)
{
    struct part r;
#pragma unroll
    for (int p = 0; p < PARTS; p++) r.at[p] = get_four(v, row, p, n);
    return r;
}

static __device__ float sum_squares(const struct part &r, float *room)
{
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < PARTS; p++) sum = add_squares(sum, r.at[p]);
    return block_sum(sum, room);
}

/* y = x r c,  c = w or 1 + w;  late: x r is rounded before the weight comes */
static __device__ void norm_row(const struct part &x, const struct part &w, const struct view &y,
                                int64_t to, struct norm_constants c, float *room)
{
    const int64_t n = y.dim[y.rank - 1];
    const float r = 1.0f / sqrtf(sum_squares(x, room) / (float)n + c.eps);
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        const float4 &v = x.at[p], &u = w.at[p];
        put_four(y, to, p, n, float4{normed(v.x, r, u.x, y.dtype, c),
                                     normed(v.y, r, u.y, y.dtype, c),
                                     normed(v.z, r, u.z, y.dtype, c),
                                     normed(v.w, r, u.w, y.dtype, c)});
    }
}

static __global__ void __launch_bounds__(MOST_THREADS) norm(struct view x, struct view w, struct view y, struct norm_constants c)
{
    __shared__ float room[WARP];
    let_next_start();
    const int64_t n = y.dim[y.rank - 1];
    const struct part weight = get_row(w, 0, n);
    wait_for_input();
    norm_row(get_row(x, view_row(x, blockIdx.x), n), weight, y, view_row(y, blockIdx.x), c, room);
}

void cuda_norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct norm_args *a = (const struct norm_args *)args;
    const struct norm_constants c = {(float)a->eps, a->centred, a->late};
    launch_early(device, norm, dim3((unsigned)view_rows(a->x)), threads_for(tensor_width(a->x)), 0,
                 view_of(a->x), view_of(a->w), view_of(a->y), c);
}

/* x1 = x + d, rounded to its type; y = norm of that */
static __global__ void __launch_bounds__(MOST_THREADS) add_norm(struct view x, struct view d, struct view w, struct view x1,
                                struct view y, struct norm_constants c)
{
    __shared__ float room[WARP];
    let_next_start();
    const int64_t t = blockIdx.x, n = y.dim[1];
    const struct part weight = get_row(w, 0, n);
    wait_for_input();
    struct part a = get_row(x, t * x.stride[0], n);
    const struct part b = get_row(d, t * d.stride[0], n);
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        float4 &v = a.at[p];
        const float4 &u = b.at[p];
        v = float4{rounded(x1.dtype, v.x + u.x), rounded(x1.dtype, v.y + u.y),
                   rounded(x1.dtype, v.z + u.z), rounded(x1.dtype, v.w + u.w)};
        put_four(x1, t * x1.stride[0], p, n, v);
    }
    norm_row(a, weight, y, t * y.stride[0], c, room);
}

void cuda_add_norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct add_norm_args *a = (const struct add_norm_args *)args;
    if (add_norm_prompt(device, a)) return;
    const struct norm_constants c = {(float)a->eps, a->centred, a->late};
    const dim3 grid((unsigned)a->x->dim[0]);
    const unsigned threads = threads_for(a->x->dim[1]);
    if (a->d)
        launch_early(device, add_norm, grid, threads, 0, view_of(a->x), view_of(a->d),
                     view_of(a->w), view_of(a->x1), view_of(a->y), c);
    else
        launch_early(device, norm, grid, threads, 0, view_of(a->x), view_of(a->w), view_of(a->y), c);
}

/* y = x r w act(z) */
static __global__ void __launch_bounds__(MOST_THREADS) gated_norm(struct view x, struct view z, struct view w, struct view y,
                                  float eps, enum act act)
{
    __shared__ float room[WARP];
    let_next_start();
    const int64_t to = view_row(y, blockIdx.x), n = y.dim[y.rank - 1];
    const struct part weight = get_row(w, 0, n);
    wait_for_input();
    const struct part v = get_row(x, view_row(x, blockIdx.x), n);
    const struct part g = get_row(z, view_row(z, blockIdx.x), n);
    const float r = 1.0f / sqrtf(sum_squares(v, room) / (float)n + eps);
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        const float4 &u = v.at[p], &h = weight.at[p], &e = g.at[p];
        put_four(y, to, p, n, float4{u.x * r * h.x * act_of(act, e.x), u.y * r * h.y * act_of(act, e.y),
                                     u.z * r * h.z * act_of(act, e.z), u.w * r * h.w * act_of(act, e.w)});
    }
}

void cuda_gated_norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct gated_norm_args *a = (const struct gated_norm_args *)args;
    if (gated_norm_prompt(device, a)) return;
    launch_early(device, gated_norm, dim3((unsigned)view_rows(a->x)),
                 threads_for(tensor_width(a->x)), 0, view_of(a->x), view_of(a->z), view_of(a->w),
                 view_of(a->y), (float)a->eps, a->act);
}

/* y = scale x / sqrt(sum x^2 + eps) */
static __global__ void __launch_bounds__(MOST_THREADS) l2norm(struct view x, struct view y, float eps, float scale)
{
    __shared__ float room[WARP];
    let_next_start();
    wait_for_input();
    const int64_t to = view_row(y, blockIdx.x), n = y.dim[y.rank - 1];
    const struct part v = get_row(x, view_row(x, blockIdx.x), n);
    const float r = scale / sqrtf(sum_squares(v, room) + eps);
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
        const float4 &u = v.at[p];
        put_four(y, to, p, n, float4{u.x * r, u.y * r, u.z * r, u.w * r});
    }
}

void cuda_l2norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct l2norm_args *a = (const struct l2norm_args *)args;
    if (l2norm_prompt(device, a)) return;
    launch_early(device, l2norm, dim3((unsigned)view_rows(a->x)), threads_for(tensor_width(a->x)),
                 0, view_of(a->x), view_of(a->y), (float)a->eps, (float)a->scale);
}
