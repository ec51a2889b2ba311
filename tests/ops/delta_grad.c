/* Laws of the backward of op_delta: its values against the reference in double, with every
 * instruction set: every length around a block and a chunk, ragged batches, the published shapes, and
 * a backward that was written another way. Hostile numbers: delta_hostile.c; memory: delta.c. */
#include "ops/delta_problem.h"

/* Of the largest entry of a gradient; g has five times that. */
#define LIMIT 2e-6

static void prove(const struct problem *p, const char *what, double share, struct ways *w,
                  struct verdict *v)
{
    struct answer want = {0}, got = {0};
    if (solve(p, w->ref, &want, v))
        for (int i = 0; i < w->count; i++) {
            char name[48];
            snprintf(name, sizeof name, "%s, %s", w->of[i].name, what);
            if (solve(p, &w->of[i].one, &got, v)) compare(p, name, &got, &want, share, v);
            answer_close(&got);
        }
    answer_close(&want);
}

/* With one or two tokens there are four sequences: a gradient of beta that has a single entry may
 * happen to be a small rest of large terms. */
static void lengths_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {1, 2, 15, 16, 17, 63, 64, 65, 70, 96, 130};
    static const int widths[] = {32, 48, 33, 64, 16, 7, 96};
    static const int types[] = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (int i = 0; i < 22; i++) {
        const int T = length[i / 2], n[4] = {T, T, T, T};
        const struct shape s = {.B = T < 3 ? 4 : 1 + i % 4, .Hk = 1 + i / 2 % 2,
                                .R = 1 + i / 4 % 3, .Dk = widths[i % 7], .Dv = widths[i * 3 % 7],
                                .act = types[i % 5], .option = i % 2};
        struct problem p;
        if (problem_open(&p, &s, n, v)) prove(&p, "lengths", LIMIT, w, v);
        problem_close(&p);
    }
}
EVERY_ISA(lengths)

/* Sequences of many lengths in one call, empty ones and absent ones among them: those hand dS1 to
 * dS0. Then without a gradient of S1, and without one of o. */
static void ragged_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {65, 0, 1, 130, 20, 16, 0, 81};
    for (int option = 0; option < 2; option++)
        for (int less = O - 1; less < TENSORS; less++) {
            const struct shape s = {.B = 8, .Hk = 2, .R = 2, .Dk = 32, .Dv = 48, .option = option,
                                    .absent = 1};
            struct problem p;
            if (problem_open(&p, &s, length, v)) {
                p.slot[4] = p.slot[6] = -1;
                if (less >= O) mem_give(p.value[less]), p.value[less] = NULL;
                prove(&p, "ragged", LIMIT, w, v);
            }
            problem_close(&p);
        }
}
EVERY_ISA(ragged)

/* ---- another backward ------------------------------------------------------------------------ */

/* One head: each step is a line of arithmetic with its adjoint, everything is kept, nothing is
 * derived. S is [Dk][Dv] here. */
struct naive {
    int n, Dk, Dv;
    double *S;             /* [n+1][Dk][Dv] */
    double *decayed;       /* [n][Dk][Dv] */
    double *read, *rest;   /* [n][Dv] decayed^T k, v - read */
    double *write;         /* [n][Dv] beta rest */
    double *dS, *ddecayed; /* [Dk][Dv] adjoints of the current step */
};

struct place_of {
    int64_t qk, v, g, beta; /* first element of token t */
};

static struct place_of token(const struct problem *p, int64_t t, int64_t h)
{
    const struct shape *s = &p->shape;
    const int64_t Hv = heads(p), gates = s->option & CHANNEL ? s->Dk : 1;
    return (struct place_of){(t * s->Hk + h / s->R) * s->Dk, (t * Hv + h) * s->Dv,
                             (t * Hv + h) * gates, t * Hv + h};
}

static double gate(const struct problem *p, struct place_of at, int d)
{
    return exp(p->value[G][at.g + (p->shape.option & CHANNEL ? d : 0)]);
}

