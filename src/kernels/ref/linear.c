/* linear: y[t, n] = sum_k W[n, k] x[t, k], W the parts one below another.   x [T, K], y [T, N]
 * backward: dx[t, k] = sum_n dy[t, n] W[n, k],  dW[n, k] = sum_t dy[t, n] x[t, k]. */
#include "kernels/ref/ref.h"

void linear_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct linear_args *a = args;
    for (int i = 0; i < a->w->parts; i++) {
        const struct linear_part *part = &a->w->part[i];
        for (int64_t t = 0; t < a->x->dim[0]; t++) {
            for (int64_t n = 0; n < part->rows; n++) {
                double sum = 0.0;
                for (int64_t k = 0; k < a->w->K; k++)
                    sum += ref_weight(part->w, part->from + n, k) *
                           ref_get(a->x, ref_at(a->x, t, k, 0));
                ref_put(a->y, ref_at(a->y, t, part->row + n, 0), sum);
            }
        }
    }
}

static void input_backward(const struct linear_args *a, double *sum)
{
    const struct tensor *dy = a->y->grad, *dx = a->x->grad;
    for (int64_t t = 0; t < a->x->dim[0]; t++) {
        for (int64_t k = 0; k < a->w->K; k++) sum[k] = 0.0;
        for (int i = 0; i < a->w->parts; i++) {
            const struct linear_part *part = &a->w->part[i];
            for (int64_t n = 0; n < part->rows; n++) {
                double d = ref_get(dy, ref_at(dy, t, part->row + n, 0));
                for (int64_t k = 0; k < a->w->K; k++)
                    sum[k] += d * ref_weight(part->w, part->from + n, k);
            }
        }
        for (int64_t k = 0; k < a->w->K; k++) ref_add(dx, ref_at(dx, t, k, 0), sum[k]);
    }
}

static void part_backward(const struct linear_args *a, const struct linear_part *part, double *sum)
{
    const struct tensor *dy = a->y->grad, *dw = part->w->grad;
    for (int64_t n = 0; n < part->rows; n++) {
        for (int64_t k = 0; k < a->w->K; k++) sum[k] = 0.0;
        for (int64_t t = 0; t < a->x->dim[0]; t++) {
            double d = ref_get(dy, ref_at(dy, t, part->row + n, 0));
            for (int64_t k = 0; k < a->w->K; k++)
                sum[k] += d * ref_get(a->x, ref_at(a->x, t, k, 0));
        }
        for (int64_t k = 0; k < a->w->K; k++) ref_add(dw, ref_row(dw, part->from + n) + k, sum[k]);
    }
}

void linear_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct linear_args *a = args;
    double *sum = ref_take(scratch, a->w->K);
    if (!a->y->grad || !sum) return;
    if (a->x->grad) input_backward(a, sum);
    for (int i = 0; i < a->w->parts; i++)
        if (a->w->part[i].w->grad) part_backward(a, &a->w->part[i], sum);
}
