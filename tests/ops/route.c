/* Proof of op_route: which experts a row goes to, and their weights: softmax or sigmoid scores, a
 * bias that only chooses, groups, weights renormalised and scaled. */
#include "harness/suite.h"

enum { SIGMOID = 1, RENORMALISED = 2, BIASED = 4, GROUPED = 8 };

static void build(struct trial *t, const struct shape *s)
{
    struct route_args *a = &t->args.route;
    const bool grouped = s->option & GROUPED && s->N % 4 == 0;
    const int most = grouped ? s->N / 2 : s->N;
    const int64_t best = s->K < most ? s->K : most;
    a->score = s->option & SIGMOID ? SCORE_SIGMOID : SCORE_SOFTMAX;
    a->renormalise = s->option & RENORMALISED;
    a->scale = s->option & SIGMOID ? 2.446 : 1.0;
    if (grouped) a->groups = 4, a->groups_used = 2;
    a->logits = IN(t, .name = "logits", .per = PER_ROW, DIM(s->T, s->N), .fill = FILL_STEADY,
                   .scale = 2, .window = true);
    if (s->option & BIASED)
        a->bias = IN(t, .name = "bias", DIM(s->N), .fill = FILL_STEADY, .frozen = true);
    a->weight = OUT(t, .name = "weight", .per = PER_ROW, DIM(s->T, best));
    a->ids = OUT(t, .name = "ids", .dtype = DTYPE_I32, .exact = true, .per = PER_ROW,
                 DIM(s->T, best))->data;
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 4.0 * s->T * (s->N + 2.0 * s->K);
    *flops = s->T * (20.0 * s->N + (double)s->N * s->K);
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(N, 1, 2, 3, 4, 8, 31, 64, 180, 256), AXIS(K, 1, 2, 3, 8, 10),
    AXIS(window, 0, 1), AXIS(option, 0, 2, 3, 4, 5, 7, 8, 15)};
/* Chosen are all, or those whose logits lead by far: a step does not change who they are. */
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(N, 1, 4), AXIS(K, 4),
                                     AXIS(option, 0, 1, 2, 3, 7)};
static const struct shape bench[] = {{.T = 1, .N = 256, .K = 8}, {.T = 512, .N = 512, .K = 10}};

static const struct proof proof = {
    .op = OP_ROUTE, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 234},
    .backward = {AXES(axes), .cases = 80},
    .differences = {AXES(narrow), .cases = 15},
    .bench = {LINES(bench)},
};
SUITE(route, .proof = &proof);
