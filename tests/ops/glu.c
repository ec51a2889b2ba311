/* Proof of op_glu: y = act(a) b. */
#include "harness/suite.h"

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct glu_args *a = &t->args.glu;
    a->act = s->option ? ACT_SIGMOID : ACT_SILU;
    a->a = IN(t, .name = "a", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D), .window = true);
    a->b = IN(t, .name = "b", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D), .window = true);
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D),
               .window = true);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 3.0 * s->T * s->Hk * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 6.0 * s->T * s->Hk * s->D;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(Hk, 1, 2, 3), AXIS(act, DTYPE_F32, DTYPE_BF16),
    AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4), AXIS(option, 0, 1)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(D, 1, 3, 7), AXIS(Hk, 1, 2),
                                     AXIS(option, 0, 1)};
static const struct shape bench[] = {{.T = 1, .Hk = 1, .D = 3584}, {.T = 512, .Hk = 1, .D = 3584}};

static const struct proof proof = {
    .op = OP_GLU, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 286},
    .backward = {AXES(axes), .cases = 60},
    .differences = {AXES(narrow), .cases = 18},
    .bench = {LINES(bench)},
};
SUITE(glu, .proof = &proof);
