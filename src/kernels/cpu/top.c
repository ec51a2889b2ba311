/* top.c: of each row of logits the `best` largest, largest first, ties by lower id, and the
 * logsumexp. A NaN is ordered and reported as -inf. Truth: kernels/ref/top.c.
 *
 * The chosen so far are a heap with the worst at its root. Ids ascend, so an element enters only
 * when it is larger than the worst: a tile whose largest is not is passed over at once.
 *
 * With fewer rows than threads a row is cut into parts. The tiles' sums meet in order whoever made
 * them, and the best of the whole are found among the best of the parts: the same bits. */
#include "kernels/cpu/lse.h"

enum { MOST = 256, PART_TILES = 16 };

/* ---- the best of a part -------------------------------------------------------------------------- */

struct heap {
    int32_t count, room;
    float value[MOST];
    int32_t id[MOST];
};

static bool worse(const struct heap *h, int32_t a, int32_t b)
{
    if (h->value[a] != h->value[b]) return h->value[a] < h->value[b];
    return h->id[a] > h->id[b];
}

static void swap(struct heap *h, int32_t a, int32_t b)
{
    float value = h->value[a];
    int32_t id = h->id[a];
    h->value[a] = h->value[b];
    h->id[a] = h->id[b];
    h->value[b] = value;
    h->id[b] = id;
}

static void sink(struct heap *h, int32_t at, int32_t count)
{
    for (;;) {
        int32_t least = at;
        for (int32_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++)
            if (worse(h, child, least)) least = child;
        if (least == at) return;
        swap(h, at, least);
        at = least;
    }
}

static void enter(struct heap *h, float value, int32_t id)
{
    int32_t at = h->count++;
    h->value[at] = value;
    h->id[at] = id;
    for (; at > 0 && worse(h, at, (at - 1) / 2); at = (at - 1) / 2) swap(h, at, (at - 1) / 2);
}

/* Elements of a tile; id: of its first. */
static void offer(struct heap *h, const struct lse_walk *walk, const float *x, int64_t n,
                  int32_t id)
{
    int64_t i = 0;
    for (; i < n && h->count < h->room; i++)
        enter(h, isnan(x[i]) ? -INFINITY : x[i], id + (int32_t)i);
    if (h->room == 0) return;
    for (; (i = walk->above(x, i, n, h->value[0])) < n; i++) {
        h->value[0] = x[i];
        h->id[0] = id + (int32_t)i;
        sink(h, 0, h->count);
    }
}

/* Best first. */
static void sort(struct heap *h)
{
    for (int32_t count = h->count; count > 1; count--) {
        swap(h, 0, count - 1);
        sink(h, 0, count - 1);
    }
}

/* ---- parts of rows ------------------------------------------------------------------------------ */

struct job {
    const struct top_args *a;
    const struct lse_walk *walk;
    int64_t tiles, parts, part_tiles; /* of a row */
    struct heap *heap;    /* [rows][parts], or [threads] where a row is one part */
    struct cpu_lse *tile; /* [rows][tiles], or [threads][tiles] */
};

static void take_part(const struct job *job, int64_t row, int64_t part, struct heap *heap,
                      struct cpu_lse *lse)
{
    const struct top_args *a = job->a;
    const enum dtype dtype = a->logits->dtype;
    const char *logits = cpu_row(a->logits, row);
    const int64_t begin = part * job->part_tiles, end = begin + job->part_tiles;
    heap->count = 0;
    heap->room = a->best;
    for (int64_t t = begin; t < end && t < job->tiles; t++) {
        const int64_t v = t * CPU_LSE_TILE, left = a->vocab - v;
        const int64_t n = left < CPU_LSE_TILE ? left : CPU_LSE_TILE;
        float wide[CPU_LSE_TILE];
        const float *x = (const float *)logits + v;
        if (dtype != DTYPE_F32) {
            cpu_load_row(wide, logits + v * (int64_t)dtype_size(dtype), dtype, n);
            x = wide;
        }
        lse[t] = job->walk->tile(x, n);
        if (heap->count < heap->room || (heap->room && lse[t].max > heap->value[0]))
            offer(heap, job->walk, x, n, (int32_t)v);
    }
    sort(heap);
}

/* The best of all parts: of equal ones that of an earlier part has the lower id. */
static void end_row(const struct job *job, int64_t row, const struct heap *heap,
                    const struct cpu_lse *tile)
{
    const struct top_args *a = job->a;
    struct cpu_lse lse = {-INFINITY, 0.0f};
    int32_t taken[MOST] = {0};
    for (int64_t t = 0; t < job->tiles; t++) lse_meet(&lse, tile[t]);
    a->lse[row] = (float)cpu_lse_value(&lse);
    for (int32_t i = 0; i < a->best; i++) {
        int64_t from = -1;
        for (int64_t p = 0; p < job->parts; p++)
            if (taken[p] < heap[p].count &&
                (from < 0 || heap[p].value[taken[p]] > heap[from].value[taken[from]]))
                from = p;
        if (from < 0) return; /* the vocabulary has no more */
        a->ids[row * a->best + i] = heap[from].id[taken[from]];
        a->values[row * a->best + i] = heap[from].value[taken[from]++];
    }
}

static void whole_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    struct cpu_lse *tile = job->tile + thread * job->tiles;
    for (int64_t row = begin; row < end; row++) {
        take_part(job, row, 0, job->heap + thread, tile);
        end_row(job, row, job->heap + thread, tile);
    }
}

static void take_parts(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        take_part(job, i / job->parts, i % job->parts, job->heap + i,
                  job->tile + i / job->parts * job->tiles);
}

static void end_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    (void)thread;
    for (int64_t row = begin; row < end; row++)
        end_row(job, row, job->heap + row * job->parts, job->tile + row * job->tiles);
}

void cpu_top_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct top_args *a = args;
    const int64_t rows = cpu_rows(a->logits), threads = pool_threads(device->pool);
    GDN_CHECK(a->best >= 0 && a->best <= MOST, "the best %d", a->best);
    struct job job = {.a = a, .walk = lse_walk_of(device->isa), .parts = 1};
    job.tiles = (a->vocab + CPU_LSE_TILE - 1) / CPU_LSE_TILE;
    if (rows > 0 && rows < threads) job.parts = (threads + rows - 1) / rows;
    if (job.parts > (job.tiles + PART_TILES - 1) / PART_TILES)
        job.parts = (job.tiles + PART_TILES - 1) / PART_TILES;
    if (job.parts > MOST) job.parts = MOST;
    if (job.parts < 1) job.parts = 1;
    job.part_tiles = (job.tiles + job.parts - 1) / job.parts;
    const bool whole = job.parts == 1;
    const size_t count = (size_t)(whole ? threads : rows);
    job.heap = arena_take(scratch, count * (size_t)job.parts * sizeof *job.heap);
    job.tile = arena_take(scratch, count * (size_t)job.tiles * sizeof *job.tile);
    if (!job.heap || !job.tile) return;
    pool_run(device->pool, rows * job.parts, 1, whole ? whole_rows : take_parts, &job);
    if (!whole) pool_run(device->pool, rows, 1, end_rows, &job);
}
