/* Proof of op_top: the best tokens of a row and its logsumexp; padding columns are never chosen. */
#include <math.h>

#include "harness/suite.h"

enum { MANY_TIES = 1, PADDED = 2 };

static void build(struct trial *t, const struct shape *s)
{
    struct top_args *a = &t->args.top;
    a->vocab = s->option & PADDED ? s->N - s->N / 3 : s->N;
    a->best = s->K < a->vocab ? s->K : (int32_t)a->vocab;
    /* Ties: few distinct values, by rounding tiny numbers to a coarse type. */
    a->logits = IN(t, .name = "logits", .dtype = (enum dtype)s->act, .per = PER_ROW,
                   DIM(s->T, s->N), .scale = s->option & MANY_TIES ? 1e-7 : 4,
                   .fill = s->option & MANY_TIES ? FILL_STEADY : FILL_NORMAL);
    a->ids = OUT(t, .name = "ids", .dtype = DTYPE_I32, .exact = true, .per = PER_ROW,
                 DIM(s->T, a->best))->data;
    a->values = OUT(t, .name = "values", .exact = true, .per = PER_ROW, DIM(s->T, a->best))->data;
    a->lse = OUT(t, .name = "lse", .exact = true, .per = PER_ROW, DIM(s->T))->data;
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = (double)s->T * s->N * (double)dtype_size((enum dtype)s->act);
    *flops = 2.0 * s->T * s->N;
}

static const struct axis axes[] = {
    AXIS(T, 1, 2, 3, 17), AXIS(N, 1, 3, 7, 8, 31, 32, 33, 255, 256, 257, 1000),
    AXIS(K, 1, 2, 40, 256), AXIS(act, DTYPE_F32, DTYPE_F16), AXIS(option, 0, 1, 2, 3),
    AXIS(regime, 0, 0, 1, 2, 3, 4)};
static const struct shape lines[] = {{.T = 1, .N = 5003, .K = 256},
                                     {.T = 2, .N = 2003, .K = 256, .regime = REGIME_ZERO},
                                     {.T = 1, .N = 30011, .K = 256, .option = MANY_TIES,
                                      .act = DTYPE_BF16},
                                     {.T = 2, .N = 20001, .K = 200, .act = DTYPE_F16},
                                     {.T = 1, .N = 20480, .K = 256, .regime = REGIME_ZERO}};
static const struct shape bench[] = {{.T = 1, .N = 248320, .K = 256}, {.T = 1, .N = 4096, .K = 256},
                                     {.T = 1, .N = 4096, .K = 20}, {.T = 1, .N = 4096, .K = 1}};

static const struct proof proof = {
    .op = OP_TOP, .build = build, .cost = cost,
    .forward = {LINES(lines), AXES(axes), .cases = 132},
    .bench = {LINES(bench)},
};
SUITE(top, .proof = &proof);
