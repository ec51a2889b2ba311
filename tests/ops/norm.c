/* Proof of op_norm: y = x r w, or x r (1 + w), or w times x r after its rounding. */
#include "harness/suite.h"

enum { CENTRED = 1, LATE = 2 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    struct norm_args *a = &t->args.norm;
    a->eps = 1e-6;
    a->centred = s->option & CENTRED;
    a->late = s->option & LATE;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D), .window = true);
    a->w = IN(t, .name = "w", DIM(s->D), .fill = FILL_STEADY);
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->Hk, s->D),
               .roundings = a->late ? 2 : 1);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 2.0 * s->T * s->Hk * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = 4.0 * s->T * s->Hk * s->D;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(Hk, 1, 2, 3),
    AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16),
    AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4), AXIS(option, 0, 1, 2)};
/* The gradient of a row of one element is what eps leaves of it: f32 has no bits for that. */
static const struct axis wider[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, 3, 7, 8, 31, 32, 33, 64, 96, 100, 128), AXIS(Hk, 1, 2, 3),
    AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16), AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4),
    AXIS(option, 0, 1, 2)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(D, 2, 3, 7), AXIS(Hk, 1, 2),
                                     AXIS(option, 0, 1)};
static const struct shape lengthy[] = {{.T = 4096, .Hk = 1, .D = 33}};
static const struct shape repeat[] = {{.T = 150, .Hk = 3, .D = 67}};
static const struct shape bench[] = {{.T = 1, .Hk = 1, .D = 1024}, {.T = 512, .Hk = 8, .D = 256}};

static const struct proof proof = {
    .op = OP_NORM, .build = build, .cost = cost,
    .forward = {AXES(axes), .cases = 286},
    .backward = {LINES(lengthy), AXES(wider), .cases = 60},
    .differences = {AXES(narrow), .cases = 18},
    .repeat = {LINES(repeat)},
    .bench = {LINES(bench)},
};
SUITE(norm, .proof = &proof);
