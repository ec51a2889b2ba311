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

/* Columns of blocks that may walk side by side, and how many: what they read lies side by side too. */
enum { FEW = 16, MOST_TOGETHER = 8 };

struct job {
    const struct attn_args *a;
    const struct attn_form *form;
    int group, columns;    /* queries of a key head; columns of the largest block, padded */
    int together;          /* key heads whose blocks walk side by side: one of them, or all */
    int64_t items, spans;  /* blocks at most, `together` as one; spans of the longest past */
    int64_t cost, shares;  /* where spans are shared: pages that are met, and among how many */
    int64_t acc_step;
    size_t sums_bytes, form_bytes;
    char *work;    /* [threads][together]: two sums, then the form's */
    char *partial; /* [items][together][spans] sums; NULL: a thread walks all spans of its blocks */
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

/* The first block of item i of the call; false: it has no columns. The pages of a sequence are taken
 * from both ends in turn, so that equal shares of a prompt are equal work. */
static bool find_item(const struct job *job, int64_t i, struct item *item)
{
    const struct attn_args *a = job->a;
    const struct rows *rows = a->rows;
    const int64_t parties = a->k->dim[1] / job->together;
    int b = 0;
    for (int64_t here; i >= (here = pages_of(rows, b) * parties * pieces_of(job, b)); b++) i -= here;
    const int64_t pieces = pieces_of(job, b), piece = i % pieces, n = i / pieces / parties;
    const int64_t pages = pages_of(rows, b), turn = n % 2 ? pages - 1 - n / 2 : n / 2;
    const int64_t begin = rows->pos[b], end = begin + rows->start[b + 1] - rows->start[b];
    item->b = b;
    item->page = begin / PAGE + turn;
    const int64_t from = turn ? item->page * PAGE : begin;
    const int64_t to = (item->page + 1) * PAGE < end ? (item->page + 1) * PAGE : end;
    const int64_t most = job->form->columns;
    const int64_t first = piece * most, left = (to - from) * job->group - first;
    item->block = (struct attn_block){
        .args = a, .row = rows->start[b] + from - begin, .h = i / pieces % parties * job->together,
        .first = first, .columns = (int)(left < most ? left : most), .group = job->group,
        .place = (int)(from % PAGE), .acc_step = job->acc_step};
    return left > 0;
}

static struct attn_page find_page(const struct item *item, int64_t h, int64_t page)
{
    const struct attn_args *a = item->block.args;
    const struct kv_pages *p = a->pages;
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

/* Blocks of some heads side by side on their way over spans: head `head` .. of the item's. */
struct walk {
    struct item item;
    int head, heads;
    int64_t end; /* pages from there on are not this walk's, and not called */
    char *work;  /* of the form, [heads] */
    size_t step; /* bytes from one head's to the next */
};

static struct attn_block block_of(const struct walk *w, int i)
{
    struct attn_block block = w->item.block;
    block.h += w->head + i;
    block.work = w->work + (size_t)i * w->step;
    return block;
}

static struct attn_sums sums_at(const struct job *job, char *memory)
{
    float *top = (float *)memory, *weight = top + job->columns;
    return (struct attn_sums){top, weight, weight + job->columns};
}

static void enter(const struct job *job, const struct walk *w)
{
    for (int i = 0; i < w->heads; i++) {
        const struct attn_block block = block_of(w, i);
        job->form->enter(&block);
    }
}

static struct attn_errand errand_to(const char *from, int64_t rows, int64_t step, int64_t bytes)
{
    const int64_t run = (bytes + 63) / 64;
    return (struct attn_errand){from, rows * run, run, run, step - run * 64};
}

/* What head i of the walk calls of page `number`: as many rows as any other of its heads, each as wide
 * as all of them, so that memory is read as it lies. */
static void call_page(const struct walk *w, int i, int64_t number, struct attn_page *page)
{
    const struct attn_args *a = w->item.block.args;
    if (number >= w->end) return;
    const struct attn_page next = find_page(&w->item, w->item.block.h + w->head, number);
    const int64_t first = PAGE * i / w->heads, rows = PAGE * (i + 1) / w->heads - first;
    page->next_k = errand_to(next.k + first * next.k_step, rows, next.k_step,
                             w->heads * a->k->dim[2] * (int64_t)dtype_size(a->k->dtype));
    page->next_v = errand_to(next.v + first * next.v_step, rows, next.v_step,
                             w->heads * a->v->dim[2] * (int64_t)dtype_size(a->v->dtype));
}

/* What a walk would have called before its first page, at once. */
static void call_first(const struct job *job, const struct walk *w, int64_t number)
{
    for (int64_t n = number; n < number + job->form->ahead; n++)
        for (int i = 0; i < w->heads; i++) {
            struct attn_page page = {0};
            call_page(w, i, n, &page);
            attn_call(&page.next_k, page.next_k.lines);
            attn_call(&page.next_v, page.next_v.lines);
        }
}

/* memory: sums of each head, `step` bytes apart. */
static void fold_span(const struct job *job, const struct walk *w, int64_t span, char *memory,
                      size_t step)
{
    const int columns = attn_columns(w->item.block.columns);
    const int ahead = w->item.block.columns <= 16 ? job->form->ahead : 1;
    for (int i = 0; i < w->heads; i++) {
        const struct attn_sums sums = sums_at(job, memory + (size_t)i * step);
        for (int c = 0; c < columns; c++) sums.top[c] = -INFINITY, sums.weight[c] = 0.0f;
        memset(sums.acc, 0, (size_t)columns * (size_t)job->acc_step * sizeof *sums.acc);
    }
    int64_t n = span * ATTN_SPAN_PAGES;
    bool ends = false;
    for (; !ends; n++)
        for (int i = 0; i < w->heads; i++) {
            const struct attn_block block = block_of(w, i);
            const struct attn_sums sums = sums_at(job, memory + (size_t)i * step);
            struct attn_page page = find_page(&w->item, block.h, n);
            call_page(w, i, n + ahead, &page);
            job->form->fold(&block, &sums, &page);
            ends = page.ends;
        }
}

static int64_t spans_of(const struct item *item) { return item->page * PAGE / ATTN_SPAN + 1; }

/* All blocks of an item, all spans: two sums and the form's memory for each of them. */
static void run_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const size_t each = 2 * job->sums_bytes + job->form_bytes;
    char *total = job->work + (size_t)(thread * job->together) * each;
    char *part = total + job->sums_bytes;
    for (int64_t i = begin; i < end; i++) {
        struct walk w = {.heads = job->together, .work = part + job->sums_bytes, .step = each};
        if (!find_item(job, i, &w.item)) continue;
        w.end = w.item.page + 1;
        if (job->together > 1) call_first(job, &w, 0);
        enter(job, &w);
        fold_span(job, &w, 0, total, each);
        for (int64_t span = 1; span < spans_of(&w.item); span++) {
            fold_span(job, &w, span, part, each);
            for (int h = 0; h < w.heads; h++) {
                const struct attn_block block = block_of(&w, h);
                const struct attn_sums into = sums_at(job, total + (size_t)h * each);
                const struct attn_sums from = sums_at(job, part + (size_t)h * each);
                job->form->merge(&block, &into, &from);
            }
        }
        for (int h = 0; h < w.heads; h++) {
            const struct attn_block block = block_of(&w, h);
            const struct attn_sums sums = sums_at(job, total + (size_t)h * each);
            job->form->leave(&block, &sums);
        }
    }
}

static char *partial_of(const struct job *job, int64_t item, int head, int64_t span)
{
    return job->partial +
           (size_t)((item * job->together + head) * job->spans + span) * job->sums_bytes;
}

static int64_t pages_in(const struct item *item, int64_t span)
{
    const int64_t left = item->page + 1 - span * ATTN_SPAN_PAGES;
    return left < ATTN_SPAN_PAGES ? left : ATTN_SPAN_PAGES;
}

/* The heads of a span of which share `share` has the middle, `done` pages behind the first one of the
 * call: w->head, w->heads. Returns the pages behind the span. */
static int64_t find_heads(const struct job *job, struct walk *w, int64_t span, int64_t done,
                          int64_t share)
{
    const int64_t pages = pages_in(&w->item, span);
    w->heads = 0;
    for (int h = 0; h < job->together; h++, done += pages)
        if ((2 * done + pages) * job->shares / (2 * job->cost) == share && w->heads++ == 0)
            w->head = h;
    return done;
}

/* Single spans of blocks, each into memory of its own, shared out by pages .. */
static void run_spans(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    char *work = job->work + (size_t)(thread * job->together) * job->form_bytes;
    for (int64_t share = begin; share < end; share++)
        for (int64_t i = 0, done = 0; i < job->items; i++) {
            struct walk w = {.work = work, .step = job->form_bytes};
            if (!find_item(job, i, &w.item)) continue;
            for (int64_t span = 0; span < spans_of(&w.item); span++) {
                struct walk next = w;
                const bool first = w.heads == 0;
                done = find_heads(job, &w, span, done, share);
                if (w.heads == 0) continue;
                w.end = w.item.page + 1;
                if (span + 1 < spans_of(&w.item)) {
                    find_heads(job, &next, span + 1, done, share);
                    if (next.heads == 0) w.end = (span + 1) * ATTN_SPAN_PAGES;
                }
                if (first && job->together > 1) call_first(job, &w, span * ATTN_SPAN_PAGES);
                enter(job, &w);
                fold_span(job, &w, span, partial_of(job, i, w.head, span),
                          (size_t)job->spans * job->sums_bytes);
            }
        }
}

/* .. and their meeting, in order. */
static void meet_spans(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        struct walk w = {.head = (int)(i % job->together)};
        const int64_t item = i / job->together;
        if (!find_item(job, item, &w.item)) continue;
        const struct attn_block block = block_of(&w, 0);
        const struct attn_sums total = sums_at(job, partial_of(job, item, w.head, 0));
        for (int64_t span = 1; span < spans_of(&w.item); span++) {
            const struct attn_sums part = sums_at(job, partial_of(job, item, w.head, span));
            job->form->merge(&block, &total, &part);
        }
        job->form->leave(&block, &total);
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
    }
    job->together = 1;
    if (most <= FEW && job->form->beside && job->a->k->dim[1] <= MOST_TOGETHER)
        job->together = (int)job->a->k->dim[1];
    for (int b = 0; b < rows->B; b++)
        job->items += pages_of(rows, b) * pieces_of(job, b) * (job->a->k->dim[1] / job->together);
    job->columns = attn_columns((int)(most < job->form->columns ? most : job->form->columns));
    job->spans = (furthest + ATTN_SPAN - 1) / ATTN_SPAN;
    /* An odd number of cache lines: rows of acc do not meet in the same sets. */
    job->acc_step = attn_wide(job->a->v->dim[2]) + 16;
    job->sums_bytes = sizeof(float) * (size_t)job->columns * (size_t)(job->acc_step + 2);
    job->form_bytes = (job->form->bytes(job->a, job->columns) + 63) / 64 * 64;
}

