/* linear_amx.c: products x W^T on AMX tiles. docs/kernels/linear.md.
 *
 * W is the A operand, 16 of its rows by 32 k; x is packed into B tiles, 16 of its columns wide
 * (linear_amx_rows.h); C is [16 n][16 columns of x]. The sum of an output is one chain of tile
 * products, k ascending from 0, whichever of the three forms makes it: sums that wait in memory are
 * as exact as in a tile, and columns do not meet.
 *
 *     up to 1 tile of x     a group of 16 rows of W after another streams by, each through all of K
 *     up to 4 tiles         the same, for 4 tiles at once
 *     more                  a panel of 32 rows of W by 256 k in L1, squares of 2 by 2 tiles
 *
 * Weights that tiles cannot read go to the vector product: a list is cut where the type changes. */
#include "kernels/cpu/linear_amx_rows.h"

enum {
    GROUPS = 4, /* of 16 columns: a strip */
    STRIP_COLUMNS = GROUPS * TILE_ROWS,
    BAND = 2, /* of the groups of a panel .. */
    BAND_COLUMNS = BAND * TILE_ROWS,
    PART_STEPS = 8, /* .. and its steps: a third of L1 */
    LEAST_BANDS = 3, MOST_BANDS = 8 /* that share a part of x while it is in L2 */
};

/* A product as its x was packed: [tile][step][TILE_SIZE], tiles `tile` bytes apart. */
struct tiled {
    const struct product *p;
    char *x;
    size_t tile;
    int64_t steps, tiles;           /* of 32 in K; of 16 columns */
    int parts;                      /* columns of a row */
    int64_t first_unit, first_strip; /* of this product, counted over the list */
};

struct tiled_job {
    struct tiled *list;
    struct cpu_work_rows work; /* panel, sums */
};

static inline int64_t units_of(const struct product *p)
{
    return (p->rows + UNIT_ROWS - 1) / UNIT_ROWS;
}
static inline int64_t strips_of(const struct product *p)
{
    return (p->columns + STRIP_COLUMNS - 1) / STRIP_COLUMNS;
}

/* Memory to come, asked for line by line while other is at work. */
struct errand {
    const char *at;
    int64_t lines;     /* at a time */
    int64_t run, left; /* lines in one piece, and of this one; 0: all of them */
    size_t jump;       /* from the end of one to the next */
};

/* The rows of columns n.., in so many times. */
static struct errand errand_to(const struct tiled *d, int64_t n, int64_t columns, int64_t times)
{
    enum dtype type;
    if (n >= d->p->first + d->p->columns) return (struct errand){0};
    const char *at = linear_weight_row(d->p->w, n, &type);
    const int64_t K = d->p->w->K;
    const int64_t row = dtype_quantised(type) ? quant_row_bytes(type, K)
                                              : K * (int64_t)dtype_size(type);
    return (struct errand){.at = at, .lines = (columns * row / 64 + times - 1) / times};
}

TILE_INLINE void errand_on(struct errand *e)
{
    for (int64_t i = 0; i < e->lines; i++) {
        __builtin_prefetch(e->at, 0, 2);
        e->at += 64;
        if (--e->left == 0) e->at += e->jump, e->left = e->run;
    }
}

/* ---- tile products ------------------------------------------------------------------------------ */

/* C tiles 0..3 += W x over some steps: a band of W, [step][BAND], by two tiles of x, `tile` bytes
 * apart. */
TILE_INLINE void dp_square(const char *w, const char *x, size_t tile, int64_t steps,
                           struct errand *e)
{
    for (int64_t s = 0; s < steps; s++, x += TILE_SIZE, w += BAND * TILE_SIZE) {
        tile_load(4, x, TILE_BYTES), tile_load(6, w, TILE_BYTES), tile_dp(0, 6, 4);
        errand_on(&e[0]);
        tile_load(7, w + TILE_SIZE, TILE_BYTES), tile_dp(1, 7, 4);
        errand_on(&e[1]);
        tile_load(5, x + tile, TILE_BYTES), tile_dp(2, 6, 5), tile_dp(3, 7, 5);
    }
}

