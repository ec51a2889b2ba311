/* delta: the gated delta rule, dense; the form on slots is in delta_log.c.
 *
 * Per sequence and value head h, which reads key head h / (Hv / Hk), S [Dv][Dk] from S0 or zero:
 *
 *     S'  = S e^g                 column d by e^g_d (a gate per channel) or all by e^g
 *     u   = beta (v - S' k)
 *     S   = S' + u k^T
 *     o   = S q                   q is scaled and k normalised already
 *
 * q, k [T, Hk, Dk], v, o [T, Hv, Dv], g [T, Hv] or [T, Hv, Dk], beta [T, Hv],
 * S0, S1 [B, Hv, Dv, Dk]. S1 is S after the last row (S0 of a sequence that is empty or absent).
 *
 * backward, t descending, G [Dv][Dk] the gradient of S_t, at first that of S1:
 *
 *     G  += do q^T;    dq = S_t^T do
 *     du  = G k;       dk = G^T u;        dbeta = du . (v - S' k);   dv = beta du
 *     G  += dr k^T,    dr = -beta du;     dk += S'^T dr
 *     dg_d = sum_j G_jd S'_jd             (over d too for one gate a head)
 *     G   = G e^g                         and at the end dS0 = G
 *
 * All states of one head are kept for it; dq and dk of a key head's value heads are summed. */
#include "base/check.h"
#include "base/mutant.h"
#include "kernels/ref/ref.h"

struct sizes {
    int64_t Hk, Hv, Dk, Dv;
};

static struct sizes sizes_of(const struct delta_args *a)
{
    struct sizes z = {a->k->dim[1], a->v->dim[1], a->k->dim[2], a->v->dim[2]};
    GDN_CHECK(z.Hk > 0 && z.Hv % z.Hk == 0, "delta: heads");
    return z;
}

/* e^g of row t at channel d. */
static double decay(const struct delta_args *a, int64_t t, int64_t h, int64_t d)
{
    return exp(ref_get(a->g, ref_at(a->g, t, h, a->g->rank == 3 ? d : 0)));
}

/* One token: S becomes S_t, r = S' k and u what was written. */
static void step(const struct delta_args *a, struct sizes z, int64_t t, int64_t h, double *S,
                 double *r, double *u)
{
    const int64_t kh = h / (z.Hv / z.Hk);
    const double beta = ref_get(a->beta, ref_at(a->beta, t, h, 0));
    for (int64_t d = 0; d < z.Dk; d++) {
        const double e = decay(a, t, h, d);
        for (int64_t j = 0; j < z.Dv; j++) S[j * z.Dk + d] *= e;
    }
    for (int64_t j = 0; j < z.Dv; j++) {
        r[j] = 0.0;
        for (int64_t d = 0; d < z.Dk; d++)
            r[j] += S[j * z.Dk + d] * ref_get(a->k, ref_at(a->k, t, kh, d));
        u[j] = beta * (ref_get(a->v, ref_at(a->v, t, h, j)) - r[j]);
        for (int64_t d = 0; d < z.Dk; d++)
            S[j * z.Dk + d] += u[j] * ref_get(a->k, ref_at(a->k, t, kh, d));
    }
}

static void load_state(const struct delta_args *a, struct sizes z, int32_t b, int64_t h, double *S)
{
    for (int64_t j = 0; j < z.Dv; j++) {
        const int64_t at = ref_row(a->S0, (b * z.Hv + h) * z.Dv + j);
        for (int64_t d = 0; d < z.Dk; d++) S[j * z.Dk + d] = ref_get(a->S0, at + d);
    }
}

