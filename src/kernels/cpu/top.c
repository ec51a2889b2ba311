/* top.c: of each row of logits the `best` largest, largest first, ties by lower id, and the
 * logsumexp. A NaN is ordered and reported as -inf. Truth: kernels/ref/top.c.
 *
 * Ids ascend, so what is not larger than the last of the best so far comes too late: a tile whose
 * largest is not is passed over at once. A few best are kept in order, and a bound that as many
 * reach is known before: of the largest of each of 64 classes. Of many, what is larger is only put
 * behind the others, until there is no more room: then they are sorted, and the best stay.
 *
 * With fewer rows than threads a row is cut into parts. The tiles' sums meet in order whoever made
 * them, and the best of the whole are found among the best of the parts: the same bits. */
#include "kernels/cpu/lse.h"

enum { MOST = 256, FEW = 32, CHUNK = 64, ROOM = 2 * (MOST + CHUNK), PART_TILES = 16 };

/* ---- the best of a part -------------------------------------------------------------------------- */

struct chosen {
    int32_t count, best;
    float bound; /* -inf: not known yet */
    float value[ROOM];
    int32_t id[ROOM];
};

/* Descending values are ascending keys; both zeros are the same. */
static uint32_t key_of(float value)
{
    uint32_t bits;
    value += 0.0f;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 31 ? bits : ~bits & 0x7fffffff;
}

/* Best first, those of equal value as they stood: byte by byte of the key, from the last one. */
static void sort(struct chosen *c)
{
    enum { BYTES = 4, DIGITS = 256 };
    uint64_t item[2][ROOM]; /* key, and where it stood */
    uint16_t count[BYTES][DIGITS] = {{0}};
    struct chosen old;
    int now = 0;
    for (int32_t i = 0; i < c->count; i++) {
        const uint32_t key = key_of(c->value[i]);
        item[0][i] = (uint64_t)key << 32 | (uint32_t)i;
        for (int b = 0; b < BYTES; b++) count[b][key >> 8 * b & 255]++;
    }
    for (int b = 0; b < BYTES; b++) {
        const int shift = 32 + 8 * b;
        if (c->count == 0 || count[b][item[now][0] >> shift & 255] == c->count) continue;
        uint16_t begin = 0;
        for (int d = 0; d < DIGITS; d++) {
            const uint16_t n = count[b][d];
            count[b][d] = begin;
            begin = (uint16_t)(begin + n);
        }
        for (int32_t i = 0; i < c->count; i++)
            item[1 - now][count[b][item[now][i] >> shift & 255]++] = item[now][i];
        now = 1 - now;
    }
    memcpy(old.value, c->value, sizeof *old.value * (size_t)c->count);
    memcpy(old.id, c->id, sizeof *old.id * (size_t)c->count);
    for (int32_t i = 0; i < c->count; i++) {
        const uint32_t from = (uint32_t)item[now][i];
        c->value[i] = old.value[from];
        c->id[i] = old.id[from];
    }
}

static void keep_best(struct chosen *c)
{
    if (c->best > FEW) sort(c);
    if (c->count > c->best) c->count = c->best;
}

/* A few: behind those that are not smaller. */
static void put_between(struct chosen *c, float value, int32_t id)
{
    int32_t at = c->count < c->best ? c->count++ : c->best - 1;
    for (; at > 0 && c->value[at - 1] < value; at--) {
        c->value[at] = c->value[at - 1];
        c->id[at] = c->id[at - 1];
    }
    c->value[at] = value;
    c->id[at] = id;
    if (c->count == c->best) c->bound = c->value[c->best - 1];
}

/* Many: elements i .. end - 1 of a tile, at most a chunk. */
static void put_behind(struct chosen *c, const float *x, int64_t i, int64_t end, int32_t id)
{
    if (c->count + CHUNK > ROOM) {
        keep_best(c);
        c->bound = c->value[c->best - 1];
    }
    for (; i < end; i++) {
        c->value[c->count] = x[i];
        c->id[c->count] = id + (int32_t)i;
        c->count += x[i] > c->bound;
    }
}

/* Elements of a tile; id: of its first. The first ones come in whatever they are. */
static void offer(struct chosen *c, const struct lse_walk *walk, const float *x, int64_t n,
                  int32_t id)
{
    int64_t i = 0, end;
    if (c->best <= FEW) {
        for (; i < n && c->count < c->best && isinf(c->bound); i++)
            put_between(c, isnan(x[i]) ? -INFINITY : x[i], id + (int32_t)i);
        for (; (i = walk->above(x, i, n, c->bound)) < n; i++)
            put_between(c, x[i], id + (int32_t)i);
        return;
    }
    for (; i < n && c->count < c->best; i++) {
        c->value[c->count] = isnan(x[i]) ? -INFINITY : x[i];
        c->id[c->count++] = id + (int32_t)i;
    }
    for (; (i = walk->above(x, i, n, c->bound)) < n; i = end) {
        end = (i / CHUNK + 1) * CHUNK;
        if (end > n) end = n;
        put_behind(c, x, i, end, id);
    }
}

