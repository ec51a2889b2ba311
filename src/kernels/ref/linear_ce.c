/* linear_ce: z[n] = sum_k W[n, k] x[t, k] for n < vocab;  loss[t] = log sum_n e^z[n] - z[target]
 * backward: dz[n] = dloss[t] (e^(z[n] - lse) - [n = target]),  dx[t] = sum_n dz[n] W[n],
 *           dW[n] = sum_t dz[n] x[t].
 * A row whose target is negative has loss 0 and no gradient.    x [T, K], loss [T], targets [T]
 * No [T, vocab] logits exist: backward walks the rows of W and makes each logit again. */
#include "base/check.h"
#include "kernels/ref/ref.h"

static double logit(const struct linear_ce_args *a, const struct linear_part *part, int64_t n,
                    int64_t t)
{
    double sum = 0.0;
    for (int64_t k = 0; k < a->w->K; k++)
        sum += ref_weight(part->w, part->from + n, k) *
               ref_get(a->x, ref_at(a->x, t, k, 0));
    return sum;
}

/* Rows of a part that take part: those below vocab. */
static int64_t part_rows(const struct linear_ce_args *a, const struct linear_part *part)
{
    int64_t left = a->vocab - part->row;
    return left < part->rows ? left : part->rows;
}

/* z [vocab] of row t; returns its logsumexp. */
static double logits(const struct linear_ce_args *a, int64_t t, double *z)
{
    for (int i = 0; i < a->w->parts; i++) {
        const struct linear_part *part = &a->w->part[i];
        for (int64_t n = 0; n < part_rows(a, part); n++) z[part->row + n] = logit(a, part, n, t);
    }
    double max = z[0], sum = 0.0;
    for (int64_t n = 1; n < a->vocab; n++) max = fmax(max, z[n]);
    for (int64_t n = 0; n < a->vocab; n++) sum += exp(z[n] - max);
    return max + log(sum);
}

void linear_ce_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct linear_ce_args *a = args;
    double *z = ref_take(scratch, a->vocab);
    if (!z) return;
    for (int64_t t = 0; t < a->x->dim[0]; t++) {
        const int32_t target = a->targets[t];
        GDN_CHECK(target < a->vocab, "linear_ce: target %d", target);
        ref_put(a->loss, ref_at(a->loss, t, 0, 0), target < 0 ? 0.0 : logits(a, t, z) - z[target]);
    }
}

/* Row n of a part: adds to its gradient, and to dx [T, K]. */
static void row_backward(const struct linear_ce_args *a, const struct linear_part *part, int64_t n,
                         const double *lse, double *dx, double *dw)
{
    const struct tensor *dloss = a->loss->grad, *grad = part->w->grad;
    const int64_t K = a->w->K;
    for (int64_t k = 0; k < K; k++) dw[k] = 0.0;
    for (int64_t t = 0; t < a->x->dim[0]; t++) {
        if (a->targets[t] < 0) continue;
        double p = exp(logit(a, part, n, t) - lse[t]);
        double dz = ref_get(dloss, ref_at(dloss, t, 0, 0)) *
                    (a->targets[t] == part->row + n ? p - 1.0 : p);
        for (int64_t k = 0; k < K; k++) {
            dx[t * K + k] += dz * ref_weight(part->w, part->from + n, k);
            dw[k] += dz * ref_get(a->x, ref_at(a->x, t, k, 0));
        }
    }
    for (int64_t k = 0; k < K; k++) ref_add(grad, ref_row(grad, part->from + n) + k, dw[k]);
}

void linear_ce_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct linear_ce_args *a = args;
    const int64_t T = a->x->dim[0], K = a->w->K;
    double *z = ref_take(scratch, a->vocab), *lse = ref_take(scratch, T);
    double *dx = ref_take(scratch, T * K), *dw = ref_take(scratch, K);
    if (!a->loss->grad || !z || !lse || !dx || !dw) return;
    for (int64_t t = 0; t < T; t++)
        if (a->targets[t] >= 0) lse[t] = logits(a, t, z);
    for (int i = 0; i < a->w->parts; i++)
        for (int64_t n = 0; n < part_rows(a, &a->w->part[i]); n++)
            row_backward(a, &a->w->part[i], n, lse, dx, dw);
    for (int64_t t = 0; t < T; t++)
        for (int64_t k = 0; k < K; k++)
            ref_add(a->x->grad, ref_at(a->x->grad, t, k, 0), dx[t * K + k]);
}
