/* Proof of op_gate: g = -exp(A_log) softplus(a + dt_bias), beta = beta_scale sigmoid(b); one decay
 * a head, or one a key channel; or the bounded decay, g = -5 sigmoid(exp(A_log) (a + dt_bias)). */
#include "harness/suite.h"

enum { CHANNEL = 1, DOUBLE_BETA = 2, BOUNDED = 4 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    const int rank = s->option & CHANNEL ? 3 : 2;
    const int64_t H = s->Hk, D = s->D;
    struct gate_args *a = &t->args.gate;
    a->beta_scale = s->option & DOUBLE_BETA ? 2 : 1;
    a->lower_bound = s->option & BOUNDED ? -5 : 0;
    a->a = IN(t, .name = "a", .dtype = act, .per = PER_ROW, .rank = rank, .dim = {s->T, H, D},
              .window = true, .scale = 3);
    a->b = IN(t, .name = "b", .dtype = act, .per = PER_ROW, DIM(s->T, H), .window = true,
              .scale = 3);
    a->A_log = IN(t, .name = "A_log", DIM(H), .fill = FILL_STEADY, .l2 = 1e-5);
    a->dt_bias = IN(t, .name = "dt_bias", .rank = rank - 1, .dim = {H, D}, .fill = FILL_STEADY);
    a->g = OUT(t, .name = "g", .per = PER_ROW, .rank = rank, .dim = {s->T, H, D});
    a->beta = OUT(t, .name = "beta", .per = PER_ROW, DIM(s->T, H));
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    const double n = (double)s->T * s->Hk * (s->option & CHANNEL ? s->D : 1);
    *bytes = n * (4.0 + (double)dtype_size((enum dtype)s->act));
    *flops = 20.0 * n;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(Hk, 1, 2, 3, 4, 16), AXIS(D, EDGE_WIDTHS),
    AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16), AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4),
    AXIS(option, 0, 1, 2, 3, 4, 5)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(Hk, 1, 3), AXIS(D, 1, 4),
                                     AXIS(option, 0, 1, 2, 3, 4, 5)};
static const struct shape lengthy[] = {{.T = 4096, .Hk = 3, .D = 5, .option = CHANNEL}};
static const struct shape repeat[] = {{.T = 150, .Hk = 5, .D = 33, .option = CHANNEL}, {.T = 150, .Hk = 33}};
static const struct shape bench[] = {{.T = 512, .Hk = 32, .D = 1},
                                     {.T = 128, .Hk = 16, .D = 128, .option = CHANNEL}};

static const struct proof proof = {
    .op = OP_GATE, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 234},
    .backward = {LINES(lengthy), AXES(axes), .cases = 60},
    .differences = {AXES(narrow), .cases = 12},
    .repeat = {LINES(repeat)},
    .bench = {LINES(bench)},
};
SUITE(gate, .proof = &proof);
