/* attn.c: causal attention: pages, blocks, spans, threads. The arithmetic is in the forms (attn.h).
 * Truth: kernels/ref/attn.c.
 *
 *     o = sum_j softmax_j(scale q.k_j) v_j         over positions 0..p
 *
 * Keys come in pages of 64 at absolute positions and pages in spans of 512, in order: a row's bits
 * depend on the tokens before it, never on how many rows came with it or on who made which span.
 * Dense calls cut their keys into the same pages. */
#include <string.h>

#include "base/check.h"
#include "kernels/cpu/attn.h"

/* Partial sums of spans that several threads share; beyond, a block stays with one thread. */
enum { PARTIAL_BYTES = 8 << 20 };

struct job {
    const struct attn_args *a;
    const struct attn_form *form;
    int group, columns;    /* queries of a key head; columns of the largest block, padded */
    int64_t items, spans;  /* blocks at most; spans of the longest past */
    int64_t acc_step;
    size_t sums_bytes, form_bytes;
    char *work;    /* [threads]: two sums, then the form's */
    char *partial; /* [items][spans] sums; NULL: a thread walks all spans of its blocks */
};

/* ---- rows into pages ---------------------------------------------------------------------------- */

static int64_t page_row(const struct kv_pages *p, int64_t slot, int64_t position)
{
    return (int64_t)p->table[slot * p->row_pages + position / PAGE] * PAGE + position % PAGE;
}

static bool absent(const struct rows *rows, int b) { return rows->slot && rows->slot[b] < 0; }

static void write_row(const struct attn_args *a, int b, int64_t row)
{
    const struct kv_pages *p = a->pages;
    const size_t size = dtype_size(p->dtype);
    const size_t key = size * (size_t)p->D, value = size * (size_t)p->Dv;
    const int64_t at = page_row(p, a->rows->slot[b], a->rows->pos[b] + row - a->rows->start[b]);
    for (int64_t h = 0; h < p->Hkv; h++) {
        const size_t to = (size_t)(at * p->Hkv + h);
        memcpy((char *)p->k + to * key,
               tensor_at(a->k, row * a->k->stride[0] + h * a->k->stride[1]), key);
        if (!p->v) continue;
        memcpy((char *)p->v + to * value,
               tensor_at(a->v, row * a->v->stride[0] + h * a->v->stride[1]), value);
    }
}

/* Every row goes to its page; outputs of absent sequences are 0. */
static void write_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct attn_args *a = ((const struct job *)context)->a;
    const struct tensor *o = a->o;
    (void)thread;
    int b = 0;
    for (int64_t row = begin; row < end; row++) {
        while (a->rows->start[b + 1] <= row) b++;
        if (!absent(a->rows, b)) {
            if (a->pages) write_row(a, b, row);
            continue;
        }
        for (int64_t h = 0; h < o->dim[1]; h++)
            memset(tensor_at(o, row * o->stride[0] + h * o->stride[1]), 0,
                   dtype_size(o->dtype) * (size_t)o->dim[2]);
    }
}

/* ---- blocks ------------------------------------------------------------------------------------- */

/* Where a block is, beside what forms know of it. */
struct item {
    struct attn_block block;
    int b;
    int64_t page; /* its last one */
};

static int64_t pages_of(const struct rows *rows, int b)
{
    const int64_t n = rows->start[b + 1] - rows->start[b], pos = rows->pos[b];
    return n > 0 && !absent(rows, b) ? (pos + n - 1) / PAGE - pos / PAGE + 1 : 0;
}

/* Blocks that the queries of one key head in one page may be cut into. */
static int64_t pieces_of(const struct job *job, int b)
{
    const int64_t n = job->a->rows->start[b + 1] - job->a->rows->start[b];
    const int64_t most = job->form->columns;
    return ((n < PAGE ? n : PAGE) * job->group + most - 1) / most;
}

/* Block i of the call; false: it has no columns. The pages of a sequence are taken from both ends
 * in turn, so that equal shares of a prompt are equal work. */
