/* Proof of op_rope: pairs (i, i + rot/2) turn by pos theta^(-2i/rot), at far positions too. */
#include "harness/suite.h"

enum { PART_OF_HEAD = 1, SMALL_THETA = 2 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct rope_args *a = &t->args.rope;
    a->rot = 2 * (s->option & PART_OF_HEAD ? (s->D + 7) / 8 : s->D / 2);
    if (a->rot > s->D) a->rot = s->D - 1;
    a->theta = s->option & SMALL_THETA ? 1e4 : 1e7;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D), .window = true);
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D));
    a->rows = trial_rows(t, s->start);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 2.0 * s->T * s->Hk * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 3.0 * s->T * s->Hk * s->D;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, 2, 3, 8, 31, 32, 33, 64, 96, 100, 128), AXIS(Hk, 1, 2, 3, 4),
    AXIS(B, 1, 2, 3, 4), AXIS(start, 0, 1, 63, 4095, 262000), AXIS(absent, 0, 1),
    AXIS(act, DTYPE_F32, DTYPE_BF16), AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4),
    AXIS(option, 0, 1, 2, 3)};
static const struct axis narrow[] = {AXIS(T, 1, 3, 6), AXIS(D, 2, 4, 7), AXIS(Hk, 1, 2),
                                     AXIS(B, 1, 3), AXIS(start, 0, 9), AXIS(option, 0, 1),
                                     AXIS(absent, 0, 1)};
static const struct shape bench[] = {{.T = 512, .Hk = 8, .D = 256, .option = PART_OF_HEAD}};

static const struct proof proof = {
    .op = OP_ROPE, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 260},
    .backward = {AXES(axes), .cases = 60},
    .differences = {AXES(narrow), .cases = 9},
    .bench = {LINES(bench)},
};
SUITE(rope, .proof = &proof);
