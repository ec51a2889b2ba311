/* founding_gradient.c: founding behaviours of the gradients. */
#include "base/memory.h"
#include "founding.h"

enum { CHANNEL = 1, STATES = 6 }; /* options of the delta proof: state in and out */
#define COUNT(array) (int)(sizeof(array) / sizeof(*(array)))

/* Differences on the reference, and the cpu against the reference. */
static bool both(const struct shape *shape, int shapes)
{
    return founding_proves("cpu", "delta", prove_differences, shape, shapes) &&
           founding_proves("cpu", "delta", prove_backward, shape, shapes);
}

bool state_gradient_accepted(void)
{
    static const struct shape shape[] = {
        {.B = 2, .T = 21, .Hk = 1, .R = 2, .Dk = 5, .Dv = 4, .option = STATES},
        {.B = 2, .T = 18, .Hk = 2, .R = 1, .Dk = 3, .Dv = 7, .option = STATES | CHANNEL}};
    return both(shape, COUNT(shape));
}

bool groups_are_summed(void)
{
    static const struct shape shape[] = {
        {.B = 2, .T = 19, .Hk = 2, .R = 3, .Dk = 4, .Dv = 5},
        {.B = 2, .T = 9, .Hk = 1, .R = 4, .Dk = 3, .Dv = 5, .option = CHANNEL}};
    return both(shape, COUNT(shape));
}

bool uneven_chunks(void)
{
    static const struct shape shape[] = {
        {.B = 2, .T = 171, .Hk = 1, .R = 2, .Dk = 16, .Dv = 8, .option = STATES},
        {.B = 3, .T = 141, .Hk = 1, .R = 1, .Dk = 8, .Dv = 8, .option = STATES | CHANNEL}};
    return both(shape, COUNT(shape));
}

bool short_rows(void)
{
    static const struct shape shape[] = {
        {.T = 1, .Hk = 1, .R = 2, .Dk = 8, .Dv = 8, .option = STATES},
        {.T = 63, .Hk = 1, .R = 2, .Dk = 8, .Dv = 8, .option = STATES},
        {.T = 64, .Hk = 1, .R = 2, .Dk = 8, .Dv = 8, .option = STATES | CHANNEL},
        {.T = 65, .Hk = 1, .R = 2, .Dk = 8, .Dv = 8, .option = STATES}};
    return both(shape, COUNT(shape));
}

bool both_gates_one_kernel(void)
{
    static const struct shape shape[] = {
        {.B = 2, .T = 37, .Hk = 2, .R = 2, .Dk = 8, .Dv = 12},
        {.B = 2, .T = 37, .Hk = 2, .R = 2, .Dk = 8, .Dv = 12, .option = CHANNEL}};
    return both(shape, COUNT(shape)) &&
           founding_proves("cpu", "delta", prove_forward, shape, COUNT(shape));
}

static void alone_with_gradients(struct lab *lab, const struct proof *proof, const struct shape *s,
                                 struct verdict *v)
{
    prove_alone(lab, proof, s, true, v);
}

/* Masked rows are rows of absent sequences: outputs 0, state handed through, no gradient; the
 * others as if alone. */
bool masked_is_absent(void)
{
    static const struct shape shape[] = {
        {.B = 5, .T = 40, .Hk = 1, .R = 2, .Dk = 8, .Dv = 6, .absent = 1, .option = STATES},
        {.B = 3, .T = 70, .Hk = 2, .R = 1, .Dk = 5, .Dv = 9, .absent = 1,
         .option = STATES | CHANNEL}};
    return both(shape, COUNT(shape)) &&
           founding_proves("cpu", "delta", prove_forward, shape, COUNT(shape)) &&
           founding_proves("cpu", "delta", alone_with_gradients, shape, COUNT(shape));
}

/* ---- segments -------------------------------------------------------------------------------- */

/* A sequence in one call, and in two with state and its gradient handed over. */
struct chain {
    struct trial whole, head, tail;
};

static void hand_over(struct trial *from, const char *what, struct trial *to, const char *as)
{
    double *x = trial_values(from, trial_piece(from, what));
    if (x) box_set(&to->piece[trial_piece(to, as)].box, x);
    mem_give(x);
}

static void compare_piece(const struct trial *part, const struct trial *whole, const char *name,
                          double allowed)
{
    const int piece = trial_piece(part, name);
    const struct piece *p = &part->piece[piece];
    double *got = trial_values(part, piece), *want = trial_values(whole, piece);
    if (EXPECT(part->v, got && want, "no memory"))
        verdict_compare(part->v, name, &p->box.t, got, want + p->first,
                        (struct limit){.l2 = allowed, .element = allowed});
    mem_give(got);
    mem_give(want);
}

static void run_chain(struct chain *c, double allowed)
{
    static const char *const row[] = {"o", "d q", "d k", "d v", "d g", "d beta"};
    if (!trial_backward(&c->whole) || !trial_forward(&c->head)) return;
    hand_over(&c->head, "S1", &c->tail, "S0");
    if (!trial_backward(&c->tail)) return;
    hand_over(&c->tail, "d S0", &c->head, "d S1");
    if (!trial_backward(&c->head)) return;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        compare_piece(&c->head, &c->whole, row[i], allowed);
        compare_piece(&c->tail, &c->whole, row[i], allowed);
    }
    compare_piece(&c->tail, &c->whole, "S1", allowed);
    compare_piece(&c->head, &c->whole, "d S0", allowed);
}

static void chain_of(struct station *at, bool wide, const struct shape *s, int cut, double allowed,
                     struct verdict *v)
{
    const struct proof *proof = founding_suite("delta")->proof;
    static struct chain c;
    struct manner manner = {.wide = wide, .grads = true};
    if (!trial_open(&c.whole, proof, s, at, &manner, v)) return;
    manner.parts = true;
    manner.part = (struct part){0, cut, 0, 1};
    if (trial_open(&c.head, proof, s, at, &manner, v)) {
        manner.part = (struct part){cut, s->T - cut, 0, 1};
        if (trial_open(&c.tail, proof, s, at, &manner, v)) {
            run_chain(&c, allowed);
            trial_close(&c.tail);
        }
        trial_close(&c.head);
    }
    trial_close(&c.whole);
}

bool segments_chain(void)
{
    struct verdict v = {.subject = "segments"};
    struct lab *lab = founding_lab("cpu");
    for (int gate = 0; gate < 2 && lab; gate++)
        for (int i = 0; i < 4; i++) {
            static const int cut[] = {1, 16, 37, 69};
            const struct shape s = {.B = 1, .T = 70, .Hk = 1, .R = 2, .Dk = 8, .Dv = 6,
                                    .option = STATES | gate};
            v.shape = s;
            chain_of(&lab->ref, true, &s, cut[i], 1e-12, &v);
            /* Every gradient comes twice through f32: at the cut too. */
            chain_of(&lab->under[0], false, &s, cut[i], 5e-6, &v);
        }
    return lab && founding_verdict(&v);
}