static void naive_forward(const struct problem *p, const struct naive *x, int64_t first, int64_t h)
{
    const int64_t state = (int64_t)x->Dk * x->Dv;
    for (int t = 0; t < x->n; t++) {
        const struct place_of at = token(p, first + t, h);
        const double *before = x->S + t * state, *k = p->value[K] + at.qk;
        double *after = x->S + (t + 1) * state, *decayed = x->decayed + t * state;
        for (int64_t e = 0; e < state; e++)
            decayed[e] = gate(p, at, (int)(e / x->Dv)) * before[e];
        for (int j = 0; j < x->Dv; j++) {
            const int64_t i = (int64_t)t * x->Dv + j;
            x->read[i] = 0;
            for (int d = 0; d < x->Dk; d++) x->read[i] += k[d] * decayed[d * x->Dv + j];
            x->rest[i] = p->value[V][at.v + j] - x->read[i];
            x->write[i] = p->value[BETA][at.beta] * x->rest[i];
            for (int d = 0; d < x->Dk; d++)
                after[d * x->Dv + j] = decayed[d * x->Dv + j] + k[d] * x->write[i];
        }
    }
}

static void naive_backward(const struct problem *p, const struct naive *x, int64_t first, int64_t h,
                           const struct answer *a)
{
    const int64_t state = (int64_t)x->Dk * x->Dv;
    for (int t = x->n - 1; t >= 0; t--) {
        const struct place_of at = token(p, first + t, h);
        const double *k = p->value[K] + at.qk, *q = p->value[Q] + at.qk;
        const double *before = x->S + t * state, *after = before + state;
        double *dq = a->grad[Q] + at.qk, *dk = a->grad[K] + at.qk;
        for (int64_t e = 0; e < state; e++) { /* o = S^T q */
            const int64_t d = e / x->Dv, j = e % x->Dv;
            const double dout = p->value[O] ? p->value[O][at.v + j] : 0;
            dq[d] += after[e] * dout;
            x->dS[e] += q[d] * dout;
        }
        for (int j = 0; j < x->Dv; j++) {
            const int64_t i = (int64_t)t * x->Dv + j;
            double dwrite = 0;
            for (int d = 0; d < x->Dk; d++) { /* S = decayed + k write^T */
                dwrite += k[d] * x->dS[d * x->Dv + j];
                dk[d] += x->write[i] * x->dS[d * x->Dv + j];
            }
            a->grad[BETA][at.beta] += dwrite * x->rest[i]; /* write = beta rest */
            const double drest = dwrite * p->value[BETA][at.beta];
            a->grad[V][at.v + j] += drest; /* rest = v - read */
            for (int d = 0; d < x->Dk; d++) { /* read = decayed^T k */
                dk[d] -= drest * x->decayed[t * state + d * x->Dv + j];
                x->ddecayed[d * x->Dv + j] = x->dS[d * x->Dv + j] - drest * k[d];
            }
        }
        for (int64_t e = 0; e < state; e++) { /* decayed = e^g S */
            const int d = (int)(e / x->Dv);
            a->grad[G][at.g + (p->shape.option & CHANNEL ? d : 0)] +=
                x->ddecayed[e] * gate(p, at, d) * before[e];
            x->dS[e] = x->ddecayed[e] * gate(p, at, d);
        }
    }
}

static bool naive_solve(const struct problem *p, struct answer *a, struct verdict *v)
{
    const struct shape *s = &p->shape;
    const int64_t state = (int64_t)s->Dk * s->Dv, T = s->T;
    double *room = mem_take_array((size_t)((2 * T + 3) * state + 3 * T * s->Dv), sizeof *room);
    bool fine = room != NULL;
    for (int i = 0; i < INPUTS; i++) {
        a->grad[i] = mem_take_array((size_t)elements(p, i), sizeof(double));
        fine = fine && a->grad[i];
    }
    if (!EXPECT(v, fine, "no memory")) return false;
    struct naive x = {.Dk = s->Dk, .Dv = s->Dv, .S = room};
    x.decayed = x.S + (T + 1) * state, x.dS = x.decayed + T * state, x.ddecayed = x.dS + state;
    x.read = x.ddecayed + state, x.rest = x.read + T * s->Dv, x.write = x.rest + T * s->Dv;
    for (int64_t i = 0; i < s->B * heads(p); i++) {
        const int64_t b = i / heads(p), h = i % heads(p);
        x.n = p->start[b + 1] - p->start[b];
        for (int64_t e = 0; e < state; e++) { /* dense states are [Dv][Dk] */
            const int64_t dense = i * state + e % s->Dv * s->Dk + e / s->Dv;
            x.S[e] = p->value[S0][dense];
            x.dS[e] = p->value[S1] ? p->value[S1][dense] : 0;
        }
        naive_forward(p, &x, p->start[b], h);
        naive_backward(p, &x, p->start[b], h, a);
        for (int64_t e = 0; e < state; e++)
            a->grad[S0][i * state + e % s->Dv * s->Dk + e / s->Dv] = x.dS[e];
    }
    mem_give(room);
    return true;
}