/* The same with W where it lies, which so comes to the panel for those that follow. */
TILE_INLINE void dp_first(const struct tiles_of_w *lies, char *w, const char *x, size_t tile,
                          int64_t steps, struct errand *e)
{
    for (int64_t s = 0; s < steps; s++, x += TILE_SIZE, w += BAND * TILE_SIZE) {
        const char *a = lies[0].at + (size_t)s * lies[0].step;
        const char *b = lies[1].at + (size_t)s * lies[1].step;
        tile_load(4, x, TILE_BYTES), tile_load(6, a, lies[0].stride), tile_dp(0, 6, 4);
        errand_on(&e[0]);
        tile_load(7, b, lies[1].stride), tile_dp(1, 7, 4);
        tile_store(6, w, TILE_BYTES);
        errand_on(&e[1]);
        tile_load(5, x + tile, TILE_BYTES), tile_dp(2, 6, 5), tile_dp(3, 7, 5);
        tile_store(7, w + TILE_SIZE, TILE_BYTES);
    }
}

/* C tile 0 = W x over all steps, a group of W and one tile of x; the group that comes next is asked for
 * as it lies in memory, `lines` at a step. */
TILE_INLINE void dp_stream(const struct tiles_of_w *w, const char *x, int64_t steps,
                           struct errand *next)
{
    tile_zero(0);
    for (int64_t s = 0; s < steps; s++, x += TILE_SIZE) {
        errand_on(next);
        tile_load(4, x, TILE_BYTES);
        tile_load(5, w->at + (size_t)s * w->step, w->stride), tile_dp(0, 5, 4);
    }
}

/* One group of W, four tiles of x, `tile` bytes apart. */
TILE_INLINE void dp_tiles(const struct tiles_of_w *w, const char *x, size_t tile, int64_t steps)
{
    enum { LINE = 64 };
    for (int64_t s = 0; s < steps; s++, x += TILE_SIZE) {
        tile_load(4, w->at + (size_t)s * w->step, w->stride);
        for (int i = 0; i < TILE_SIZE; i += LINE)
            __builtin_prefetch(w->at + (steps + s) * TILE_SIZE + i, 0, 2);
        tile_load(5, x, TILE_BYTES), tile_dp(0, 4, 5);
        tile_load(6, x + tile, TILE_BYTES), tile_dp(1, 4, 6);
        tile_load(7, x + 2 * tile, TILE_BYTES), tile_dp(2, 4, 7);
        tile_load(5, x + 3 * tile, TILE_BYTES), tile_dp(3, 4, 5);
    }
}

TILE_INLINE void sums_zero(void) { tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3); }

TILE_INLINE void sums_load(const char *at)
{
    tile_load(0, at, TILE_BYTES), tile_load(1, at + TILE_SIZE, TILE_BYTES);
    tile_load(2, at + 2 * TILE_SIZE, TILE_BYTES), tile_load(3, at + 3 * TILE_SIZE, TILE_BYTES);
}

TILE_INLINE void sums_store(char *at)
{
    tile_store(0, at, TILE_BYTES), tile_store(1, at + TILE_SIZE, TILE_BYTES);
    tile_store(2, at + 2 * TILE_SIZE, TILE_BYTES), tile_store(3, at + 3 * TILE_SIZE, TILE_BYTES);
}

/* ---- few rows ----------------------------------------------------------------------------------- */

/* Where the tiles of columns n.. are: in place, or copied to `room`. */
static struct tiles_of_w group_tiles(const struct tiled *d, int64_t n, int64_t columns, char *room)
{
    struct tiles_of_w w;
    if (tiles_in_place(&w, d->p->w, n, columns)) return w;
    panel_tiles(room, TILE_SIZE, d->p->w, n, columns < TILE_ROWS ? columns : TILE_ROWS, 0, d->steps);
    return (struct tiles_of_w){room, TILE_SIZE, TILE_BYTES};
}

/* Columns n .. of a unit, whose sums lie `tile` bytes apart. */
static void leave(const struct tiled *d, int64_t unit, const char *sums, size_t tile, int64_t n,
                  int64_t columns)
{
    const struct product *p = d->p;
    const int64_t first = unit * UNIT_ROWS, left = p->rows - first;
    leave_unit(sums, tile, d->parts, left < UNIT_ROWS ? left : UNIT_ROWS, p->y + first,
               (size_t)(n - p->y_first) * dtype_size(p->y_type), p->y_type,
               columns < TILE_ROWS ? columns : TILE_ROWS);
}

/* One tile of x, a group of W after another: what a thread reads is one stretch of memory, the first
 * group of which it asks for at once, and nothing behind it. */