static bool find_item(const struct job *job, int64_t i, struct item *item)
{
    const struct attn_args *a = job->a;
    const struct rows *rows = a->rows;
    const int64_t Hkv = a->k->dim[1];
    int b = 0;
    for (int64_t here; i >= (here = pages_of(rows, b) * Hkv * pieces_of(job, b)); b++) i -= here;
    const int64_t pieces = pieces_of(job, b), piece = i % pieces, n = i / pieces / Hkv;
    const int64_t pages = pages_of(rows, b), turn = n % 2 ? pages - 1 - n / 2 : n / 2;
    const int64_t begin = rows->pos[b], end = begin + rows->start[b + 1] - rows->start[b];
    item->b = b;
    item->page = begin / PAGE + turn;
    const int64_t from = turn ? item->page * PAGE : begin;
    const int64_t to = (item->page + 1) * PAGE < end ? (item->page + 1) * PAGE : end;
    const int64_t most = job->form->columns;
    const int64_t first = piece * most, left = (to - from) * job->group - first;
    item->block = (struct attn_block){
        .args = a, .row = rows->start[b] + from - begin, .h = i / pieces % Hkv, .first = first,
        .columns = (int)(left < most ? left : most), .group = job->group,
        .place = (int)(from % PAGE), .acc_step = job->acc_step};
    return left > 0;
}

static struct attn_page find_page(const struct item *item, int64_t page)
{
    const struct attn_args *a = item->block.args;
    const struct kv_pages *p = a->pages;
    const int64_t h = item->block.h;
    struct attn_page at = {.number = page, .last = page == item->page};
    at.ends = at.last || (page + 1) % ATTN_SPAN_PAGES == 0;
    at.keys = at.last ? attn_seen(&item->block, item->block.columns - 1) : PAGE;
    if (p) {
        const int64_t size = (int64_t)dtype_size(p->dtype);
        const int64_t row = page_row(p, a->rows->slot[item->b], page * PAGE) * p->Hkv + h;
        at.k = (const char *)p->k + row * p->D * size;
        at.v = p->v ? (const char *)p->v + row * p->Dv * size : at.k;
        at.k_step = p->Hkv * p->D * size;
        at.v_step = p->v ? p->Hkv * p->Dv * size : at.k_step;
    } else {
        const int64_t row = a->rows->start[item->b] + page * PAGE;
        at.k = tensor_at(a->k, row * a->k->stride[0] + h * a->k->stride[1]);
        at.v = tensor_at(a->v, row * a->v->stride[0] + h * a->v->stride[1]);
        at.k_step = a->k->stride[0] * (int64_t)dtype_size(a->k->dtype);
        at.v_step = a->v->stride[0] * (int64_t)dtype_size(a->v->dtype);
    }
    return at;
}

/* ---- spans -------------------------------------------------------------------------------------- */

static struct attn_sums sums_at(const struct job *job, char *memory)
{
    float *top = (float *)memory, *weight = top + job->columns;
    return (struct attn_sums){top, weight, weight + job->columns};
}

static void fold_span(const struct job *job, const struct item *item, int64_t span,
                      const struct attn_sums *sums)
{
    const int columns = attn_columns(item->block.columns);
    for (int c = 0; c < columns; c++) sums->top[c] = -INFINITY, sums->weight[c] = 0.0f;
    memset(sums->acc, 0, (size_t)columns * (size_t)job->acc_step * sizeof *sums->acc);
    const int ahead = item->block.columns <= 16 ? job->form->ahead : 1;
    int64_t n = span * ATTN_SPAN_PAGES;
    struct attn_page page;
    do {
        page = find_page(item, n++);
        if (page.number + ahead <= item->page) {
            const struct attn_page next = find_page(item, page.number + ahead);
            page.next_k = next.k, page.next_v = next.v;
        }
        job->form->fold(&item->block, sums, &page);
    } while (!page.ends);
}

static int64_t spans_of(const struct item *item) { return item->page * PAGE / ATTN_SPAN + 1; }

/* Blocks with all their spans. */
static void run_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    char *work = job->work + (size_t)thread * (2 * job->sums_bytes + job->form_bytes);
    const struct attn_sums total = sums_at(job, work);
    const struct attn_sums part = sums_at(job, work + job->sums_bytes);
    for (int64_t i = begin; i < end; i++) {
        struct item item;
        if (!find_item(job, i, &item)) continue;
        item.block.work = work + 2 * job->sums_bytes;
        job->form->enter(&item.block);
        fold_span(job, &item, 0, &total);
        for (int64_t span = 1; span < spans_of(&item); span++) {
            fold_span(job, &item, span, &part);
            job->form->merge(&item.block, &total, &part);
        }
        job->form->leave(&item.block, &total);
    }
}

static struct attn_sums partial_of(const struct job *job, int64_t item, int64_t span)
{
    return sums_at(job, job->partial + (size_t)(item * job->spans + span) * job->sums_bytes);
}

