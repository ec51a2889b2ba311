/* delta.c: the gated delta rule over anchor and log: a call around its heads, and the portable
 * arithmetic. Truth: kernels/ref/delta.c.
 *
 * A token at position p meets the anchor of its block of 16 and the entries before it:
 *
 *     r = e^G (S k) + sum_{i<m} e^{G-G_i} (k_i . k) u_i         i ascending
 *     u = beta (v - r)
 *     o = e^G (S q) + sum_{i<m} e^{G-G_i} (k_i . q) u_i + (k . q) u
 *
 * whether tokens come one by one, in a block or across a block's edge: only the loops around
 * differ. Lanes are value columns; the anchor of a head lies in strips of 32 of them, so that S k is
 * one chain over d for each column and nothing is ever summed across lanes. */
#include <string.h>

#include "base/mutant.h"
#include "kernels/cpu/delta_amx.h"
#include "kernels/cpu/vec_portable.h"

#include "kernels/cpu/delta_tmpl.h"
#include "kernels/cpu/delta_block_tmpl.h"
#include "kernels/cpu/delta_strips_tmpl.h"
#include "kernels/cpu/delta_walk_tmpl.h"

void delta_run_portable(struct delta_head *head) { run_heads(head); }

/* ---- blocks ------------------------------------------------------------------------------------- */

struct delta_plan delta_plan_of(const struct delta_args *a, int b, bool chunks)
{
    const struct rows *rows = a->rows;
    const struct delta_slots *d = a->slots;
    struct delta_plan p = {.row = rows->start[b], .end = rows->start[b + 1],
                           .slots = d != NULL, .fold_last = a->S1 != NULL && !d,
                           .chunks = chunks && !rows->draft};
    p.done = p.row == p.end;
    if (!d) return p;
    const int slot = rows->slot[b], T = (int)(p.end - p.row), length = rows->pos[b] - d->base[slot];
    GDN_CHECK(length >= 0 && length <= d->entries, "slot %d: position %d, anchor at %d", slot,
              rows->pos[b], d->base[slot]);
    p.draft = rows->draft;
    p.have = length < BLOCK ? length : BLOCK;
    p.beyond = length - p.have;
    p.done = T == 0 && p.beyond == 0; /* no rows may still settle an overdue fold */
    GDN_CHECK(!p.draft || (T <= BLOCK && (p.beyond ? p.beyond : p.have) + T <= d->entries),
              "a draft of %d rows in a log of %d", T, d->entries);
    return p;
}

/* How many rows the chunk form takes now, if any. */
static int chunk_rows(const struct delta_plan *p)
{
    const int64_t left = p->end - p->row, most = INT32_MAX / BLOCK * BLOCK;
    const int64_t rows = !p->slots ? left : (left - 1) / BLOCK * BLOCK;
    if (!p->chunks || p->have > 0 || rows < AMX_CHUNK) return 0;
    return (int)(rows < most ? rows : most);
}

bool delta_plan_next(struct delta_plan *p, struct delta_block *b)
{
    if (p->done) return false;
    const int together = chunk_rows(p);
    if (together > 0) {
        *b = (struct delta_block){.rows = together, .row = p->row, .fold = true, .keep = -1,
                                  .chunks = true};
        p->row += together;
        p->done = p->row == p->end;
        return true;
    }
    const int room = BLOCK - p->have;
    const bool overdue = p->beyond > 0; /* a committed verify left more than 16 */
    *b = (struct delta_block){.have = p->have, .from = p->from, .row = p->row, .keep = -1};
    b->rows = p->end - p->row < room ? (int)(p->end - p->row) : room;
    p->row += b->rows;
    const bool last = p->row == p->end && !overdue;
    b->fold = !last || p->fold_last;
    b->aside = p->draft && !overdue;
    if (b->aside)
        b->keep = BLOCK * p->drafted++;
    else if (p->slots && last)
        b->keep = 0;
    p->have = p->beyond;
    p->from = overdue ? BLOCK : 0;
    p->beyond = 0;
    p->done = last;
    return true;
}

/* ---- one call ------------------------------------------------------------------------------------ */

struct job {
    const struct delta_args *a;
    delta_run *run;
    float *scratch;
    int64_t per_thread;     /* floats */
    struct delta_head head; /* what all heads share; its pointers are offsets from 0 */
};

