/* differences.c: the reference's gradients against central differences.
 *
 * The function is L = sum over outputs of <c, output>, with random c in the outputs' gradients:
 * then the gradients of the inputs are what backward must add. Per input: the derivative along one
 * random direction over all its elements, and along single elements. Five points, step h = 1e-3 on
 * inputs of size 1: truncation h^4 = 1e-12, rounding 2^-53 L / h = 1e-13 L. */
#include <math.h>

#include "base/memory.h"
#include "base/rng.h"
#include "harness/prove.h"

enum { SAMPLES = HARNESS_SANITIZED ? 6 : 12 };
static const double STEP = 1e-3, ALLOWED = 1e-6;

static double functional(struct trial *t)
{
    double sum = 0;
    if (!trial_forward(t)) return NAN;
    for (int i = 0; i < t->pieces; i++) {
        const struct piece *p = &t->piece[i];
        if (p->box.role != ROLE_OUT || p->grad == NO_BOX) continue;
        double *y = trial_values(t, i), *c = trial_made(t, p->grad);
        for (int64_t e = 0; y && c && e < p->count; e++) sum += y[e] * c[e];
        mem_give(y);
        mem_give(c);
    }
    return sum;
}

/* L with piece i at x + step * direction. */
static double moved(struct trial *t, int i, const double *x, const double *direction, double step)
{
    for (int64_t e = 0; e < t->piece[i].count; e++)
        box_poke(&t->piece[i].box, e, x[e] + step * direction[e]);
    return functional(t);
}

static double derivative(struct trial *t, int i, const double *x, const double *direction)
{
    const double near = moved(t, i, x, direction, STEP) - moved(t, i, x, direction, -STEP);
    const double far = moved(t, i, x, direction, 2 * STEP) - moved(t, i, x, direction, -2 * STEP);
    moved(t, i, x, direction, 0);
    return (8 * near - far) / (12 * STEP);
}

static void expect_close(struct trial *t, int i, const char *where, double got, double want,
                         double scale)
{
    const double share = fabs(got - want) / (ALLOWED * scale + 1e-300);
    if (share > t->v->worst) t->v->worst = share;
    EXPECT(t->v, share <= 1, "d %s %s: backward %.12g, differences %.12g (largest entry %.3g)",
           t->piece[i].box.name, where, got, want, scale);
}

/* x: the input's values; g: what backward says; line: room for a direction. */
static void check_input(struct trial *t, int i, const double *x, const double *g, double *line)
{
    const int64_t n = t->piece[i].count;
    struct rng rng = {(uint64_t)i + 7, 0};
    double top = 0, length = 0, along = 0;
    for (int64_t e = 0; e < n; e++) {
        line[e] = rng_normal(&rng);
        length += line[e] * line[e];
        if (fabs(g[e]) > top) top = fabs(g[e]);
    }
    for (int64_t e = 0; e < n; e++) {
        line[e] /= sqrt(length);
        along += line[e] * g[e];
    }
    expect_close(t, i, "along a line", along, derivative(t, i, x, line), top);
    for (int64_t e = 0; e < n; e++) line[e] = 0;
    for (int s = 0; s < SAMPLES && s < n; s++) {
        const int64_t e = n <= SAMPLES ? s : (int64_t)rng_below(&rng, (uint64_t)n);
        char where[96];
        coordinate_text(&t->piece[i].box.t, e, where, sizeof where);
        line[e] = 1;
        expect_close(t, i, where, g[e], derivative(t, i, x, line), top);
        line[e] = 0;
    }
}

void prove_differences(struct lab *lab, const struct proof *proof, const struct shape *s,
                       struct verdict *v)
{
    double start[TRIAL_BOXES];
    for (int i = 0; i < TRIAL_BOXES; i++) start[i] = 0.5;
    const struct manner manner = {.wide = true, .grads = true, .start = start};
    struct trial back, t;
    v->shape = *s;
    v->cases++;
    if (!trial_open(&back, proof, s, &lab->ref, &manner, v)) return;
    if (trial_backward(&back) && trial_open(&t, proof, s, &lab->ref, &manner, v)) {
        for (int i = 0; i < t.pieces; i++) {
            const int grad = t.piece[i].grad;
            if (grad == NO_BOX || t.piece[grad].box.role != ROLE_ADDED || t.piece[i].count == 0)
                continue;
            double *x = trial_made(&t, i), *begin = trial_made(&back, grad);
            double *g = trial_values(&back, grad);
            double *line = mem_take_array((size_t)t.piece[i].count, sizeof *line);
            if (EXPECT(v, x && begin && g && line, "no memory")) {
                for (int64_t e = 0; e < t.piece[i].count; e++) g[e] -= begin[e];
                check_input(&t, i, x, g, line);
            }
            mem_give(x), mem_give(begin), mem_give(g), mem_give(line);
        }
        trial_close(&t);
    }
    trial_close(&back);
}
