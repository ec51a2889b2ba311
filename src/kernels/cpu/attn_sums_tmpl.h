/* attn_sums_tmpl.h: the sums of columns (attn.h) as they meet, and as they leave, in the words of a
 * vector vocabulary. */
#include "kernels/cpu/attn.h"
#include "kernels/cpu/vec_rows_tmpl.h"

VF_INLINE float attn_exp(float x)
{
    float lane[VL];
    vf_store(lane, vf_exp(vf_set1(x)));
    return lane[0];
}

/* row := row * factor */
VF_INLINE void attn_scale(float *row, float factor, int64_t n)
{
    for (int64_t d = 0; d < n; d += VL)
        vf_store(row + d, vf_mul(vf_load(row + d), vf_set1(factor)));
}

static inline void attn_merge(const struct attn_block *b, const struct attn_sums *into,
                       const struct attn_sums *from)
{
    const int64_t wide = attn_wide(b->args->v->dim[2]);
    for (int c = 0; c < b->columns; c++) {
        const float old = into->top[c], new = from->top[c], top = new > old ? new : old;
        const float keep = attn_exp(old - top), add = attn_exp(new - top);
        float *acc = into->acc + c * b->acc_step;
        const float *more = from->acc + c * b->acc_step;
        into->top[c] = top;
        into->weight[c] = into->weight[c] * keep + from->weight[c] * add;
        for (int64_t d = 0; d < wide; d += VL)
            vf_store(acc + d, vf_fma(vf_load(more + d), vf_set1(add),
                                     vf_mul(vf_load(acc + d), vf_set1(keep))));
    }
}

/* A sum of zeros may be -0 or 0 by where it was cut: adding 0 makes it 0. */
static inline void attn_leave(const struct attn_block *b, const struct attn_sums *sums)
{
    const struct tensor *o = b->args->o;
    const int64_t Dv = o->dim[2];
    for (int c = 0; c < b->columns; c++) {
        float *acc = sums->acc + c * b->acc_step;
        const vf weight = vf_set1(sums->weight[c]);
        for (int64_t d = 0; d < attn_wide(Dv); d += VL)
            vf_store(acc + d, vf_add(vf_load(acc + d) / weight, vf_zero()));
        row_store(attn_column(b, o, c), o->dtype, acc, (int)Dv);
    }
}
