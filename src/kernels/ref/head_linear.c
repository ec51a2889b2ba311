/* head_linear: y[t,h] = W_h x[t,h];  W_h [N, K], or turned: it lies as [K, N].
 * x [T, H, K], w [H, N, K] or [H, K, N], y [T, H, N]
 * backward: dx[t,h] = W_h^T dy[t,h],  dW_h = sum_t dy[t,h] x[t,h]^T. */
#include "kernels/ref/ref.h"

static int64_t at(const struct head_linear_args *a, const struct tensor *w, int64_t h, int64_t n,
                  int64_t k)
{
    return a->turned ? ref_at(w, h, k, n) : ref_at(w, h, n, k);
}

void head_linear_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct head_linear_args *a = args;
    for (int64_t t = 0; t < a->x->dim[0]; t++)
        for (int64_t h = 0; h < a->x->dim[1]; h++)
            for (int64_t n = 0; n < a->y->dim[2]; n++) {
                double sum = 0.0;
                for (int64_t k = 0; k < a->x->dim[2]; k++)
                    sum += ref_get(a->w, at(a, a->w, h, n, k)) *
                           ref_get(a->x, ref_at(a->x, t, h, k));
                ref_put(a->y, ref_at(a->y, t, h, n), sum);
            }
}

static void input_backward(const struct head_linear_args *a)
{
    const struct tensor *dy = a->y->grad, *dx = a->x->grad;
    for (int64_t t = 0; t < a->x->dim[0]; t++)
        for (int64_t h = 0; h < a->x->dim[1]; h++)
            for (int64_t k = 0; k < a->x->dim[2]; k++) {
                double sum = 0.0;
                for (int64_t n = 0; n < a->y->dim[2]; n++)
                    sum += ref_get(a->w, at(a, a->w, h, n, k)) * ref_get(dy, ref_at(dy, t, h, n));
                ref_add(dx, ref_at(dx, t, h, k), sum);
            }
}

static void weight_backward(const struct head_linear_args *a)
{
    const struct tensor *dy = a->y->grad, *dw = a->w->grad;
    for (int64_t h = 0; h < a->x->dim[1]; h++)
        for (int64_t n = 0; n < a->y->dim[2]; n++)
            for (int64_t k = 0; k < a->x->dim[2]; k++) {
                double sum = 0.0;
                for (int64_t t = 0; t < a->x->dim[0]; t++)
                    sum += ref_get(dy, ref_at(dy, t, h, n)) * ref_get(a->x, ref_at(a->x, t, h, k));
                ref_add(dw, at(a, dw, h, n, k), sum);
            }
}

void head_linear_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct head_linear_args *a = args;
    if (!a->y->grad) return;
    if (a->x->grad) input_backward(a);
    if (a->w->grad) weight_backward(a);
}
