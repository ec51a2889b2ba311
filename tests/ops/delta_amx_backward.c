/* Laws of the fast backward of op_delta: chunks of 64 on AMX tiles, bf16 operands. Against the
 * reference in double, and bits. Limits: docs/kernels/delta_amx_backward.md. */
#include "ops/delta_tiles.h"
/* Its tensors have one-letter names, which parameters above have too. */
#include "ops/delta_problem.h"

/* ---- how it is run --------------------------------------------------------------------------- */

static void on_tiles(struct lab *lab, struct verdict *v, const char *law, ways_law *holds)
{
    struct ways w = {.ref = &lab->ref, .count = 1, .of = {{.name = "tiles"}}};
    struct way *way = &w.of[0];
    struct gdn_error err = {0};
    const bool open = station_open(&way->one, "cpu", 1, ~0u, SCRATCH_BYTES, &err) &&
                      station_open(&way->three, "cpu", 3, ~0u, SCRATCH_BYTES, &err);
    if (EXPECT(v, open, "%s", err.text) &&
        !no_tiles(way->one.device->backward[OP_DELTA], cpu_delta_backward_amx, v, law))
        holds(&w, v);
    station_close(&way->one);
    station_close(&way->three);
}

#define ON_TILES(holds)                                                              \
    static void holds(struct lab *lab, struct verdict *v, const struct law *law)     \
    {                                                                                \
        on_tiles(lab, v, law->name, holds##_holds);                                  \
    }

/* ---- values ---------------------------------------------------------------------------------- */

/* The relative L2 error of each gradient; one value may be off by eight times that. */
#define LIMIT 1e-2

static void prove(const struct problem *p, const char *what, double limit, struct ways *w,
                  struct verdict *v)
{
    struct answer want = {0}, got = {0};
    if (solve(p, w->ref, &want, v))
        for (int n = 0; n < w->count; n++) {
            if (!solve(p, &w->of[n].one, &got, v)) continue;
            for (int i = 0; i < INPUTS; i++) {
                char name[64];
                const struct tensor t = tensor_like(p, i, DTYPE_F32, NULL);
                snprintf(name, sizeof name, "%s (%s, %s)", names[i], w->of[n].name, what);
                verdict_compare(v, name, &t, got.grad[i], want.grad[i],
                                (struct limit){.l2 = limit, .element = 8 * limit});
            }
            answer_close(&got);
        }
    answer_close(&want);
}

static void lengths_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {64, 65, 70, 96, 127, 128, 130, 191, 193, 320};
    static const int widths[] = {32, 64, 128, 96, 160};
    for (int i = 0; i < 20; i++) {
        const int T = length[i / 2], n[4] = {T, 64 + i, T, 100};
        const struct shape s = {.B = 1 + i % 4,
                                .Hk = 1 + i / 2 % 2,
                                .R = 1 + i / 4 % 3,
                                .Dk = widths[i % 5],
                                .Dv = widths[i * 3 % 5],
                                .act = i % 3 == 1 ? DTYPE_BF16 : DTYPE_F32};
        struct problem p;
        if (problem_open(&p, &s, n, v)) {
            p.fast = true;
            prove(&p, "lengths", LIMIT, w, v);
        }
        problem_close(&p);
    }
}
ON_TILES(lengths)

/* Heads of 128, for which sizes are constants, with the values of one head and the next. */
static void usual_holds(struct ways *w, struct verdict *v)
{
    for (int i = 0; i < 4; i++) {
        const struct shape s = {.B = 1,
                                .Hk = 1 + i % 2,
                                .R = 1 + i / 2,
                                .Dk = 128,
                                .Dv = 128,
                                .act = i % 2 ? DTYPE_BF16 : DTYPE_F32};
        struct problem p;
        if (problem_open(&p, &s, (const int[]){270 - 40 * i}, v)) {
            p.fast = true;
            prove(&p, "usual", LIMIT, w, v);
        }
        problem_close(&p);
    }
}
ON_TILES(usual)

/* Long, short, empty and absent sequences in one call; without a gradient of S1, then of o. */
static void ragged_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {65, 0, 1, 130, 20, 64, 0, 81};
    for (int less = O - 1; less < TENSORS; less++) {
        const struct shape s = {.B = 8, .Hk = 2, .R = 2, .Dk = 32, .Dv = 64, .absent = 1};
        struct problem p;
        if (problem_open(&p, &s, length, v)) {
            p.fast = true;
            p.slot[3] = p.slot[6] = -1;
            if (less >= O) mem_give(p.value[less]), p.value[less] = NULL;
            prove(&p, "ragged", LIMIT, w, v);
        }
        problem_close(&p);
    }
}
ON_TILES(ragged)

/* ---- hostile numbers ------------------------------------------------------------------------- */

static void set_decay(struct problem *p, double low, double high)
{
    struct rng rng = {.seed = 5};
    for (int64_t e = 0; e < elements(p, G); e++) p->value[G][e] = -rng_between(&rng, low, high);
}

