/* slot.c: the life of a slot: assigned, advanced, committed, rewound, forked, given back. */

#include "base/check.h"
#include "base/memory.h"
#include "state/state.h"

/* One slot's share of an array that holds all slots. */
struct share {
    void *array;
    size_t bytes;
};

enum { SHARES = 5 };

/* None of 0 bytes has an array. */
static void layer_shares(const struct layer_state *l, struct share share[SHARES])
{
    const struct delta_slots *d = &l->delta;
    const size_t n = (size_t)d->entries, wide = dtype_size(d->wide_type);
    const size_t gates = d->channel_gate ? (size_t)d->Dk : 1;
    share[0] = (struct share){d->k, dtype_size(d->k_type) * n * (size_t)d->Hk * (size_t)d->Dk};
    share[1] = (struct share){d->u, wide * n * (size_t)d->Hv * (size_t)d->Dv};
    share[2] = (struct share){d->G, wide * n * (size_t)d->Hv * gates};
    share[3] = (struct share){d->base, d->base ? sizeof *d->base : 0};
    share[4] = (struct share){l->conv.x, dtype_size(l->conv.dtype) * (size_t)l->conv.ring *
                                             (size_t)l->conv.C};
}

static void clear_slot(struct state *st, int32_t slot)
{
    for (int32_t i = 0; i < st->layers; i++) {
        struct share share[SHARES];
        layer_shares(&st->layer[i], share);
        for (int s = 0; s < SHARES; s++)
            if (share[s].bytes > 0)
                st->device->clear(st->device,
                                  (char *)share[s].array + share[s].bytes * (size_t)slot,
                                  share[s].bytes);
    }
}

static int32_t find_free(const struct state *st)
{
    for (int32_t i = 0; i < st->slots; i++)
        if (st->slot[i].status == SLOT_FREE) return i;
    return -1;
}

int32_t state_slot_take(struct state *st)
{
    const int32_t slot = find_free(st);
    if (slot < 0) return -1;
    anchor_take(st, slot); /* all else of a free slot is zero: state_slot_give left it so */
    st->slot[slot] = (struct slot){.status = SLOT_LIVE,
                                   .generation = st->slot[slot].generation + 1};
    return slot;
}

void state_slot_give(struct state *st, int32_t slot)
{
    if (slot < 0 || st->slot[slot].status == SLOT_FREE) return;
    struct slot *s = &st->slot[slot];
    clear_slot(st, slot); /* nothing of one user is left for the next */
    anchor_drop(st, slot);
    pages_drop(st, slot);
    *s = (struct slot){.status = SLOT_FREE, .generation = s->generation};
}

void state_advance(struct state *st, int32_t slot, int32_t rows)
{
    GDN_CHECK(st->slot[slot].status == SLOT_LIVE, "slot %d is not live", slot);
    st->slot[slot].position += rows;
    st->slot[slot].drafted = 0;
}

void state_drafted(struct state *st, int32_t slot, int32_t rows)
{
    GDN_CHECK(st->slot[slot].status == SLOT_LIVE, "slot %d is not live", slot);
    st->slot[slot].drafted = rows;
}

void state_invalidate(struct state *st, int32_t slot)
{
    if (st->slot[slot].status == SLOT_LIVE) st->slot[slot].status = SLOT_INVALID;
}

void state_judge(struct state *st, int32_t slot, bool finite)
{
    if (!finite)
        state_invalidate(st, slot);
    else if (st->slot[slot].status == SLOT_LIVE)
        st->slot[slot].finite = st->slot[slot].position;
}

int32_t state_commit(struct state *st, int32_t slot, int32_t n)
{
    struct slot *s = &st->slot[slot];
    if (n > s->drafted) n = s->drafted;
    s->drafted = 0;
    if (n <= 0) return 0;
    s->position += n;
    return n;
}

int32_t state_length(const struct state *st, int32_t slot)
{
    const int32_t position = st->slot[slot].position;
    int32_t length = position;
    for (int32_t i = 0; i < st->layers; i++) {
        if (st->layer[i].shape.kind != LAYER_DELTA) continue;
        int32_t base;
        st->device->download(st->device, &base, st->layer[i].delta.base + slot, sizeof base);
        if (position - base < length) length = position - base;
    }
    return length;
}

enum gdn_status state_rewind(struct state *st, int32_t slot, int32_t n, struct gdn_error *err)
{
    const int32_t length = state_length(st, slot);
    if (n < 0 || n > length)
        return error_set(err, GDN_ERR_USAGE, "rewind: found %d tokens, the log holds %d", n,
                         length);
    struct slot *s = &st->slot[slot];
    s->position -= n;
    s->drafted = 0;
    if (s->head > head_settled(s->position)) s->head = head_settled(s->position);
    if (s->finite > s->position) s->finite = s->position;
    return GDN_OK;
}

