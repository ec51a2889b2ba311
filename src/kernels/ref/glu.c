/* glu: y = act(a) b
 * backward: da = dy b act'(a), db = dy act(a).      a, b, y [.., D], rows may be strided. */
#include "kernels/ref/ref.h"

void glu_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct glu_args *g = args;
    for (int64_t row = 0; row < ref_rows(g->a); row++) {
        const int64_t a = ref_row(g->a, row), b = ref_row(g->b, row), y = ref_row(g->y, row);
        for (int64_t i = 0; i < tensor_width(g->a); i++)
            ref_put(g->y, y + i, ref_act(g->act, ref_get(g->a, a + i)) * ref_get(g->b, b + i));
    }
}

void glu_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct glu_args *g = args;
    const struct tensor *dy = g->y->grad, *da = g->a->grad, *db = g->b->grad;
    for (int64_t row = 0; dy && row < ref_rows(g->a); row++) {
        for (int64_t i = 0; i < tensor_width(g->a); i++) {
            double d = ref_get(dy, ref_row(dy, row) + i);
            double a = ref_get(g->a, ref_row(g->a, row) + i);
            double b = ref_get(g->b, ref_row(g->b, row) + i);
            ref_add(da, ref_row(da, row) + i, d * b * ref_act_slope(g->act, a));
            ref_add(db, ref_row(db, row) + i, d * ref_act(g->act, a));
        }
    }
}
