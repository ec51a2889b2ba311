/* The norms over the last axis, of width n.
 *
 * norm        r = 1 / sqrt(mean x^2 + eps);  y = x r c,  c = w, or 1 + w when centred; late: x r is
 *             rounded to the type of y before the weight comes
 * add_norm    x1 = x + d, rounded to its type (x itself without d);  y = norm of that
 * gated_norm  y = x r w act(z)
 * l2norm      y = scale x / sqrt(sum x^2 + eps)
 *
 * backward, with e_i = dL/d(x_i r):
 *   dx_i = r e_i - x_i r^3/n sum_j e_j x_j;  norm: e = dy c, dw = sum over rows of dy x r
 *   gated: e = dy w act(z), dw = sum dy x r act(z), dz = dy x r w act'(z)
 *   l2norm: with s = sqrt(sum x^2 + eps): dx_i = scale (dy_i / s - x_i sum_j dy_j x_j / s^3); a row
 *   of zeros has zero gradient by decree (the true one, scale dy / sqrt(eps), would amplify what
 *   padding leaves behind a thousandfold).
 *
 * x, z, y, d [.., n], rows may be strided; w [n]. */
#include "kernels/ref/ref.h"

static double sum_squares(const struct tensor *x, int64_t at)
{
    double sum = 0.0;
    for (int64_t i = 0; i < tensor_width(x); i++) sum += ref_get(x, at + i) * ref_get(x, at + i);
    return sum;
}

static double inverse_rms(const struct tensor *x, int64_t at, double eps)
{
    return 1.0 / sqrt(sum_squares(x, at) / (double)tensor_width(x) + eps);
}

static double weight(const struct norm_weight *n, int64_t i)
{
    return n->centred ? 1.0 + ref_get(n->w, i) : ref_get(n->w, i);
}

static void norm_row(const struct tensor *x, const struct norm_weight *n, const struct tensor *y,
                     int64_t row)
{
    const int64_t xat = ref_row(x, row), yat = ref_row(y, row);
    const double r = inverse_rms(x, xat, n->eps);
    for (int64_t i = 0; i < tensor_width(x); i++) {
        const double even = ref_get(x, xat + i) * r;
        ref_put(y, yat + i, (n->late ? ref_round(y->dtype, even) : even) * weight(n, i));
    }
}

/* e [n] becomes the gradient of the row x. */
static void rms_backward(const struct tensor *x, int64_t at, double r, double *e)
{
    const int64_t n = tensor_width(x);
    double dot = 0.0;
    for (int64_t i = 0; i < n; i++) dot += e[i] * ref_get(x, at + i);
    for (int64_t i = 0; i < n; i++)
        e[i] = r * e[i] - ref_get(x, at + i) * r * r * r / (double)n * dot;
}

/* The gradient of row x through the norm into e [n]; dw [n] collects the weight's. */
static void norm_row_backward(const struct tensor *x, const struct norm_weight *n,
                              const struct tensor *dy, int64_t row, double *e, double *dw)
{
    const int64_t xat = ref_row(x, row), dyat = ref_row(dy, row);
    const double r = inverse_rms(x, xat, n->eps);
    for (int64_t i = 0; i < tensor_width(x); i++) {
        double d = ref_get(dy, dyat + i);
        dw[i] += d * ref_get(x, xat + i) * r;
        e[i] = d * weight(n, i);
    }
    rms_backward(x, xat, r, e);
}

static void add_vector(const struct tensor *grad, int64_t at, const double *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) ref_add(grad, at + i, v[i]);
}

void norm_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct norm_args *a = args;
    const struct norm_weight norm = {a->w, a->eps, a->centred, a->late};
    for (int64_t row = 0; row < ref_rows(a->x); row++) norm_row(a->x, &norm, a->y, row);
}

void norm_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct norm_args *a = args;
    const struct norm_weight norm = {a->w, a->eps, a->centred, a->late};
    const int64_t n = tensor_width(a->x);
    double *e = ref_take(scratch, n), *dw = ref_take(scratch, n);
    if (!a->y->grad || !e || !dw) return;
    for (int64_t row = 0; row < ref_rows(a->x); row++) {
        norm_row_backward(a->x, &norm, a->y->grad, row, e, dw);
        add_vector(a->x->grad, ref_row(a->x->grad, row), e, n);
    }
    add_vector(a->w->grad, 0, dw, n);
}

