/* delta.c: the gated delta rule over anchor and log, portable C. Truth: kernels/ref/delta.c.
 *
 * Lanes are value columns. The anchor of a head is cut in strips of 32 columns,
 *
 *     strip 0: [Dk][32]   strip 1: [Dk][32]   ...        (the last one padded with zeros)
 *
 * so that S^T k is, for each column, one chain over d ascending, and nothing is ever summed across
 * lanes. A token at position p meets the anchor of its block of 16 and the entries before it:
 *
 *     r = e^G (S k) + sum_{i<m} e^{G-G_i} (k_i . k) u_i         i ascending
 *     u = beta (v - r)
 *     o = e^G (S q) + sum_{i<m} e^{G-G_i} (k_i . q) u_i + (k . q) u
 *
 * Everything that decides bits (the chains, the dot products, the order of i) is the same whether
 * tokens come one by one, in a block or across a block edge: only the loop around differs. */
#include <string.h>

#include "base/check.h"
#include "base/mutant.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

/* One head of one sequence, with its own scratch. */
struct head {
    int Dk, Dv, strips, gates; /* gates: 1, or Dk with a channel gate */
    bool round_bf16;           /* the anchor is stored in bf16 */
    int m;                     /* entries in the log of this block */
    float *S;                  /* [strips][Dk][32] */
    float *k, *q;              /* [16][Dk] by entry */
    float *u;                  /* [16][Dv] */
    float *G;                  /* [16][gates] */
    float *beta;               /* [16] */
    float *kd, *qd;            /* [16][Dk] decayed to the anchor (channel gate only) */
    float *eG;                 /* [16] decay to the anchor (scalar gate only) */
    float *ck, *cq;            /* [16][16] coefficients of u_i in r and o */
    float *row;                /* [Dk] */
};

static size_t head_floats(int Dk, int Dv, int strips, int gates)
{
    return (size_t)strips * (size_t)Dk * STRIP +
           BLOCK * (4u * (size_t)Dk + (size_t)Dv + (size_t)gates + 2u + 2u * BLOCK) + (size_t)Dk;
}

static void head_lay(struct head *h, float *at)
{
    const size_t Dk = (size_t)h->Dk;
    h->S = at, at += (size_t)h->strips * Dk * STRIP;
    h->k = at, at += BLOCK * Dk;
    h->q = at, at += BLOCK * Dk;
    h->kd = at, at += BLOCK * Dk;
    h->qd = at, at += BLOCK * Dk;
    h->u = at, at += BLOCK * (size_t)h->Dv;
    h->G = at, at += BLOCK * (size_t)h->gates;
    h->beta = at, at += BLOCK;
    h->eG = at, at += BLOCK;
    h->ck = at, at += BLOCK * BLOCK;
    h->cq = at, at += BLOCK * BLOCK;
    h->row = at;
}

/* S <- e^{G_last} S + sum_i e^{G_last - G_i} k_i u_i^T over the m entries, i ascending. */
static void fold(struct head *h)
{
    const int Dk = h->Dk, last = h->m - 1;
    for (int d = 0; d < Dk; d++) {
        const int g = h->gates == 1 ? 0 : d;
        const float G = h->G[last * h->gates + g], keep = cpu_expf(G);
        float w[BLOCK];
        for (int i = 0; i < h->m; i++)
            w[i] = cpu_expf(G - h->G[i * h->gates + g]) * h->k[i * Dk + d];
        for (int s = 0; s < h->strips; s++) {
            float *S = h->S + ((size_t)s * (size_t)Dk + (size_t)d) * STRIP;
            const int wide = h->Dv - s * STRIP < STRIP ? h->Dv - s * STRIP : STRIP;
            for (int c = 0; c < wide; c++) S[c] = keep * S[c];
            for (int i = 0; i < h->m; i++) {
                const float *u = h->u + i * h->Dv + s * STRIP;
                for (int c = 0; c < wide; c++) S[c] = S[c] + w[i] * u[c];
            }
            if (h->round_bf16 || MUTANT == 1)
                for (int c = 0; c < wide; c++) S[c] = bf16_to_f32(f32_to_bf16(S[c]));
        }
    }
}

/* The block is full: its entries go into the anchor, and the next block begins. */
static void cross_edge(struct head *h)
{
    fold(h);
    h->m = 0;
}