/* `floats` of a thread's scratch, after *used. A workplace is laid twice: to count, and to use. */
static float *lay(float *scratch, int64_t *used, int64_t floats)
{
    float *at = scratch ? scratch + *used : NULL;
    *used += (floats + 15) / 16 * 16;
    return at;
}

static void lay_coefs(const struct delta_head *h, struct delta_coefs *c, float *at, int64_t *used)
{
    c->kq = lay(at, used, 2 * BLOCK * h->row);
    c->keep = lay(at, used, h->row);
    c->ck = lay(at, used, BLOCK * BLOCK);
    c->cq = lay(at, used, BLOCK * BLOCK);
    c->eG = lay(at, used, BLOCK);
    c->w = lay(at, used, BLOCK);
    c->beta = lay(at, used, BLOCK);
    c->fold = c->kq;
    c->fold_stride = 2 * h->row;
    if (!h->channel) return;
    c->fold = lay(at, used, BLOCK * h->row);
    c->fold_stride = h->row;
    /* Each channel has its own decay, which is in kq and fold. */
    for (int i = 0; at && i < BLOCK; i++) c->eG[i] = c->w[i] = 1.0f;
}

static int64_t lay_head(struct delta_head *h, float *at)
{
    int64_t used = 0;
    h->aside = lay(at, &used, DELTA_SIDE * h->strip);
    h->G = lay(at, &used, BLOCK * (h->channel ? h->row : 1));
    h->chunk_work = lay(at, &used, (int64_t)(h->chunk_bytes / sizeof *at));
    h->u = lay(at, &used, BLOCK * DELTA_WIDE);
    h->x = lay(at, &used, BLOCK * STRIP);
    h->r = lay(at, &used, 2 * BLOCK * STRIP);
    if (h->channel) {
        h->raw = lay(at, &used, 2 * BLOCK * h->row);
        h->step = lay(at, &used, BLOCK * h->row);
        h->product = lay(at, &used, h->row);
    }
    for (int i = 0; i < DELTA_BLOCKS; i++) lay_coefs(h, &h->coefs[i], at, &used);
    if (!h->a->slots) {
        h->states = lay(at, &used, delta_turns(h->a) * h->strips * h->strip);
        h->rows4 = lay(at, &used, 4 * h->row);
    }
    return used;
}

void delta_take_turn(struct delta_head *h, int n)
{
    const struct delta_args *a = h->a;
    const struct delta_slots *d = a->slots;
    const int64_t group = a->v->dim[1] / a->k->dim[1], state = h->strips * h->strip;
    const bool last = n + 1 == h->count;
    h->hv = h->first + n;
    h->hk = h->hv / group;
    h->next.hv = last ? h->first : h->hv + 1;
    h->next.hk = h->next.hv / group;
    h->next.ahead = last ? DELTA_BLOCKS * BLOCK : 0;
    if (d)
        h->anchor = (char *)delta_anchor(d, a->rows->slot[h->b]) +
                    h->hv * state * (int64_t)dtype_size(d->anchor_type);
    else
        h->state = h->states + n * state;
}

/* Of an absent sequence: outputs are 0, the state passes by. */
static void run_absent(struct delta_head *h)
{
    const struct delta_args *a = h->a;
    const size_t bytes = dtype_size(a->o->dtype) * (size_t)a->o->dim[2];
    for (int64_t row = a->rows->start[h->b]; row < a->rows->start[h->b + 1]; row++)
        for (int n = 0; n < h->count; n++)
            memset(tensor_at(a->o, row * a->o->stride[0] + (h->first + n) * a->o->stride[1]), 0,
                   bytes);
    for (int n = 0; n < h->count && !a->slots && a->S1; n++) {
        delta_take_turn(h, n);
        delta_dense_load(h, a->S0);
        delta_dense_store(h, a->S1);
    }
}

static void run_share(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct rows *rows = job->a->rows;
    const int64_t Hv = job->a->v->dim[1];
    struct delta_head h = job->head;
    lay_head(&h, job->scratch + thread * job->per_thread);
    for (int64_t i = begin; i < end; i += h.count) {
        const int64_t share = end - i, left = Hv - i % Hv, most = share < left ? share : left;
        h.b = (int)(i / Hv), h.first = i % Hv;
        /* Of few rows nothing is met again: there each head has one turn, and a next one. */
        const bool brief = rows->start[h.b + 1] - rows->start[h.b] <= BLOCK && job->a->slots;
        h.count = most < DELTA_HEADS || brief ? (int)most : DELTA_HEADS;
        if (rows->slot && rows->slot[h.b] < 0)
            run_absent(&h);
        else
            job->run(&h);
    }
}