void add_norm_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct add_norm_args *a = args;
    const struct norm_weight norm = {a->w, a->eps, a->centred, a->late};
    const struct tensor *x1 = a->d ? a->x1 : a->x;
    for (int64_t row = 0; row < ref_rows(a->x); row++) {
        const int64_t xat = ref_row(a->x, row), dat = ref_row(a->d, row), at = ref_row(x1, row);
        for (int64_t i = 0; a->d && i < tensor_width(x1); i++)
            ref_put(x1, at + i, ref_get(a->x, xat + i) + ref_get(a->d, dat + i));
        norm_row(x1, &norm, a->y, row);
    }
}

void add_norm_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct add_norm_args *a = args;
    const struct norm_weight norm = {a->w, a->eps, a->centred, a->late};
    const struct tensor *x1 = a->d ? a->x1 : a->x, *dx1 = a->d ? a->x1->grad : NULL;
    const struct tensor *dx = a->x->grad, *dd = ref_grad(a->d);
    const int64_t n = tensor_width(a->x);
    double *e = ref_take(scratch, n), *dw = ref_take(scratch, n);
    if (!e || !dw) return;
    for (int64_t row = 0; row < ref_rows(a->x); row++) {
        for (int64_t i = 0; i < n; i++) e[i] = 0.0;
        if (a->y->grad) norm_row_backward(x1, &norm, a->y->grad, row, e, dw);
        for (int64_t i = 0; i < n; i++) e[i] += ref_get(dx1, ref_row(dx1, row) + i);
        add_vector(dx, ref_row(dx, row), e, n);
        add_vector(dd, ref_row(dd, row), e, n);
    }
    add_vector(a->w->grad, 0, dw, n);
}

void gated_norm_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct gated_norm_args *a = args;
    for (int64_t row = 0; row < ref_rows(a->x); row++) {
        const int64_t x = ref_row(a->x, row), z = ref_row(a->z, row), y = ref_row(a->y, row);
        const double r = inverse_rms(a->x, x, a->eps);
        for (int64_t i = 0; i < tensor_width(a->x); i++)
            ref_put(a->y, y + i, ref_get(a->x, x + i) * r * ref_get(a->w, i) *
                                     ref_act(a->act, ref_get(a->z, z + i)));
    }
}

void gated_norm_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct gated_norm_args *a = args;
    const struct tensor *dy = a->y->grad, *dx = a->x->grad, *dz = a->z->grad;
    const int64_t n = tensor_width(a->x);
    double *e = ref_take(scratch, n), *dw = ref_take(scratch, n);
    if (!dy || !e || !dw) return;
    for (int64_t row = 0; row < ref_rows(a->x); row++) {
        const int64_t xat = ref_row(a->x, row), zat = ref_row(a->z, row);
        const double r = inverse_rms(a->x, xat, a->eps);
        for (int64_t i = 0; i < n; i++) {
            double d = ref_get(dy, ref_row(dy, row) + i), normed = ref_get(a->x, xat + i) * r;
            double z = ref_get(a->z, zat + i), w = ref_get(a->w, i), gate = ref_act(a->act, z);
            e[i] = d * w * gate;
            dw[i] += d * normed * gate;
            ref_add(dz, ref_row(dz, row) + i, d * normed * w * ref_act_slope(a->act, z));
        }
        rms_backward(a->x, xat, r, e);
        add_vector(dx, ref_row(dx, row), e, n);
    }
    add_vector(a->w->grad, 0, dw, n);
}

void l2norm_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct l2norm_args *a = args;
    for (int64_t row = 0; row < ref_rows(a->x); row++) {
        const int64_t x = ref_row(a->x, row), y = ref_row(a->y, row);
        const double s = sqrt(sum_squares(a->x, x) + a->eps);
        for (int64_t i = 0; i < tensor_width(a->x); i++)
            ref_put(a->y, y + i, a->scale * ref_get(a->x, x + i) / s);
    }
}

void l2norm_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct l2norm_args *a = args;
    const struct tensor *dy = a->y->grad, *dx = a->x->grad;
    if (!dy || !dx) return;
    for (int64_t row = 0; row < ref_rows(a->x); row++) {
        const int64_t x = ref_row(a->x, row), dyat = ref_row(dy, row), dxat = ref_row(dx, row);
        const double squares = sum_squares(a->x, x), s = sqrt(squares + a->eps);
        if (squares == 0.0) continue;
        double dot = 0.0;
        for (int64_t i = 0; i < tensor_width(a->x); i++)
            dot += ref_get(dy, dyat + i) * ref_get(a->x, x + i);
        for (int64_t i = 0; i < tensor_width(a->x); i++)
            ref_add(dx, dxat + i, a->scale * (ref_get(dy, dyat + i) / s -
                                              ref_get(a->x, x + i) * dot / (s * s * s)));
    }
}
