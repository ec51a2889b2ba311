#include "harness/trial.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/rng.h"

/* ---- values ---------------------------------------------------------------------------------- */

/* All elements of the whole tensor, then the window [first, first + count) of them. */
static double *make_values(const struct trial *t, const struct want *want, int64_t first,
                           int64_t count, uint64_t salt)
{
    int64_t whole = 1;
    for (int i = 0; i < want->rank; i++) whole *= want->dim[i];
    double *x = mem_take_array((size_t)whole + 1, sizeof *x);
    if (!x) return NULL;
    const struct filling f = {.fill = want->fill, .scale = want->scale,
                              .regime = (enum regime)t->shape->regime,
                              .decay = (enum decay)t->shape->decay, .seed = salt,
                              .dtype = want->dtype};
    fill_values(&f, x, whole, want->dim[want->rank - 1]);
    memmove(x, x + first, sizeof *x * (size_t)count);
    return x;
}

double *trial_made(const struct trial *t, int piece)
{
    const struct piece *p = &t->piece[piece];
    return make_values(t, &p->want, p->first, p->count, (uint64_t)piece + 1);
}

int trial_piece(const struct trial *t, const char *name)
{
    for (int i = 0; i < t->pieces; i++)
        if (strcmp(t->piece[i].box.name, name) == 0) return i;
    GDN_CHECK(false, "a call has no %s", name);
}

