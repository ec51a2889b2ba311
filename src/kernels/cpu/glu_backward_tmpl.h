/* glu_backward_tmpl.h: da += dy b act'(a), db += dy act(a), in the words of a vector vocabulary.
 * Truth: kernels/ref/glu.c. */
#include "kernels/cpu/row_tmpl.h"

struct glu_back_row {
    const void *a, *b;
    const float *dy;
    float *da, *db;
};

VF_INLINE void glu_back_step(enum dtype a_type, enum dtype b_type, enum act act,
                             const struct glu_back_row *at, int64_t i, int64_t left)
{
    const vf d = row_get(DTYPE_F32, at->dy, i, left), b = row_get(b_type, at->b, i, left);
    vf slope, gate = vf_act_slope(act, row_get(a_type, at->a, i, left), &slope);
    row_add(at->da, i, left, vf_mul(vf_mul(d, b), slope));
    row_add(at->db, i, left, vf_mul(d, gate));
}

VF_INLINE void glu_back_row(enum dtype a_type, enum dtype b_type, enum act act, int64_t F,
                            const struct glu_back_row *at)
{
    int64_t i = 0;
    for (; i + VL <= F; i += VL) glu_back_step(a_type, b_type, act, at, i, VL);
    if (i < F) glu_back_step(a_type, b_type, act, at, i, F - i);
}

static void glu_back_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct glu_job *job = context;
    const struct glu_args *g = job->args;
    const int64_t F = tensor_width(g->a);
    struct row_place place = row_place(g->a, begin);
    (void)thread;
    for (int64_t row = begin; row < end; row++, row_next(&place)) {
        const struct glu_back_row at = {.a = row_at(g->a, &place), .b = row_at(g->b, &place),
                                        .dy = row_at(g->y->grad, &place),
                                        .da = row_of(g->a->grad, &place),
                                        .db = row_of(g->b->grad, &place)};
        if (job->all == DTYPE_F32 && g->act == ACT_SILU)
            glu_back_row(DTYPE_F32, DTYPE_F32, ACT_SILU, F, &at);
        else if (job->all == DTYPE_BF16 && g->act == ACT_SILU)
            glu_back_row(DTYPE_BF16, DTYPE_BF16, ACT_SILU, F, &at);
        else
            glu_back_row(g->a->dtype, g->b->dtype, g->act, F, &at);
    }
}

void CPU_NAME(cpu_glu_backward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct glu_args *a = args;
    struct glu_job job = {.args = a};
    (void)scratch;
    job.all = row_common((const struct tensor *const[]){a->a, a->b}, 2);
    if (a->y->grad)
        pool_run(device->pool, cpu_rows(a->a), cpu_grain(tensor_width(a->a)), glu_back_rows, &job);
}
