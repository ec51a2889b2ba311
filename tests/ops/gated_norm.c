/* Proof of op_gated_norm: y = x r w act(z). */
#include "ops/norm_cases.h"

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct gated_norm_args *a = &t->args.gated_norm;
    a->eps = 1e-6;
    a->act = s->option ? ACT_SIGMOID : ACT_SILU;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D), .window = true);
    a->z = IN(t, .name = "z", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D), .window = true);
    a->w = IN(t, .name = "w", DIM(s->D), .fill = FILL_STEADY);
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D),
               .window = true);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 3.0 * s->T * s->Hk * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 10.0 * s->T * s->Hk * s->D;
}

static const struct shape bench[] = {{.T = 1, .Hk = 16, .D = 128}, {.T = 512, .Hk = 16, .D = 128}};

static const struct proof proof = {
    .op = OP_GATED_NORM, .build = build, .cost = cost,
    NORM_CASES,
    .bench = {LINES(bench)},
};
SUITE(gated_norm, .proof = &proof);
