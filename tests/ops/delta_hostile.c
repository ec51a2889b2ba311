/* Laws of op_delta, forward and backward, on hostile numbers: keys that repeat and are never
 * forgotten, writes at the edge of stability, no decay and decay to nothing, rows of zeros, numbers
 * at the ends of the types. Against the reference in double, with every instruction set; forward on
 * dense states and on slots. */
#include "harness/cache.h"
#include "ops/delta_problem.h"

#define LIMIT 2e-6

/* ---- the numbers ----------------------------------------------------------------------------- */

/* g of every token in -(low, high). */
static void set_decay(struct problem *p, double low, double high)
{
    struct rng rng = {.seed = 5};
    for (int64_t e = 0; e < elements(p, G); e++) p->value[G][e] = -rng_between(&rng, low, high);
}

/* Every key is one of the first `kinds` tokens' keys. */
static void repeat_keys(struct problem *p, int kinds)
{
    const int64_t row = (int64_t)p->shape.Hk * p->shape.Dk;
    double *k = p->value[K];
    for (int64_t t = kinds; t < p->shape.T; t++)
        memcpy(k + t * row, k + t * 5 % kinds * row, (size_t)row * sizeof *k);
}

/* beta |k|^2 in (low, high), |k| as it is stored. */
static void set_beta(struct problem *p, double low, double high)
{
    struct rng rng = {.seed = 6};
    round_values(p);
    for (int64_t e = 0; e < elements(p, BETA); e++) {
        const double *k = p->value[K] + e / p->shape.R * p->shape.Dk;
        double square = 0;
        for (int d = 0; d < p->shape.Dk; d++) square += k[d] * k[d];
        p->value[BETA][e] = rng_between(&rng, low, high) / square;
    }
}

static void repeated(struct problem *p)
{
    repeat_keys(p, 1);
    set_decay(p, 0.9e-3, 1.1e-3);
    set_beta(p, 0.83, 1);
}

/* Each token reflects the state: beta |k|^2 just below 2. */
static void reflected(struct problem *p)
{
    repeat_keys(p, 1);
    set_decay(p, 0.9e-3, 1.1e-3);
    set_beta(p, 1.98, 2 - 2e-6);
}

static void few_keys(struct problem *p)
{
    repeat_keys(p, 8);
    set_decay(p, 0, 0);
    set_beta(p, 0.5, 2 - 2e-6);
}

static void no_decay(struct problem *p) { set_decay(p, 0, 0); }
static void any_decay(struct problem *p) { set_decay(p, 0, 30); }
static void underflow(struct problem *p) { set_decay(p, 60, 200); }

/* Now and then a token forgets nearly everything; the gates after it still count. */
static void forget_by(struct problem *p, double g)
{
    const int64_t gates = elements(p, G) / p->shape.T;
    set_decay(p, 0, 1e-2);
    for (int64_t t = 0; t < p->shape.T; t += 5)
        for (int64_t i = 0; i < gates; i++) p->value[G][t * gates + i] -= g;
}

static void forgetful(struct problem *p) { forget_by(p, 400); }
static void reset(struct problem *p) { forget_by(p, INFINITY); }
static void less_forgetful(struct problem *p) { forget_by(p, 40); }

/* A gate far apart from the others of its row: channel 3 forgets, channel 4 keeps. */
static void uneven(struct problem *p)
{
    for (int64_t e = 0; e < elements(p, G); e++)
        p->value[G][e] = e % 7 == 3 ? -90 : e % 7 == 4 ? 0 : e % 7 == 5 ? -1e-7 : p->value[G][e];
}

static void zero_rows(struct problem *p)
{
    for (int i = 0; i < TENSORS; i++)
        for (int64_t e = 0; i != S0 && i != S1 && i != G && e < elements(p, i); e++) {
            const int64_t row = e / (elements(p, i) / p->shape.T);
            if (row % (3 + i) == 1) p->value[i][e] = 0;
        }
}

static void scale(struct problem *p, double values, double gradients)
{
    static const int is_value[] = {V, S0}, is_gradient[] = {O, S1};
    for (int i = 0; i < 2; i++) {
        for (int64_t e = 0; e < elements(p, is_value[i]); e++) p->value[is_value[i]][e] *= values;
        for (int64_t e = 0; e < elements(p, is_gradient[i]); e++)
            p->value[is_gradient[i]][e] *= gradients;
    }
}

static void huge(struct problem *p) { scale(p, 1e15, 1e15); }
static void denormal(struct problem *p) { scale(p, 1e-40, 1); }
static void denormal_gradient(struct problem *p) { scale(p, 1, 1e-40); }
static void tiny(struct problem *p) { scale(p, 1e-15, 1e-15); }

/* What may be off: forward in relative L2, backward of the largest entry of a gradient.
 *
 * beta 2: reflections damp nothing, so the errors of 150 tokens add up: 150 2^-24 = 9e-6. (A
 * recurrence in f32, token by token, is off by 6e-6 in its gradients.)
 * repeated keys: the gradient of beta is one sum less another that nearly equals it, each of a block
 * of 16 tokens with the same key.
 * forgetful, reset: G, summed from the anchor, reaches -416 in a block, where floats lie 3e-5 apart;
 * a mild decay after that is a difference of two such sums. Backward sums no decays. */
