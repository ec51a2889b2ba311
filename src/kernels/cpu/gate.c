/* gate.c: g = -exp(A_log) softplus(a + dt_bias), or with a lower bound g = lower_bound
 * sigmoid(exp(A_log) (a + dt_bias)); beta = beta_scale sigmoid(b).
 * Truth: kernels/ref/gate.c. */
#include "kernels/cpu/cpu.h"

enum { CHUNK = 512 };

/* Per token g has `rows` rows of `width`: one of Hv, or with a gate per channel Hv of Dk. */
struct gate_job {
    const struct gate_args *args;
    const float *A, *bias; /* [rows][width]; A = exp(A_log) */
    int64_t rows, width;
};

static void decay(const struct gate_job *job, const float *A, const float *bias, float *g, int64_t n)
{
    const float bound = (float)job->args->lower_bound;
    if (bound == 0.0f)
        for (int64_t j = 0; j < n; j++) g[j] = -A[j] * cpu_softplus(g[j] + bias[j]);
    else
        for (int64_t j = 0; j < n; j++) g[j] = bound * cpu_sigmoid(A[j] * (g[j] + bias[j]));
}

static void gate_row(const struct gate_job *job, int64_t row)
{
    const struct tensor *a = job->args->a, *g = job->args->g;
    int64_t first = row % job->rows * job->width, n;
    const char *from = cpu_row(a, row);
    char *to = cpu_row(g, row);
    float chunk[CHUNK];
    for (int64_t i = 0; i < job->width; i += n) {
        n = job->width - i < CHUNK ? job->width - i : CHUNK;
        cpu_load_row(chunk, from + i * (int64_t)dtype_size(a->dtype), a->dtype, n);
        decay(job, job->A + first + i, job->bias + first + i, chunk, n);
        cpu_store_row(to + i * (int64_t)dtype_size(g->dtype), g->dtype, chunk, n);
    }
}

static void beta_row(const struct gate_args *args, int64_t row)
{
    const struct tensor *b = args->b, *beta = args->beta;
    int64_t Hv = tensor_width(b), n;
    const char *from = cpu_row(b, row);
    char *to = cpu_row(beta, row);
    float scale = (float)args->beta_scale, chunk[CHUNK];
    for (int64_t i = 0; i < Hv; i += n) {
        n = Hv - i < CHUNK ? Hv - i : CHUNK;
        cpu_load_row(chunk, from + i * (int64_t)dtype_size(b->dtype), b->dtype, n);
        for (int64_t j = 0; j < n; j++) chunk[j] = scale * cpu_sigmoid(chunk[j]);
        cpu_store_row(to + i * (int64_t)dtype_size(beta->dtype), beta->dtype, chunk, n);
    }
}

static void gate_tokens(void *context, int64_t begin, int64_t end, int thread)
{
    const struct gate_job *job = context;
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        for (int64_t i = 0; i < job->rows; i++) gate_row(job, t * job->rows + i);
        beta_row(job->args, t);
    }
}

void cpu_gate_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct gate_args *a = args;
    int64_t Hv = tensor_width(a->b), tokens = cpu_rows(a->b);
    int64_t Dk = a->a->rank == 3 ? tensor_width(a->a) : 1;
    float *A = arena_take(scratch, (size_t)(Hv * Dk) * sizeof *A);
    float *bias = arena_take(scratch, (size_t)(Hv * Dk) * sizeof *bias);
    if (!A || !bias) return;
    for (int64_t h = 0; h < Hv; h++) {
        float A_log;
        cpu_load_row(&A_log, tensor_at(a->A_log, h), a->A_log->dtype, 1);
        for (int64_t i = 0; i < Dk; i++) A[h * Dk + i] = cpu_expf(A_log);
    }
    int64_t width = tensor_width(a->dt_bias);
    for (int64_t i = 0; i < cpu_rows(a->dt_bias); i++)
        cpu_load_row(bias + i * width, cpu_row(a->dt_bias, i), a->dt_bias->dtype, width);
    struct gate_job job = {.args = a, .A = A, .bias = bias};
    job.rows = a->a->rank == 3 ? Hv : 1;
    job.width = tensor_width(a->a);
    pool_run(device->pool, tokens, cpu_grain(Hv * (Dk + 1)), gate_tokens, &job);
}
