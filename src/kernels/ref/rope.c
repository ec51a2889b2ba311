/* rope: with p the position of a row and w = p theta^(-2i/rot), for i < rot/2, j = i + rot/2:
 *     y_i = x_i cos w - x_j sin w,   y_j = x_j cos w + x_i sin w;   y_d = x_d for d >= rot
 * backward turns dy the other way. Rows of an absent sequence are 0.         x, y [T, H, D] */
#include "kernels/ref/ref.h"

/* Turns one head, `sign` 1 or -1. in and out are rows of D. */
static void turn(const struct rope_args *a, double position, double sign, const double *in,
                 double *out)
{
    const int32_t half = a->rot / 2;
    for (int64_t d = a->rot; d < a->x->dim[2]; d++) out[d] = in[d];
    for (int32_t i = 0, j = half; i < half; i++, j++) {
        double w = position * pow(a->theta, -2.0 * i / a->rot), c = cos(w), s = sign * sin(w);
        out[i] = in[i] * c - in[j] * s;
        out[j] = in[j] * c + in[i] * s;
    }
}

void rope_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct rope_args *a = args;
    const struct rows *rows = a->rows;
    const int64_t H = a->x->dim[1], D = a->x->dim[2];
    double *in = ref_take(scratch, D), *out = ref_take(scratch, D);
    if (!in || !out) return;
    for (int32_t b = 0; b < rows->B; b++) {
        if (ref_absent(rows, b)) ref_clear(a->y, rows->start[b], rows->start[b + 1]);
        for (int32_t i = 0; i < ref_length(rows, b); i++) {
            const int64_t t = rows->start[b] + i;
            for (int64_t h = 0; h < H; h++) {
                for (int64_t d = 0; d < D; d++) in[d] = ref_get(a->x, ref_at(a->x, t, h, d));
                turn(a, (double)rows->pos[b] + i, 1.0, in, out);
                for (int64_t d = 0; d < D; d++) ref_put(a->y, ref_at(a->y, t, h, d), out[d]);
            }
        }
    }
}

void rope_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct rope_args *a = args;
    const struct rows *rows = a->rows;
    const struct tensor *dy = a->y->grad, *dx = a->x->grad;
    const int64_t H = a->x->dim[1], D = a->x->dim[2];
    double *in = ref_take(scratch, D), *out = ref_take(scratch, D);
    if (!dy || !dx || !in || !out) return;
    for (int32_t b = 0; b < rows->B; b++) {
        for (int32_t i = 0; i < ref_length(rows, b); i++) {
            const int64_t t = rows->start[b] + i;
            for (int64_t h = 0; h < H; h++) {
                for (int64_t d = 0; d < D; d++) in[d] = ref_get(dy, ref_at(dy, t, h, d));
                turn(a, (double)rows->pos[b] + i, -1.0, in, out);
                for (int64_t d = 0; d < D; d++) ref_add(dx, ref_at(dx, t, h, d), out[d]);
            }
        }
    }
}
