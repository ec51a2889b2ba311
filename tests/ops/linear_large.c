/* Proof of op_linear in fast mode with many rows of bf16, which a device may give to a library: parts
 * large and small, of several alignments, f32 and bf16 outputs, numbers of rows around its classes. */
#include "harness/suite.h"

enum { WIDE_OUTPUT = 4 }; /* the low bits are parts - 1 */

static void build(struct trial *t, const struct shape *s)
{
    static const char *const name[] = {"W0", "W1", "W2"};
    const int64_t rows_of[] = {s->N, 24, 256};
    struct linear_args *a = &t->args.linear;
    struct linear *w = &t->linear;
    a->x = IN(t, .name = "x", .dtype = DTYPE_BF16, .per = PER_ROW, DIM(s->T, s->K), .window = true);
    *w = (struct linear){.K = s->K, .parts = 1 + (s->option & 3) % 3, .part = t->part};
    for (int i = 0; i < w->parts; i++) {
        t->part[i] = (struct linear_part){.from = i, .rows = rows_of[i], .row = w->N};
        t->part[i].w = IN(t, .name = name[i], .dtype = DTYPE_BF16, DIM(rows_of[i] + 2 * i, s->K),
                          .fill = FILL_STEADY);
        w->N += rows_of[i];
    }
    a->w = w;
    a->fast = true;
    a->y = OUT(t, .name = "y", .dtype = s->option & WIDE_OUTPUT ? DTYPE_F32 : DTYPE_BF16,
               .per = PER_ROW, DIM(s->T, w->N));
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = 2.0 * s->N * s->K + 2.0 * s->T * (s->K + s->N);
    *flops = 2.0 * s->T * s->K * s->N;
}

static const struct shape lines[] = {{.T = 256, .K = 64, .N = 256},
                                     {.T = 513, .K = 72, .N = 256, .option = 1},
                                     {.T = 600, .K = 128, .N = 300, .option = 2},
                                     {.T = 255, .K = 64, .N = 257, .option = 6},
                                     {.T = 1024, .K = 40, .N = 256, .option = 4},
                                     {.T = 1025, .K = 8, .N = 264, .option = 5}};
static const struct shape bench[] = {{.T = 2048, .K = 1024, .N = 7168}};

static const struct proof proof = {
    .op = OP_LINEAR, .build = build, .cost = cost, .forward = {LINES(lines)}, .bench = {LINES(bench)},
    .loose = true,
};
SUITE(linear_large, .proof = &proof);
