/* Proof of op_linear in fast mode with quantised weights and a few rows: int8 products. Packed with
 * parts of other types, which are as exact as ever; rows that are windows of wider ones.
 *
 * Against the reference, which multiplies x as it is with the weights' values: with s = max |x| / 127
 * of a block an element of x is off by up to s / 2, evenly spread, s / sqrt(12) in the mean; the
 * largest of 32 normal numbers is below 3.5 in all but one block of sixty: 3.5 / 127 / sqrt(12) = 0.8 %.
 * The rounding of weights to bf16, which the reference has and these products leave out, is off by
 * 2^-8 / sqrt(12) = 0.1 %. Errors of elements are independent, so a sum is off by as much of what it
 * is in the mean: of thirty outputs or more, 0.9 % and a third. */
#include "harness/suite.h"

enum { WIDE_OUTPUT = 4 }; /* the low bits are parts - 1 */

static void build(struct trial *t, const struct shape *s)
{
    static const char *const name[] = {"W0", "W1", "W2"};
    const enum dtype act = (enum dtype)s->act, quant = (enum dtype)s->weight;
    const enum dtype type[] = {quant, DTYPE_BF16, quant == DTYPE_Q8 ? DTYPE_Q4 : DTYPE_Q8};
    struct linear_args *a = &t->args.linear;
    struct linear *w = &t->linear;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->K), .window = true);
    *w = (struct linear){.K = s->K, .parts = 1 + (s->option & 3) % 3, .part = t->part};
    for (int i = 0; i < w->parts; i++) {
        const int64_t rows = s->N + i;
        t->part[i] = (struct linear_part){.from = i, .rows = rows, .row = w->N};
        t->part[i].w = IN(t, .name = name[i], .dtype = type[i], DIM(rows + 2 * i, s->K),
                          .fill = FILL_STEADY);
        w->N += rows;
    }
    a->w = w;
    a->fast = true;
    a->y = OUT(t, .name = "y", .dtype = s->option & WIDE_OUTPUT ? DTYPE_F32 : act, .per = PER_ROW,
               DIM(s->T, w->N), .l2 = 1.2e-2);
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = (double)s->N * s->K * (s->weight == DTYPE_Q8 ? 34.0 : 20.0) / 32 +
             (double)s->T * (s->K + s->N) * (double)dtype_size((enum dtype)s->act);
    *flops = 2.0 * s->T * s->K * s->N;
}

static const struct axis axes[] = {
    AXIS(T, 1, 2, 3, 7, 15), AXIS(K, 32, 33, 64, 95, 96, 127, 160, 512, 545, 1100),
    AXIS(N, 32, 33, 34, 35, 64, 65, 130), AXIS(act, DTYPE_F32, DTYPE_BF16),
    AXIS(weight, DTYPE_Q8, DTYPE_Q4), AXIS(window, 0, 1), AXIS(regime, 0, 0, 1, 2, 3, 4),
    AXIS(option, 0, 1, 2, 4, 6)};
static const struct shape lines[] = {{.T = 3, .K = 1024, .N = 70, .weight = DTYPE_Q8},
                                     {.T = 1, .K = 3584, .N = 33, .weight = DTYPE_Q4},
                                     /* chunks of four streams of unequal length */
                                     {.T = 15, .K = 64, .N = 254, .weight = DTYPE_Q4},
                                     {.T = 1, .K = 64, .N = 509, .weight = DTYPE_Q8},
                                     {.T = 2, .K = 64, .N = 321, .weight = DTYPE_Q8},
                                     {.T = 1, .K = 64, .N = 190, .weight = DTYPE_Q4}};
static const struct shape bench[] = {{.T = 1, .K = 1024, .N = 65536, .weight = DTYPE_Q8},
                                     {.T = 1, .K = 1024, .N = 65536, .weight = DTYPE_Q4},
                                     {.T = 8, .K = 1024, .N = 65536, .weight = DTYPE_Q8}};

static const struct proof proof = {
    .op = OP_LINEAR, .build = build, .cost = cost,
    .forward = {LINES(lines), AXES(axes), .cases = 143},
    .bench = {LINES(bench)},
};
SUITE(linear_fast, .proof = &proof);
