/* Proof of op_conv: a causal convolution per channel, then SiLU; history from tail_in or zero, the
 * last W-1 inputs into tail_out; and single calls on rings, whose laws are in conv_slots.c. */
#include "harness/suite.h"

enum { TAIL_IN = 1, TAIL_OUT = 2, PLAIN = 4 };

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    const int64_t tail = s->W - 1;
    struct conv_args *a = &t->args.conv;
    a->plain = s->option & PLAIN;
    /* A sum of products of 1e4 that nearly cancel is off by 1e-3 in f32, and the slope of silu by
     * half of that. */
    const double l2 = s->regime == REGIME_HUGE ? 1e-3 : 0;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->D), .window = true,
              .l2 = l2);
    a->w = IN(t, .name = "w", .dtype = (enum dtype)s->weight, DIM(s->D, s->W), .fill = FILL_STEADY,
              .l2 = l2);
    if (s->option & TAIL_IN)
        a->tail_in = IN(t, .name = "tail_in", .dtype = act, .per = PER_SEQUENCE,
                        DIM(s->B, tail, s->D), .l2 = l2);
    a->y = OUT(t, .name = "y", .dtype = act, .per = PER_ROW, DIM(s->T, s->D));
    if (s->option & TAIL_OUT)
        a->tail_out = OUT(t, .name = "tail_out", .dtype = act, .per = PER_SEQUENCE,
                          DIM(s->B, tail, s->D));
    if (s->slots) {
        const int64_t ring = s->W - 1 + s->slots;
        struct tensor *x = IN(t, .name = "ring", .dtype = act, DIM(s->B, ring, s->D),
                              .added = true);
        t->conv = (struct conv_slots){.slots = s->B, .ring = (int32_t)ring, .C = s->D,
                                      .dtype = x->dtype, .x = x->data};
        a->slots = &t->conv;
    }
    a->rows = trial_rows(t, s->start);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 2.0 * s->T * s->D * (double)dtype_size((enum dtype)s->act);
    *flops = (double)s->T * s->D * (2.0 * s->W + 5);
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(W, 2, 3, 4), AXIS(B, 1, 2, 3, 5),
    AXIS(absent, 0, 1), AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16),
    AXIS(weight, DTYPE_F32, DTYPE_BF16),
    AXIS(window, 0, 1), AXIS(regime, 0, 1, 2, 3, 4), AXIS(option, 0, 1, 2, 3, 4, 7)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5, 9), AXIS(D, 1, 3), AXIS(W, 2, 3, 4),
                                     AXIS(B, 1, 2, 3), AXIS(option, 0, 1, 2, 3, 4, 7),
                                     AXIS(absent, 0, 0, 1)};
static const struct shape calls[] = {
    {.T = 1, .D = 33, .W = 4, .slots = 16, .start = 100},
    {.B = 4, .T = 60, .D = 65, .W = 4, .slots = 32, .start = 1, .absent = 1},
};
static const struct shape lengthy[] = {{.B = 2, .T = 4096, .D = 5, .W = 4, .option = TAIL_IN}};
static const struct shape repeat[] = {{.B = 3, .T = 150, .D = 67, .W = 4, .option = TAIL_IN | TAIL_OUT}};
static const struct shape bench[] = {{.T = 1, .D = 6144, .W = 4}, {.T = 512, .D = 6144, .W = 4},
                                     {.T = 1, .D = 6144, .W = 4, .slots = 16, .start = 100}};

static const struct proof proof = {
    .op = OP_CONV, .build = build, .cost = cost,
    .forward = {LINES(calls), AXES(axes), .cases = 286},
    .backward = {LINES(lengthy), AXES(axes), .cases = 80},
    .differences = {AXES(narrow), .cases = 24},
    .repeat = {LINES(repeat)},
    .bench = {LINES(bench)},
};
SUITE(conv, .proof = &proof);
