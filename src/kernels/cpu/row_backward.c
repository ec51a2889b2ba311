/* row_backward.c: the end of a sum over rows that is the same for any number of threads. */
#include "kernels/cpu/cpu.h"

enum { COLUMNS = 64 };

struct block_job {
    const struct tensor *grad;
    const float *sum;
    int64_t blocks, n;
};

/* Columns first..first+n-1. */
static void add_to(const struct tensor *grad, int64_t first, const double *sum, int64_t n)
{
    const int64_t width = tensor_width(grad);
    float *to = tensor_at(grad, first);
    if (tensor_dense(grad))
        for (int64_t i = 0; i < n; i++) to[i] += (float)sum[i];
    else
        for (int64_t i = 0; i < n; i++) {
            float *row = cpu_row(grad, (first + i) / width);
            row[(first + i) % width] += (float)sum[i];
        }
}

static void add_columns(void *context, int64_t begin, int64_t end, int thread)
{
    const struct block_job *job = context;
    (void)thread;
    for (int64_t first = begin; first < end; first += COLUMNS) {
        const int64_t n = end - first < COLUMNS ? end - first : COLUMNS;
        const float *from = job->sum + first;
        double sum[COLUMNS] = {0};
        for (int64_t block = 0; block < job->blocks; block++, from += job->n)
            for (int64_t i = 0; i < n; i++) sum[i] += (double)from[i];
        add_to(job->grad, first, sum, n);
    }
}

void cpu_add_blocks(struct pool *pool, const struct tensor *grad, const float *sum, int64_t blocks,
                    int64_t n)
{
    struct block_job job = {grad, sum, blocks, n};
    const int64_t few = cpu_grain(COLUMNS * blocks);
    pool_run(pool, n, COLUMNS * few, add_columns, &job);
}
