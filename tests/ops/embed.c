/* Proof of op_embed: y[t] = table[ids[t]]. */
#include "harness/suite.h"

enum { VOCAB = 37 };

static void build(struct trial *t, const struct shape *s)
{
    struct embed_args *a = &t->args.embed;
    a->table = IN(t, .name = "table", .dtype = (enum dtype)s->weight, DIM(VOCAB, s->D));
    a->ids = trial_ids(t, "ids", 1, 0, VOCAB);
    a->y = OUT(t, .name = "y", .dtype = (enum dtype)s->act, .per = PER_ROW, DIM(s->T, s->D));
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = (double)s->T * s->D *
             (double)(dtype_size((enum dtype)s->weight) + dtype_size((enum dtype)s->act));
    *flops = 0;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(act, DTYPE_F32, DTYPE_BF16),
    AXIS(weight, DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q8, DTYPE_Q4), AXIS(regime, 0, 1, 2, 3, 4)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 9), AXIS(D, 1, 5)};
static const struct shape bench[] = {{.T = 512, .D = 1024, .weight = DTYPE_BF16}};

static const struct proof proof = {
    .op = OP_EMBED, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 143},
    .backward = {AXES(axes), .cases = 40},
    .differences = {AXES(narrow), .cases = 6},
    .bench = {LINES(bench)},
};
SUITE(embed, .proof = &proof);
