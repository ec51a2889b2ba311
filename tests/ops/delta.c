/* Proof of op_delta: the gated delta rule, one decay a head or one a key channel, grouped heads,
 * ragged sequences, dense state in and out (weight: its type); and single calls on slots, whose
 * laws are in delta_slots.c. */
#include <math.h>

#include "harness/suite.h"

enum { CHANNEL = 1, STATE_IN = 2, STATE_OUT = 4, FULL_BETA = 8 };

/* Slots with an empty anchor and a log in which every entry may be in use. */
static struct delta_slots *lay_slots(struct trial *t, const struct shape *s)
{
    const int Hv = s->Hk * s->R, gates = s->option & CHANNEL ? s->Dk : 1;
    const int64_t elements = t->at->device->anchor_elements(Hv, s->Dv, s->Dk);
    const int64_t n = s->B, entries = s->slots;
    const int32_t base[64] = {0};
    struct delta_slots *d = &t->delta;
    *d = (struct delta_slots){.slots = s->B, .entries = s->slots, .Hk = s->Hk, .Hv = Hv,
                              .Dk = s->Dk, .Dv = s->Dv, .channel_gate = s->option & CHANNEL,
                              .anchor_elements = elements};
    struct tensor *anchor = IN(t, .name = "anchor", .dtype = (enum dtype)s->weight,
                               DIM(n, elements), .fill = FILL_ZERO, .added = true);
    struct tensor *k = IN(t, .name = "log k", .dtype = (enum dtype)s->act,
                          DIM(n, entries, s->Hk, s->Dk), .fill = FILL_UNIT, .added = true);
    struct tensor *u = IN(t, .name = "log u", DIM(n, entries, Hv, s->Dv), .added = true);
    struct tensor *G = IN(t, .name = "log G", DIM(n, entries, Hv, gates), .fill = FILL_ZERO,
                          .added = true);
    d->anchor_type = anchor->dtype, d->anchor = anchor->data;
    d->k_type = k->dtype, d->k = k->data;
    d->wide_type = u->dtype, d->u = u->data, d->G = G->data;
    d->base = trial_counters(t, "base", base, s->B);
    return d;
}

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act, state = (enum dtype)s->weight;
    const int64_t T = s->T, Hk = s->Hk, Hv = (int64_t)s->Hk * s->R, Dk = s->Dk, Dv = s->Dv;
    struct delta_args *a = &t->args.delta;
    a->q = IN(t, .name = "q", .dtype = act, .per = PER_ROW, DIM(T, Hk, Dk), .window = true,
              .fill = FILL_UNIT, .scale = 1 / sqrt((double)Dk));
    /* bf16 keys are longer or shorter than 1 by up to 2^-9: times beta <= 1 still a contraction. */
    a->k = IN(t, .name = "k", .dtype = act, .per = PER_ROW, DIM(T, Hk, Dk), .window = true,
              .fill = FILL_UNIT);
    a->v = IN(t, .name = "v", .dtype = act, .per = PER_ROW, DIM(T, Hv, Dv), .window = true);
    a->g = IN(t, .name = "g", .per = PER_ROW, .rank = s->option & CHANNEL ? 3 : 2,
              .dim = {T, Hv, Dk}, .fill = FILL_DECAY, .l2 = 1e-5);
    a->beta = IN(t, .name = "beta", .per = PER_ROW, DIM(T, Hv), .fill = FILL_SHARE,
                 .scale = s->option & FULL_BETA ? 1.9 : 1);
    if (s->option & STATE_IN)
        a->S0 = IN(t, .name = "S0", .dtype = state, .per = PER_SEQUENCE, DIM(s->B, Hv, Dv, Dk));
    a->o = OUT(t, .name = "o", .dtype = act, .per = PER_ROW, DIM(T, Hv, Dv), .window = true);
    if (s->option & STATE_OUT)
        a->S1 = OUT(t, .name = "S1", .dtype = state, .per = PER_SEQUENCE, DIM(s->B, Hv, Dv, Dk));
    if (s->slots) a->slots = lay_slots(t, s);
    a->rows = trial_rows(t, s->start);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    const double heads = (double)s->Hk * s->R, act = (double)dtype_size((enum dtype)s->act);
    /* On slots a block reads the anchor and writes it only when it is full. */
    const double writes = s->slots && s->start + s->T <= BLOCK ? 0 : 4;
    *bytes = s->B * heads * s->Dk * s->Dv * (4 + writes) +
             s->T * act * (2.0 * s->Hk * s->Dk + 2.0 * heads * s->Dv);
    *flops = 7.0 * s->T * heads * s->Dk * s->Dv;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(Dk, EDGE_WIDTHS), AXIS(Dv, EDGE_WIDTHS), AXIS(Hk, 1, 2, 3, 4),
    AXIS(R, 1, 2, 3, 4), AXIS(B, 1, 2, 3, 5), AXIS(absent, 0, 0, 1),
    AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16), AXIS(weight, DTYPE_F32, DTYPE_F32, DTYPE_BF16),
    AXIS(window, 0, 1), AXIS(regime, 0, 0, 1, 2, 3, 4),
    AXIS(decay, 0, 0, 1, 2), AXIS(option, 0, 1, 2, 3, 4, 5, 6, 7, 14, 15)};
