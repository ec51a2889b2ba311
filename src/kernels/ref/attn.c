/* attn: causal attention; query head h reads key head h / (Hq / Hkv).
 *
 *   s_j = scale q . k_j,  P = softmax of s over positions j = 0..p,  o = sum_j P_j v_j
 *
 * q [T, Hq, D], o [T, Hq, Dv], k [T, Hkv, D], v [T, Hkv, Dv]. With pages, the rows of a sequence are
 * first written to theirs (position p in page table[slot][p / 64], row p mod 64) and everything is
 * read from there (values that are the front of their keys are not written twice); dense, a sequence
 * starts at position 0 and its rows are the positions.
 *
 * backward (dense): dP_j = do . v_j;  ds_j = P_j (dP_j - sum_i P_i dP_i);
 *   dq = scale sum_j ds_j k_j,  dk_j = scale sum ds_j q,  dv_j = sum P_j do. */
#include "base/check.h"
#include "kernels/ref/ref.h"

/* Row of key head h at a position: its number among all rows of the pages. */
static int64_t page_at(const struct kv_pages *p, int32_t slot, int64_t position, int64_t h)
{
    const int64_t page = p->table[(int64_t)slot * p->row_pages + position / PAGE];
    return (page * PAGE + position % PAGE) * p->Hkv + h;
}

static void write_pages(const struct attn_args *a, int32_t b)
{
    const struct kv_pages *p = a->pages;
    for (int32_t i = 0; i < ref_length(a->rows, b); i++) {
        const int64_t t = a->rows->start[b] + i;
        for (int64_t h = 0; h < p->Hkv; h++) {
            const int64_t at = page_at(p, a->rows->slot[b], a->rows->pos[b] + i, h);
            for (int64_t d = 0; d < p->D; d++)
                ref_store(p->dtype, p->k, at * p->D + d, ref_get(a->k, ref_at(a->k, t, h, d)));
            for (int64_t d = 0; p->v && d < p->Dv; d++)
                ref_store(p->dtype, p->v, at * p->Dv + d, ref_get(a->v, ref_at(a->v, t, h, d)));
        }
    }
}

/* Element d of the key or value of key head h at a position of sequence b. */
static double key(const struct attn_args *a, int32_t b, int64_t position, int64_t h, int64_t d)
{
    const struct kv_pages *p = a->pages;
    if (!p) return ref_get(a->k, ref_at(a->k, a->rows->start[b] + position, h, d));
    return ref_load(p->dtype, p->k, page_at(p, a->rows->slot[b], position, h) * p->D + d);
}

static double value(const struct attn_args *a, int32_t b, int64_t position, int64_t h, int64_t d)
{
    const struct kv_pages *p = a->pages;
    if (!p) return ref_get(a->v, ref_at(a->v, a->rows->start[b] + position, h, d));
    if (!p->v) return key(a, b, position, h, d);
    return ref_load(p->dtype, p->v, page_at(p, a->rows->slot[b], position, h) * p->Dv + d);
}

static int64_t key_head(const struct attn_args *a, int64_t h)
{
    return h / (a->q->dim[1] / a->k->dim[1]);
}

/* P [last + 1] of row t, query head h, at position `last`. */
static void weights(const struct attn_args *a, int32_t b, int64_t t, int64_t h, int64_t last,
                    double *P)
{
    const int64_t D = a->q->dim[2];
    double max = -(double)INFINITY, sum = 0.0;
    for (int64_t j = 0; j <= last; j++) {
        P[j] = 0.0;
        for (int64_t d = 0; d < D; d++)
            P[j] += ref_get(a->q, ref_at(a->q, t, h, d)) * key(a, b, j, key_head(a, h), d);
        P[j] *= a->scale;
        max = fmax(max, P[j]);
    }
    for (int64_t j = 0; j <= last; j++) sum += P[j] = exp(P[j] - max);
    for (int64_t j = 0; j <= last; j++) P[j] /= sum;
}

static void attend(const struct attn_args *a, int32_t b, int64_t t, int64_t last, double *P)
{
    for (int64_t h = 0; h < a->q->dim[1]; h++) {
        weights(a, b, t, h, last, P);
        for (int64_t d = 0; d < a->v->dim[2]; d++) {
            double sum = 0.0;
            for (int64_t j = 0; j <= last; j++) sum += P[j] * value(a, b, j, key_head(a, h), d);
            ref_put(a->o, ref_at(a->o, t, h, d), sum);
        }
    }
}