/* Coefficients of entry t against all before it; k, q and G of the entry are in place. */
static void coefficients(struct head *h, int t)
{
    const int Dk = h->Dk;
    const float *k = h->k + t * Dk, *q = h->q + t * Dk, *G = h->G + t * h->gates;
    float *ck = h->ck + t * BLOCK, *cq = h->cq + t * BLOCK;
    if (h->gates == 1) {
        h->eG[t] = cpu_expf(G[0]);
        for (int i = 0; i < t; i++) {
            const float w = cpu_expf(G[0] - h->G[i]);
            ck[i] = w * cpu_dot(h->k + i * Dk, k, Dk);
            cq[i] = w * cpu_dot(h->k + i * Dk, q, Dk);
        }
    } else {
        for (int d = 0; d < Dk; d++) {
            const float e = cpu_expf(G[d]);
            h->kd[t * Dk + d] = e * k[d];
            h->qd[t * Dk + d] = e * q[d];
        }
        for (int i = 0; i < t; i++) {
            const float *Gi = h->G + i * Dk, *ki = h->k + i * Dk;
            for (int d = 0; d < Dk; d++) h->row[d] = cpu_expf(G[d] - Gi[d]) * ki[d];
            ck[i] = cpu_dot(h->row, k, Dk);
            cq[i] = cpu_dot(h->row, q, Dk);
        }
    }
    cq[t] = cpu_dot(k, q, Dk);
}

/* One entry against one strip: writes u of its columns and gives o. `v` and `o` are its columns. */
static void strip_entry(struct head *h, int t, int s, const float *v, float *o)
{
    const int Dk = h->Dk, Dv = h->Dv;
    const int wide = Dv - s * STRIP < STRIP ? Dv - s * STRIP : STRIP;
    const float *S = h->S + (size_t)s * (size_t)Dk * STRIP;
    const bool scalar = h->gates == 1;
    const float *k = (scalar ? h->k : h->kd) + t * Dk, *q = (scalar ? h->q : h->qd) + t * Dk;
    float r[STRIP] = {0}, y[STRIP] = {0};
    for (int d = 0; d < Dk; d++)
        for (int c = 0; c < STRIP; c++) {
            r[c] = r[c] + S[d * STRIP + c] * k[d];
            y[c] = y[c] + S[d * STRIP + c] * q[d];
        }
    if (scalar)
        for (int c = 0; c < STRIP; c++) {
            r[c] = h->eG[t] * r[c];
            y[c] = h->eG[t] * y[c];
        }
    for (int i = 0; i < t; i++) {
        const float *u = h->u + i * Dv + s * STRIP;
        const float a = h->ck[t * BLOCK + i], b = h->cq[t * BLOCK + i];
        for (int c = 0; c < wide; c++) {
            r[c] = r[c] + a * u[c];
            y[c] = y[c] + b * u[c];
        }
    }
    float *u = h->u + t * Dv + s * STRIP;
    for (int c = 0; c < wide; c++) {
        u[c] = h->beta[t] * (v[c] - r[c]);
        o[c] = y[c] + h->cq[t * BLOCK + t] * u[c];
    }
}

/* ---- one call -------------------------------------------------------------------------------- */

struct job {
    const struct delta_args *a;
    float *scratch;    /* per thread */
    size_t per_thread; /* floats */
};


static void load_entry(struct head *h, const struct delta_args *a, int64_t row, int64_t hv)
{
    const int t = h->m;
    const int64_t hk = hv / (a->v->dim[1] / a->k->dim[1]);
    const float *before = h->G + (t - 1) * h->gates;
    cpu_load_row(h->k + t * h->Dk, tensor_at(a->k, row * a->k->stride[0] + hk * a->k->stride[1]),
                 a->k->dtype, h->Dk);
    cpu_load_row(h->q + t * h->Dk, tensor_at(a->q, row * a->q->stride[0] + hk * a->q->stride[1]),
                 a->q->dtype, h->Dk);
    cpu_load_row(h->beta + t, tensor_at(a->beta, row * a->beta->stride[0] + hv), a->beta->dtype, 1);
    float *G = h->G + t * h->gates;
    const int64_t g = h->gates == 1 ? row * a->g->stride[0] + hv
                                    : row * a->g->stride[0] + hv * a->g->stride[1];
    cpu_load_row(G, tensor_at(a->g, g), a->g->dtype, h->gates);
    if (t > 0)
        for (int i = 0; i < h->gates; i++) G[i] = before[i] + G[i];
}