/* Every token has the first one's key, and beta is in (low, high). */
static void repeat_key(struct problem *p, double low, double high)
{
    struct rng rng = {.seed = 6};
    const int64_t row = (int64_t)p->shape.Hk * p->shape.Dk;
    for (int64_t t = 1; t < p->shape.T; t++)
        memcpy(p->value[K] + t * row, p->value[K], (size_t)row * sizeof(double));
    for (int64_t e = 0; e < elements(p, BETA); e++)
        p->value[BETA][e] = rng_between(&rng, low, high);
    set_decay(p, 0.9e-3, 1.1e-3);
}

static void scale(struct problem *p, double by)
{
    static const int scaled[] = {V, S0, O, S1};
    for (int i = 0; i < 4; i++)
        for (int64_t e = 0; e < elements(p, scaled[i]); e++) p->value[scaled[i]][e] *= by;
}

static void repeated(struct problem *p) { repeat_key(p, 0.83, 1); }
static void reflected(struct problem *p) { repeat_key(p, 1.98, 1.99999); }
static void no_decay(struct problem *p) { set_decay(p, 0, 0); }
static void any_decay(struct problem *p) { set_decay(p, 0, 30); }
static void underflow(struct problem *p) { set_decay(p, 60, 200); }
static void huge(struct problem *p) { scale(p, 1e12); }
static void tiny(struct problem *p) { scale(p, 1e-12); }
static void denormal(struct problem *p) { scale(p, 1e-40); }

static void forgetful(struct problem *p)
{
    const int64_t gates = elements(p, G) / p->shape.T;
    set_decay(p, 0, 1e-2);
    for (int64_t t = 0; t < p->shape.T; t += 5)
        for (int64_t i = 0; i < gates; i++) p->value[G][t * gates + i] -= 400;
}

static void zero_rows(struct problem *p)
{
    for (int i = 0; i < TENSORS; i++)
        for (int64_t e = 0; i != S0 && i != S1 && i != G && e < elements(p, i); e++)
            if (e / (elements(p, i) / p->shape.T) % (3 + i) == 1) p->value[i][e] = 0;
}

/* Limits beyond the benign one are derived in the document: what a solve of 64 tokens that share a
 * key and forget nothing does to roundings, and a norm that rests on a handful of entries. Numbers
 * that tiles take for 0 have only to leave finite gradients. */
static const struct {
    const char *name;
    void (*make)(struct problem *p);
    double limit;
} cases[] = {{"repeated keys", repeated, 4e-2},
             {"beta 2", reflected, 8e-2},
             {"no decay", no_decay, LIMIT},
             {"any decay", any_decay, LIMIT},
             {"underflow", underflow, 2e-2},
             {"forgetful", forgetful, LIMIT},
             {"zero rows", zero_rows, LIMIT},
             {"huge", huge, LIMIT},
             {"tiny", tiny, LIMIT},
             {"denormal", denormal, INFINITY}};

static void hostile_holds(struct ways *w, struct verdict *v)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct shape s = {.B = 2, .Hk = 1, .R = 2, .Dk = 64, .Dv = 32};
        struct problem p;
        if (problem_open(&p, &s, (const int[]){150, 64}, v)) {
            p.fast = true;
            cases[i].make(&p);
            round_values(&p);
            prove(&p, cases[i].name, cases[i].limit, w, v);
        }
        problem_close(&p);
    }
}
ON_TILES(hostile)

/* A gate that forgets everything has a gradient of nothing, not the rest of a difference. */
static void nothing_left_holds(struct ways *w, struct verdict *v)
{
    const struct shape s = {.B = 1, .Hk = 1, .R = 1, .Dk = 64, .Dv = 64};
    for (int n = 0; n < w->count; n++) {
        struct problem p;
        struct answer got = {0};
        if (problem_open(&p, &s, (const int[]){190}, v)) {
            p.fast = true;
            forgetful(&p);
            solve(&p, &w->of[n].one, &got, v);
            for (int t = 0; got.grad[G] && t < s.T; t += 5)
                EXPECT(v, fabs(got.grad[G][t]) < 1e-30, "dg of token %d is %g", t, got.grad[G][t]);
        }
        answer_close(&got);
        problem_close(&p);
    }
}
ON_TILES(nothing_left)

/* ---- bits ------------------------------------------------------------------------------------ */

static void runs_holds(struct ways *w, struct verdict *v)
{
    const struct shape s = {.B = 2, .Hk = 2, .R = 2, .Dk = 32, .Dv = 32};
    for (int n = 0; n < w->count; n++) {
        struct problem p;
        const bool open = problem_open(&p, &s, (const int[]){70, 64}, v);
        p.fast = true;
        if (open) same_in_runs(&p, &w->of[n], v);
        problem_close(&p);
    }
}
ON_TILES(runs)

/* Each sequence of a batch as it is alone, the short ones with the exact kernel's bits; a NaN in
 * one leaves the others alone. */
