/* join: y = a + sigmoid(s) b, one s a row; y = a + b without it.     a, b, y [T, D], s [T, 1]
 * backward: da = dy, db = dy sigmoid(s), ds = sigmoid'(s) sum_i dy_i b_i. */
#include "kernels/ref/ref.h"

void join_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct join_args *j = args;
    for (int64_t t = 0; t < j->a->dim[0]; t++) {
        const double part = j->s ? ref_sigmoid(ref_get(j->s, ref_at(j->s, t, 0, 0))) : 1.0;
        for (int64_t i = 0; i < j->a->dim[1]; i++)
            ref_put(j->y, ref_at(j->y, t, i, 0),
                    ref_get(j->a, ref_at(j->a, t, i, 0)) +
                        part * ref_get(j->b, ref_at(j->b, t, i, 0)));
    }
}

void join_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct join_args *j = args;
    const struct tensor *dy = j->y->grad, *da = j->a->grad, *db = j->b->grad;
    const struct tensor *ds = ref_grad(j->s);
    for (int64_t t = 0; dy && t < j->a->dim[0]; t++) {
        const double s = ref_get(j->s, ref_at(j->s, t, 0, 0)), part = j->s ? ref_sigmoid(s) : 1.0;
        double dot = 0.0;
        for (int64_t i = 0; i < j->a->dim[1]; i++) {
            const double d = ref_get(dy, ref_at(dy, t, i, 0));
            ref_add(da, ref_at(da, t, i, 0), d);
            ref_add(db, ref_at(db, t, i, 0), part * d);
            dot += d * ref_get(j->b, ref_at(j->b, t, i, 0));
        }
        ref_add(ds, ref_at(ds, t, 0, 0), ref_act_slope(ACT_SIGMOID, s) * dot);
    }
}
