/* Laws of the backward of op_delta that compare bits, with every instruction set: runs, threads, a
 * sequence alone, segments; and what it costs in memory. */
#include "ops/delta_problem.h"

static void runs_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {70, 17};
    for (int n = 0; n < 2 * w->count; n++) {
        const struct shape s = {.B = 2, .Hk = 2, .R = 2, .Dk = 48, .Dv = 32, .option = n % 2};
        struct problem p;
        if (problem_open(&p, &s, length, v)) same_in_runs(&p, &w->of[n / 2], v);
        problem_close(&p);
    }
}
EVERY_ISA(runs)

/* Each sequence of a batch as it is alone; and a NaN in one leaves the others alone. */
static void alone_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {70, 1, 130, 16};
    for (int n = 0; n < 2 * w->count; n++) {
        struct way *way = &w->of[n / 2];
        const struct shape s = {.B = 4, .Hk = 2, .R = 2, .Dk = 32, .Dv = 48, .option = n % 2};
        struct problem p, part;
        struct answer all = {0}, own = {0}, spoilt = {0};
        if (problem_open(&p, &s, length, v) && solve(&p, &way->three, &all, v)) {
            for (int i = 0; i < TENSORS; i++) /* somewhere in sequence 2 */
                p.value[i][elements(&p, i) * 5 / 8] = NAN;
            solve(&p, &way->three, &spoilt, v);
            for (int b = 0; b < s.B && spoilt.grad[0]; b++) {
                if (b == 2 || !part_open(&part, &p, b, 0, length[b], v)) continue;
                if (solve(&part, &way->one, &own, v))
                    for (int i = 0; i < INPUTS; i++) {
                        EXPECT(v, same_bits(&part, i, own.grad[i], share_of(&p, &all, b, 0, i)),
                               "%s (%s) of sequence %d differs in a batch", names[i], way->name, b);
                        EXPECT(v, same_bits(&part, i, own.grad[i], share_of(&p, &spoilt, b, 0, i)),
                               "%s (%s) of sequence %d meets a NaN of another", names[i], way->name,
                               b);
                    }
                answer_close(&own);
                problem_close(&part);
            }
        }
        answer_close(&all);
        answer_close(&spoilt);
        problem_close(&p);
    }
}
EVERY_ISA(alone)

/* Cuts a sequence in two, hands S over and G back. `still`: S is 0 at the cut whoever computes it,
 * so all bits must be those of one call. Otherwise S comes from the forward kernel, whose sums have
 * another order. */
static void cut_at(struct way *way, const struct problem *p, const struct answer *whole, int cut,
                   bool still, struct verdict *v)
{
    struct problem part[2] = {0};
    struct answer got[2] = {0};
    struct answer first = {0};
    char name[64];
    if (part_open(&part[0], p, 0, 0, cut, v) && part_open(&part[1], p, 0, cut, p->shape.T, v) &&
        solve_forward(&part[0], &way->one, &first, v) && first.S1) {
        const size_t bytes = (size_t)elements(p, S0) * sizeof *first.S1;
        memcpy(part[1].value[S0], first.S1, bytes);
        if (solve(&part[1], &way->one, &got[1], v)) {
            memcpy(part[0].value[S1], got[1].grad[S0], bytes);
            solve(&part[0], &way->one, &got[0], v);
        }
    }
    for (int i = 0; i < 2 * INPUTS; i++) {
        const int half = i / INPUTS, g = i % INPUTS;
        if (!got[half].grad[g] || (g == S0 && half == 1)) continue;
        const double *want = share_of(p, whole, 0, half ? cut : 0, g), *found = got[half].grad[g];
        const struct tensor t = tensor_like(&part[half], g, DTYPE_F32, NULL);
        snprintf(name, sizeof name, "%s (%s, cut at %d)", names[g], way->name, cut);
        verdict_compare(v, name, &t, found, want,
                        (struct limit){.l2 = INFINITY, .element = g == G ? 5e-6 : 1e-6});
        EXPECT(v, !still || same_bits(&part[half], g, found, want), "%s has other bits", name);
    }
    answer_close(&first);
    for (int i = 0; i < 2; i++) {
        answer_close(&got[i]);
        problem_close(&part[i]);
    }
}

static void segments_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {225}, cuts[] = {64, 128, 192, 16, 80, 50, 1, 224};
    for (int n = 0; n < 4 * w->count; n++) {
        struct way *way = &w->of[n / 4];
        const struct shape s = {.B = 1, .Hk = 1, .R = 2, .Dk = 64, .Dv = 32, .option = n % 2};
        const bool still = n / 2 % 2;
        for (int c = 0; c < (still ? 5 : 8); c++) {
            struct problem p;
            struct answer whole = {0};
            if (problem_open(&p, &s, length, v)) {
                for (int64_t e = 0; still && e < elements(&p, S0); e++) p.value[S0][e] = 0;
                for (int64_t e = 0; still && e < cuts[c] * 2 * s.Dv; e++) p.value[V][e] = 0;
                if (solve(&p, &way->one, &whole, v))
                    cut_at(way, &p, &whole, cuts[c], still, v);
            }
            answer_close(&whole);
            problem_close(&p);
        }
    }
}
EVERY_ISA(segments)

/* What the kernel takes for T tokens of one head of 32 x 32. */
static size_t scratch_for(struct way *way, int T, int option, struct verdict *v)
{
    const struct shape s = {.B = 1, .Hk = 1, .R = 1, .Dk = 32, .Dv = 32, .option = option};
    struct problem p;
    struct answer a = {0};
    size_t high = 0;
    way->one.scratch.high = 0;
    if (problem_open(&p, &s, &T, v) && solve(&p, &way->one, &a, v))
        high = way->one.scratch.high;
    answer_close(&a);
    problem_close(&p);
    return high;
}

/* A state at every 64th token, y and the squares of the 64 and a constant, whatever the length. */
static void memory_holds(struct ways *w, struct verdict *v)
{
    const size_t state = 32 * 32 * sizeof(float), y = 64 * 32 * sizeof(float), slack = 4096;
    const size_t squares = 4 * 2 * 16 * 16 * sizeof(float); /* M and its inverse of four blocks */
    for (int n = 0; n < 2 * w->count; n++) {
        struct way *way = &w->of[n / 2];
        const size_t two = scratch_for(way, 128, n % 2, v), many = scratch_for(way, 2048, n % 2, v);
        EXPECT(v, many <= two + 30 * (state + y + squares) + slack, "%s: %zu bytes for 128 tokens, %zu for 2048",
               way->name, two, many);
        EXPECT(v, two <= 6 * state + 200000, "%s: %zu bytes for 128 tokens", way->name, two);
    }
}
EVERY_ISA(memory)

static const struct law laws[] = {{.name = "runs", .run = runs, .applies = goes_back},
                                  {.name = "alone", .run = alone, .applies = goes_back},
                                  {.name = "segments", .run = segments, .applies = goes_back},
                                  {.name = "memory", .run = memory, .applies = goes_back}};
SUITE(delta_grad_bits, LAWS(laws));
