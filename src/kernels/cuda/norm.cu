/* norm.cu: norm, add_norm, gated_norm, l2norm. Truth: kernels/ref/norm.c.
 *
 * A block takes a row; lane l of warp w sums the squares of every (256 or 32)-th element, lanes meet
 * in a tree, warps in order. Rows of at most 256 (heads) are a warp's. */
#include "kernels/cuda/launch.cuh"

static unsigned threads_for(int64_t width) { return width <= 256 ? 32 : 256; }

static __device__ float sum_squares(const struct view &x, int64_t row, int64_t n, float *room)
{
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const float v = get(x, row + i);
        sum = fmaf(v, v, sum);
    }
    return block_sum(sum, room);
}

struct norm_constants {
    float eps;
    bool centred, late;
};

static __device__ void norm_row(const struct view &x, int64_t from, const struct view &w,
                                const struct view &y, int64_t to, struct norm_constants c,
                                float *room)
{
    const int64_t n = y.dim[y.rank - 1];
    const float r = 1.0f / sqrtf(sum_squares(x, from, n, room) / (float)n + c.eps);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const float even = get(x, from + i) * r, weight = get(w, i);
        put(y, to + i, (c.late ? rounded(y.dtype, even) : even) *
                           (c.centred ? 1.0f + weight : weight));
    }
}

/* y = x r c,  c = w or 1 + w;  late: x r is rounded before the weight comes */
static __global__ void norm(struct view x, struct view w, struct view y, struct norm_constants c)
{
    __shared__ float room[WARP];
    norm_row(x, view_row(x, blockIdx.x), w, y, view_row(y, blockIdx.x), c, room);
}

void cuda_norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct norm_args *a = (const struct norm_args *)args;
    const struct norm_constants c = {(float)a->eps, a->centred, a->late};
    launch(device, norm, dim3((unsigned)view_rows(a->x)), threads_for(tensor_width(a->x)), 0,
           view_of(a->x), view_of(a->w), view_of(a->y), c);
}

/* x1 = x + d, rounded to its type; y = norm of that */
static __global__ void add_norm(struct view x, struct view d, struct view w, struct view x1,
                                struct view y, struct norm_constants c)
{
    __shared__ float room[WARP];
    const int64_t t = blockIdx.x, to = t * x1.stride[0];
    for (int64_t i = threadIdx.x; i < y.dim[1]; i += blockDim.x)
        put(x1, to + i, get(x, t * x.stride[0] + i) + get(d, t * d.stride[0] + i));
    norm_row(x1, to, w, y, t * y.stride[0], c, room); /* each thread reads what it wrote */
}

void cuda_add_norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct add_norm_args *a = (const struct add_norm_args *)args;
    const struct norm_constants c = {(float)a->eps, a->centred, a->late};
    const dim3 grid((unsigned)a->x->dim[0]);
    const unsigned threads = threads_for(a->x->dim[1]);
    if (a->d)
        launch(device, add_norm, grid, threads, 0, view_of(a->x), view_of(a->d), view_of(a->w),
               view_of(a->x1), view_of(a->y), c);
    else
        launch(device, norm, grid, threads, 0, view_of(a->x), view_of(a->w), view_of(a->y), c);
}

/* y = x r w act(z) */
static __global__ void gated_norm(struct view x, struct view z, struct view w, struct view y,
                                  float eps, enum act act)
{
    __shared__ float room[WARP];
    const int64_t from = view_row(x, blockIdx.x), gate = view_row(z, blockIdx.x);
    const int64_t to = view_row(y, blockIdx.x), n = y.dim[y.rank - 1];
    const float r = 1.0f / sqrtf(sum_squares(x, from, n, room) / (float)n + eps);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        put(y, to + i, get(x, from + i) * r * get(w, i) * act_of(act, get(z, gate + i)));
}

void cuda_gated_norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct gated_norm_args *a = (const struct gated_norm_args *)args;
    launch(device, gated_norm, dim3((unsigned)view_rows(a->x)), threads_for(tensor_width(a->x)), 0,
           view_of(a->x), view_of(a->z), view_of(a->w), view_of(a->y), (float)a->eps, a->act);
}

/* y = scale x / sqrt(sum x^2 + eps) */
static __global__ void l2norm(struct view x, struct view y, float eps, float scale)
{
    __shared__ float room[WARP];
    const int64_t from = view_row(x, blockIdx.x), to = view_row(y, blockIdx.x);
    const int64_t n = y.dim[y.rank - 1];
    const float r = scale / sqrtf(sum_squares(x, from, n, room) + eps);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) put(y, to + i, get(x, from + i) * r);
}

void cuda_l2norm(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct l2norm_args *a = (const struct l2norm_args *)args;
    launch(device, l2norm, dim3((unsigned)view_rows(a->x)), threads_for(tensor_width(a->x)), 0,
           view_of(a->x), view_of(a->y), (float)a->eps, (float)a->scale);
}
