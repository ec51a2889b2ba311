/* head_linear.c: y[t,h] = W_h x[t,h], and back. Truth: kernels/ref/head_linear.c.
 *
 * Forward, each head is a product of one list (linear.h), or turned (head_linear_tmpl.h). On the way
 * back a head's weight is walked once for a block of rows, each of its rows brought to f32 once. Lying
 * as the product reads it, an output is cpu_dot of two rows; turned, the sum over k goes along rows
 * of the weight, k ascending. Either way a row's bits are its own. */
#include "kernels/cpu/linear.h"

#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/head_linear_tmpl.h"

enum { BLOCK_ROWS = 32 };

/* ---- forward ------------------------------------------------------------------------------------ */

bool head_linear_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                              const struct head_linear_args *a)
{
    const int64_t T = a->x->dim[0], H = a->x->dim[1], N = a->y->dim[2];
    if (T == 0) return true;
    struct product *list = arena_take(scratch, (size_t)H * sizeof *list);
    struct linear *w = arena_take(scratch, (size_t)H * sizeof *w);
    struct linear_part *part = arena_take(scratch, (size_t)H * sizeof *part);
    const void **x = arena_take(scratch, (size_t)(H * T) * sizeof *x);
    void **y = arena_take(scratch, (size_t)(H * T) * sizeof *y);
    if (!list || !w || !part || !x || !y) return false;
    for (int64_t h = 0; h < H; h++, x += T, y += T) {
        for (int64_t t = 0; t < T; t++)
            x[t] = head_row(a->x, t, h), y[t] = head_row(a->y, t, h);
        part[h] = (struct linear_part){a->w, h * N, N, 0};
        w[h] = (struct linear){N, a->x->dim[2], 1, &part[h]};
        list[h] = (struct product){.w = &w[h], .rows = T, .columns = N, .x = x, .y = y,
                                   .x_type = a->x->dtype, .y_type = a->y->dtype};
    }
    return run(device, scratch, list, H);
}

/* ---- backward ----------------------------------------------------------------------------------- */

/* What is multiplied: y += W x, where x and y are gradients. */
struct job {
    const struct tensor *x, *w, *y;
    bool turned;
    int64_t blocks;
    struct cpu_work_rows work; /* [BLOCK_ROWS (K + N) + the longer of both] */
};

/* Rows first.. of head h. */
static void product(const struct job *job, int64_t h, int64_t first, int64_t rows, float *work)
{
    const int64_t K = job->x->dim[2], N = job->y->dim[2];
    float *x = work, *y = x + BLOCK_ROWS * K, *w = y + BLOCK_ROWS * N;
    for (int64_t r = 0; r < rows; r++)
        cpu_load_row(x + r * K, head_row(job->x, first + r, h), job->x->dtype, K);
    memset(y, 0, (size_t)(rows * N) * sizeof *y);
    for (int64_t i = 0; i < (job->turned ? K : N); i++) {
        cpu_load_row(w, head_row(job->w, h, i), job->w->dtype, job->turned ? N : K);
        for (int64_t r = 0; r < rows; r++) {
            float *to = y + r * N;
            if (!job->turned) {
                to[i] = cpu_dot(x + r * K, w, K);
                continue;
            }
            const float one = x[r * K + i];
            for (int64_t n = 0; n < N; n++) to[n] = to[n] + one * w[n];
        }
    }
    for (int64_t r = 0; r < rows; r++) {
        float *to = head_row(job->y, first + r, h);
        for (int64_t n = 0; n < N; n++) to[n] += y[r * N + n];
    }
}

static void run_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    float *work = job->work.data + thread * job->work.stride;
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i % job->blocks * BLOCK_ROWS, left = job->x->dim[0] - first;
        product(job, i / job->blocks, first, left < BLOCK_ROWS ? left : BLOCK_ROWS, work);
    }
}

static void run(struct device *device, struct arena *scratch, struct job *job)
{
    const int64_t K = job->x->dim[2], N = job->y->dim[2];
    job->blocks = (job->x->dim[0] + BLOCK_ROWS - 1) / BLOCK_ROWS;
    job->work = cpu_take_rows(device, scratch, BLOCK_ROWS * (K + N) + (K > N ? K : N));
    if (job->work.data) pool_run(device->pool, job->blocks * job->x->dim[1], 1, run_blocks, job);
}

/* dW of one head: rows of the weight get p[t][i] q[t], t ascending. */
struct weight_job {
    const struct tensor *p, *q, *grad; /* [T,H,rows], [T,H,columns], [H,rows,columns] */
    struct cpu_work_rows work;         /* [rows + columns] */
};

static void weight_heads(void *context, int64_t begin, int64_t end, int thread)
{
    const struct weight_job *job = context;
    const int64_t rows = job->p->dim[2], columns = job->q->dim[2];
    float *p = job->work.data + thread * job->work.stride, *q = p + rows;
    for (int64_t h = begin; h < end; h++)
        for (int64_t t = 0; t < job->p->dim[0]; t++) {
            cpu_load_row(p, head_row(job->p, t, h), job->p->dtype, rows);
            cpu_load_row(q, head_row(job->q, t, h), job->q->dtype, columns);
            for (int64_t i = 0; i < rows; i++) {
                float *to = head_row(job->grad, h, i);
                for (int64_t j = 0; j < columns; j++) to[j] = to[j] + p[i] * q[j];
            }
        }
}

void cpu_head_linear_backward(struct device *device, struct arena *scratch, const void *args)
{
    const struct head_linear_args *a = args;
    const struct tensor *dy = a->y->grad;
    if (!dy) return;
    struct job input = {.x = dy, .w = a->w, .y = a->x->grad, .turned = !a->turned};
    const size_t mark = arena_mark(scratch);
    if (a->x->grad) run(device, scratch, &input);
    arena_release(scratch, mark);
    if (!a->w->grad) return;
    struct weight_job weight = {.p = a->turned ? a->x : dy, .q = a->turned ? dy : a->x,
                                .grad = a->w->grad};
    weight.work = cpu_take_rows(device, scratch, weight.p->dim[2] + weight.q->dim[2]);
    if (weight.work.data) pool_run(device->pool, a->x->dim[1], 1, weight_heads, &weight);
}