/* ---- parts of rows ------------------------------------------------------------------------------ */

struct job {
    const struct top_args *a;
    const struct lse_walk *walk;
    int64_t tiles, parts, part_tiles; /* of a row */
    struct chosen *chosen; /* [rows][parts], or [threads] where a row is one part */
    struct cpu_lse *tile;  /* [rows][tiles], or [threads][tiles] */
};

/* Just below what `best` elements reach: the best-th largest of the classes' largest. */
static float bound_of(const float *peak, int32_t best)
{
    float bound = INFINITY;
    for (int i = 0; i < LSE_CLASSES; i++) {
        int32_t larger = 0;
        for (int j = 0; j < LSE_CLASSES; j++) larger += peak[j] > peak[i];
        if (larger < best && peak[i] < bound) bound = peak[i];
    }
    return nextafterf(bound, -INFINITY);
}

/* Elements of tile t as f32, n of them: where they lie, or in `wide`. */
static const float *tile_at(const struct top_args *a, const char *logits, int64_t t, float *wide,
                            int64_t *n)
{
    const enum dtype dtype = a->logits->dtype;
    const int64_t v = t * CPU_LSE_TILE, left = a->vocab - v;
    *n = left < CPU_LSE_TILE ? left : CPU_LSE_TILE;
    if (dtype == DTYPE_F32) return (const float *)logits + v;
    cpu_load_row(wide, logits + v * (int64_t)dtype_size(dtype), dtype, *n);
    return wide;
}

static void take_part(const struct job *job, int64_t row, int64_t part, struct chosen *chosen,
                      struct cpu_lse *lse)
{
    const struct top_args *a = job->a;
    const char *logits = cpu_row(a->logits, row);
    const int64_t begin = part * job->part_tiles, last = begin + job->part_tiles;
    const int64_t end = last < job->tiles ? last : job->tiles;
    float wide[CPU_LSE_TILE], peak[LSE_CLASSES];
    int64_t n;
    for (int i = 0; i < LSE_CLASSES; i++) peak[i] = -INFINITY;
    for (int64_t t = begin; t < end; t++) {
        const float *x = tile_at(a, logits, t, wide, &n);
        lse[t] = job->walk->tile(x, n, peak);
    }
    chosen->count = 0;
    chosen->best = a->best;
    chosen->bound = a->best > 0 && a->best <= FEW ? bound_of(peak, a->best) : -INFINITY;
    for (int64_t t = begin; t < end && a->best > 0; t++) {
        if (isinf(chosen->bound) || lse[t].max > chosen->bound) {
            const float *x = tile_at(a, logits, t, wide, &n);
            offer(chosen, job->walk, x, n, (int32_t)(t * CPU_LSE_TILE));
        }
    }
    keep_best(chosen);
}

/* The best of all parts: of equal ones that of an earlier part has the lower id. */
static void end_row(const struct job *job, int64_t row, const struct chosen *part,
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
            if (taken[p] < part[p].count &&
                (from < 0 || part[p].value[taken[p]] > part[from].value[taken[from]]))
                from = p;
        if (from < 0) return; /* the vocabulary has no more */
        a->ids[row * a->best + i] = part[from].id[taken[from]];
        a->values[row * a->best + i] = part[from].value[taken[from]++];
    }
}

static void whole_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    struct cpu_lse *tile = job->tile + thread * job->tiles;
    for (int64_t row = begin; row < end; row++) {
        take_part(job, row, 0, job->chosen + thread, tile);
        end_row(job, row, job->chosen + thread, tile);
    }
}

static void take_parts(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        take_part(job, i / job->parts, i % job->parts, job->chosen + i,
                  job->tile + i / job->parts * job->tiles);
}

static void end_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    (void)thread;
    for (int64_t row = begin; row < end; row++)
        end_row(job, row, job->chosen + row * job->parts, job->tile + row * job->tiles);
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
    job.chosen = arena_take(scratch, count * (size_t)job.parts * sizeof *job.chosen);
    job.tile = arena_take(scratch, count * (size_t)job.tiles * sizeof *job.tile);
    if (!job.chosen || !job.tile) return;
    pool_run(device->pool, rows * job.parts, 1, whole ? whole_rows : take_parts, &job);
    if (!whole) pool_run(device->pool, rows, 1, end_rows, &job);
}