static void run_streams(const struct tiled *d, int64_t n, int64_t columns, char *room, char *sums)
{
    struct errand next = errand_to(d, n, TILE_ROWS, 1);
    errand_on(&next);
    for (int64_t c = 0; c < columns; c += TILE_ROWS) {
        const struct tiles_of_w w = group_tiles(d, n + c, columns - c, room);
        next = (struct errand){0};
        if (c + TILE_ROWS < columns) next = errand_to(d, n + c + TILE_ROWS, TILE_ROWS, d->steps);
        dp_stream(&w, d->x, d->steps, &next);
        tile_store(0, sums, TILE_BYTES);
        leave(d, 0, sums, TILE_SIZE, n + c, columns - c);
    }
}

/* Two to four tiles of x; the sums of those that there are not are made and left. */
static void run_groups(const struct tiled *d, int64_t n, int64_t columns, char *room, char *sums)
{
    for (int64_t c = 0; c < columns; c += TILE_ROWS) {
        const struct tiles_of_w w = group_tiles(d, n + c, columns - c, room);
        sums_zero();
        dp_tiles(&w, d->x, d->tile, d->steps);
        sums_store(sums);
        for (int64_t u = 0; u < units_of(d->p); u++)
            leave(d, u, sums + u * d->parts * TILE_SIZE, TILE_SIZE, n + c, columns - c);
    }
}

/* ---- many rows ---------------------------------------------------------------------------------- */

/* A tile of x has met all of K: its unit leaves, if it was the last of it. sums: of tile 0. */
static void leave_band(const struct tiled *d, int64_t t, const char *sums, int64_t n, int64_t columns)
{
    const struct product *p = d->p;
    const int64_t unit = t / d->parts, first = unit * UNIT_ROWS, left = p->rows - first;
    if (t >= d->tiles || (t + 1 < d->tiles && (t + 1) % d->parts != 0)) return;
    sums += unit * d->parts * BAND * TILE_SIZE;
    if (columns >= BAND_COLUMNS && d->parts == 1 && p->y_type == DTYPE_BF16) {
        leave_wide(sums, left < UNIT_ROWS ? left : UNIT_ROWS, p->y + first,
                   (size_t)(n - p->y_first) * sizeof(uint16_t));
        return;
    }
    for (int64_t g = 0; g * TILE_ROWS < columns; g++)
        leave(d, unit, sums + g * TILE_SIZE, BAND * TILE_SIZE, n + g * TILE_ROWS,
              columns - g * TILE_ROWS);
}

/* Where the groups of a band lie, from step `first` on, if tiles can read them there. */
static bool band_in_place(const struct tiled *d, int64_t n, int64_t columns, int64_t first,
                          struct tiles_of_w *lies)
{
    for (int64_t g = 0; g < BAND; g++) {
        if (!tiles_in_place(&lies[g], d->p->w, n + g * TILE_ROWS, columns - g * TILE_ROWS))
            return false;
        lies[g].at += (size_t)first * lies[g].step;
    }
    return true;
}

/* One band, steps first.. of K, all tiles of x. Sums: [tile][BAND][TILE_SIZE]. */
static void run_part(const struct tiled *d, int64_t n, int64_t columns, int64_t first, int64_t steps,
                     char *panel, char *sums, struct errand *errand)
{
    const size_t square = BAND * BAND * TILE_SIZE;
    struct tiles_of_w lies[BAND] = {0};
    const bool in_place = band_in_place(d, n, columns, first, lies);
    for (int64_t g = 0; !in_place && g < BAND; g++) {
        const int64_t left = columns - g * TILE_ROWS;
        panel_tiles(panel + g * TILE_SIZE, BAND * TILE_SIZE, d->p->w, n + g * TILE_ROWS,
                    left < 0 ? 0 : left < TILE_ROWS ? left : TILE_ROWS, first, steps);
    }
    for (int64_t t = 0; t < d->tiles; t += 2) {
        char *own = sums + (size_t)(t / 2) * square;
        if (first == 0)
            sums_zero();
        else
            sums_load(own);
        if (in_place && t == 0)
            dp_first(lies, panel, d->x + first * TILE_SIZE, d->tile, steps, errand);
        else
            dp_square(panel, d->x + (size_t)t * d->tile + first * TILE_SIZE, d->tile, steps, errand);
        sums_store(own);
        if (first + steps < d->steps) continue;
        leave_band(d, t, sums, n, columns);
        leave_band(d, t + 1, sums, n, columns);
    }
}