/* After all heads: the keys they shared go to the log, and the anchor's position moves. */
static void advance_log(const struct delta_args *a, int b, bool chunks)
{
    const struct delta_slots *d = a->slots;
    const int slot = a->rows->slot[b];
    const size_t head = dtype_size(d->k_type) * (size_t)d->Dk, row = head * (size_t)d->Hk;
    char *log = (char *)d->k + row * (size_t)slot * (size_t)d->entries;
    struct delta_plan plan = delta_plan_of(a, b, chunks);
    struct delta_block block;
    while (delta_plan_next(&plan, &block)) {
        if (block.fold && !block.aside) d->base[slot] += block.chunks ? block.rows : BLOCK;
        if (block.keep < 0) continue;
        if (block.from != block.keep)
            memmove(log + row * (size_t)block.keep, log + row * (size_t)block.from,
                    row * (size_t)block.have);
        for (int i = 0; i < block.rows; i++)
            for (int64_t hk = 0; hk < d->Hk; hk++)
                memcpy(log + row * (size_t)(block.keep + block.have + i) + head * (size_t)hk,
                       tensor_at(a->k, (block.row + i) * a->k->stride[0] + hk * a->k->stride[1]),
                       head);
    }
}

/* MUTANT 3: what a sequence remembers is lost when more than one token comes. */
static void forget(const struct delta_args *a, int b)
{
    const struct delta_slots *d = a->slots;
    const int64_t slot = a->rows->slot[b], log = d->entries * (int64_t)d->Hv * d->Dv;
    if (slot < 0 || a->rows->start[b + 1] - a->rows->start[b] <= 1) return;
    const size_t bytes = (size_t)d->anchor_elements * dtype_size(d->anchor_type);
    memset(delta_anchor(d, slot), 0, bytes);
    memset((float *)d->u + slot * log, 0, sizeof(float) * (size_t)log);
}

void delta_forward(struct device *device, struct arena *scratch, const struct delta_args *a,
                   delta_run *run, bool chunks)
{
    const int Dk = (int)a->k->dim[2], Dv = (int)a->v->dim[2];
    GDN_CHECK(!a->slots || a->slots->k_type == a->k->dtype, "the log keeps k in its own type");
    struct job job = {.a = a, .run = run,
                      .head = {.a = a, .Dk = Dk, .Dv = Dv, .strips = (Dv + STRIP - 1) / STRIP,
                               .row = (Dk + 15) / 16 * 16, .channel = a->g->rank == 3,
                               .round = MUTANT == 1 ||
                                        (a->slots && a->slots->anchor_type == DTYPE_BF16),
                               .strip = (int64_t)Dk * STRIP,
                               .chunk_bytes = chunks ? delta_chunk_bytes(a) : 0}};
    job.per_thread = lay_head(&job.head, NULL);
    job.scratch = arena_take(scratch, sizeof(float) * (size_t)job.per_thread *
                                          (size_t)pool_threads(device->pool));
    if (!job.scratch) return;
    for (int b = 0; MUTANT == 3 && a->slots && b < a->rows->B; b++) forget(a, b);
    pool_run(device->pool, a->rows->B * a->v->dim[1], 1, run_share, &job);
    for (int b = 0; a->slots && b < a->rows->B; b++)
        if (a->rows->slot[b] >= 0) advance_log(a, b, job.head.chunk_bytes > 0);
}

void cpu_delta_forward(struct device *device, struct arena *scratch, const void *args)
{
    delta_forward(device, scratch, args, delta_run_portable, false);
}

void cpu_delta_forward_avx2(struct device *device, struct arena *scratch, const void *args)
{
    delta_forward(device, scratch, args, delta_run_avx2, false);
}

void cpu_delta_forward_avx512(struct device *device, struct arena *scratch, const void *args)
{
    delta_forward(device, scratch, args, delta_run_avx512, false);
}

void cpu_delta_forward_amx(struct device *device, struct arena *scratch, const void *args)
{
    delta_forward(device, scratch, args, delta_run_avx512, true);
}
