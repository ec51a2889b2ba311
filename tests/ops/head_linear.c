/* Proof of op_head_linear: y[t,h] = W_h x[t,h], the matrices as they are or turned. */
#include "harness/suite.h"

enum { TURNED = 1 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct head_linear_args *a = &t->args.head_linear;
    const int64_t rows = s->option & TURNED ? s->K : s->N, width = s->option & TURNED ? s->N : s->K;
    a->turned = s->option & TURNED;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->K), .window = true);
    a->w = IN(t, .name = "w", .dtype = (enum dtype)s->weight, DIM(s->Hk, rows, width),
              .fill = FILL_STEADY, .window = true);
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->N),
               .window = true);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = (double)s->Hk * s->N * s->K * (double)dtype_size((enum dtype)s->weight);
    *flops = 2.0 * s->T * s->Hk * s->N * s->K;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(K, EDGE_WIDTHS), AXIS(N, 1, 3, 8, 31, 64, 100), AXIS(Hk, 1, 2, 3),
    AXIS(act, DTYPE_F32, DTYPE_BF16), AXIS(weight, DTYPE_F32, DTYPE_BF16, DTYPE_F16),
    AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4), AXIS(option, 0, 1)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(K, 1, 3, 7), AXIS(N, 1, 4),
                                     AXIS(Hk, 1, 2), AXIS(option, 0, 1)};
static const struct shape bench[] = {
    {.T = 1, .Hk = 32, .K = 128, .N = 512, .weight = DTYPE_BF16, .option = TURNED},
    {.T = 64, .Hk = 32, .K = 512, .N = 128, .weight = DTYPE_BF16}};

static const struct proof proof = {
    .op = OP_HEAD_LINEAR, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 143},
    .backward = {AXES(axes), .cases = 40},
    .differences = {AXES(narrow), .cases = 12},
    .bench = {LINES(bench)},
};
SUITE(head_linear, .proof = &proof);
