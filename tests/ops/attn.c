/* Proof of op_attn: causal softmax attention, grouped heads, values of another width than keys or
 * their front (latent), ragged sequences, dense keys; and single calls on pages, whose laws are in
 * attn_pages.c. */
#include <math.h>

#include "harness/suite.h"

enum { NARROW_VALUES = 1, LATENT = 2 };

static int64_t value_width(const struct shape *s)
{
    return s->option && s->D > 1 ? s->D / 2 : s->D;
}

/* Every position below the call's is in the pages; slots take their pages from the back. */
static struct kv_pages *lay_pages(struct trial *t, const struct shape *s)
{
    enum { MOST = 256 };
    int32_t table[MOST];
    const int each = (s->start + 5 * s->B + s->T) / PAGE + 1, pages = each * s->B;
    const enum dtype act = (enum dtype)s->act;
    for (int i = 0; i < pages; i++) table[i] = pages - 1 - i;
    struct tensor *k = IN(t, .name = "keys", .dtype = act, DIM(pages, PAGE, s->Hk, s->D),
                          .fill = FILL_STEADY, .added = true);
    t->pages = (struct kv_pages){.pages = pages, .Hkv = s->Hk, .D = s->D,
                                 .Dv = (int32_t)value_width(s), .dtype = k->dtype, .k = k->data,
                                 .row_pages = each};
    if (s->option != LATENT)
        t->pages.v = IN(t, .name = "values", .dtype = act, DIM(pages, PAGE, s->Hk, value_width(s)),
                        .added = true)->data;
    t->pages.table = trial_table(t, "table", table, pages);
    return &t->pages;
}

static void build(struct trial *t, const struct shape *s)
{
    const enum dtype act = (enum dtype)s->act;
    const int64_t T = s->T, Hkv = s->Hk, Hq = (int64_t)s->Hk * s->R, D = s->D;
    struct attn_args *a = &t->args.attn;
    a->scale = 1 / sqrt((double)D);
    /* Scores keep their size in every regime: what a rounded score is off by, its exp is off by. */
    a->q = IN(t, .name = "q", .dtype = act, .per = PER_ROW, DIM(T, Hq, D), .window = true,
              .fill = FILL_STEADY);
    a->k = IN(t, .name = "k", .dtype = act, .per = PER_ROW, DIM(T, Hkv, D), .window = true,
              .fill = FILL_STEADY);
    if (s->slots && s->option == LATENT) { /* what the pages hold is what k brings */
        t->front = *a->k;
        t->front.dim[2] = value_width(s);
        a->v = &t->front;
    } else {
        a->v = IN(t, .name = "v", .dtype = act, .per = PER_ROW, DIM(T, Hkv, value_width(s)),
                  .window = true);
    }
    a->o = OUT(t, .name = "o", .dtype = act, .per = PER_ROW, DIM(T, Hq, value_width(s)),
               .made = MADE_BF16);
    if (s->slots) a->pages = lay_pages(t, s);
    a->rows = trial_rows(t, s->start);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    const double heads = s->Hk * (2.0 + 2.0 * s->R);
    const double act = (double)dtype_size((enum dtype)s->act);
    *bytes = (s->T * heads + 2.0 * s->Hk * s->start) * s->D * act;
    *flops = 2.0 * s->T * (2.0 * s->start + s->T + 1.0) * s->Hk * s->R * s->D;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(D, EDGE_WIDTHS), AXIS(Hk, 1, 2, 3, 4), AXIS(R, 1, 2, 3, 4),
    AXIS(B, 1, 2, 3, 5), AXIS(absent, 0, 1), AXIS(window, 0, 1),
    AXIS(act, DTYPE_F32, DTYPE_BF16, DTYPE_F16),
    AXIS(regime, 0, 1, 2, 3, 4), AXIS(option, 0, 0, NARROW_VALUES)};
static const struct axis narrow[] = {AXIS(T, 1, 4, 9), AXIS(D, 1, 5), AXIS(Hk, 1, 2),
                                     AXIS(R, 1, 3), AXIS(B, 1, 3), AXIS(absent, 0, 1),
                                     AXIS(option, 0, NARROW_VALUES)};
static const struct shape calls[] = {
    {.T = 1, .Hk = 2, .R = 2, .D = 64, .slots = 1, .start = 130},
    {.B = 4, .T = 70, .Hk = 1, .R = 3, .D = 33, .slots = 1, .start = 60, .absent = 1},
    {.B = 2, .T = 70, .Hk = 2, .R = 2, .D = 24, .slots = 1, .start = 60, .option = NARROW_VALUES},
    {.B = 4, .T = 70, .Hk = 1, .R = 5, .D = 40, .slots = 1, .start = 60, .option = LATENT},
    {.B = 2, .T = 3, .Hk = 1, .R = 4, .D = 576, .slots = 1, .start = 66, .option = LATENT},
    {.T = 70, .Hk = 2, .R = 4, .D = 64, .slots = 1, .start = 60, .act = DTYPE_BF16},
    {.B = 3, .T = 66, .Hk = 1, .R = 3, .D = 256, .slots = 1, .start = 66, .act = DTYPE_BF16},
    {.B = 5, .T = 260, .Hk = 2, .R = 3, .D = 128, .slots = 1, .start = 50, .act = DTYPE_BF16,
     .absent = 1, .window = 1},
    {.T = 290, .Hk = 1, .R = 2, .D = 64, .slots = 1, .start = 3, .act = DTYPE_BF16},
    {.B = 2, .T = 5, .Hk = 2, .R = 3, .D = 40, .slots = 1, .start = 1100, .act = DTYPE_BF16},
    {.B = 2, .T = 5, .Hk = 2, .R = 3, .D = 40, .slots = 1, .start = 1100},
    {.T = 1, .Hk = 1, .R = 32, .D = 576, .slots = 1, .start = 600, .act = DTYPE_BF16,
     .option = LATENT},
    {.T = 3, .Hk = 1, .R = 140, .D = 16, .slots = 1, .start = 70, .act = DTYPE_BF16},
    {.B = 2, .T = 80, .Hk = 2, .R = 4, .D = 128, .act = DTYPE_BF16, .window = 1},
};
static const struct shape lengthy[] = {
    {.B = 2, .T = 260, .Hk = 1, .R = 2, .D = 40},
    {.T = 200, .Hk = 2, .R = 1, .D = 33, .act = DTYPE_BF16, .window = 1, .option = NARROW_VALUES}};
static const struct shape bench[] = {
    {.T = 128, .Hk = 2, .R = 4, .D = 256},
    {.T = 1, .Hk = 2, .R = 4, .D = 256, .slots = 1, .start = 2048, .act = DTYPE_BF16}};

static const struct proof proof = {
    .op = OP_ATTN, .build = build, .cost = cost,
    .forward = {LINES(calls), AXES(axes), .cases = 80},
    .backward = {LINES(lengthy), AXES(axes), .cases = 30},
    .differences = {AXES(narrow), .cases = 8},
    .bench = {LINES(bench)},
};
SUITE(attn, .proof = &proof);
