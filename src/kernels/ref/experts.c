/* experts: y[t] = sum_j weight[t,j] z_j,  z_j = D h,  h = silu(G x_t) * (U x_t)  of expert ids[t,j],
 * G above U in its gate_up.     x, y [T, K], weight, ids [T, best]
 * backward: dweight_j = dy . z_j;  with dz = weight_j dy:  dD += dz h^T, dh = D^T dz,
 *   dg = dh u silu'(g), du = dh silu(g),  dG += dg x^T, dU += du x^T,  dx += G^T dg + U^T du. */
#include "kernels/ref/ref.h"

/* One row at one expert. */
struct visit {
    double *x, *g, *u, *h, *z; /* [K], [I], [I], [I], [K] */
    double *dz, *dh, *dgu, *dx; /* [K], [I], [2I], [K] */
};

static bool visit_take(struct visit *v, struct arena *scratch, const struct experts_args *a)
{
    const int64_t K = a->x->dim[1], I = a->experts->gate_up->N / 2;
    *v = (struct visit){ref_take(scratch, K), ref_take(scratch, I), ref_take(scratch, I),
                        ref_take(scratch, I), ref_take(scratch, K), ref_take(scratch, K),
                        ref_take(scratch, I), ref_take(scratch, 2 * I), ref_take(scratch, K)};
    return v->x && v->g && v->u && v->h && v->z && v->dz && v->dh && v->dgu && v->dx;
}

/* The row of a part's tensor that makes column n. */
static int64_t row_of(const struct linear_part *part, int64_t n)
{
    return part->from + n - part->row;
}

static double product(const struct linear *w, int64_t n, const double *x)
{
    const struct linear_part *part = linear_part_of(w, n);
    double sum = 0.0;
    for (int64_t k = 0; k < w->K; k++) sum += ref_weight(part->w, row_of(part, n), k) * x[k];
    return sum;
}

static void visit(const struct experts_args *a, int64_t t, int32_t id, struct visit *v)
{
    const struct linear *gate_up = &a->experts->gate_up[id], *down = &a->experts->down[id];
    const int64_t K = a->x->dim[1], I = gate_up->N / 2;
    for (int64_t k = 0; k < K; k++) v->x[k] = ref_get(a->x, ref_at(a->x, t, k, 0));
    for (int64_t i = 0; i < I; i++) {
        v->g[i] = product(gate_up, i, v->x);
        v->u[i] = product(gate_up, I + i, v->x);
        v->h[i] = ref_act(ACT_SILU, v->g[i]) * v->u[i];
    }
    for (int64_t k = 0; k < K; k++) v->z[k] = product(down, k, v->h);
}

void experts_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct experts_args *a = args;
    const int64_t K = a->x->dim[1], best = a->weight->dim[1];
    struct visit v;
    double *sum = ref_take(scratch, K);
    if (!sum || !visit_take(&v, scratch, a)) return;
    for (int64_t t = 0; t < a->x->dim[0]; t++) {
        for (int64_t k = 0; k < K; k++) sum[k] = 0.0;
        for (int64_t j = 0; j < best; j++) {
            const double weight = ref_get(a->weight, ref_at(a->weight, t, j, 0));
            visit(a, t, a->ids[t * best + j], &v);
            for (int64_t k = 0; k < K; k++) sum[k] += weight * v.z[k];
        }
        for (int64_t k = 0; k < K; k++) ref_put(a->y, ref_at(a->y, t, k, 0), sum[k]);
    }
}

/* y = W x in reverse: dx += W^T dy, dW += dy x^T. */
static void product_backward(const struct linear *w, const double *x, const double *dy, double *dx)
{
    for (int64_t n = 0; n < w->N; n++) {
        const struct linear_part *part = linear_part_of(w, n);
        const int64_t row = row_of(part, n);
        for (int64_t k = 0; k < w->K; k++) {
            dx[k] += ref_weight(part->w, row, k) * dy[n];
            if (part->w->grad)
                ref_add(part->w->grad, ref_row(part->w->grad, row) + k, dy[n] * x[k]);
        }
    }
}

static void visit_backward(const struct experts_args *a, int32_t id, struct visit *v)
{
    const int64_t I = a->experts->gate_up->N / 2;
    for (int64_t i = 0; i < I; i++) v->dh[i] = 0.0;
    product_backward(&a->experts->down[id], v->h, v->dz, v->dh);
    for (int64_t i = 0; i < I; i++) {
        v->dgu[i] = v->dh[i] * v->u[i] * ref_act_slope(ACT_SILU, v->g[i]);
        v->dgu[I + i] = v->dh[i] * ref_act(ACT_SILU, v->g[i]);
    }
    product_backward(&a->experts->gate_up[id], v->x, v->dgu, v->dx);
}

void experts_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct experts_args *a = args;
    const struct tensor *dy = a->y->grad, *dx = a->x->grad, *dweight = a->weight->grad;
    const int64_t K = a->x->dim[1], best = a->weight->dim[1];
    struct visit v;
    if (!dy || !visit_take(&v, scratch, a)) return;
    for (int64_t t = 0; t < a->x->dim[0]; t++) {
        for (int64_t k = 0; k < K; k++) v.dx[k] = 0.0;
        for (int64_t j = 0; j < best; j++) {
            const double weight = ref_get(a->weight, ref_at(a->weight, t, j, 0));
            double dot = 0.0;
            visit(a, t, a->ids[t * best + j], &v);
            for (int64_t k = 0; k < K; k++) {
                const double d = ref_get(dy, ref_at(dy, t, k, 0));
                dot += d * v.z[k];
                v.dz[k] = weight * d;
            }
            ref_add(dweight, ref_at(dweight, t, j, 0), dot);
            visit_backward(a, a->ids[t * best + j], &v);
        }
        for (int64_t k = 0; k < K; k++) ref_add(dx, ref_at(dx, t, k, 0), v.dx[k]);
    }
}
