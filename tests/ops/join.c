/* Proof of op_join: y = a + sigmoid(s) b, or a + b. */
#include "harness/suite.h"

enum { PLAIN = 1 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct join_args *j = &t->args.join;
    j->a = IN(t, .name = "a", .dtype = act, .per = PER_ROW, DIM(s->T, s->D), .window = true);
    j->b = IN(t, .name = "b", .dtype = act, .per = PER_ROW, DIM(s->T, s->D), .window = true);
    if (!(s->option & PLAIN))
        j->s = IN(t, .name = "s", .dtype = act, .per = PER_ROW, DIM(s->T, 1), .window = true);
    j->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->D));
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 3.0 * s->T * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 2.0 * s->T * s->D;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(act, DTYPE_F32, DTYPE_BF16), AXIS(window, 0, 1),
    AXIS(regime, 0, 1, 2, 3, 4), AXIS(option, 0, 1)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(D, 1, 3, 7), AXIS(option, 0, 1)};
static const struct shape bench[] = {{.T = 1, .D = 2048}, {.T = 512, .D = 2048}};

static const struct proof proof = {
    .op = OP_JOIN, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 143},
    .backward = {AXES(axes), .cases = 40},
    .differences = {AXES(narrow), .cases = 12},
    .bench = {LINES(bench)},
};
SUITE(join, .proof = &proof);