/* Single spans of blocks, each into memory of its own .. */
static void run_spans(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    for (int64_t i = begin; i < end; i++) {
        struct item item;
        const int64_t span = i % job->spans;
        if (!find_item(job, i / job->spans, &item) || span >= spans_of(&item)) continue;
        const struct attn_sums part = partial_of(job, i / job->spans, span);
        item.block.work = job->work + (size_t)thread * job->form_bytes;
        job->form->enter(&item.block);
        fold_span(job, &item, span, &part);
    }
}

/* .. and their meeting, in order. */
static void meet_spans(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        struct item item;
        if (!find_item(job, i, &item)) continue;
        const struct attn_sums total = partial_of(job, i, 0);
        for (int64_t span = 1; span < spans_of(&item); span++) {
            const struct attn_sums part = partial_of(job, i, span);
            job->form->merge(&item.block, &total, &part);
        }
        job->form->leave(&item.block, &total);
    }
}

/* ---- calls -------------------------------------------------------------------------------------- */

static void measure(struct job *job)
{
    const struct rows *rows = job->a->rows;
    int64_t most = 0, furthest = 0;
    for (int b = 0; b < rows->B; b++) {
        const int64_t n = rows->start[b + 1] - rows->start[b], pages = pages_of(rows, b);
        if (pages == 0) continue;
        const int64_t wide = (n < PAGE ? n : PAGE) * job->group, end = rows->pos[b] + n;
        if (wide > most) most = wide;
        if (end > furthest) furthest = end;
        job->items += pages * job->a->k->dim[1] * pieces_of(job, b);
    }
    job->columns = attn_columns((int)(most < job->form->columns ? most : job->form->columns));
    job->spans = (furthest + ATTN_SPAN - 1) / ATTN_SPAN;
    /* An odd number of cache lines: rows of acc do not meet in the same sets. */
    job->acc_step = attn_wide(job->a->v->dim[2]) + 16;
    job->sums_bytes = sizeof(float) * (size_t)job->columns * (size_t)(job->acc_step + 2);
    job->form_bytes = (job->form->bytes(job->a, job->columns) + 63) / 64 * 64;
}

static void attend(struct device *device, struct arena *scratch, const struct attn_args *a,
                   const struct attn_form *form)
{
    const struct rows *rows = a->rows;
    GDN_CHECK(!a->pages || (a->pages->dtype == a->k->dtype && a->pages->dtype == a->v->dtype),
              "pages keep keys and values in their own type");
    for (int b = 0; !a->pages && b < rows->B; b++)
        GDN_CHECK(rows->pos[b] == 0, "dense attention starts at position 0");
    struct job job = {.a = a, .form = form, .group = (int)(a->q->dim[1] / a->k->dim[1])};
    measure(&job);
    const int64_t threads = pool_threads(device->pool), parts = job.items * job.spans;
    const bool split = job.items < threads && job.spans > 1 &&
                       parts <= (int64_t)(PARTIAL_BYTES / job.sums_bytes);
    const size_t each = job.form_bytes + (split ? 0 : 2 * job.sums_bytes);
    job.work = arena_take(scratch, (size_t)threads * each);
    if (split) job.partial = arena_take(scratch, (size_t)parts * job.sums_bytes);
    if (!job.work || (split && !job.partial)) return;
    const int64_t row = a->k->dim[1] * (a->k->dim[2] + a->v->dim[2]);
    pool_run(device->pool, rows->T, cpu_grain(row), write_rows, &job);
    pool_run(device->pool, split ? parts : job.items, 1, split ? run_spans : run_blocks, &job);
    if (split) pool_run(device->pool, job.items, 1, meet_spans, &job);
}

void cpu_attn_forward(struct device *device, struct arena *scratch, const void *args)
{
    attend(device, scratch, args, &attn_form_portable);
}

void cpu_attn_forward_avx2(struct device *device, struct arena *scratch, const void *args)
{
    attend(device, scratch, args, &attn_form_avx2);
}

void cpu_attn_forward_avx512(struct device *device, struct arena *scratch, const void *args)
{
    attend(device, scratch, args, &attn_form_avx512);
}

void cpu_attn_forward_amx(struct device *device, struct arena *scratch, const void *args)
{
    const struct attn_args *a = args;
    const bool half = a->q->dtype == DTYPE_BF16 && a->k->dtype == DTYPE_BF16 &&
                      a->v->dtype == DTYPE_BF16;
    attend(device, scratch, a, half ? &attn_form_amx : &attn_form_avx512);
}
