/* head_linear.cu: a product for each head. Truth: kernels/ref/head_linear.c.
 *
 * y[t,h,n] = sum_k W_h[n,k] x[t,h,k]: a warp an element, element k in lane k mod 32, then a tree; or
 * W_h lies as [K, N]: a thread an element, k ascending. */
#include "kernels/cuda/launch.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP };

static __global__ void straight(struct view x, struct view w, struct view y)
{
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.x, h = blockIdx.z, lane = threadIdx.x % WARP;
    const int64_t n = (int64_t)blockIdx.y * WARPS + threadIdx.x / WARP;
    if (n >= y.dim[2]) return;
    float sum = 0.0f;
    for (int64_t k = lane; k < x.dim[2]; k += WARP)
        sum = fmaf(get(w, view_at(w, h, n, k)), get(x, view_at(x, t, h, k)), sum);
    sum = warp_sum(sum);
    if (lane == 0) put(y, view_at(y, t, h, n), sum);
}

static __global__ void turned(struct view x, struct view w, struct view y)
{
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.x, h = blockIdx.z, n = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    if (n >= y.dim[2]) return;
    float sum = 0.0f;
    for (int64_t k = 0; k < x.dim[2]; k++)
        sum = fmaf(get(w, view_at(w, h, k, n)), get(x, view_at(x, t, h, k)), sum);
    put(y, view_at(y, t, h, n), sum);
}

void cuda_head_linear(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct head_linear_args *a = (const struct head_linear_args *)args;
    const unsigned T = (unsigned)a->x->dim[0], H = (unsigned)a->x->dim[1];
    if (a->turned)
        launch_early(device, turned, dim3(T, blocks_for(a->y->dim[2], THREADS), H), THREADS, 0,
               view_of(a->x), view_of(a->w), view_of(a->y));
    else
        launch_early(device, straight, dim3(T, blocks_for(a->y->dim[2], WARPS), H), THREADS, 0,
               view_of(a->x), view_of(a->w), view_of(a->y));
}