/* Pages that all blocks meet. */
static int64_t cost_of(const struct job *job)
{
    int64_t cost = 0;
    for (int64_t i = 0; i < job->items; i++) {
        struct item item;
        if (find_item(job, i, &item)) cost += job->together * (item.page + 1);
    }
    return cost;
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
    const int64_t threads = pool_threads(device->pool);
    const int64_t parts = job.items * job.together * job.spans;
    const bool split = threads > 1 && job.items < (job.together > 1 ? 4 : 1) * threads &&
                       job.spans > 1 && parts <= (int64_t)(PARTIAL_BYTES / job.sums_bytes);
    const size_t each = job.form_bytes + (split ? 0 : 2 * job.sums_bytes);
    job.shares = threads;
    job.cost = split ? cost_of(&job) : 0;
    job.work = arena_take(scratch, (size_t)(threads * job.together) * each);
    if (split) job.partial = arena_take(scratch, (size_t)parts * job.sums_bytes);
    if (!job.work || (split && !job.partial)) return;
    const int64_t row = a->k->dim[1] * (a->k->dim[2] + a->v->dim[2]);
    pool_run(device->pool, rows->T, cpu_grain(row), write_rows, &job);
    if (!split) {
        pool_run(device->pool, job.items, 1, run_blocks, &job);
        return;
    }
    pool_run(device->pool, threads, 1, run_spans, &job);
    pool_run(device->pool, job.items * job.together, 1, meet_spans, &job);
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
