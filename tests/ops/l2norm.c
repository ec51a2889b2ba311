/* Proof of op_l2norm: y = scale x / sqrt(sum x^2 + eps); a zero row gives zero with zero
 * gradient. */
#include "ops/norm_cases.h"

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct l2norm_args *a = &t->args.l2norm;
    a->eps = 1e-6;
    a->scale = s->option ? 0.125 : 1;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D), .window = true);
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D),
               .window = true);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 2.0 * s->T * s->Hk * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 3.0 * s->T * s->Hk * s->D;
}

static const struct shape bench[] = {{.T = 1, .Hk = 16, .D = 128}, {.T = 512, .Hk = 16, .D = 128}};

static const struct proof proof = {
    .op = OP_L2NORM, .build = build, .cost = cost,
    NORM_CASES,
    .bench = {LINES(bench)},
};
SUITE(l2norm, .proof = &proof);
