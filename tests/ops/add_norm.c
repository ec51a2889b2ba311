/* Proof of op_add_norm: x1 = x + d, y = norm of that (norm.c); without d there is no x1. */
#include "harness/suite.h"

enum { WITHOUT_D = 1, CENTRED = 2, LATE = 4 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    /* y is the norm of x1 as it is stored, so it carries that rounding too, and so does dx. */
    const int stored = s->option & WITHOUT_D ? 0 : 1;
    const double grads = act == DTYPE_F32 || !stored ? 2e-6 : 2e-2;
    struct add_norm_args *a = &t->args.add_norm;
    a->eps = 1e-6;
    a->centred = s->option & CENTRED;
    a->late = s->option & LATE;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->D), .window = true,
              .l2 = grads);
    if (stored)
        a->d = IN(t, .name = "d", .dtype = act, .per = PER_ROW, DIM(s->T, s->D), .window = true,
                  .l2 = grads);
    a->w = IN(t, .name = "w", DIM(s->D), .fill = FILL_STEADY, .l2 = grads);
    if (stored) a->x1 = OUT(t, .name = "x1", .dtype = act, .per = PER_ROW, DIM(s->T, s->D));
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->D),
               .roundings = 1 + 2 * stored + (a->late ? 1 : 0));
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 4.0 * s->T * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 5.0 * s->T * s->D;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(act, DTYPE_F32, DTYPE_BF16), AXIS(window, 0, 1),
    AXIS(regime, 0, 1, 2, 3, 4), AXIS(option, 0, 1, 2, 3, 4)};
/* The gradient of a row of one element is what eps leaves of it: f32 has no bits for that. */
static const struct axis wider[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, 3, 7, 8, 31, 32, 33, 64, 96, 100, 128),
    AXIS(act, DTYPE_F32, DTYPE_BF16), AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4),
    AXIS(option, 0, 1, 2, 3, 4)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(D, 2, 3, 7), AXIS(option, 0, 1, 2, 3)};
static const struct shape lengthy[] = {{.T = 4096, .D = 33}};
static const struct shape bench[] = {{.T = 1, .D = 1024}, {.T = 512, .D = 1024}};

static const struct proof proof = {
    .op = OP_ADD_NORM, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 286},
    .backward = {LINES(lengthy), AXES(wider), .cases = 80},
    .differences = {AXES(narrow), .cases = 18},
    .bench = {LINES(bench)},
};
SUITE(add_norm, .proof = &proof);
