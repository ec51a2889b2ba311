/* Proof of op_linear: y = x W^T, W in up to four parts one below another, each of its own type and
 * each some rows of its tensor; or woven from the rows of one tensor. */
#include "harness/suite.h"

enum { WOVEN = 4, WIDE_OUTPUT = 8 }; /* y is f32 whatever x is; the low bits are parts - 1 */

/* As Qwen3-Next packs its projections: N groups of `parts` rows each; part i is row i of every
 * group, so that one tensor of three axes makes N times as many parts. */
static void weave(struct trial *t, const struct shape *s)
{
    struct linear *w = &t->linear;
    const int64_t groups = s->N < TRIAL_PARTS / 4 ? s->N : TRIAL_PARTS / 4, each = w->parts;
    struct tensor *all = IN(t, .name = "W0", .dtype = (enum dtype)s->weight,
                            DIM(groups, each, s->K), .fill = FILL_STEADY);
    w->parts = 0;
    for (int64_t i = 0; i < each; i++)
        for (int64_t g = 0; g < groups; g++)
            t->part[w->parts++] = (struct linear_part){all, g * each + i, 1, w->N++};
}

static void build(struct trial *t, const struct shape *s)
{
    static const char *const name[] = {"W0", "W1", "W2", "W3"};
    const enum dtype act = (enum dtype)s->act;
    struct linear_args *a = &t->args.linear;
    struct linear *w = &t->linear;
    a->x = IN(t, .name = "x", .dtype = act, .per = PER_ROW, DIM(s->T, s->K), .window = true);
    *w = (struct linear){.K = s->K, .parts = 1 + (s->option & 3), .part = t->part};
    if (s->option & WOVEN) weave(t, s);
    for (int i = 0; !(s->option & WOVEN) && i < w->parts; i++) {
        const int64_t rows = s->N + i;
        t->part[i] = (struct linear_part){.from = i, .rows = rows, .row = w->N};
        t->part[i].w = IN(t, .name = name[i], .dtype = (enum dtype)(i == 3 ? DTYPE_F32 : s->weight),
                          DIM(rows + 2 * i, s->K), .fill = FILL_STEADY);
        w->N += rows;
    }
    a->w = w;
    a->y = OUT(t, .name = "y", .dtype = s->option & WIDE_OUTPUT ? DTYPE_F32 : act, .per = PER_ROW,
               DIM(s->T, w->N));
}

static void cost(const struct shape *s, double *bytes, double *flops)
{
    *bytes = (double)s->N * s->K * (double)dtype_size((enum dtype)s->weight) +
             (double)s->T * (s->K + s->N) * (double)dtype_size((enum dtype)s->act);
    *flops = 2.0 * s->T * s->K * s->N;
}

static const struct axis axes[] = {
    AXIS(T, EDGE_ROWS), AXIS(K, EDGE_WIDTHS), AXIS(N, 1, 3, 7, 8, 31, 33, 64, 100),
    AXIS(act, DTYPE_F32, DTYPE_BF16),
    AXIS(weight, DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_Q8, DTYPE_Q4),
    AXIS(window, 0, 1), AXIS(regime, 0, 0, 1, 2, 3, 4), AXIS(option, 0, 1, 2, 3, 7, 8, 11)};
static const struct axis narrow[] = {AXIS(T, 1, 2, 5), AXIS(K, 1, 3, 7), AXIS(N, 1, 4),
                                     AXIS(option, 0, 1, 3, 5)};
static const struct shape lines[] = {{.T = 3, .K = 1024, .N = 70, .weight = DTYPE_BF16},
                                     {.T = 1, .K = 3584, .N = 33, .weight = DTYPE_BF16},
                                     {.T = 130, .K = 520, .N = 70, .act = DTYPE_BF16,
                                      .weight = DTYPE_BF16, .option = 2},
                                     {.T = 75, .K = 781, .N = 133, .weight = DTYPE_BF16},
                                     {.T = 40, .K = 800, .N = 50, .act = DTYPE_BF16,
                                      .weight = DTYPE_F16, .option = 3},
                                     {.T = 515, .K = 300, .N = 33, .act = DTYPE_BF16,
                                      .weight = DTYPE_BF16},
                                     {.T = 2, .K = 1024, .N = 70, .act = DTYPE_BF16,
                                      .weight = DTYPE_Q8, .option = 1},
                                     {.T = 16, .K = 2304, .N = 40, .act = DTYPE_BF16,
                                      .weight = DTYPE_Q8},
                                     {.T = 34, .K = 512, .N = 300, .act = DTYPE_BF16,
                                      .weight = DTYPE_Q4},
                                     {.T = 8, .K = 3584, .N = 33, .act = DTYPE_BF16,
                                      .weight = DTYPE_Q4, .option = 8},
                                     {.T = 130, .K = 1280, .N = 50, .act = DTYPE_BF16,
                                      .weight = DTYPE_Q4, .option = 2}};
static const struct shape bench[] = {{.T = 1, .K = 1024, .N = 3584, .weight = DTYPE_BF16},
                                     {.T = 16, .K = 1024, .N = 1024, .weight = DTYPE_BF16},
                                     {.T = 128, .K = 1024, .N = 1024, .weight = DTYPE_BF16}};

static const struct proof proof = {
    .op = OP_LINEAR, .build = build, .cost = cost,
    .forward = {LINES(lines), AXES(axes), .cases = 143},
    .backward = {AXES(axes), .cases = 40},
    .differences = {AXES(narrow), .cases = 9},
    .bench = {LINES(bench)},
};
SUITE(linear, .proof = &proof);
