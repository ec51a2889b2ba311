/* Proof of op_linear_ce: loss[t] = logsumexp(W x_t) - (W x_t)[target]; a negative target: 0, and no
 * gradient. */
#include <math.h>

#include "harness/suite.h"

enum { TWO_PARTS = 1, PADDED = 2 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype weight = (enum dtype)s->weight;
    const double scale = 1 / sqrt((double)s->K);
    struct linear_ce_args *a = &t->args.linear_ce;
    struct linear *w = &t->linear;
    a->x = IN(t, .name = "x", .dtype = (enum dtype)s->act, .per = PER_ROW, DIM(s->T, s->K),
              .window = true);
    *w = (struct linear){.K = s->K, .N = s->N, .parts = 1, .part = t->part};
    const int64_t first = s->option & TWO_PARTS ? (s->N + 1) / 2 : s->N;
    t->part[0] = (struct linear_part){.rows = first};
    t->part[0].w = IN(t, .name = "W0", .dtype = weight, DIM(first, s->K), .fill = FILL_STEADY,
                      .scale = scale);
    if (first < s->N) { /* the last rows of a taller tensor */
        w->parts = 2;
        t->part[1] = (struct linear_part){.from = 2, .rows = s->N - first, .row = first};
        t->part[1].w = IN(t, .name = "W1", .dtype = weight, DIM(2 + s->N - first, s->K),
                          .fill = FILL_STEADY, .scale = scale);
    }
    a->w = w;
    a->vocab = s->option & PADDED ? s->N - s->N / 4 : s->N;
    a->targets = trial_ids(t, "targets", 1, -1, (int)a->vocab);
    a->loss = OUT(t, .name = "loss", .per = PER_ROW, DIM(s->T));
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = (double)s->N * s->K * (double)dtype_size((enum dtype)s->weight);
    *flops = 2.0 * s->T * s->K * s->N;
}

static const struct axis axes[] = {
    AXIS(T, 1, 2, 3, 15, 17, 33, 65), AXIS(N, 1, 3, 8, 31, 64, 100, 257),
    AXIS(K, EDGE_WIDTHS), AXIS(act, DTYPE_F32, DTYPE_BF16),
    AXIS(weight, DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q8, DTYPE_Q4), AXIS(window, 0, 1),
    AXIS(regime, REGIME_NORMAL, REGIME_TINY, REGIME_ZERO), AXIS(option, 0, 1, 2, 3)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(K, 1, 3, 7), AXIS(N, 4, 9),
                                     AXIS(option, 0, 1, 2, 3)};
static const struct shape bench[] = {{.T = 32, .K = 256, .N = 8192, .weight = DTYPE_BF16}};

static const struct proof proof = {
    .op = OP_LINEAR_CE, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 98},
    .backward = {AXES(axes), .cases = 36},
    .differences = {AXES(narrow), .cases = 12},
    .bench = {LINES(bench)},
};
SUITE(linear_ce, .proof = &proof);
