/* Laws of the chunk form of op_delta (docs/kernels/delta_amx.md) against the reference in double:
 * calls that are fast, with runs of 64 rows and more. */
#include "harness/cache.h"
#include "kernels/cpu/delta.h"
#include "ops/delta_tiles.h"
/* Its tensors have one-letter names, which parameters above have too. */
#include "ops/delta_problem.h"

/* Operands are rounded to bf16: 2^-9 at most, 1.1e-3 on average, for each of about ten roundings
 * between an input and an output: sqrt(10) 1.1e-3 = 3.5e-3. */
#define LIMIT 6e-3

/* ---- whether there is anything to prove -------------------------------------------------------- */

static bool no_chunks(struct lab *lab, struct verdict *v, const char *law)
{
    return no_tiles(lab->under[0].device->forward[OP_DELTA], cpu_delta_forward_amx, v, law);
}

static void choice(struct lab *lab, struct verdict *v, const struct law *law)
{
    if (no_chunks(lab, v, law->name)) return;
    const struct rows rows = {0};
    struct tensor t = tensor_over(NULL, DTYPE_BF16, 3, (int64_t[]){0, 1, 32});
    struct tensor g = tensor_over(NULL, DTYPE_F32, 2, (int64_t[]){0, 1});
    struct delta_args a = {.q = &t, .k = &t, .v = &t, .o = &t, .g = &g, .beta = &g, .rows = &rows};
    EXPECT(v, delta_chunk_bytes(&a) == 0, "an exact call takes the chunk form");
    a.fast = true;
    EXPECT(v, delta_chunk_bytes(&a) > 0, "a fast call does not take the chunk form");
    t.dim[2] = 48;
    EXPECT(v, delta_chunk_bytes(&a) == 0, "heads of 48 take the chunk form");
}

/* ---- numbers ----------------------------------------------------------------------------------- */

static void benign(struct problem *p) { (void)p; }

static void no_decay(struct problem *p)
{
    memset(p->value[G], 0, (size_t)elements(p, G) * sizeof(double));
}

/* From hardly to entirely, a channel unlike the next; now and then a gate of -inf. */
static void any_decay(struct problem *p)
{
    struct rng rng = {.seed = 5};
    for (int64_t e = 0; e < elements(p, G); e++)
        p->value[G][e] = e % 37 == 5 ? -INFINITY : -exp(rng_between(&rng, -8, 5.3));
}

static void zero_rows(struct problem *p)
{
    for (int i = Q; i <= BETA; i++)
        for (int64_t e = 0; i != G && e < elements(p, i); e++)
            if (e / (elements(p, i) / p->shape.T) % (3 + i) == 1) p->value[i][e] = 0;
}

static void scale_values(struct problem *p, double by)
{
    for (int64_t e = 0; e < elements(p, V); e++) p->value[V][e] *= by;
    for (int64_t e = 0; e < elements(p, S0); e++) p->value[S0][e] *= by;
}
static void huge(struct problem *p) { scale_values(p, 1e15); }
static void tiny(struct problem *p) { scale_values(p, 1e-15); }
static void denormal(struct problem *p) { scale_values(p, 1e-42); }

/* One key over and over from a state of zero, with a decay of 1e-3, beta |k|^2 in (low, high).
 *
 * A token then takes back most of what the one before wrote. In the exact form it also takes back the
 * rounding; the chunk form rounds the 64 writes u of a chunk when all are known, and they no longer
 * cancel: sqrt(64) roundings of 1.1e-3 where the sum is as small as one u, 1e-2, from each of u, W and
 * A. With beta near 2 the entries of A do not shrink either (32 of them near 2, and W as large as the
 * state): nothing is left but finite numbers. */
static void repeat(struct problem *p, double low, double high)
{
    memset(p->value[S0], 0, (size_t)elements(p, S0) * sizeof(double));
    struct rng rng = {.seed = 6};
    const int64_t row = (int64_t)p->shape.Hk * p->shape.Dk;
    double *k = p->value[K];
    for (int64_t t = 1; t < p->shape.T; t++) memcpy(k + t * row, k, (size_t)row * sizeof *k);
    for (int64_t e = 0; e < elements(p, G); e++) p->value[G][e] = -1e-3;
    round_values(p);
    for (int64_t e = 0; e < elements(p, BETA); e++) {
        const double *at = k + e / p->shape.R * p->shape.Dk;
        double square = 0;
        for (int d = 0; d < p->shape.Dk; d++) square += at[d] * at[d];
        p->value[BETA][e] = rng_between(&rng, low, high) / square;
    }
}
/* Random keys, beta to 1.9. */
static void full_beta(struct problem *p)
{
    for (int64_t e = 0; e < elements(p, BETA); e++) p->value[BETA][e] *= 1.9;
}
static void repeated(struct problem *p) { repeat(p, 0.83, 1); }
static void reflected(struct problem *p) { repeat(p, 1.98, 2 - 2e-6); }

