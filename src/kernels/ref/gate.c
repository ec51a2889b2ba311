/* gate: u = a + dt_bias;  g = -e^A_log softplus(u), softplus(u) = u above 20;
 *       beta = beta_scale sigmoid(b)
 * backward: du = -e^A_log sigmoid(u) dg (slope 1 above 20), da = du, d dt_bias = sum_t du,
 *           dA_log = sum dg g,  db = dbeta beta_scale s (1 - s), s = sigmoid(b).
 * With a lower bound L < 0:  g = L s, s = sigmoid(e^A_log u);
 *           du = L s (1 - s) e^A_log dg,  dA_log = sum u du.
 * a, g [T, Hv] with dt_bias [Hv], or [T, Hv, Dk] with dt_bias [Hv, Dk]; b, beta [T, Hv];
 * A_log [Hv]. */
#include "kernels/ref/ref.h"

static double softplus(double u) { return u > 20.0 ? u : log1p(exp(u)); }
static double softplus_slope(double u) { return u > 20.0 ? 1.0 : ref_sigmoid(u); }

/* A decay and its slopes in u and in A_log. */
struct decay {
    double g, du, dA_log;
};

static struct decay decay(const struct gate_args *a, int64_t t, int64_t h, int64_t d)
{
    const double u = ref_get(a->a, ref_at(a->a, t, h, d)) +
                     ref_get(a->dt_bias, ref_at(a->dt_bias, h, d, 0));
    const double A = exp(ref_get(a->A_log, h)), g = -A * softplus(u);
    if (a->lower_bound == 0.0) return (struct decay){g, -A * softplus_slope(u), g};
    const double s = ref_sigmoid(A * u), slope = a->lower_bound * s * ref_sigmoid(-A * u);
    return (struct decay){a->lower_bound * s, slope * A, slope * A * u};
}

static int64_t channels(const struct gate_args *a) { return a->a->rank == 3 ? a->a->dim[2] : 1; }

void gate_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct gate_args *a = args;
    for (int64_t t = 0; t < a->a->dim[0]; t++) {
        for (int64_t h = 0; h < a->a->dim[1]; h++) {
            for (int64_t d = 0; d < channels(a); d++)
                ref_put(a->g, ref_at(a->g, t, h, d), decay(a, t, h, d).g);
            ref_put(a->beta, ref_at(a->beta, t, h, 0),
                    a->beta_scale * ref_sigmoid(ref_get(a->b, ref_at(a->b, t, h, 0))));
        }
    }
}

static void decay_backward(const struct gate_args *a)
{
    const struct tensor *dg = a->g->grad, *da = a->a->grad, *ddt = a->dt_bias->grad;
    for (int64_t h = 0; h < a->a->dim[1]; h++) {
        double dA_log = 0.0;
        for (int64_t d = 0; d < channels(a); d++) {
            double ddt_bias = 0.0;
            for (int64_t t = 0; t < a->a->dim[0]; t++) {
                const struct decay at = decay(a, t, h, d);
                const double up = ref_get(dg, ref_at(dg, t, h, d)), du = at.du * up;
                ref_add(da, ref_at(da, t, h, d), du);
                ddt_bias += du;
                dA_log += up * at.dA_log;
            }
            ref_add(ddt, ref_at(ddt, h, d, 0), ddt_bias);
        }
        ref_add(a->A_log->grad, h, dA_log);
    }
}

void gate_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device, (void)scratch;
    const struct gate_args *a = args;
    const struct tensor *dbeta = a->beta->grad, *db = a->b->grad;
    if (a->g->grad) decay_backward(a);
    for (int64_t t = 0; dbeta && t < a->b->dim[0]; t++) {
        for (int64_t h = 0; h < a->b->dim[1]; h++) {
            double s = ref_sigmoid(ref_get(a->b, ref_at(a->b, t, h, 0)));
            ref_add(db, ref_at(db, t, h, 0),
                    ref_get(dbeta, ref_at(dbeta, t, h, 0)) * a->beta_scale * s * (1.0 - s));
        }
    }
}