static const struct {
    const char *name;
    void (*make)(struct problem *p);
    double forward, backward;
} hostile[] = {{"repeated keys", repeated, LIMIT, 5e-6},
               {"beta 2", reflected, 1e-5, 1e-5},
               {"few keys", few_keys, LIMIT, LIMIT},
               {"no decay", no_decay, LIMIT, LIMIT},
               {"any decay", any_decay, LIMIT, LIMIT},
               {"underflow", underflow, LIMIT, LIMIT},
               {"forgetful", forgetful, 1e-5, LIMIT},
               {"reset", reset, 1e-5, LIMIT},
               {"less forgetful", less_forgetful, LIMIT, LIMIT},
               {"uneven", uneven, LIMIT, LIMIT},
               {"zero rows", zero_rows, LIMIT, LIMIT},
               {"huge", huge, LIMIT, LIMIT},
               {"tiny", tiny, LIMIT, LIMIT},
               {"denormal", denormal, LIMIT, LIMIT},
               {"denormal do", denormal_gradient, LIMIT, LIMIT}};
enum { HOSTILE = sizeof hostile / sizeof *hostile };

/* Problem n of each kind: both gates; f32 and bf16; heads of two sizes, the larger one in f32. */
enum { KINDS = HARNESS_SANITIZED ? 4 : 6 };
static bool hostile_open(struct problem *p, int kind, int n, struct verdict *v)
{
    static const int length[] = {150, 21};
    struct shape s = {.B = 2, .Hk = 1, .R = 2, .Dk = 64, .Dv = 32, .option = n % 2};
    if (n / 2 == 1) s.act = DTYPE_BF16;
    if (n / 2 == 2) s.R = 1, s.Dk = s.Dv = 128;
    if (!problem_open(p, &s, length, v)) return false;
    hostile[kind].make(p);
    round_values(p);
    return true;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* o and the last state of a call on slots whose anchors are S0. */
static bool solve_slots(const struct problem *p, struct station *at, struct answer *a,
                        struct verdict *v)
{
    const struct shape *s = &p->shape;
    const struct delta_slots like = {
        .slots = s->B, .entries = BLOCK, .Hk = s->Hk, .Hv = (int)heads(p), .Dk = s->Dk,
        .Dv = s->Dv, .channel_gate = s->option & CHANNEL, .k_type = type_of(p, K)};
    const int64_t state = elements(p, S0) / s->B;
    struct laid l;
    struct cache c;
    lay_problem(&l, p, at);
    a->S1 = mem_take_array((size_t)elements(p, S0), sizeof *a->S1);
    bool fine = EXPECT(v, cache_open(&c, at->device, &like) && l.fine && a->S1, "no memory");
    for (int b = 0; fine && b < s->B; b++)
        at->device->anchor_pack(&c.slots, b, p->value[S0] + b * state);
    l.rows.slot = l.words + NUMBERS;
    l.args.slots = &c.slots;
    l.args.S0 = l.args.S1 = NULL;
    fine = fine && station_run(at, at->device->forward[OP_DELTA], &l.args, v);
    for (int b = 0; fine && b < s->B; b++)
        fine = EXPECT(v, cache_state(&c, b, p->start[b + 1] - p->start[b], a->S1 + b * state),
                      "no memory");
    if (fine) a->o = laid_fetch(&l, p, O);
    cache_close(&c);
    laid_close(&l);
    return fine;
}

static void compare_forward(const struct problem *p, int kind, const char *how,
                            const struct answer *got, const struct answer *want, struct verdict *v)
{
    for (int i = O; i <= S1; i++) {
        char name[64];
        const struct tensor t = tensor_like(p, i, type_of(p, i), NULL);
        snprintf(name, sizeof name, "%s (%s, %s)", i == O ? "o" : "S1", hostile[kind].name, how);
        verdict_compare(v, name, &t, i == O ? got->o : got->S1, i == O ? want->o : want->S1,
                        limit_of(t.dtype, hostile[kind].forward, 1));
    }
}

static void forward_holds(struct ways *w, struct verdict *v)
{
    for (int i = 0; i < HOSTILE * KINDS; i++) {
        struct problem p;
        struct answer want = {0}, dense = {0}, slots = {0};
        if (hostile_open(&p, i / KINDS, i % KINDS, v) && solve_forward(&p, w->ref, &want, v)) {
            if (solve_slots(&p, w->ref, &slots, v))
                compare_forward(&p, i / KINDS, "ref", &slots, &want, v);
            answer_close(&slots);
            for (int k = 0; k < w->count; k++) {
                struct way *way = &w->of[k];
                if (solve_forward(&p, &way->one, &dense, v))
                    compare_forward(&p, i / KINDS, way->name, &dense, &want, v);
                if (solve_slots(&p, &way->three, &slots, v))
                    compare_forward(&p, i / KINDS, way->name, &slots, &want, v);
                answer_close(&dense);
                answer_close(&slots);
            }
        }
        answer_close(&want);
        problem_close(&p);
    }
}
EVERY_ISA(forward)

/* ---- backward -------------------------------------------------------------------------------- */

static void backward_holds(struct ways *w, struct verdict *v)
{
    for (int i = 0; i < HOSTILE * KINDS; i++) {
        struct problem p;
        struct answer want = {0}, got = {0};
        char name[48];
        if (hostile_open(&p, i / KINDS, i % KINDS, v) && solve(&p, w->ref, &want, v))
            for (int k = 0; k < w->count; k++) {
                snprintf(name, sizeof name, "%s, %s", w->of[k].name, hostile[i / KINDS].name);
                if (solve(&p, &w->of[k].one, &got, v))
                    compare(&p, name, &got, &want, hostile[i / KINDS].backward, v);
                answer_close(&got);
            }
        answer_close(&want);
        problem_close(&p);
    }
}
EVERY_ISA(backward)

static const struct law laws[] = {{.name = "forward", .run = forward},
                                  {.name = "backward", .run = backward, .applies = goes_back}};
SUITE(delta_hostile, LAWS(laws));