static const struct {
    const char *name;
    void (*make)(struct problem *p);
    double limit;
} kinds[] = {{"benign", benign, LIMIT},       {"no decay", no_decay, LIMIT},
             {"any decay", any_decay, LIMIT}, {"zero rows", zero_rows, LIMIT},
             {"huge", huge, LIMIT},           {"tiny", tiny, LIMIT},
             {"denormal", denormal, LIMIT},   {"repeated keys", repeated, 6e-2},
             {"beta to 1.9", full_beta, LIMIT}, {"beta 2", reflected, INFINITY}};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* ---- dense calls ------------------------------------------------------------------------------- */

static void expect_close(const struct problem *p, const char *what, const struct answer *got,
                         const struct answer *want, double limit, struct verdict *v)
{
    for (int i = O; i <= S1; i++) {
        char name[64];
        const struct tensor t = tensor_like(p, i, type_of(p, i), NULL);
        snprintf(name, sizeof name, "%s (%s)", i == O ? "o" : "S1", what);
        verdict_compare(v, name, &t, i == O ? got->o : got->S1, i == O ? want->o : want->S1,
                        limit_of(t.dtype, limit, 1));
    }
}

static void expect_equal(const struct problem *p, const char *what, const struct answer *got,
                         const struct answer *want, struct verdict *v)
{
    EXPECT(v, memcmp(got->o, want->o, (size_t)elements(p, O) * sizeof *got->o) == 0,
           "o has other bits %s", what);
    EXPECT(v, memcmp(got->S1, want->S1, (size_t)elements(p, S1) * sizeof *got->S1) == 0,
           "S1 has other bits %s", what);
}

static const int lengths[] = {130, 0, 64, 1, 341};
static const struct shape shapes[] = {
    {.B = 5, .Hk = 1, .R = 2, .Dk = 64, .Dv = 32},
    {.B = 5, .Hk = 2, .R = 1, .Dk = 32, .Dv = 96, .act = DTYPE_BF16},
    {.B = 1, .Hk = 1, .R = 1, .Dk = 128, .Dv = 128, .act = DTYPE_BF16},
    {.B = 3, .Hk = 1, .R = 3, .Dk = 96, .Dv = 64, .act = DTYPE_F16, .absent = 1},
    {.B = 5, .Hk = 3, .R = 2, .Dk = 32, .Dv = 32}, /* more heads than take turns */
};
enum { SHAPES_ = sizeof shapes / sizeof *shapes };

/* Shape n with one gate a head, then the same with one a channel. */
static bool fast_open(struct problem *p, int kind, int n, struct verdict *v)
{
    struct shape s = shapes[n / 2];
    if (n % 2) s.option = CHANNEL;
    if (!problem_open(p, &s, lengths, v)) return false;
    p->fast = true;
    for (int b = 0; b < s.B; b++) p->slot[b] = s.absent && b % 3 == 1 ? -1 : b;
    kinds[kind].make(p);
    round_values(p);
    return true;
}

static void dense(struct lab *lab, struct verdict *v, const struct law *law)
{
    if (no_chunks(lab, v, law->name)) return;
    for (int i = 0; i < KINDS * 2 * SHAPES_; i += HARNESS_SANITIZED ? 3 : 1) {
        struct problem p;
        struct answer want = {0}, got = {0}, again = {0};
        const int kind = i / (2 * SHAPES_);
        /* f16 ends at 65504 */
        if (!fast_open(&p, kind, i % (2 * SHAPES_), v)) continue;
        if (p.shape.act == DTYPE_F16 && kinds[kind].make == huge) scale_values(&p, 0);
        if (solve_forward(&p, &lab->ref, &want, v) && solve_forward(&p, &lab->under[0], &got, v))
            expect_close(&p, kinds[kind].name, &got, &want, kinds[kind].limit, v);
        if (got.o && solve_forward(&p, &lab->under[1 + i % 2], &again, v))
            expect_equal(&p, "with more threads", &again, &got, v);
        answer_close(&want);
        answer_close(&got);
        answer_close(&again);
        problem_close(&p);
    }
}

/* NaN in all rows of the first sequence reaches no other; nor do absent rows, which are NaN always.
 * And the last sequence is what it is alone. */