static void head_forward(const struct delta_args *a, struct sizes z, int32_t b, int64_t h,
                         double *S, double *r, double *u)
{
    const int64_t kh = h / (z.Hv / z.Hk), first = a->rows->start[b];
    load_state(a, z, b, h, S);
    for (int64_t t = first; t < first + ref_length(a->rows, b); t++) {
        step(a, z, t, h, S, r, u);
        for (int64_t j = 0; j < z.Dv; j++) {
            double o = 0.0;
            for (int64_t d = 0; d < z.Dk; d++)
                o += S[j * z.Dk + d] * ref_get(a->q, ref_at(a->q, t, kh, d));
            ref_put(a->o, ref_at(a->o, t, h, j), o);
        }
    }
    for (int64_t j = 0; a->S1 && j < z.Dv; j++)
        for (int64_t d = 0; d < z.Dk; d++)
            ref_put(a->S1, ref_row(a->S1, (b * z.Hv + h) * z.Dv + j) + d, S[j * z.Dk + d]);
}

void delta_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct delta_args *a = args;
    const struct sizes z = sizes_of(a);
    for (int32_t b = 0; b < a->rows->B; b++)
        if (ref_absent(a->rows, b)) ref_clear(a->o, a->rows->start[b], a->rows->start[b + 1]);
    if (a->slots) {
        delta_log_forward_ref(scratch, a);
        return;
    }
    double *S = ref_take(scratch, z.Dv * z.Dk);
    double *r = ref_take(scratch, z.Dv), *u = ref_take(scratch, z.Dv);
    if (!S || !r || !u) return;
    for (int32_t b = 0; b < a->rows->B; b++)
        for (int64_t h = 0; h < z.Hv; h++) head_forward(a, z, b, h, S, r, u);
}

/* Of one head: states [n+1][Dv][Dk], what each token read and wrote [n][Dv], the gradient of the
 * state [Dv][Dk], e^g of one row [Dk]; of its key head: dq, dk [n][Dk]. */
struct work {
    double *S, *r, *u, *G, *e, *dq, *dk;
};

/* Everything of row t (row i of its sequence) before the decay: G becomes the gradient of S'. */
static void write_backward(const struct delta_args *a, struct sizes z, int64_t t, int64_t i,
                           int64_t h, const struct work *w)
{
    const struct tensor *dout = ref_grad(a->o), *gv = a->v->grad, *gbeta = a->beta->grad;
    const int64_t kh = h / (z.Hv / z.Hk);
    const double beta = ref_get(a->beta, ref_at(a->beta, t, h, 0));
    const double *before = w->S + i * z.Dv * z.Dk, *after = before + z.Dv * z.Dk;
    double dbeta = 0.0;
    for (int64_t j = 0; j < z.Dv; j++) {
        const double up = ref_get(dout, ref_at(dout, t, h, j)), u = w->u[i * z.Dv + j];
        double *G = w->G + j * z.Dk, du = 0.0;
        for (int64_t d = 0; d < z.Dk; d++) {
            G[d] += up * ref_get(a->q, ref_at(a->q, t, kh, d));
            w->dq[i * z.Dk + d] += after[j * z.Dk + d] * up;
            du += G[d] * ref_get(a->k, ref_at(a->k, t, kh, d));
            w->dk[i * z.Dk + d] += G[d] * u;
        }
        const double dr = -beta * du;
        for (int64_t d = 0; d < z.Dk; d++) {
            G[d] += dr * ref_get(a->k, ref_at(a->k, t, kh, d));
            w->dk[i * z.Dk + d] += before[j * z.Dk + d] * w->e[d] * dr;
        }
        dbeta += du * (ref_get(a->v, ref_at(a->v, t, h, j)) - w->r[i * z.Dv + j]);
        ref_add(gv, ref_at(gv, t, h, j), beta * du);
    }
    ref_add(gbeta, ref_at(gbeta, t, h, 0), dbeta);
}

