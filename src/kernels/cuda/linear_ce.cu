/* linear_ce.cu: head and cross entropy. Truth: kernels/ref/linear_ce.c. As many rows of logits at once
 * as scratch has room for; a row's loss does not depend on how many. */
#include "kernels/cuda/linear.cuh"

enum { THREADS = 1024, MOST_ROWS = 64 };

/* loss = log sum_n e^z[n] - z[target]; 0 without a target */
static __global__ void __launch_bounds__(THREADS)
    cross_entropy(const float *logits, int64_t vocab, const int32_t *targets, int64_t first,
                  struct view loss)
{
    __shared__ float room[WARP];
    const float *z = logits + blockIdx.x * vocab;
    const int64_t t = first + blockIdx.x;
    const int32_t target = targets[t];
    float max = -INFINITY, sum = 0.0f;
    for (int64_t n = threadIdx.x; n < vocab; n += THREADS) max = fmaxf(max, z[n]);
    max = warp_max(max);
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = max;
    __syncthreads();
    for (int i = 0; i < WARP; i++) max = fmaxf(max, room[i]);
    for (int64_t n = threadIdx.x; n < vocab; n += THREADS) sum += expf(z[n] - max);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0)
        put(loss, t * loss.stride[0], target < 0 ? 0.0f : max + logf(sum) - z[target]);
}

void cuda_linear_ce(struct device *device, struct arena *scratch, const void *args)
{
    const struct linear_ce_args *a = (const struct linear_ce_args *)args;
    const int64_t T = a->x->dim[0];
    const size_t row = (size_t)a->vocab * sizeof(float), all = scratch->size - scratch->used;
    const size_t panel = linear_panel_bytes(a->w), room = all > panel ? all - panel : 0;
    int64_t rows = room > row + 64 ? (int64_t)((room - 64) / row) : 1;
    if (rows > MOST_ROWS) rows = MOST_ROWS;
    if (rows > T) rows = T;
    float *logits = (float *)arena_take(scratch, (size_t)rows * row);
    if (!logits) return;
    for (int64_t first = 0; first < T; first += rows) {
        const int64_t n = T - first < rows ? T - first : rows, dim[] = {n, a->vocab};
        const struct tensor y = tensor_over(logits, DTYPE_F32, 2, dim);
        struct tensor x = *a->x;
        x.data = tensor_at(a->x, first * a->x->stride[0]);
        x.dim[0] = n;
        linear_run(device, scratch, &x, &y, a->w, a->vocab, false);
        const float *z = logits;
        launch(device, cross_entropy, dim3((unsigned)n), THREADS, 0, z, a->vocab, a->targets, first,
               view_of(a->loss));
    }
}