double *trial_values(const struct trial *t, int piece)
{
    const struct piece *p = &t->piece[piece];
    double *x = mem_take_array((size_t)p->count + 1, sizeof *x);
    if (x) box_get(&p->box, x);
    return x;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

/* What of the whole tensor the part holds: its dims, and the window of its elements. */
static void cut_part(const struct trial *t, const struct want *want, struct piece *p, int64_t *dim)
{
    int64_t row = 1, first = 0;
    for (int i = 0; i < want->rank; i++) dim[i] = want->dim[i];
    for (int i = 1; i < want->rank; i++) row *= want->dim[i];
    if (t->manner.parts && want->per == PER_ROW) {
        dim[0] = t->manner.part.rows;
        first = t->manner.part.row;
    } else if (t->manner.parts && want->per == PER_SEQUENCE) {
        dim[0] = t->manner.part.sequences;
        first = t->manner.part.sequence;
    }
    p->first = first * row;
    p->count = dim[0] * row;
}

static int add_piece(struct trial *t, const struct want *want, enum role role)
{
    GDN_CHECK(t->pieces < TRIAL_BOXES, "more than %d tensors in a call", TRIAL_BOXES);
    const int n = t->pieces++;
    struct piece *p = &t->piece[n];
    int64_t dim[TENSOR_RANK];
    struct tensor lay;
    *p = (struct piece){.want = *want, .grad = NO_BOX};
    cut_part(t, want, p, dim);
    const enum dtype dtype = t->manner.wide && !want->exact ? DTYPE_F64 : want->dtype;
    /* Outputs go over columns of what is dead on the host alone. */
    const bool may = want->window && (role != ROLE_OUT || t->at->device->host);
    const bool window = may && t->shape->window && !t->manner.calm;
    tensor_lay(&lay, dtype, want->rank, dim, window);
    /* A GPU's fast forms want rows at their natural places, its others must not. */
    const bool natural = t->manner.calm || (!t->at->device->host && t->shape->T % 2 == 0);
    const int shift = natural ? 0 : 2 * (n % 4) + 1;
    if (!box_open(&p->box, t->at->device, want->name, role, &lay, shift)) {
        t->failed = true;
        return n;
    }
    if (role == ROLE_OUT) return n;
    double *x = trial_made(t, n);
    const int64_t width = want->dim[want->rank - 1];
    for (int64_t i = 0; x && dtype == DTYPE_F64 && dtype_quantised(want->dtype) && i < p->count;
         i += width)
        quantised_settle(x + i, want->dtype, width);
    if (x)
        box_set(&p->box, x);
    else
        t->failed = true;
    mem_give(x);
    return n;
}

/* The gradient beside piece n: random for an output; `start` times random for an input. */
static void add_grad(struct trial *t, int n, enum role role)
{
    struct want want = t->piece[n].want;
    char name[24];
    snprintf(name, sizeof name, "d %s", want.name);
    want.name = name;
    want.dtype = dtype_wide(want.dtype);
    want.fill = FILL_STEADY;
    want.window = want.window && role == ROLE_ADDED;
    want.scale = 1;
    if (role == ROLE_ADDED) want.scale = t->manner.start ? t->manner.start[t->pieces] : 0;
    const int grad = add_piece(t, &want, role);
    t->piece[grad].want.name = t->piece[grad].box.name;
    t->piece[n].grad = grad;
    t->piece[n].box.t.grad = &t->piece[grad].box.t;
    t->piece[n].box.t.requires_grad = true;
}

struct tensor *trial_in(struct trial *t, struct want want)
{
    if (want.scale == 0) want.scale = 1;
    if (want.l2 == 0) want.l2 = 2e-6;
    const int n = add_piece(t, &want, want.added ? ROLE_ADDED : ROLE_IN);
    if (dtype_quantised(want.dtype)) want.frozen = true;
    if (t->manner.grads && !want.frozen && !want.exact && !want.added) add_grad(t, n, ROLE_ADDED);
    return &t->piece[n].box.t;
}

struct tensor *trial_out(struct trial *t, struct want want)
{
    if (want.l2 == 0) want.l2 = 2e-6;
    if (want.roundings == 0) want.roundings = 1;
    const int n = add_piece(t, &want, ROLE_OUT);
    if (t->manner.grads && !want.frozen && !want.exact) add_grad(t, n, ROLE_IN);
    return &t->piece[n].box.t;
}

/* ---- integers -------------------------------------------------------------------------------- */

static int32_t *add_integers(struct trial *t, const char *name, const int32_t *value,
                             int64_t count, bool added)
{
    const struct want want = {.name = name, .dtype = DTYPE_I32, DIM(count), .exact = true,
                              .fill = FILL_ZERO, .added = added};
    const int n = add_piece(t, &want, added ? ROLE_ADDED : ROLE_IN);
    for (int64_t i = 0; i < count && !t->failed; i++)
        box_poke(&t->piece[n].box, i, value[i]);
    return t->piece[n].box.t.data;
}

int32_t *trial_table(struct trial *t, const char *name, const int32_t *value, int64_t count)
{
    return add_integers(t, name, value, count, false);
}

int32_t *trial_counters(struct trial *t, const char *name, const int32_t *value, int64_t count)
{
    return add_integers(t, name, value, count, true);
}

const int32_t *trial_ids(struct trial *t, const char *name, int64_t each, int low, int high)
{
    const int64_t count = t->shape->T * each;
    struct rng rng = {(uint64_t)t->pieces + 99, 0};
    int32_t *value = mem_take_array((size_t)count + 1, sizeof *value);
    if (!value) {
        t->failed = true;
        return NULL;
    }
    for (int64_t i = 0; i < count; i++)
        value[i] = low + (int32_t)rng_below(&rng, (uint64_t)(high - low));
    const int64_t from = t->manner.parts ? t->manner.part.row * each : 0;
    const int32_t *ids = trial_table(t, name, value + from,
                                     t->manner.parts ? t->manner.part.rows * each : count);
    mem_give(value);
    return ids;
}

/* Lengths by B: the first sequence takes what the others leave; the second has one row, the third
 * none, the others a random few. */
static void cut_rows(const struct shape *s, int32_t *start)
{
    struct rng rng = {(uint64_t)s->T * 31 + (uint64_t)s->B, 0};
    int left = s->T;
    start[s->B] = left;
    for (int b = s->B - 1; b > 0; b--) {
        int length = b == 1 ? 1 : b == 2 ? 0 : (int)rng_below(&rng, (uint64_t)s->T / 2 + 1);
        if (length > left) length = left;
        left -= length;
        start[b] = left;
    }
    start[0] = 0;
}

const struct rows *trial_rows(struct trial *t, int start)
{
    enum { MOST = 64 };
    const struct shape *s = t->shape;
    GDN_CHECK(s->B < MOST, "a case of %d sequences", s->B);
    int32_t first[MOST + 1], pos[MOST], slot[MOST];
    cut_rows(s, first);
    for (int b = 0; b < s->B; b++) {
        pos[b] = start ? start + 5 * b : 0;
        slot[b] = s->absent && b % 3 == 1 ? -1 : s->B - 1 - b;
    }
    const int from = t->manner.parts ? t->manner.part.sequence : 0;
    const int B = t->manner.parts ? t->manner.part.sequences : s->B;
    const int32_t zero = first[from];
    for (int b = from; b <= from + B; b++) first[b] -= zero;
    if (t->manner.parts && B == 1) {
        first[from + 1] = t->manner.part.rows;
        pos[from] += t->manner.part.row - zero;
    }
    t->ragged = true;
    t->rows = (struct rows){.B = B, .T = first[from + B]};
    t->rows.start = trial_table(t, "start", first + from, B + 1);
    t->rows.pos = trial_table(t, "pos", pos + from, B);
    if (s->absent || s->slots) t->rows.slot = trial_table(t, "slot", slot + from, B);
    return &t->rows;
}

/* ---- the call -------------------------------------------------------------------------------- */

bool trial_open(struct trial *t, const struct proof *proof, const struct shape *shape,
                struct station *at, const struct manner *manner, struct verdict *v)
{
    *t = (struct trial){.proof = proof, .shape = shape, .manner = *manner, .at = at, .v = v};
    proof->build(t, shape);
    if (EXPECT(v, !t->failed, "no memory for the case")) return true;
    trial_close(t);
    return false;
}

void trial_close(struct trial *t)
{
    for (int i = 0; i < t->pieces; i++) box_close(&t->piece[i].box);
    t->pieces = 0;
}

static bool run(struct trial *t, op_kernel *kernel)
{
    for (int i = 0; i < t->pieces; i++) box_upload(&t->piece[i].box);
    for (int i = 0; i < t->pieces; i++) box_fence(&t->piece[i].box, true);
    const bool ran = station_run(t->at, kernel, &t->args, t->v);
    for (int i = 0; i < t->pieces; i++) box_fence(&t->piece[i].box, false);
    for (int i = 0; i < t->pieces; i++) {
        box_download(&t->piece[i].box);
        if (ran) box_inspect(&t->piece[i].box, t->v);
    }
    return ran;
}

bool trial_forward(struct trial *t) { return run(t, t->at->device->forward[t->proof->op]); }

/* Backward may read what forward wrote; for it the outputs are inputs. */
bool trial_backward(struct trial *t)
{
    if (!trial_forward(t)) return false;
    for (int i = 0; i < t->pieces; i++) {
        struct box *box = &t->piece[i].box;
        if (box->role != ROLE_OUT) continue;
        box_keep(box);
        box->role = ROLE_IN;
    }
    return run(t, t->at->device->backward[t->proof->op]);
}