/* A pair of tiles more than fits is made where their number is odd, and left. */
static int64_t tiles_in_pairs(const struct tiled *d) { return (d->tiles + 1) / 2 * 2; }
static int64_t band_sums(const struct tiled *d) { return tiles_in_pairs(d) * BAND * TILE_SIZE; }

/* How many bands take turns with a part of x: where all of x stays in L2, few, and their sums too. */
static int64_t bands_of(const struct tiled *d)
{
    enum { X_STAYS = 1 << 20, SUMS_STAY = 1 << 19 };
    if (d->tiles * d->steps * TILE_SIZE <= X_STAYS) return LEAST_BANDS;
    const int64_t bands = SUMS_STAY / band_sums(d);
    return bands < LEAST_BANDS ? LEAST_BANDS : bands < MOST_BANDS ? bands : MOST_BANDS;
}

/* Steps first .. of all tiles of x, in so many times. */
static struct errand errand_to_x(const struct tiled *d, int64_t first, int64_t steps, int64_t times)
{
    const int64_t run = steps * TILE_SIZE / 64;
    return (struct errand){.at = d->x + first * TILE_SIZE, .run = run, .left = run,
                           .lines = (d->tiles * run + times - 1) / times,
                           .jump = d->tile - (size_t)(run * 64)};
}

static void run_bands(const struct tiled *d, int64_t n, int64_t columns, char *panel, char *sums)
{
    const int64_t parts = (d->steps + PART_STEPS - 1) / PART_STEPS;
    const int64_t all = bands_of(d) * BAND_COLUMNS;
    for (int64_t begin = 0; begin < columns; begin += all) {
        const int64_t end = begin + all < columns ? begin + all : columns;
        const int64_t squares = bands_of(d) * tiles_in_pairs(d) / 2;
        struct errand errand[2] = {errand_to(d, n + end, all, d->steps * squares)};
        for (int64_t i = 0; i < parts; i++) {
            const int64_t first = d->steps * i / parts, steps = d->steps * (i + 1) / parts - first;
            const int64_t next = (i + 1) % parts, to = d->steps * next / parts;
            if (bands_of(d) > LEAST_BANDS)
                errand[1] = errand_to_x(d, to, d->steps * (next + 1) / parts - to, steps * squares);
            for (int64_t c = begin; c < end; c += BAND_COLUMNS)
                run_part(d, n + c, end - c < BAND_COLUMNS ? end - c : BAND_COLUMNS, first, steps,
                         panel, sums + (c - begin) / BAND_COLUMNS * band_sums(d), errand);
        }
    }
}

/* ---- a call ------------------------------------------------------------------------------------- */

static int64_t panel_bytes(const struct tiled *d)
{
    return TILE_SIZE * (d->tiles > GROUPS ? BAND * PART_STEPS : GROUPS * d->steps);
}

static void tiled_run(void *context, int64_t begin, int64_t end, int thread)
{
    const struct tiled_job *job = context;
    char *panel = (char *)(job->work.data + thread * job->work.stride);
    const struct tiled *d = job->list;
    tile_open();
    for (int64_t strip = begin; strip < end;) {
        while (strip >= d->first_strip + strips_of(d->p)) d++;
        const int64_t last = d->first_strip + strips_of(d->p), next = last < end ? last : end;
        const int64_t from = (strip - d->first_strip) * STRIP_COLUMNS, all = d->p->columns;
        const int64_t to = (next - d->first_strip) * STRIP_COLUMNS;
        const int64_t n = d->p->first + from, columns = (to < all ? to : all) - from;
        char *sums = panel + panel_bytes(d);
        (d->tiles == 1 ? run_streams : d->tiles <= GROUPS ? run_groups : run_bands)(d, n, columns,
                                                                                    panel, sums);
        strip = next;
    }
    tile_close();
}

static void tiled_enter(void *context, int64_t begin, int64_t end, int thread)
{
    const struct tiled_job *job = context;
    const struct tiled *d = job->list;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        while (i >= d->first_unit + units_of(d->p)) d++;
        const struct product *p = d->p;
        const int64_t unit = i - d->first_unit, first = unit * UNIT_ROWS, left = p->rows - first;
        char *to = d->x + (size_t)(unit * d->parts) * d->tile;
        for (int64_t s = 0; s < d->steps; s++, to += TILE_SIZE)
            enter_unit(to, d->tile, p->x_type, p->x + first, left < UNIT_ROWS ? left : UNIT_ROWS, s,
                       p->w->K);
    }
}

