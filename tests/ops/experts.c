/* Proof of op_experts: y = sum_j weight_j down(silu(gate x) * up x) of the experts chosen. Weights
 * stacked over all experts, or a tensor for each projection of each. */
#include <math.h>
#include <stdio.h>

#include "harness/suite.h"

enum { STACKED = 1, EXPERTS = 3, BEST = 2 };

static void stack(struct trial *t, const struct shape *s)
{
    const enum dtype weight = (enum dtype)s->weight;
    const double in = 1 / sqrt((double)s->K), out = 1 / sqrt((double)s->N);
    struct tensor *gate_up = IN(t, .name = "gate_up", .dtype = weight, .fill = FILL_STEADY,
                                .scale = in, DIM(EXPERTS, 2 * s->N, s->K));
    struct tensor *down = IN(t, .name = "down", .dtype = weight, .fill = FILL_STEADY, .scale = out,
                             DIM(EXPERTS, s->K, s->N));
    struct linear_part *part = t->part;
    for (int e = 0; e < EXPERTS; e++, part += 2) {
        part[0] = (struct linear_part){gate_up, 2 * e * s->N, 2 * s->N, 0};
        part[1] = (struct linear_part){down, e * s->K, s->K, 0};
        t->gate_up[e] = (struct linear){2 * s->N, s->K, 1, &part[0]};
        t->down[e] = (struct linear){s->K, s->N, 1, &part[1]};
    }
}

static void spread(struct trial *t, const struct shape *s)
{
    static const char *const name[EXPERTS][3] = {
        {"gate 0", "up 0", "down 0"}, {"gate 1", "up 1", "down 1"}, {"gate 2", "up 2", "down 2"}};
    const enum dtype weight = (enum dtype)s->weight;
    const double in = 1 / sqrt((double)s->K), out = 1 / sqrt((double)s->N);
    struct linear_part *part = t->part;
    for (int e = 0; e < EXPERTS; e++, part += 3) {
        for (int i = 0; i < 2; i++)
            part[i] = (struct linear_part){
                IN(t, .name = name[e][i], .dtype = weight, .fill = FILL_STEADY, .scale = in,
                   DIM(s->N, s->K)), 0, s->N, i * s->N};
        part[2] = (struct linear_part){
            IN(t, .name = name[e][2], .dtype = weight, .fill = FILL_STEADY, .scale = out,
               DIM(s->K, s->N)), 0, s->K, 0};
        t->gate_up[e] = (struct linear){2 * s->N, s->K, 2, part};
        t->down[e] = (struct linear){s->K, s->N, 1, part + 2};
    }
}

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct experts_args *a = &t->args.experts;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->K), .window = true);
    a->weight = IN(t, .name = "weight", .per = PER_ROW, DIM(s->T, BEST), .fill = FILL_SHARE);
    a->ids = trial_ids(t, "ids", BEST, 0, EXPERTS);
    if (s->option & STACKED)
        stack(t, s);
    else
        spread(t, s);
    t->experts = (struct experts){.count = EXPERTS, .gate_up = t->gate_up, .down = t->down};
    a->experts = &t->experts;
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->K),
               .made = MADE_BF16); /* what is between the two products */
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    const double visits = (double)s->T * BEST, seen = visits < EXPERTS ? visits : EXPERTS;
    *bytes = 3.0 * seen * s->N * s->K * (double)dtype_size((enum dtype)s->weight);
    *flops = 6.0 * visits * s->N * s->K;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(K, 3, 7, 8, 31, 64, 100), AXIS(N, 1, 5, 8, 33, 64),
    AXIS(act, DTYPE_F32, DTYPE_BF16),
    AXIS(weight, DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q8, DTYPE_Q4),
    AXIS(window, 0, 1), AXIS(regime, REGIME_NORMAL, REGIME_HUGE, REGIME_ZERO), AXIS(option, 0, 1)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(K, 2, 5), AXIS(N, 1, 4),
                                     AXIS(option, 0, 1)};
static const struct shape bench[] = {{.T = 1, .K = 1024, .N = 512, .weight = DTYPE_BF16},
                                     {.T = 64, .K = 1024, .N = 512, .weight = DTYPE_BF16}};

static const struct proof proof = {
    .op = OP_EXPERTS, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 78},
    .backward = {AXES(axes), .cases = 30},
    .differences = {AXES(narrow), .cases = 12},
    .bench = {LINES(bench)},
};
SUITE(experts, .proof = &proof);