static void another_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {70, 1, 16, 39};
    for (int option = 0; option < 2; option++) {
        const struct shape s = {.B = 4, .Hk = 2, .R = 3, .Dk = 20, .Dv = 24, .option = option};
        struct problem p;
        struct answer want = {0}, got = {0};
        if (problem_open(&p, &s, length, v) && naive_solve(&p, &want, v)) {
            if (solve(&p, w->ref, &got, v)) compare(&p, "ref", &got, &want, 1e-13, v);
            answer_close(&got);
            for (int i = 0; i < w->count; i++) {
                if (solve(&p, &w->of[i].one, &got, v))
                    compare(&p, w->of[i].name, &got, &want, LIMIT, v);
                answer_close(&got);
            }
        }
        answer_close(&want);
        problem_close(&p);
    }
}
EVERY_ISA(another)

/* The published shapes: do scaled by 1 / (T Dv), errors absolute, and judged by the other one. */
static void published_holds(struct ways *w, struct verdict *v)
{
    static const struct shape shapes[] = {
        {.B = 2, .T = 96, .Hk = 2, .R = 2, .Dk = 64, .Dv = 32},
        {.B = 3, .T = 70, .Hk = 2, .R = 2, .Dk = 32, .Dv = 16},
        {.B = 2, .T = 130, .Hk = 4, .R = 1, .Dk = 96, .Dv = 64, .act = DTYPE_BF16},
        {.B = 2, .T = 96, .Hk = 4, .R = 1, .Dk = 64, .Dv = 64, .option = CHANNEL},
        {.B = 2, .T = 130, .Hk = 4, .R = 1, .Dk = 128, .Dv = 128, .option = CHANNEL,
         .act = DTYPE_BF16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        const double limit = s->option & CHANNEL ? 2.4e-7 : 1e-7;
        struct problem p;
        struct answer want = {0}, got = {0};
        if (problem_open(&p, s, (const int[]){s->T, s->T, s->T}, v)) {
            for (int64_t e = 0; e < elements(&p, O); e++) p.value[O][e] /= (double)s->T * s->Dv;
            mem_give(p.value[S1]), p.value[S1] = NULL;
            round_values(&p);
            naive_solve(&p, &want, v);
            for (int k = 0; k < w->count && want.grad[0]; k++) {
                if (!solve(&p, &w->of[k].one, &got, v)) continue;
                for (int g = 0; g < INPUTS; g++)
                    for (int64_t e = 0; e < elements(&p, g); e++)
                        if (!EXPECT(v, fabs(got.grad[g][e] - want.grad[g][e]) <= limit,
                                    "%s (%s) is %.9g, expected %.9g", names[g], w->of[k].name,
                                    got.grad[g][e], want.grad[g][e]))
                            break;
                answer_close(&got);
            }
            answer_close(&want);
        }
        problem_close(&p);
    }
}
EVERY_ISA(published)

static const struct law laws[] = {{.name = "lengths", .run = lengths, .applies = goes_back},
                                  {.name = "ragged", .run = ragged, .applies = goes_back},
                                  {.name = "published shapes", .run = published, .applies = goes_back},
                                  {.name = "another backward", .run = another, .applies = goes_back}};
SUITE(delta_grad, LAWS(laws));