/* A delta call without rows: the kernel folds what is overdue, in its own arithmetic. */
static void settle_layer(struct state *st, struct layer_state *l, struct arena *scratch,
                         const struct rows *rows)
{
    const struct layer_shape *s = &l->shape;
    const struct delta_slots *d = &l->delta;
    const int64_t key[] = {0, s->Hk, s->Dk}, value[] = {0, s->Hv, s->Dv};
    const int64_t gate[] = {0, s->Hv, s->Dk};
    struct tensor k = tensor_over(NULL, d->k_type, 3, key);
    struct tensor v = tensor_over(NULL, d->k_type, 3, value);
    struct tensor g = tensor_over(NULL, d->wide_type, d->channel_gate ? 3 : 2, gate);
    struct tensor beta = tensor_over(NULL, d->wide_type, 2, gate), q = k, o = v;
    const struct delta_args a = {.q = &q, .k = &k, .v = &v, .g = &g, .beta = &beta, .o = &o,
                                 .rows = rows, .slots = &l->delta};
    const size_t mark = arena_mark(scratch);
    st->device->forward[OP_DELTA](st->device, scratch, &a);
    arena_release(scratch, mark);
}

enum gdn_status state_settle(struct state *st, int32_t slot, struct arena *scratch,
                             struct gdn_error *err)
{
    if (state_length(st, slot) <= BLOCK) return GDN_OK;
    anchor_own(st, slot);
    const int32_t stage[] = {0, 0, st->slot[slot].position, slot};
    st->device->upload(st->device, st->settle_on, stage, sizeof stage);
    const struct rows rows = {.B = 1, .T = 0, .start = st->settle_on, .pos = st->settle_on + 2,
                              .slot = st->settle_on + 3};
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].shape.kind == LAYER_DELTA)
            settle_layer(st, &st->layer[i], scratch, &rows);
    if (!scratch->failed && st->device->status == GDN_OK) return GDN_OK;
    return error_set(err, GDN_ERR_MEMORY, "no scratch memory to fold a state");
}

int32_t state_fork(struct state *st, int32_t from)
{
    GDN_CHECK(st->slot[from].status == SLOT_LIVE, "slot %d is not live", from);
    const int32_t to = find_free(st);
    if (to < 0) return -1;
    for (int32_t i = 0; i < st->layers; i++) {
        struct share share[SHARES];
        layer_shares(&st->layer[i], share);
        for (int s = 0; s < SHARES; s++) {
            char *array = share[s].array;
            if (share[s].bytes == 0) continue;
            st->device->copy(st->device, array + share[s].bytes * (size_t)to,
                             array + share[s].bytes * (size_t)from, share[s].bytes);
        }
    }
    anchor_share(st, from, to);
    pages_share(st, from, to);
    const uint32_t generation = st->slot[to].generation + 1;
    st->slot[to] = st->slot[from];
    st->slot[to].generation = generation;
    st->slot[to].drafted = 0;
    return to;
}

enum gdn_status state_place(struct state *st, int32_t slot, int32_t position, struct gdn_error *err)
{
    struct slot *s = &st->slot[slot];
    if (s->position != 0 || position < 0 || position > st->row_pages * PAGE)
        return error_set(err, GDN_ERR_USAGE, "place: found position %d in a slot at %d, need 0 to "
                         "%d in one at 0", position, s->position, st->row_pages * PAGE);
    s->position = s->finite = position;
    s->head = head_settled(position);
    s->drafted = 0;
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].shape.kind == LAYER_DELTA)
            st->device->upload(st->device, st->layer[i].delta.base + slot, &position,
                               sizeof position);
    return GDN_OK;
}

enum gdn_status state_import(struct state *st, int32_t slot, int32_t layer, const double *dense,
                             const float *inputs, struct gdn_error *err)
{
    const struct layer_state *l = &st->layer[layer];
    const struct conv_slots *c = &l->conv;
    const int32_t position = st->slot[slot].position;
    if (state_length(st, slot) > 0)
        return error_set(err, GDN_ERR_USAGE, "import: the slot has moved on from its origin");
    anchor_own(st, slot);
    st->device->anchor_pack(&l->delta, slot, dense);
    const int32_t history = l->shape.taps - 1;
    const size_t size = dtype_size(c->dtype);
    for (int32_t i = 0; inputs && i < history && i < position; i++) {
        const int32_t p = position - 1 - i;
        for (int64_t channel = 0; channel < c->C; channel++) {
            const int64_t at = ((int64_t)slot * c->ring + p % c->ring) * c->C + channel;
            char element[sizeof(double)];
            const float x = inputs[(int64_t)(history - 1 - i) * c->C + channel];
            dtype_store(element, c->dtype, 0, (double)x);
            st->device->upload(st->device, (char *)c->x + size * (size_t)at, element, size);
        }
    }
    return GDN_OK;
}
