/* forward.c: proofs of a forward kernel. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "harness/prove.h"

void expect_same_bits(const struct trial *a, const struct trial *b, const char *when)
{
    for (int i = 0; i < a->pieces; i++) {
        const struct box *x = &a->piece[i].box, *y = &b->piece[i].box;
        if (!EXPECT(a->v, memcmp(x->after, y->after, x->bytes) == 0, "%s has other bits %s",
                    x->name, when))
            return;
    }
}

static void compare_outputs(const struct trial *t, const struct trial *ref)
{
    for (int i = 0; i < t->pieces; i++) {
        const struct piece *p = &t->piece[i];
        if (p->box.role != ROLE_OUT) continue;
        double *got = trial_values(t, i), *want = trial_values(ref, i);
        const bool whole = p->box.t.dtype == DTYPE_I32;
        const double made = limit_made(&p->want, t->at->device, p->box.t.dtype);
        if (EXPECT(t->v, got && want, "no memory"))
            verdict_compare(t->v, p->box.name, &p->box.t, got, want,
                            whole ? (struct limit){0}
                                  : limit_of(p->box.t.dtype, p->want.l2 + made,
                                             p->want.roundings));
        mem_give(got);
        mem_give(want);
    }
}

void prove_forward(struct lab *lab, const struct proof *proof, const struct shape *s,
                   struct verdict *v)
{
    const struct manner wide = {.wide = true}, plain = {0};
    struct trial ref, first, again;
    v->shape = *s;
    v->cases++;
    if (!trial_open(&first, proof, s, &lab->under[0], &plain, v)) return;
    if (trial_open(&ref, proof, s, &lab->ref, &wide, v)) {
        if (trial_forward(&ref) && trial_forward(&first)) compare_outputs(&first, &ref);
        trial_close(&ref);
    }
    static const char *const when[] = {"in a second run", "with 2 threads", "with 3 threads"};
    for (int i = 0; i < LAB_STATIONS; i++) {
        if (!trial_open(&again, proof, s, &lab->under[i], &plain, v)) break;
        if (trial_forward(&again)) expect_same_bits(&first, &again, when[i]);
        trial_close(&again);
    }
    trial_close(&first);
}

/* ---- a part alone ---------------------------------------------------------------------------- */

/* Outputs, and gradients of inputs: what belongs to rows or sequences. */
static bool belongs(const struct piece *p, bool grads)
{
    if (p->want.per == WHOLE) return false;
    return p->box.role == ROLE_OUT || (grads && p->box.role == ROLE_ADDED && !p->want.added);
}

static void compare_part(const struct trial *whole, const struct trial *part, bool grads)
{
    for (int i = 0; i < part->pieces; i++) {
        const struct piece *p = &part->piece[i];
        if (!belongs(p, grads)) continue;
        const size_t size = dtype_size(p->box.t.dtype);
        for (int64_t e = 0; e < p->count; e++) {
            if (memcmp(box_element(&whole->piece[i].box, p->first + e), box_element(&p->box, e),
                       size) == 0)
                continue;
            char at[96];
            coordinate_text(&p->box.t, e, at, sizeof at);
            verdict_fail(whole->v, "%s at %s has other bits alone (rows %d to %d)", p->box.name, at,
                         part->manner.part.row, part->manner.part.row + part->manner.part.rows);
            return;
        }
    }
}

static void prove_part(const struct trial *whole, struct part part, bool grads)
{
    struct trial alone;
    struct manner manner = whole->manner;
    manner.parts = true;
    manner.part = part;
    if (!trial_open(&alone, whole->proof, whole->shape, whole->at, &manner, whole->v)) return;
    if (grads ? trial_backward(&alone) : trial_forward(&alone))
        compare_part(whole, &alone, grads);
    trial_close(&alone);
}

/* Rows [0, rows) become NaN in every input that has rows: what belongs to later rows keeps its
 * bits. */
static void prove_contained(const struct trial *whole, int rows, bool grads)
{
    struct trial t;
    if (!trial_open(&t, whole->proof, whole->shape, whole->at, &whole->manner, whole->v)) return;
    for (int i = 0; i < t.pieces; i++) {
        struct piece *p = &t.piece[i];
        if (p->want.per != PER_ROW || p->want.exact || p->box.role != ROLE_IN) continue;
        const int64_t row = p->count / whole->shape->T;
        for (int64_t e = 0; e < rows * row; e++) box_poke(&p->box, e, NAN);
    }
    if (grads ? trial_backward(&t) : trial_forward(&t))
        for (int i = 0; i < t.pieces; i++) {
            const struct piece *p = &t.piece[i];
            if (!belongs(p, grads) || p->want.per != PER_ROW) continue;
            const size_t size = dtype_size(p->box.t.dtype);
            for (int64_t e = p->count / whole->shape->T * rows; e < p->count; e++)
                if (!EXPECT(whole->v, memcmp(box_element(&p->box, e),
                                             box_element(&whole->piece[i].box, e), size) == 0,
                            "NaN in rows 0 to %d reaches element %lld of %s", rows - 1,
                            (long long)e, p->box.name))
                    break;
        }
    trial_close(&t);
}

static void prove_sequences(const struct trial *whole, bool grads)
{
    int32_t start[65];
    const int B = whole->rows.B;
    whole->at->device->download(whole->at->device, start, whole->rows.start,
                                sizeof *start * (size_t)(B + 1));
    for (int b = 0; b < B; b++)
        prove_part(whole, (struct part){start[b], start[b + 1] - start[b], b, 1}, grads);
    if (whole->shape->T > 0) prove_contained(whole, start[1], grads);
}

void prove_alone(struct lab *lab, const struct proof *proof, const struct shape *s, bool grads,
                 struct verdict *v)
{
    const struct manner manner = {.grads = grads};
    struct trial whole;
    v->shape = *s;
    v->cases++;
    if (!trial_open(&whole, proof, s, &lab->under[0], &manner, v)) return;
    if (!(grads ? trial_backward(&whole) : trial_forward(&whole))) {
        trial_close(&whole);
        return;
    }
    const int T = s->T;
    if (whole.ragged) {
        if (s->B > 1) prove_sequences(&whole, grads);
    } else if (T > 1) {
        prove_part(&whole, (struct part){0, 1, 0, 1}, grads);
        prove_part(&whole, (struct part){T - 1, 1, 0, 1}, grads);
        prove_part(&whole, (struct part){T / 3, (T - T / 3) / 2, 0, 1}, grads);
        prove_contained(&whole, 1, grads);
    }
    trial_close(&whole);
}