/* The parts of many tiles are 8 KB each. An odd number of 8 KB from tile to tile spreads them over all
 * sets of L2; 64 KB, of K = 2048, would leave them an eighth. */
static int64_t spread(int64_t steps)
{
    return steps + (3 * PART_STEPS - steps % (2 * PART_STEPS)) % (2 * PART_STEPS);
}

/* A list of products all of whose weights tiles can read. */
static bool run_tiled(struct device *device, struct arena *scratch, const struct product *list,
                      int64_t count)
{
    struct tiled_job job = {.list = arena_take(scratch, (size_t)count * sizeof *job.list)};
    int64_t units = 0, strips = 0, bytes = 0;
    for (int64_t i = 0; i < count && job.list; i++) {
        const struct product *p = &list[i];
        struct tiled *d = &job.list[i];
        *d = (struct tiled){.p = p, .steps = (p->w->K + TILE_K - 1) / TILE_K,
                            .parts = parts_of(p->x_type), .first_unit = units, .first_strip = strips};
        d->tiles = (p->rows * d->parts + TILE_ROWS - 1) / TILE_ROWS;
        units += units_of(p), strips += strips_of(p);
        const bool many = d->tiles > GROUPS;
        const int64_t room = many ? tiles_in_pairs(d) : d->tiles == 1 ? 1 : GROUPS;
        const int64_t work = panel_bytes(d) + (many ? bands_of(d) * band_sums(d) : GROUPS * TILE_SIZE);
        d->tile = (size_t)(many ? spread(d->steps) : d->steps) * TILE_SIZE;
        d->x = arena_take(scratch, (size_t)room * d->tile);
        bytes = work > bytes ? work : bytes;
    }
    job.work = cpu_take_rows(device, scratch, bytes / (int64_t)sizeof(float));
    if (scratch->failed) return false;
    pool_run(device->pool, units, 1, tiled_enter, &job);
    pool_run(device->pool, strips, 1, tiled_run, &job);
    return true;
}

/* Columns n.. of a product that are all tiles', or none: where they end. */
static int64_t run_of_columns(const struct product *p, int64_t n, bool *tiles)
{
    const int64_t end = p->first + p->columns;
    const struct linear_part *part = linear_part_of(p->w, n);
    *tiles = panel_takes(part->w->dtype);
    while (part->row + part->rows < end && panel_takes(part[1].w->dtype) == *tiles) part++;
    return part->row + part->rows < end ? part->row + part->rows : end;
}

/* The products of a list that are tiles', or that are not; NULL where only counting. */
static int64_t cut(const struct product *list, int64_t count, bool tiles, struct product *to)
{
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t n = list[i].first, end; n < list[i].first + list[i].columns; n = end) {
            bool are;
            end = run_of_columns(&list[i], n, &are);
            if (are != tiles) continue;
            if (to) to[found] = list[i], to[found].first = n, to[found].columns = end - n;
            found++;
        }
    return found;
}

bool product_run_amx(struct device *device, struct arena *scratch, const struct product *list,
                     int64_t count)
{
    const size_t mark = arena_mark(scratch);
    bool room = true;
    for (int tiles = 0; tiles < 2 && room; tiles++) {
        const int64_t some = cut(list, count, tiles, NULL);
        if (some == 0) continue;
        struct product *part = arena_take(scratch, (size_t)some * sizeof *part);
        if (!part) return false;
        cut(list, count, tiles, part);
        room = (tiles ? run_tiled : product_run_avx512)(device, scratch, part, some);
        arena_release(scratch, mark);
    }
    return room;
}

void cpu_linear_forward_amx(struct device *device, struct arena *scratch, const void *args)
{
    linear_forward_with(product_run_amx, device, scratch, args);
}

void cpu_linear_ce_forward_amx(struct device *device, struct arena *scratch, const void *args)
{
    linear_ce_forward_with(product_run_amx, device, scratch, args);
}

void cpu_experts_forward_amx(struct device *device, struct arena *scratch, const void *args)
{
    experts_forward_with(product_run_amx, device, scratch, args);
}

void cpu_head_linear_forward_amx(struct device *device, struct arena *scratch, const void *args)
{
    const struct head_linear_args *a = args;
    if (a->turned)
        cpu_head_linear_forward_avx512(device, scratch, args);
    else
        head_linear_forward_with(product_run_amx, device, scratch, args);
}