static void alone(struct lab *lab, struct verdict *v, const struct law *law)
{
    if (no_chunks(lab, v, law->name)) return;
    for (int n = 0; n < 2 * SHAPES_; n++) {
        struct problem p;
        struct answer whole = {0}, got = {0};
        if (!fast_open(&p, 0, n, v)) continue;
        bool go = solve_forward(&p, &lab->under[0], &whole, v);
        const int64_t rows = p.start[1], state = elements(&p, S1) / p.shape.B;
        for (int i = Q; i <= BETA; i++)
            for (int64_t e = 0; e < elements(&p, i) / p.shape.T * rows; e++) p.value[i][e] = NAN;
        go = go && solve_forward(&p, &lab->under[0], &got, v);
        const int64_t after = elements(&p, O) / p.shape.T * rows, left = elements(&p, O) - after;
        if (go && p.shape.B > 1)
            EXPECT(v, memcmp(got.o + after, whole.o + after, (size_t)left * sizeof *got.o) == 0 &&
                          memcmp(got.S1 + state, whole.S1 + state,
                                 (size_t)(elements(&p, S1) - state) * sizeof *got.S1) == 0,
                   "NaN in the first sequence reaches another");
        for (int64_t e = 0; go && e < after; e++)
            if (!EXPECT(v, isnan(got.o[e]), "a NaN is lost at element %lld of o", (long long)e))
                break;
        answer_close(&whole);
        answer_close(&got);
        problem_close(&p);
    }
}

/* ---- slots ------------------------------------------------------------------------------------- */

static struct tensor part_of(const struct tensor *t, int64_t row, int64_t rows)
{
    struct tensor part = *t;
    part.data = tensor_at(t, row * t->stride[0]);
    part.dim[0] = rows;
    return part;
}

/* The rows of sequence 0 in calls that end at `cut`s. */
static bool solve_cuts(const struct problem *p, struct station *at, const int *cut, int cuts,
                       enum dtype anchor, struct answer *a, struct verdict *v)
{
    static const int32_t slot[] = {0};
    const struct shape *s = &p->shape;
    const struct delta_slots like = {
        .slots = 1, .entries = BLOCK, .Hk = s->Hk, .Hv = (int)heads(p), .Dk = s->Dk, .Dv = s->Dv,
        .channel_gate = s->option & CHANNEL, .k_type = type_of(p, K), .anchor_type = anchor};
    struct laid l;
    struct cache c;
    lay_problem(&l, p, at);
    a->S1 = mem_take_array((size_t)elements(p, S1), sizeof *a->S1);
    bool fine = EXPECT(v, cache_open(&c, at->device, &like) && l.fine && a->S1, "no memory");
    if (fine) at->device->anchor_pack(&c.slots, 0, p->value[S0]);
    for (int i = 0; fine && i < cuts; i++) {
        const int32_t begin = i ? cut[i - 1] : 0, start[] = {0, cut[i] - begin};
        struct tensor t[TENSORS];
        for (int n = 0; n < TENSORS; n++)
            t[n] = n == S0 || n == S1 ? l.t[n] : part_of(&l.t[n], begin, start[1]);
        const struct rows rows = {.B = 1, .T = start[1], .start = start, .pos = &begin,
                                  .slot = slot};
        const struct delta_args args = {.q = &t[Q], .k = &t[K], .v = &t[V], .g = &t[G],
                                        .beta = &t[BETA], .o = &t[O], .rows = &rows,
                                        .slots = &c.slots, .fast = p->fast};
        fine = station_run(at, at->device->forward[OP_DELTA], &args, v);
        const int log = cut[i] - c.slots.base[0];
        EXPECT(v, log == (cut[i] - 1) % BLOCK + 1, "%d rows leave a log of %d", cut[i], log);
    }
    fine = fine && EXPECT(v, cache_state(&c, 0, cut[cuts - 1], a->S1), "no memory");
    if (fine) a->o = laid_fetch(&l, p, O);
    cache_close(&c);
    laid_close(&l);
    return fine;
}

static void slots(struct lab *lab, struct verdict *v, const struct law *law)
{
    if (no_chunks(lab, v, law->name)) return;
    static const int cuts[][6] = {{341}, {5, 6, 200, 201, 288, 341}, {16, 96, 97, 256, 336, 341}};
    static const int length[] = {341};
    for (int i = 0; i < 12; i++) {
        const enum dtype anchor = i / 6 ? DTYPE_BF16 : DTYPE_F32;
        struct shape s = {.B = 1, .Hk = 1, .R = 2, .Dk = 64, .Dv = 64, .option = i % 2,
                          .act = i / 6 ? DTYPE_BF16 : DTYPE_F32};
        struct problem p;
        struct answer want = {0}, got = {0};
        if (!problem_open(&p, &s, length, v)) continue;
        p.fast = true;
        const int *cut = cuts[i / 2 % 3], n = cut[1] ? 6 : 1;
        if (solve_forward(&p, &lab->ref, &want, v) &&
            solve_cuts(&p, &lab->under[i % 3], cut, n, anchor, &got, v))
            expect_close(&p, "slots", &got, &want, LIMIT, v);
        answer_close(&want);
        answer_close(&got);
        problem_close(&p);
    }
}

static const struct law laws[] = {{.name = "choice", .run = choice},
                                  {.name = "dense", .run = dense},
                                  {.name = "alone", .run = alone},
                                  {.name = "slots", .run = slots}};
SUITE(delta_amx, LAWS(laws));
