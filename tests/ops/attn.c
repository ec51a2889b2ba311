/* Proof of op_attn on dense keys: causal softmax attention, grouped heads, ragged sequences. The pages
 * have laws of their own in attn_pages.c. */
#include <math.h>

#include "harness/suite.h"

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    const int64_t T = s->T, Hkv = s->Hk, Hq = (int64_t)s->Hk * s->R, D = s->D;
    struct attn_args *a = &t->args.attn;
    a->scale = 1 / sqrt((double)D);
    /* Scores keep their size in every regime: what a rounded score is off by, its exp is off by. */
    a->q = IN(t, .name = "q", .dtype = act, .per = PER_ROW, DIM(T, Hq, D), .window = true,
              .fill = FILL_STEADY);
    a->k = IN(t, .name = "k", .dtype = act, .per = PER_ROW, DIM(T, Hkv, D), .window = true,
              .fill = FILL_STEADY);
    a->v = IN(t, .name = "v", .dtype = act, .per = PER_ROW, DIM(T, Hkv, D), .window = true);
    a->o = OUT(t, .name = "o", .dtype = act, .per = PER_ROW, DIM(T, Hq, D));
    a->rows = trial_rows(t, 0);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    const double heads = s->Hk * (2.0 + 2.0 * s->R);
    *bytes = s->T * heads * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 2.0 * s->T * (s->T + 1.0) * s->Hk * s->R * s->D;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(Hk, 1, 2, 3), AXIS(R, 1, 2, 3, 4),
    AXIS(B, 1, 2, 3, 5), AXIS(absent, 0, 1), AXIS(act, DTYPE_F32, DTYPE_BF16), AXIS(window, 0, 1),
    AXIS(regime, 0, 1, 2, 3)};
static const struct axis narrow[] = {AXIS(T, 1, 4, 9), AXIS(D, 1, 5), AXIS(Hk, 1, 2),
                                     AXIS(R, 1, 3), AXIS(B, 1, 3), AXIS(absent, 0, 1)};
static const struct shape bench[] = {{.T = 128, .Hk = 2, .R = 4, .D = 256}};

static const struct proof proof = {
    .op = OP_ATTN, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 80},
    .backward = {AXES(axes), .cases = 30},
    .differences = {AXES(narrow), .cases = 8},
    .bench = {LINES(bench)},
};
SUITE(attn, .proof = &proof);
