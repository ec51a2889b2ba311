/* adamw.c:
 *
 *     p <- p - rate decay p
 *     m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
 *     p <- p - rate / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
 */
#include "train/adamw.h"

#include <math.h>

#include "base/memory.h"

static size_t wide_of(const struct params *ps)
{
    return ps->count > 0 ? dtype_size(ps->list[0].gradient.dtype) : sizeof(float);
}

enum gdn_status adamw_open(struct adamw *a, const struct params *ps, struct gdn_error *err)
{
    a->step = 0;
    a->first = mem_take_array((size_t)ps->n, wide_of(ps));
    a->second = mem_take_array((size_t)ps->n, wide_of(ps));
    if (a->first && a->second) return GDN_OK;
    adamw_close(a);
    return error_set(err, GDN_ERR_MEMORY, "no memory for the moments of %lld parameters",
                     (long long)ps->n);
}

void adamw_close(struct adamw *a)
{
    mem_give(a->first);
    mem_give(a->second);
    a->first = a->second = NULL;
}

struct update {
    double keep, rate, beta1, beta2, eps, root; /* root: sqrt(1 - b2^t) */
};

static void update_f32(const struct update *u, float *p, const float *g, float *m, float *v,
                       int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double grad = (double)g[i];
        m[i] = (float)(u->beta1 * (double)m[i] + (1 - u->beta1) * grad);
        v[i] = (float)(u->beta2 * (double)v[i] + (1 - u->beta2) * grad * grad);
        p[i] = (float)(u->keep * (double)p[i] -
                       u->rate * (double)m[i] / (sqrt((double)v[i]) / u->root + u->eps));
    }
}

static void update_f64(const struct update *u, double *p, const double *g, double *m, double *v,
                       int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        m[i] = u->beta1 * m[i] + (1 - u->beta1) * g[i];
        v[i] = u->beta2 * v[i] + (1 - u->beta2) * g[i] * g[i];
        p[i] = u->keep * p[i] - u->rate * m[i] / (sqrt(v[i]) / u->root + u->eps);
    }
}

void adamw_step(struct adamw *a, struct params *ps)
{
    a->step++;
    const double t = (double)a->step;
    struct update u = {.beta1 = a->beta1, .beta2 = a->beta2, .eps = a->eps,
                       .rate = a->rate / (1 - pow(a->beta1, t)),
                       .root = sqrt(1 - pow(a->beta2, t))};
    int64_t at = 0;
    for (int32_t i = 0; i < ps->count; i++) {
        struct param *p = &ps->list[i];
        u.keep = p->decays ? 1 - a->rate * a->decay : 1.0;
        if (p->gradient.dtype == DTYPE_F64)
            update_f64(&u, p->tensor->data, p->gradient.data, (double *)a->first + at,
                       (double *)a->second + at, p->n);
        else
            update_f32(&u, p->tensor->data, p->gradient.data, (float *)a->first + at,
                       (float *)a->second + at, p->n);
        at += p->n;
    }
}
