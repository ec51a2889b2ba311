/* glu_tmpl.h: y = silu(a) b or sigmoid(a) b, in the words of a vector vocabulary.
 * Truth: kernels/ref/glu.c. */
#include "kernels/cpu/row_tmpl.h"

struct glu_job {
    const struct glu_args *args;
    enum dtype all;
};

VF_INLINE void glu_step(const struct glu_args *g, enum dtype all, enum act act, const void *a,
                        const void *b, void *y, int64_t i, int64_t left)
{
    const vf gate = vf_act(act, row_get(row_type(all, g->a), a, i, left));
    const vf up = row_get(row_type(all, g->b), b, i, left);
    row_put(row_type(all, g->y), y, i, left, vf_mul(gate, up));
}

VF_INLINE void glu_row(const struct glu_args *g, enum dtype all, enum act act,
                       const struct row_place *place)
{
    const void *a = row_at(g->a, place), *b = row_at(g->b, place);
    void *y = row_at(g->y, place);
    const int64_t F = tensor_width(g->y);
    int64_t i = 0;
    for (; i + VL <= F; i += VL) glu_step(g, all, act, a, b, y, i, VL);
    if (i < F) glu_step(g, all, act, a, b, y, i, F - i);
}

static void glu_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct glu_job *job = context;
    const struct glu_args *g = job->args;
    struct row_place place = row_place(g->y, begin);
    (void)thread;
    for (int64_t row = begin; row < end; row++, row_next(&place)) {
        if (job->all == DTYPE_F32 && g->act == ACT_SILU)
            glu_row(g, DTYPE_F32, ACT_SILU, &place);
        else if (job->all == DTYPE_BF16 && g->act == ACT_SILU)
            glu_row(g, DTYPE_BF16, ACT_SILU, &place);
        else
            glu_row(g, DTYPE_COUNT, g->act, &place);
    }
}

void CPU_NAME(cpu_glu_forward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct glu_args *a = args;
    struct glu_job job = {.args = a};
    (void)scratch;
    job.all = row_common((const struct tensor *const[]){a->a, a->b, a->y}, 3);
    pool_run(device->pool, cpu_rows(a->y), cpu_grain(tensor_width(a->y)), glu_rows, &job);
}