/* Through S' = S e^g: G becomes the gradient of the state before row t. */
static void decay_backward(const struct delta_args *a, struct sizes z, int64_t t, int64_t i,
                           int64_t h, const struct work *w)
{
    const struct tensor *gg = a->g->grad;
    const double *before = w->S + i * z.Dv * z.Dk;
    double all = 0.0;
    for (int64_t d = 0; d < z.Dk; d++) {
        const double e = w->e[d];
        double dg = 0.0;
        for (int64_t j = 0; j < z.Dv; j++) {
            dg += w->G[j * z.Dk + d] * before[j * z.Dk + d] * e;
            w->G[j * z.Dk + d] *= e;
        }
        if (a->g->rank == 3) ref_add(gg, ref_at(gg, t, h, d), dg);
        all += dg;
    }
    if (a->g->rank == 2) ref_add(gg, ref_at(gg, t, h, 0), all);
}

static void head_backward(const struct delta_args *a, struct sizes z, int32_t b, int64_t h,
                          const struct work *w)
{
    const struct tensor *dS1 = ref_grad(a->S1), *dS0 = ref_grad(a->S0);
    const int64_t n = ref_length(a->rows, b), first = a->rows->start[b], state = z.Dv * z.Dk;
    load_state(a, z, b, h, w->S);
    for (int64_t i = 0; i < n; i++) {
        memcpy(w->S + (i + 1) * state, w->S + i * state, (size_t)state * sizeof(double));
        step(a, z, first + i, h, w->S + (i + 1) * state, w->r + i * z.Dv, w->u + i * z.Dv);
    }
    const int64_t row = (b * z.Hv + h) * z.Dv;
    for (int64_t j = 0; j < z.Dv; j++)
        for (int64_t d = 0; d < z.Dk; d++)
            w->G[j * z.Dk + d] = ref_get(dS1, ref_row(dS1, row + j) + d);
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int64_t d = 0; d < z.Dk; d++) w->e[d] = decay(a, first + i, h, d);
        write_backward(a, z, first + i, i, h, w);
        decay_backward(a, z, first + i, i, h, w);
    }
    for (int64_t j = 0; j < z.Dv; j++)
        for (int64_t d = 0; d < z.Dk; d++)
            ref_add(dS0, ref_row(dS0, row + j) + d, w->G[j * z.Dk + d]);
}

void delta_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct delta_args *a = args;
    const struct sizes z = sizes_of(a);
    const int64_t longest = ref_longest(a->rows), R = z.Hv / z.Hk;
    const struct tensor *gq = a->q->grad, *gk = a->k->grad;
    GDN_CHECK(a->slots == NULL, "delta: gradients go through dense states only");
    if (!a->o->grad && !ref_grad(a->S1)) return;
    struct work w = {
        .S = ref_take(scratch, (longest + 1) * z.Dv * z.Dk), .r = ref_take(scratch, longest * z.Dv),
        .u = ref_take(scratch, longest * z.Dv), .G = ref_take(scratch, z.Dv * z.Dk),
        .e = ref_take(scratch, z.Dk),
        .dq = ref_take(scratch, longest * z.Dk), .dk = ref_take(scratch, longest * z.Dk)};
    if (!w.S || !w.r || !w.u || !w.G || !w.e || !w.dq || !w.dk) return;
    for (int32_t b = 0; b < a->rows->B; b++) {
        const int64_t n = ref_length(a->rows, b), first = a->rows->start[b];
        for (int64_t kh = 0; kh < z.Hk; kh++) {
            for (int64_t i = 0; i < n * z.Dk; i++) w.dq[i] = w.dk[i] = 0.0;
            for (int64_t h = kh * R; h < (kh + 1) * R; h++) head_backward(a, z, b, h, &w);
            const int64_t into = MUTANT == 5 ? b : first;
            for (int64_t i = 0; i < n * z.Dk; i++) {
                ref_add(gq, ref_at(gq, into + i / z.Dk, kh, i % z.Dk), w.dq[i]);
                ref_add(gk, ref_at(gk, into + i / z.Dk, kh, i % z.Dk), w.dk[i]);
            }
        }
    }
}