static void run_entry(struct head *h, const struct delta_args *a, int64_t row, int64_t hv)
{
    float v[STRIP], o[STRIP];
    load_entry(h, a, row, hv);
    coefficients(h, h->m);
    for (int s = 0; s < h->strips; s++) {
        const int wide = h->Dv - s * STRIP < STRIP ? h->Dv - s * STRIP : STRIP;
        const int64_t c = (int64_t)s * STRIP;
        cpu_load_row(v, tensor_at(a->v, row * a->v->stride[0] + hv * a->v->stride[1] + c),
                     a->v->dtype, wide);
        strip_entry(h, h->m, s, v, o);
        cpu_store_row(tensor_at(a->o, row * a->o->stride[0] + hv * a->o->stride[1] + c),
                      a->o->dtype, o, wide);
    }
    h->m++;
}

/* Row `entry` of a log array [slots][entries][heads][width], for one slot and head. */
static int64_t log_at(const struct delta_slots *d, int64_t slot, int64_t entry, int64_t heads,
                      int64_t head, int64_t width)
{
    return ((slot * d->entries + entry) * heads + head) * width;
}

static void store_log(const struct head *h, const struct delta_slots *d, int64_t slot, int64_t hv,
                      int entry, int at)
{
    float *u = d->u, *G = d->G;
    memcpy(u + log_at(d, slot, at, d->Hv, hv, h->Dv), h->u + entry * h->Dv,
           sizeof(float) * (size_t)h->Dv);
    memcpy(G + log_at(d, slot, at, d->Hv, hv, h->gates), h->G + entry * h->gates,
           sizeof(float) * (size_t)h->gates);
}

static void load_log(struct head *h, const struct delta_slots *d, int64_t slot, int64_t hv,
                     int from, int count)
{
    const float *u = d->u, *G = d->G;
    const int64_t hk = hv / (d->Hv / d->Hk);
    for (int i = 0; i < count; i++) {
        const int64_t k = log_at(d, slot, from + i, d->Hk, hk, h->Dk);
        cpu_load_row(h->k + i * h->Dk, (char *)d->k + k * (int64_t)dtype_size(d->k_type), d->k_type,
                     h->Dk);
        memcpy(h->u + i * h->Dv, u + log_at(d, slot, from + i, d->Hv, hv, h->Dv),
               sizeof(float) * (size_t)h->Dv);
        memcpy(h->G + i * h->gates, G + log_at(d, slot, from + i, d->Hv, hv, h->gates),
               sizeof(float) * (size_t)h->gates);
    }
    h->m = count;
}

static void *anchor_of(const struct delta_slots *d, int64_t slot, int64_t hv, int64_t floats)
{
    return (char *)delta_anchor(d, slot) + hv * floats * (int64_t)dtype_size(d->anchor_type);
}

/* How the log of a slot moves in a pass: one account for the heads and for the caller. */
struct walk {
    int start;  /* entries at the start, after an overdue fold */
    bool overdue; /* a committed verify left more than 16: the first 16 fold first */
    int end;    /* entries at the end (of a draft: counted past the edge) */
    int folds;  /* blocks that went into the anchor */
};

static struct walk walk_of(const struct delta_slots *d, const struct rows *rows, int b)
{
    const int slot = rows->slot[b], T = rows->start[b + 1] - rows->start[b];
    struct walk w = {.start = rows->pos[b] - d->base[slot]};
    GDN_CHECK(w.start >= 0 && w.start <= d->entries, "slot %d: position %d, anchor at %d", slot,
              rows->pos[b], d->base[slot]);
    if (w.start > BLOCK) {
        w.overdue = true;
        w.start -= BLOCK;
        w.folds = 1;
    }
    w.end = w.start + T;
    if (rows->draft) {
        GDN_CHECK(T <= BLOCK && w.end <= d->entries, "a draft of %d rows in a log of %d", T,
                  d->entries);
        return w;
    }
    while (w.end > BLOCK) {
        w.end -= BLOCK;
        w.folds++;
    }
    return w;
}

