/* gate_tmpl.h: decay and write strength, in the words of a vector vocabulary:
 *   g = -exp(A_log) softplus(a + dt_bias),
 *   or with a lower bound  g = lower_bound sigmoid(exp(A_log) (a + dt_bias));
 *   beta = beta_scale sigmoid(b).
 * Truth: kernels/ref/gate.c. */
#include "kernels/cpu/row_tmpl.h"

/* Per token a has `heads` rows of `width`: one of Hv, or with a gate per channel Hv of Dk. */
struct gate_job {
    const struct gate_args *args;
    const float *A, *bias; /* [heads][width]; A = exp(A_log) */
    int64_t heads, width;
};

/* For both directions; false: the scratch is full. */
static inline bool gate_prepare(struct gate_job *job, struct arena *scratch,
                                const struct gate_args *a)
{
    const int64_t Hv = tensor_width(a->b), Dk = a->a->rank == 3 ? tensor_width(a->a) : 1;
    float *A = arena_take(scratch, (size_t)(Hv * Dk) * sizeof *A);
    const float *A_log = row_vector(scratch, a->A_log);
    *job = (struct gate_job){.args = a, .A = A, .bias = row_vector(scratch, a->dt_bias)};
    if (!A || !A_log || !job->bias) return false;
    for (int64_t h = 0; h < Hv; h++)
        for (int64_t i = 0; i < Dk; i++) A[h * Dk + i] = cpu_expf(A_log[h]);
    job->heads = a->a->rank == 3 ? Hv : 1;
    job->width = tensor_width(a->a);
    return true;
}

VF_INLINE void decay_step(const struct gate_job *job, int64_t first, const void *a, void *g,
                          int64_t i, int64_t left)
{
    const struct gate_args *args = job->args;
    const vf A = row_get(DTYPE_F32, job->A + first, i, left);
    const vf u = vf_add(row_get(args->a->dtype, a, i, left),
                        row_get(DTYPE_F32, job->bias + first, i, left));
    const float bound = (float)args->lower_bound;
    const vf decay = bound < 0.0f ? vf_mul(vf_set1(bound), vf_sigmoid(vf_mul(A, u)))
                                  : vf_negative(vf_mul(A, vf_softplus(u)));
    row_put(args->g->dtype, g, i, left, decay);
}

VF_INLINE void beta_step(const struct gate_args *args, const void *b, void *beta, int64_t i,
                         int64_t left)
{
    const vf s = vf_sigmoid(row_get(args->b->dtype, b, i, left));
    row_put(args->beta->dtype, beta, i, left, vf_mul(vf_set1((float)args->beta_scale), s));
}

static void gate_token(const struct gate_job *job, int64_t t)
{
    const struct gate_args *args = job->args;
    struct row_place place = {t, 0, job->heads};
    int64_t i = 0, first = 0;
    for (; place.h < job->heads; place.h++, first += job->width) {
        const void *a = row_at(args->a, &place);
        void *g = row_at(args->g, &place);
        for (i = 0; i + VL <= job->width; i += VL) decay_step(job, first, a, g, i, VL);
        if (i < job->width) decay_step(job, first, a, g, i, job->width - i);
    }
    const int64_t Hv = tensor_width(args->b);
    const void *b = row_at(args->b, &place);
    void *beta = row_at(args->beta, &place);
    for (i = 0; i + VL <= Hv; i += VL) beta_step(args, b, beta, i, VL);
    if (i < Hv) beta_step(args, b, beta, i, Hv - i);
}

static void gate_tokens(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    for (int64_t t = begin; t < end; t++) gate_token(context, t);
}

void CPU_NAME(cpu_gate_forward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct gate_args *a = args;
    struct gate_job job;
    if (!gate_prepare(&job, scratch, a)) return;
    const int64_t grain = cpu_grain(job.heads * job.width + tensor_width(a->b));
    pool_run(device->pool, a->b->dim[0], grain, gate_tokens, &job);
}