void attn_forward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct attn_args *a = args;
    const struct rows *rows = a->rows;
    GDN_CHECK(!a->pages || rows->slot, "attn: pages belong to slots");
    for (int32_t b = 0; b < rows->B; b++) {
        const int64_t n = ref_length(rows, b), end = rows->pos[b] + n;
        if (ref_absent(rows, b)) ref_clear(a->o, rows->start[b], rows->start[b + 1]);
        if (n == 0) continue;
        GDN_CHECK(a->pages || rows->pos[b] == 0, "attn: dense sequences start at position 0");
        GDN_CHECK(!a->pages || end <= (int64_t)a->pages->row_pages * PAGE, "attn: too few pages");
        const size_t mark = arena_mark(scratch);
        double *P = ref_take(scratch, end);
        if (!P) return;
        if (a->pages) write_pages(a, b);
        for (int64_t i = 0; i < n; i++) attend(a, b, rows->start[b] + i, rows->pos[b] + i, P);
        arena_release(scratch, mark);
    }
}

/* Row i of sequence b, query head h; dk [n, D], dv [n, Dv] of its key head. P, dP [n]. */
static void row_backward(const struct attn_args *a, int32_t b, int64_t i, int64_t h, double *P,
                         double *dP, double *dk, double *dv)
{
    const struct tensor *dout = a->o->grad, *dq = a->q->grad;
    const int64_t D = a->q->dim[2], Dv = a->v->dim[2];
    const int64_t t = a->rows->start[b] + i, from = key_head(a, h);
    weights(a, b, t, h, i, P);
    double mean = 0.0;
    for (int64_t j = 0; j <= i; j++) {
        dP[j] = 0.0;
        for (int64_t d = 0; d < Dv; d++) {
            double up = ref_get(dout, ref_at(dout, t, h, d));
            dP[j] += up * value(a, b, j, from, d);
            dv[j * Dv + d] += P[j] * up;
        }
        mean += P[j] * dP[j];
    }
    for (int64_t d = 0; d < D; d++) {
        double sum = 0.0, q = ref_get(a->q, ref_at(a->q, t, h, d));
        for (int64_t j = 0; j <= i; j++) {
            double ds = a->scale * P[j] * (dP[j] - mean);
            sum += ds * key(a, b, j, from, d);
            dk[j * D + d] += ds * q;
        }
        ref_add(dq, ref_at(dq, t, h, d), sum);
    }
}

void attn_backward_ref(struct device *device, struct arena *scratch, const void *args)
{
    (void)device;
    const struct attn_args *a = args;
    const struct tensor *gk = a->k->grad, *gv = a->v->grad;
    const int64_t D = a->q->dim[2], Dv = a->v->dim[2], longest = ref_longest(a->rows);
    GDN_CHECK(a->pages == NULL, "attn: gradients do not go through pages");
    double *P = ref_take(scratch, longest), *dP = ref_take(scratch, longest);
    double *dk = ref_take(scratch, longest * D), *dv = ref_take(scratch, longest * Dv);
    if (!a->o->grad || !P || !dP || !dk || !dv) return;
    for (int32_t b = 0; b < a->rows->B; b++) {
        const int64_t n = ref_length(a->rows, b), first = a->rows->start[b];
        for (int64_t kh = 0; kh < a->k->dim[1]; kh++) {
            for (int64_t i = 0; i < n * D; i++) dk[i] = 0.0;
            for (int64_t i = 0; i < n * Dv; i++) dv[i] = 0.0;
            for (int64_t h = 0; h < a->q->dim[1]; h++)
                for (int64_t i = 0; key_head(a, h) == kh && i < n; i++)
                    row_backward(a, b, i, h, P, dP, dk, dv);
            for (int64_t i = 0; i < n * D; i++)
                ref_add(gk, ref_at(gk, first + i / D, kh, i % D), dk[i]);
            for (int64_t i = 0; i < n * Dv; i++)
                ref_add(gv, ref_at(gv, first + i / Dv, kh, i % Dv), dv[i]);
        }
    }
}