enum { DENSE_CALLS = 3 }; /* the first ones below: those with a backward */
static const struct shape calls[] = {
    {.B = 2, .T = 192, .Hk = 2, .R = 2, .Dk = 64, .Dv = 32, .option = 6},
    {.B = 2, .T = 192, .Hk = 4, .R = 1, .Dk = 64, .Dv = 64, .option = 7},
    {.B = 3, .T = 210, .Hk = 2, .R = 2, .Dk = 32, .Dv = 16},
    {.T = 1, .Hk = 2, .R = 2, .Dk = 64, .Dv = 32, .slots = 16, .start = 8},
    {.T = 37, .Hk = 2, .R = 2, .Dk = 64, .Dv = 32, .slots = 16, .start = 5},
    {.B = 4, .T = 70, .Hk = 1, .R = 3, .Dk = 33, .Dv = 40, .slots = 32, .start = 8, .absent = 1},
    {.B = 2, .T = 30, .Hk = 1, .R = 2, .Dk = 32, .Dv = 32, .slots = 32, .option = CHANNEL,
     .act = DTYPE_BF16, .start = 11},
    /* So many heads that a device may cut the work in another way. */
    {.B = 60, .T = 100, .Hk = 3, .R = 3, .Dk = 16, .Dv = 40, .option = 6},
    {.B = 60, .T = 70, .Hk = 9, .R = 1, .Dk = 20, .Dv = 70, .option = 7, .absent = 1},
};
static const struct axis narrow[] = {AXIS(T, 1, 3, 18, 34), AXIS(Dk, 1, 3, 4), AXIS(Dv, 1, 2, 5),
                                     AXIS(Hk, 1, 2), AXIS(R, 1, 2, 3), AXIS(B, 1, 2, 3),
                                     AXIS(absent, 0, 0, 1), AXIS(decay, 0, 0, 1),
                                     AXIS(option, 0, 1, 2, 3, 4, 5, 6, 7)};
static const struct shape bench[] = {
    {.T = 1, .Hk = 16, .R = 1, .Dk = 128, .Dv = 128, .option = STATE_IN | STATE_OUT},
    {.T = 64, .Hk = 4, .R = 1, .Dk = 128, .Dv = 128, .option = STATE_IN | STATE_OUT},
    {.T = 64, .Hk = 4, .R = 1, .Dk = 128, .Dv = 128, .option = CHANNEL | STATE_IN | STATE_OUT},
    {.T = 1, .Hk = 16, .R = 1, .Dk = 128, .Dv = 128, .slots = 16, .start = 8},
    {.T = 16, .Hk = 16, .R = 1, .Dk = 128, .Dv = 128, .slots = 16},
    {.T = 64, .Hk = 16, .R = 1, .Dk = 128, .Dv = 128, .slots = 16}};

static const struct proof proof = {
    .op = OP_DELTA, .build = build, .cost = cost,
    .forward = {LINES(calls), AXES(axes), .cases = 110},
    .backward = {.line = calls, .lines = DENSE_CALLS, AXES(axes), .cases = 30},
    .differences = {AXES(narrow), .cases = 24},
    .bench = {LINES(bench)},
};
SUITE(delta, .proof = &proof);
