/* backward.c: proofs of a backward kernel against the reference's. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "harness/prove.h"

/* The gradients of one call, by piece; NULL where a piece is none. */
struct grads {
    double *of[TRIAL_BOXES];
};

static bool is_grad(const struct trial *t, int piece)
{
    const struct piece *p = &t->piece[piece];
    return p->box.role == ROLE_ADDED && !p->want.added;
}

static void take_grads(const struct trial *t, struct grads *g)
{
    for (int i = 0; i < TRIAL_BOXES; i++)
        g->of[i] = i < t->pieces && is_grad(t, i) ? trial_values(t, i) : NULL;
}

static void give_grads(struct grads *g)
{
    for (int i = 0; i < TRIAL_BOXES; i++) mem_give(g->of[i]);
}

static double largest(const double *x, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        if (fabs(x[i]) > top) top = fabs(x[i]);
    return top;
}

/* What stands in the gradients before: a quarter of the size of what comes, so that neither hides
 * the other. Then `exact` becomes the sum. */
static void choose_starts(const struct trial *t, const struct grads *exact, double *start)
{
    for (int i = 0; i < t->pieces; i++)
        start[i] = exact->of[i] ? largest(exact->of[i], t->piece[i].count) / 4 : 0;
}

static void compare_grads(const struct trial *t, const struct grads *exact)
{
    for (int i = 0; i < t->pieces; i++) {
        const struct piece *p = &t->piece[i];
        if (!is_grad(t, i)) continue;
        double *got = trial_values(t, i), *begin = trial_made(t, i);
        if (EXPECT(t->v, got && begin && exact->of[i], "no memory")) {
            for (int64_t e = 0; e < p->count; e++) begin[e] += exact->of[i][e];
            /* The largest entry sets the scale: one bad element is the whole judgement. */
            verdict_compare(t->v, p->box.name, &p->box.t, got, begin,
                            (struct limit){.l2 = INFINITY, .element = p->want.l2});
        }
        mem_give(got);
        mem_give(begin);
    }
}

/* An input's gradient taken away: it stays as it was, the others have the same bits. */
static void prove_dropped(struct trial *t, const struct trial *full)
{
    for (int i = 0; i < t->pieces; i++) {
        struct tensor *of = &t->piece[i].box.t;
        if (t->piece[i].grad == NO_BOX || t->piece[i].box.role != ROLE_IN ||
            full->piece[t->piece[i].grad].box.role != ROLE_ADDED)
            continue;
        struct box *dropped = &t->piece[t->piece[i].grad].box;
        of->grad = NULL;
        of->requires_grad = false;
        dropped->role = ROLE_IN;
        if (trial_backward(t))
            for (int k = 0; k < t->pieces; k++)
                EXPECT(t->v, k == t->piece[i].grad || !is_grad(t, k) ||
                                 memcmp(t->piece[k].box.after, full->piece[k].box.after,
                                        full->piece[k].box.bytes) == 0,
                       "%s has other bits without %s", t->piece[k].box.name, dropped->name);
        of->grad = &dropped->t;
        of->requires_grad = true;
        dropped->role = ROLE_ADDED;
    }
}

static void mute_output(struct trial *t, int piece)
{
    t->piece[piece].box.t.grad = NULL;
}

/* Each output's gradient taken away in turn, on the reference as zeros: NULL means zero. */
static void prove_muted(struct lab *lab, const struct trial *full)
{
    struct trial ref, t;
    const struct manner wide = {.wide = true, .grads = true};
    for (int i = 0; i < full->pieces; i++) {
        const int grad = full->piece[i].grad;
        if (grad == NO_BOX || full->piece[grad].box.role != ROLE_IN) continue;
        if (!trial_open(&t, full->proof, full->shape, full->at, &full->manner, full->v)) return;
        if (trial_open(&ref, full->proof, full->shape, &lab->ref, &wide, full->v)) {
            for (int64_t e = 0; e < ref.piece[grad].count; e++)
                box_poke(&ref.piece[grad].box, e, 0);
            mute_output(&t, i);
            struct grads exact = {0};
            if (trial_backward(&ref) && trial_backward(&t)) {
                take_grads(&ref, &exact);
                compare_grads(&t, &exact);
            }
            give_grads(&exact);
            trial_close(&ref);
        }
        trial_close(&t);
    }
}

static void prove_against(struct lab *lab, const struct proof *proof, const struct shape *s,
                          const struct grads *exact, const double *start, struct verdict *v)
{
    const struct manner manner = {.grads = true, .start = start};
    static const char *const when[] = {"in a second run", "with 2 threads", "with 3 threads"};
    struct trial first, again;
    if (!trial_open(&first, proof, s, &lab->under[0], &manner, v)) return;
    if (trial_backward(&first)) {
        compare_grads(&first, exact);
        for (int i = 0; i < LAB_STATIONS; i++) {
            if (!trial_open(&again, proof, s, &lab->under[i], &manner, v)) break;
            if (trial_backward(&again)) expect_same_bits(&first, &again, when[i]);
            if (i == 0) prove_dropped(&again, &first);
            trial_close(&again);
        }
        prove_muted(lab, &first);
    }
    trial_close(&first);
}

void prove_backward(struct lab *lab, const struct proof *proof, const struct shape *s,
                    struct verdict *v)
{
    const struct manner wide = {.wide = true, .grads = true};
    struct trial ref;
    struct grads exact = {0};
    double start[TRIAL_BOXES] = {0};
    v->shape = *s;
    v->cases++;
    if (!trial_open(&ref, proof, s, &lab->ref, &wide, v)) return;
    if (trial_backward(&ref)) {
        take_grads(&ref, &exact);
        choose_starts(&ref, &exact, start);
        prove_against(lab, proof, s, &exact, start, v);
    }
    give_grads(&exact);
    trial_close(&ref);
}

void prove_repeat(struct lab *lab, const struct proof *proof, const struct shape *s,
                  struct verdict *v)
{
    enum { RUNS = HARNESS_SANITIZED ? 10 : 100 };
    const struct manner manner = {.grads = true};
    struct trial first, again;
    bool go = true;
    v->shape = *s;
    v->cases++;
    if (!trial_open(&first, proof, s, &lab->under[0], &manner, v)) return;
    go = trial_backward(&first);
    for (int run = 1; go && run < RUNS; run++) {
        const int64_t before = v->failures;
        go = trial_open(&again, proof, s, &lab->under[run % LAB_STATIONS], &manner, v);
        if (!go) break;
        if (trial_backward(&again)) expect_same_bits(&first, &again, "in another run");
        trial_close(&again);
        go = v->failures == before;
    }
    trial_close(&first);
}
