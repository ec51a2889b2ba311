/* gate_backward_tmpl.h: the gradients of decay and write strength, in the words of a vector
 * vocabulary. With u = a + dt_bias, A = exp(A_log):
 *   du = -A sigmoid(u) dg,                dA_log = sum dg g;
 *   with a lower bound L, s = sigmoid(A u):  du = L s (1 - s) A dg,  dA_log = sum u du;
 *   da = du, ddt_bias = sum over tokens of du, db = dbeta beta_scale s (1 - s), s = sigmoid(b).
 * Truth: kernels/ref/gate.c. */
#include "kernels/cpu/row_tmpl.h"

struct gate_back_job {
    struct gate_job gate;
    float *du, *dA; /* [blocks][heads][width] sums over a block's tokens */
    int64_t tokens;
};

struct gate_back_row {
    const void *a;
    const float *dg, *A, *bias;
    float *da, *du, *dA;
};

VF_INLINE void decay_back_step(const struct gate_args *args, const struct gate_back_row *at,
                               int64_t i, int64_t left)
{
    const float bound = (float)args->lower_bound;
    const vf A = row_get(DTYPE_F32, at->A, i, left), dg = row_get(DTYPE_F32, at->dg, i, left);
    const vf u = vf_add(row_get(args->a->dtype, at->a, i, left),
                        row_get(DTYPE_F32, at->bias, i, left));
    vf rest, du, dA;
    if (bound < 0.0f) {
        const vf s = vf_sigmoid_rest(vf_mul(A, u), &rest);
        du = vf_mul(vf_mul(vf_mul(vf_set1(bound), vf_mul(s, rest)), A), dg);
        dA = vf_mul(u, du);
    } else {
        const vf up = vf_negative(vf_mul(A, dg));
        du = vf_mul(up, vf_sigmoid(u));
        dA = vf_mul(up, vf_softplus(u));
    }
    row_add(at->da, i, left, du);
    row_add(at->du, i, left, du);
    row_add(at->dA, i, left, dA);
}

VF_INLINE void beta_back_step(const struct gate_args *args, const void *b, const float *dbeta,
                              float *db, int64_t i, int64_t left)
{
    vf rest, s = vf_sigmoid_rest(row_get(args->b->dtype, b, i, left), &rest);
    const vf d = vf_mul(row_get(DTYPE_F32, dbeta, i, left), vf_set1((float)args->beta_scale));
    row_add(db, i, left, vf_mul(d, vf_mul(s, rest)));
}

static void decay_back_token(const struct gate_back_job *job, int64_t block, int64_t t)
{
    const struct gate_job *gate = &job->gate;
    const struct gate_args *args = gate->args;
    struct row_place place = {t, 0, gate->heads};
    for (; place.h < gate->heads; place.h++) {
        const int64_t first = place.h * gate->width, width = gate->width;
        const int64_t sum = block * gate->heads * width + first;
        const struct gate_back_row at = {
            .a = row_at(args->a, &place), .dg = row_at(args->g->grad, &place),
            .A = gate->A + first, .bias = gate->bias + first,
            .da = row_of(args->a->grad, &place), .du = job->du + sum, .dA = job->dA + sum};
        int64_t i = 0;
        for (; i + VL <= width; i += VL) decay_back_step(args, &at, i, VL);
        if (i < width) decay_back_step(args, &at, i, width - i);
    }
}

static void beta_back_token(const struct gate_args *args, int64_t t)
{
    const struct row_place place = {t, 0, 1};
    const int64_t Hv = tensor_width(args->b);
    const void *b = row_at(args->b, &place);
    const float *dbeta = row_at(args->beta->grad, &place);
    float *db = row_at(args->b->grad, &place);
    int64_t i = 0;
    for (; i + VL <= Hv; i += VL) beta_back_step(args, b, dbeta, db, i, VL);
    if (i < Hv) beta_back_step(args, b, dbeta, db, i, Hv - i);
}

static void gate_back_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    const struct gate_back_job *job = context;
    const struct gate_args *args = job->gate.args;
    (void)thread;
    for (int64_t block = begin; block < end; block++) {
        const int64_t first = block * CPU_SUM_ROWS, last = first + CPU_SUM_ROWS;
        for (int64_t t = first; t < job->tokens && t < last; t++) {
            if (args->g->grad) decay_back_token(job, block, t);
            if (args->beta->grad && args->b->grad) beta_back_token(args, t);
        }
    }
}

/* dA_log of a head is the sum over its channels too. */
static void add_decay_sums(const struct gate_back_job *job, const float *dA, int64_t blocks)
{
    const struct tensor *grad = job->gate.args->A_log->grad;
    const int64_t Hv = tensor_elements(grad), n = job->gate.heads * job->gate.width, Dk = n / Hv;
    for (int64_t h = 0; h < Hv; h++) {
        double sum = 0.0;
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t d = 0; d < Dk; d++) sum += (double)dA[block * n + h * Dk + d];
        *(float *)tensor_at(grad, h) += (float)sum;
    }
}

void CPU_NAME(cpu_gate_backward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct gate_args *a = args;
    struct gate_back_job job = {.tokens = a->b->dim[0]};
    if (!gate_prepare(&job.gate, scratch, a)) return;
    const int64_t n = job.gate.heads * job.gate.width;
    const int64_t blocks = (job.tokens + CPU_SUM_ROWS - 1) / CPU_SUM_ROWS;
    job.du = arena_take_zeroed(scratch, (size_t)(blocks * n) * sizeof *job.du);
    job.dA = arena_take_zeroed(scratch, (size_t)(blocks * n) * sizeof *job.dA);
    if (!job.du || !job.dA) return;
    pool_run(device->pool, blocks, cpu_grain(CPU_SUM_ROWS * n), gate_back_blocks, &job);
    if (!a->g->grad) return;
    if (a->dt_bias->grad) cpu_add_blocks(device->pool, a->dt_bias->grad, job.du, blocks, n);
    if (a->A_log->grad) add_decay_sums(&job, job.dA, blocks);
}
