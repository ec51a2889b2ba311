/* ops_parts.h: what the tests of the convolution, the gate and the norms of gdn/ops.h share:
 * devices, limits, and gradients against differences of a formula in double. */
#ifndef API_OPS_PARTS_H
#define API_OPS_PARTS_H

#include "api/ops_lab.h"

LAB const uint32_t masks[] = {0, GDN_ISA_AVX2, GDN_ISA_AVX2 | GDN_ISA_AVX512, GDN_ISA_ALL};
enum { MASKS = sizeof masks / sizeof *masks };

LAB double limit_of(int type)
{
    return type == GDN_BF16 ? 4e-3 : type == GDN_F16 ? 5e-4 : type == GDN_F64 ? 1e-13 : 2e-6;
}

LAB double sigmoid(double x) { return 1 / (1 + exp(-x)); }
LAB double silu(double x) { return x * sigmoid(x); }

/* n ops of one kind: "ref", then "cpu" by mask. */
enum { DEVICES = 1 + MASKS };
LAB gdn_ops *device(int i)
{
    return i == 0 ? lab_open("ref", 1, 0) : lab_open("cpu", 1 + i % 2, masks[i - 1]);
}

/* Gradients `x` of the cpu against `y` of the reference. */
LAB void agree(const char *name, const struct box *x, const struct box *y, double limit)
{
    const double most = box_largest(y), found = box_furthest(x, y);
    if (!(found <= limit * most)) fail_msg("%s: %g apart, need %g of %g", name, found, limit, most);
}

/* <dy, y> as a box says it. */
LAB double product(const struct box *x, const struct box *y)
{
    double sum = 0;
    for (int64_t i = 0; i < box_count(x); i++) sum += box_get(x, i) * box_get(y, i);
    return sum;
}

/* x + h d, element by element, d from the seed; h = 0 gives <d, grad> only. */
LAB double nudge(struct box *x, double h, uint64_t seed, const struct box *grad)
{
    struct rng rng = {.seed = seed};
    double told = 0;
    for (int64_t i = 0; i < box_count(x); i++) {
        const double d = rng_normal(&rng);
        told += d * box_get(grad, i);
        if (h != 0) dtype_store(x->a.data, x->type, box_at(x, i), box_get(x, i) + h * d);
    }
    memcpy(x->before, x->block, x->bytes);
    return told;
}

typedef double loss(void *context);
LAB void slopes(const char *name, struct box *x, const struct box *grad, loss *value,
                   void *context)
{
    const double h = 1e-5, told = nudge(x, h, 77, grad);
    const double above = value(context);
    nudge(x, -2 * h, 77, grad);
    const double found = (above - value(context)) / (2 * h);
    nudge(x, h, 77, grad);
    if (!(fabs(found - told) <= 1e-7 * (1 + fabs(found))))
        fail_msg("%s: difference %.12g, gradient %.12g", name, found, told);
}

#endif