static void run_slot(struct head *h, const struct delta_args *a, int b, int64_t hv)
{
    const struct delta_slots *d = a->slots;
    const struct rows *rows = a->rows;
    const int64_t slot = rows->slot[b], floats = (int64_t)h->strips * h->Dk * STRIP;
    const struct walk w = walk_of(d, rows, b);
    void *anchor = anchor_of(d, slot, hv, floats);
    cpu_load_row(h->S, anchor, d->anchor_type, floats);
    int offset = 0; /* where entry 0 of the block at hand stands in the log */
    if (w.overdue) {
        load_log(h, d, slot, hv, 0, BLOCK);
        cross_edge(h);
        cpu_store_row(anchor, d->anchor_type, h->S, floats);
        load_log(h, d, slot, hv, BLOCK, w.start);
        for (int i = 0; i < w.start; i++) store_log(h, d, slot, hv, i, i);
    } else {
        load_log(h, d, slot, hv, 0, w.start);
    }
    if (MUTANT == 3 && rows->start[b + 1] - rows->start[b] > 1) {
        memset(h->S, 0, sizeof(float) * (size_t)floats);
        h->m = 0;
    }
    for (int row = rows->start[b]; row < rows->start[b + 1]; row++) {
        if (h->m == BLOCK) {
            cross_edge(h);
            if (rows->draft)
                offset = BLOCK;
            else
                cpu_store_row(anchor, d->anchor_type, h->S, floats);
        }
        run_entry(h, a, row, hv);
        store_log(h, d, slot, hv, h->m - 1, offset + h->m - 1);
    }
}

/* Element (column, channel) of a head's strips. */
static float *strip_at(struct head *h, int c, int d)
{
    return h->S + ((size_t)(c / STRIP) * (size_t)h->Dk + (size_t)d) * STRIP + (size_t)(c % STRIP);
}

/* Dense state [Dv][Dk] <-> strips. */
static void load_dense(struct head *h, const struct tensor *S0, int64_t b, int64_t hv)
{
    memset(h->S, 0, sizeof(float) * (size_t)h->strips * (size_t)h->Dk * STRIP);
    if (!S0) return;
    for (int c = 0; c < h->Dv; c++) {
        cpu_load_row(h->row, tensor_at(S0, b * S0->stride[0] + hv * S0->stride[1] + c * S0->stride[2]),
                     S0->dtype, h->Dk);
        for (int d = 0; d < h->Dk; d++) *strip_at(h, c, d) = h->row[d];
    }
}

static void store_dense(struct head *h, const struct tensor *S1, int64_t b, int64_t hv)
{
    if (!S1) return;
    if (h->m > 0) fold(h);
    for (int c = 0; c < h->Dv; c++) {
        for (int d = 0; d < h->Dk; d++) h->row[d] = *strip_at(h, c, d);
        cpu_store_row(tensor_at(S1, b * S1->stride[0] + hv * S1->stride[1] + c * S1->stride[2]),
                      S1->dtype, h->row, h->Dk);
    }
}

static void run_dense(struct head *h, const struct delta_args *a, int b, int64_t hv)
{
    load_dense(h, a->S0, b, hv);
    h->m = 0;
    for (int row = a->rows->start[b]; row < a->rows->start[b + 1]; row++) {
        if (h->m == BLOCK) cross_edge(h);
        run_entry(h, a, row, hv);
    }
    store_dense(h, a->S1, b, hv);
}

/* Of an absent sequence: outputs are 0, the state passes by. */
static void run_absent(struct head *h, const struct delta_args *a, int b, int64_t hv)
{
    for (int64_t row = a->rows->start[b]; row < a->rows->start[b + 1]; row++)
        memset(tensor_at(a->o, row * a->o->stride[0] + hv * a->o->stride[1]), 0,
               dtype_size(a->o->dtype) * (size_t)a->o->dim[2]);
    if (a->slots || !a->S1) return;
    h->m = 0;
    load_dense(h, a->S0, b, hv);
    store_dense(h, a->S1, b, hv);
}

static void run_heads(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct delta_args *a = job->a;
    const int64_t Hv = a->v->dim[1];
    struct head h = {
        .Dk = (int)a->k->dim[2], .Dv = (int)a->v->dim[2],
        .strips = (int)((a->v->dim[2] + STRIP - 1) / STRIP),
        .gates = a->g->rank == 3 ? (int)a->k->dim[2] : 1,
        .round_bf16 = a->slots && a->slots->anchor_type == DTYPE_BF16,
    };
    head_lay(&h, job->scratch + (size_t)thread * job->per_thread);
    for (int64_t i = begin; i < end; i++) {
        const int b = (int)(i / Hv);
        if (a->rows->slot && a->rows->slot[b] < 0)
            run_absent(&h, a, b, i % Hv);
        else if (a->slots)
            run_slot(&h, a, b, i % Hv);
        else
            run_dense(&h, a, b, i % Hv);
    }
}

