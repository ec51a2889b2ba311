/* attn.c: causal attention, portable C. Truth: kernels/ref/attn.c.
 *
 *     o = sum_j softmax_j(scale q.k_j) v_j         over positions 0..p
 *
 * Keys come in pages of 64 at absolute positions, in order, and each page is folded into a running
 * (max, sum, weighted values): a row's bits depend on the tokens before it, never on how many rows
 * came with it. Dense calls cut their keys into the same pages. */
#include <math.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

struct job {
    const struct attn_args *a;
    float *scratch;
    size_t per_thread; /* floats: q, key or value, sum */
};

static int64_t page_row(const struct kv_pages *p, int64_t slot, int64_t position)
{
    return (int64_t)p->table[slot * p->row_pages + position / PAGE] * PAGE + position % PAGE;
}

static void write_pages(const struct attn_args *a)
{
    const struct rows *rows = a->rows;
    const struct kv_pages *p = a->pages;
    const size_t size = dtype_size(p->dtype);
    const size_t key = size * (size_t)p->D, value = size * (size_t)p->Dv;
    for (int b = 0; b < rows->B; b++) {
        if (rows->slot[b] < 0) continue;
        for (int row = rows->start[b]; row < rows->start[b + 1]; row++) {
            const int64_t at = page_row(p, rows->slot[b], rows->pos[b] + row - rows->start[b]);
            for (int64_t h = 0; h < p->Hkv; h++) {
                const size_t to = (size_t)(at * p->Hkv + h);
                memcpy((char *)p->k + to * key,
                       tensor_at(a->k, row * a->k->stride[0] + h * a->k->stride[1]), key);
                if (!p->v) continue;
                memcpy((char *)p->v + to * value,
                       tensor_at(a->v, row * a->v->stride[0] + h * a->v->stride[1]), value);
            }
        }
    }
}

/* Key or value of `position` of sequence b, head h. */
static const void *cached(const struct attn_args *a, bool value, int b, int64_t h, int64_t position)
{
    const struct kv_pages *p = a->pages;
    if (p) {
        const int64_t at = page_row(p, a->rows->slot[b], position) * p->Hkv + h;
        const int64_t size = (int64_t)dtype_size(p->dtype);
        return value && p->v ? (const char *)p->v + at * p->Dv * size
                             : (const char *)p->k + at * p->D * size;
    }
    const struct tensor *t = value ? a->v : a->k;
    return tensor_at(t, (a->rows->start[b] + position) * t->stride[0] + h * t->stride[1]);
}

static void attend(const struct attn_args *a, int b, int64_t row, int64_t hq, float *scratch)
{
    const int64_t D = a->q->dim[2], Dv = a->v->dim[2], hkv = hq / (a->q->dim[1] / a->k->dim[1]);
    const int64_t position = a->rows->pos[b] + row - a->rows->start[b];
    const enum dtype dtype = a->k->dtype;
    float *q = scratch, *kv = q + D, *sum = kv + (D > Dv ? D : Dv);
    float top = -INFINITY, weight = 0;
    memset(sum, 0, sizeof(float) * (size_t)Dv);
    cpu_load_row(q, tensor_at(a->q, row * a->q->stride[0] + hq * a->q->stride[1]), a->q->dtype, D);
    for (int64_t first = 0; first <= position; first += PAGE) {
        const int64_t n = position + 1 - first < PAGE ? position + 1 - first : PAGE;
        float score[PAGE], best = top;
        for (int64_t j = 0; j < n; j++) {
            cpu_load_row(kv, cached(a, false, b, hkv, first + j), dtype, D);
            score[j] = cpu_dot(q, kv, D) * (float)a->scale;
            if (score[j] > best) best = score[j];
        }
        const float shrink = cpu_expf(top - best);
        weight = weight * shrink;
        for (int64_t d = 0; d < Dv; d++) sum[d] = sum[d] * shrink;
        for (int64_t j = 0; j < n; j++) {
            const float e = cpu_expf(score[j] - best);
            weight = weight + e;
            cpu_load_row(kv, cached(a, true, b, hkv, first + j), dtype, Dv);
            for (int64_t d = 0; d < Dv; d++) sum[d] = sum[d] + e * kv[d];
        }
        top = best;
    }
    for (int64_t d = 0; d < Dv; d++) sum[d] = sum[d] / weight;
    cpu_store_row(tensor_at(a->o, row * a->o->stride[0] + hq * a->o->stride[1]), a->o->dtype, sum,
                  Dv);
}

static int sequence_of(const struct rows *rows, int64_t row)
{
    int b = 0;
    while (rows->start[b + 1] <= row) b++;
    return b;
}

static void run_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct attn_args *a = job->a;
    const int64_t Hq = a->q->dim[1];
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i / Hq, hq = i % Hq;
        const int b = sequence_of(a->rows, row);
        if (a->rows->slot && a->rows->slot[b] < 0)
            memset(tensor_at(a->o, row * a->o->stride[0] + hq * a->o->stride[1]), 0,
                   dtype_size(a->o->dtype) * (size_t)a->o->dim[2]);
        else
            attend(a, b, row, hq, job->scratch + (size_t)thread * job->per_thread);
    }
}

void cpu_attn_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct attn_args *a = args;
    GDN_CHECK(!a->pages || (a->pages->dtype == a->k->dtype && a->pages->dtype == a->v->dtype),
              "pages keep keys and values in their own type");
    for (int b = 0; !a->pages && b < a->rows->B; b++)
        GDN_CHECK(a->rows->pos[b] == 0, "dense attention starts at position 0");
    const size_t D = (size_t)a->q->dim[2], Dv = (size_t)a->v->dim[2];
    struct job job = {.a = a, .per_thread = (2 * (D + Dv) + 15) / 16 * 16};
    job.scratch = arena_take(scratch, sizeof(float) * job.per_thread *
                                          (size_t)pool_threads(device->pool));
    if (!job.scratch) return;
    if (a->pages) write_pages(a);
    pool_run(device->pool, a->rows->T * a->q->dim[1], 1, run_rows, &job);
}