static void alone_holds(struct ways *w, struct verdict *v)
{
    static const int length[] = {70, 33, 130, 64};
    const struct shape s = {.B = 4, .Hk = 2, .R = 2, .Dk = 32, .Dv = 64};
    for (int n = 0; n < w->count; n++) {
        struct way *way = &w->of[n];
        struct problem p, part;
        struct answer own = {0}, spoilt = {0};
        if (problem_open(&p, &s, length, v)) {
            p.fast = true;
            for (int i = 0; i < TENSORS; i++) /* somewhere in sequence 2 */
                p.value[i][elements(&p, i) * 5 / 8] = NAN;
            solve(&p, &way->three, &spoilt, v);
            for (int b = 0; b < s.B && spoilt.grad[0]; b++) {
                if (b == 2 || !part_open(&part, &p, b, 0, length[b], v)) continue;
                part.fast = length[b] >= 64;
                if (solve(&part, &way->one, &own, v))
                    for (int i = 0; i < INPUTS; i++)
                        EXPECT(v, same_bits(&part, i, own.grad[i], share_of(&p, &spoilt, b, 0, i)),
                               "%s (%s) of sequence %d differs in a batch", names[i], way->name, b);
                answer_close(&own);
                problem_close(&part);
            }
        }
        answer_close(&spoilt);
        problem_close(&p);
    }
}
ON_TILES(alone)

/* Cut at a chunk's edge where S is 0, G handed back: the bits of one call. */
static void segments_holds(struct ways *w, struct verdict *v)
{
    const struct shape s = {.B = 1, .Hk = 1, .R = 2, .Dk = 64, .Dv = 32};
    const int cut = 128, T = 230;
    for (int n = 0; n < w->count; n++) {
        struct station *at = &w->of[n].one;
        struct problem p, part[2] = {0};
        struct answer whole = {0}, got[2] = {0};
        if (problem_open(&p, &s, &T, v)) {
            p.fast = true;
            memset(p.value[S0], 0, (size_t)elements(&p, S0) * sizeof(double));
            memset(p.value[V], 0, (size_t)(cut * 2 * s.Dv) * sizeof(double));
            if (solve(&p, at, &whole, v) && part_open(&part[0], &p, 0, 0, cut, v) &&
                part_open(&part[1], &p, 0, cut, T, v) && solve(&part[1], at, &got[1], v)) {
                memcpy(part[0].value[S1], got[1].grad[S0],
                       (size_t)elements(&p, S0) * sizeof(double));
                solve(&part[0], at, &got[0], v);
            }
        }
        for (int i = 0; i < 2 * INPUTS; i++) {
            const int half = i / INPUTS, g = i % INPUTS;
            if (got[half].grad[g] && (g != S0 || half == 0))
                EXPECT(v,
                       same_bits(&part[half], g, got[half].grad[g],
                                 share_of(&p, &whole, 0, half ? cut : 0, g)),
                       "%s of segment %d has other bits", names[g], half);
        }
        answer_close(&whole);
        for (int i = 0; i < 2; i++) {
            answer_close(&got[i]);
            problem_close(&part[i]);
        }
        problem_close(&p);
    }
}
ON_TILES(segments)

/* Exact unless asked, and where the form does not reach: a gate a channel, other widths, f16. */
static void exact_holds(struct ways *w, struct verdict *v)
{
    static const struct shape shapes[] = {
        {.B = 1, .Hk = 1, .R = 2, .Dk = 32, .Dv = 32},
        {.B = 1, .Hk = 1, .R = 2, .Dk = 32, .Dv = 32, .option = CHANNEL},
        {.B = 1, .Hk = 1, .R = 2, .Dk = 48, .Dv = 32},
        {.B = 1, .Hk = 1, .R = 2, .Dk = 32, .Dv = 32, .act = DTYPE_F16}};
    for (int n = 0; n < 4 * w->count; n++) {
        struct problem p;
        struct answer exact = {0}, got = {0};
        if (problem_open(&p, &shapes[n % 4], (const int[]){100}, v) &&
            solve(&p, &w->of[n / 4].one, &exact, v)) {
            p.fast = n % 4 > 0;
            if (solve(&p, &w->of[n / 4].three, &got, v))
                for (int i = 0; i < INPUTS; i++)
                    EXPECT(v, same_bits(&p, i, got.grad[i], exact.grad[i]), "%s (%d) is not exact",
                           names[i], n % 4);
        }
        answer_close(&exact);
        answer_close(&got);
        problem_close(&p);
    }
}
ON_TILES(exact)

static const struct law laws[] = {{.name = "lengths", .run = lengths},
                                  {.name = "usual", .run = usual},
                                  {.name = "ragged", .run = ragged},
                                  {.name = "hostile", .run = hostile},
                                  {.name = "nothing left", .run = nothing_left},
                                  {.name = "runs", .run = runs},
                                  {.name = "alone", .run = alone},
                                  {.name = "segments", .run = segments},
                                  {.name = "exact", .run = exact}};
SUITE(delta_amx_backward, LAWS(laws));