/* After all heads: the keys they shared go to the log, and the anchor's position moves. */
static void advance_log(const struct delta_args *a, int b)
{
    const struct delta_slots *d = a->slots;
    const struct rows *rows = a->rows;
    const int slot = rows->slot[b], T = rows->start[b + 1] - rows->start[b];
    const struct walk w = walk_of(d, rows, b);
    const size_t row_bytes = dtype_size(d->k_type) * (size_t)d->Hk * (size_t)d->Dk;
    char *log = (char *)d->k + row_bytes * (size_t)slot * (size_t)d->entries;
    if (w.overdue) memmove(log, log + BLOCK * row_bytes, row_bytes * (size_t)w.start);
    const int kept = T < w.end ? T : w.end; /* of the pass's rows, those that stay in the log */
    for (int i = 0; i < kept; i++) {
        const int64_t row = rows->start[b + 1] - kept + i;
        for (int64_t hk = 0; hk < d->Hk; hk++)
            memcpy(log + row_bytes * (size_t)(w.end - kept + i) +
                       dtype_size(d->k_type) * (size_t)(hk * d->Dk),
                   tensor_at(a->k, row * a->k->stride[0] + hk * a->k->stride[1]),
                   dtype_size(d->k_type) * (size_t)d->Dk);
    }
    d->base[slot] += BLOCK * w.folds;
}

void cpu_delta_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct delta_args *a = args;
    GDN_CHECK(!a->slots || a->slots->k_type == a->k->dtype, "the log keeps k in its own type");
    const int Dk = (int)a->k->dim[2], Dv = (int)a->v->dim[2];
    const size_t per_thread = head_floats(Dk, Dv, (Dv + STRIP - 1) / STRIP,
                                          a->g->rank == 3 ? Dk : 1);
    struct job job = {.a = a, .per_thread = (per_thread + 15) / 16 * 16};
    job.scratch = arena_take(scratch, sizeof(float) * job.per_thread *
                                          (size_t)pool_threads(device->pool));
    if (!job.scratch) return;
    pool_run(device->pool, a->rows->B * a->v->dim[1], 1, run_heads, &job);
    if (!a->slots) return;
    for (int b = 0; b < a->rows->B; b++)
        if (a->rows->slot[b] >= 0) advance_log(a, b);
}

/* ---- the anchor at the edges -------------------------------------------------------------------- */

int64_t cpu_anchor_elements(int32_t Hv, int32_t Dv, int32_t Dk)
{
    return (int64_t)Hv * ((Dv + STRIP - 1) / STRIP) * Dk * STRIP;
}

/* Element (head, column, channel) inside an anchor. */
static int64_t anchor_at(const struct delta_slots *d, int64_t hv, int64_t c, int64_t k)
{
    const int64_t strips = (d->Dv + STRIP - 1) / STRIP;
    return ((hv * strips + c / STRIP) * d->Dk + k) * STRIP + c % STRIP;
}

void cpu_anchor_pack(const struct delta_slots *d, int32_t slot, const double *dense)
{
    const size_t size = dtype_size(d->anchor_type);
    char *anchor = delta_anchor(d, slot);
    memset(anchor, 0, (size_t)d->anchor_elements * size);
    for (int64_t hv = 0; hv < d->Hv; hv++)
        for (int64_t c = 0; c < d->Dv; c++)
            for (int64_t k = 0; k < d->Dk; k++) {
                const float x = (float)dense[(hv * d->Dv + c) * d->Dk + k];
                cpu_store_row(anchor + (size_t)anchor_at(d, hv, c, k) * size, d->anchor_type, &x, 1);
            }
}

void cpu_anchor_unpack(const struct delta_slots *d, int32_t slot, double *dense)
{
    const size_t size = dtype_size(d->anchor_type);
    const char *anchor = delta_anchor(d, slot);
    for (int64_t hv = 0; hv < d->Hv; hv++)
        for (int64_t c = 0; c < d->Dv; c++)
            for (int64_t k = 0; k < d->Dk; k++) {
                float x;
                cpu_load_row(&x, anchor + (size_t)anchor_at(d, hv, c, k) * size, d->anchor_type, 1);
                dense[(hv * d->Dv + c) * d->Dk + k] = (double)x;
            }
}
