/* linear_tmpl.h: products x W^T in the words of a vector vocabulary. docs/kernels/linear.md.
 *
 * Every output is one dot product: element k goes to lane k mod 16, each lane is a chain of fused
 * multiply-adds with k ascending from 0, the lanes meet in one tree. How outputs share loads is free:
 *
 *     x  [step][rows][16]     a tile of up to DOT_X rows, f32, filled up with 0, packed once a call
 *     W  [step][DOT_W][16]    a panel of some columns, f32; or rows where they lie, in their type
 *     lanes [rows][columns][16]   sums of a tile, between stretches of k and until the tree
 *
 * With few rows a group of DOT_W weight rows streams by once. With more, a panel stays in the second
 * cache, and a stretch of a tile of x in the first. */
#include "kernels/cpu/linear_panel_tmpl.h"
#include "kernels/cpu/vec_rows_tmpl.h"

enum {
    DOT_X = VF_REGISTERS >= 32 ? 6 : VL == 8 ? 3 : 2, /* rows of a tile */
    DOT_W = 4,                                        /* columns of a tile */
    DOT_COLUMNS = 32,                                 /* columns of a panel, and of a share */
    DOT_LANES = DOT_X * DOT_COLUMNS,                  /* sums of a tile */
    DOT_BUNCH = 6 / DOT_X,                            /* tiles that take turns with a group */
    DOT_AHEAD = 384,                                  /* bytes that a stream asks for ahead */
    DOT_STRETCH = 48                                  /* steps of 16 */
};

/* A product as its x was packed. */
struct dots {
    const struct product *p;
    float *x;
    int64_t steps;                  /* of 16 in K */
    int64_t first_tile, first_unit; /* of this product, counted over the list */
};

struct dots_job {
    struct dots *list;
    struct cpu_work_rows work; /* lanes, panel */
};

static inline int64_t dots_tiles(const struct product *p) { return (p->rows + DOT_X - 1) / DOT_X; }
static inline int64_t dots_units(const struct product *p)
{
    return (p->columns + DOT_COLUMNS - 1) / DOT_COLUMNS;
}

/* Rows that a tile computes for so many: one of the sizes that dot_sized is compiled for. */
static inline int dot_rows(int64_t rows)
{
    return rows >= 5 ? 6 : rows >= 3 ? (DOT_X == 3 ? 3 : 4) : (int)rows;
}

/* ---- a tile ------------------------------------------------------------------------------------- */

/* Groups of four rows of W: element k of column c is row[c][k / 16 * stride + k % 16]. */
struct dot_weights {
    const char *row[DOT_W];
    int64_t next[DOT_W]; /* bytes to the next group's */
    int64_t groups;
    enum dtype type;
    int64_t stride; /* 16: rows as they lie; 16 * DOT_W: a panel's */
    int64_t K;      /* elements before they end; the last step may have less than 16 */
};

/* How far sums are apart: those of row r, column c and group g are at r row + c column + 16 g. */
struct dot_lanes {
    int64_t row, column;
};

/* Lanes of a group += x W over `steps`; unless `more`, they begin at 0. On AVX2
 * the two halves of the lanes take turns over the same stretch. m, type and stride are constants. */
VF_INLINE void dot_tile(const int m, const enum dtype type, const int64_t stride, const float *x,
                        const char *const *w, int64_t K, int64_t steps, float *lanes, int64_t row,
                        int64_t column, bool more)
{
    const int64_t whole = K / 16 < steps ? K / 16 : steps;
    for (int half = 0; half < 16; half += VL) {
        vf sum[DOT_X][DOT_W];
        const float *at = x + half;
        VF_UNROLL for (int r = 0; r < m; r++)
            VF_UNROLL for (int c = 0; c < DOT_W; c++)
                sum[r][c] = more ? vf_load(lanes + r * row + c * column + half) : vf_zero();
        for (int64_t s = 0; s < whole; s++, at += m * 16) {
            vf one[DOT_X];
            VF_UNROLL for (int r = 0; r < m; r++) one[r] = vf_load(at + r * 16);
            VF_UNROLL for (int c = 0; c < DOT_W; c++) {
                const int64_t i = s * stride + half;
                const vf wide = row_get(type, w[c], i, VL);
                if (stride == 16 && half == 0)
                    __builtin_prefetch(w[c] + i * (int64_t)dtype_size(type) + DOT_AHEAD);
                VF_UNROLL for (int r = 0; r < m; r++) sum[r][c] = vf_fma(one[r], wide, sum[r][c]);
            }
        }
        const int64_t rest = K - whole * 16 - half, left = rest < 0 ? 0 : rest < VL ? rest : VL;
        if (whole < steps)
            VF_UNROLL for (int c = 0; c < DOT_W; c++) {
                const vf wide = row_get(type, w[c], whole * stride + half, left);
                VF_UNROLL for (int r = 0; r < m; r++)
                    sum[r][c] = vf_fma(vf_load(at + r * 16), wide, sum[r][c]);
            }
        VF_UNROLL for (int r = 0; r < m; r++)
            VF_UNROLL for (int c = 0; c < DOT_W; c++)
                vf_store(lanes + r * row + c * column + half, sum[r][c]);
    }
}

/* One group after another: with short rows a call for each would take as long as its sums. */
VF_INLINE void dot_groups(const int m, const enum dtype type, const int64_t stride, const float *x,
                          const struct dot_weights *w, int64_t steps, float *lanes,
                          const struct dot_lanes *apart, bool more)
{
    const char *row[DOT_W];
    VF_UNROLL for (int c = 0; c < DOT_W; c++) row[c] = w->row[c];
    for (int64_t g = 0; g < w->groups; g++) {
        dot_tile(m, type, stride, x, row, w->K, steps, lanes + g * 16, apart->row, apart->column, more);
        VF_UNROLL for (int c = 0; c < DOT_W; c++) row[c] += w->next[c];
    }
}

VF_INLINE void dot_typed(const int m, const float *x, const struct dot_weights *w, int64_t steps,
                         float *lanes, const struct dot_lanes *apart, bool more)
{
    if (w->stride != 16)
        dot_groups(m, DTYPE_F32, 16 * DOT_W, x, w, steps, lanes, apart, more);
    else if (w->type == DTYPE_BF16)
        dot_groups(m, DTYPE_BF16, 16, x, w, steps, lanes, apart, more);
    else if (w->type == DTYPE_F16)
        dot_groups(m, DTYPE_F16, 16, x, w, steps, lanes, apart, more);
    else
        dot_groups(m, DTYPE_F32, 16, x, w, steps, lanes, apart, more);
}

static void dot_sized(int m, const float *x, const struct dot_weights *w, int64_t steps, float *lanes,
                      const struct dot_lanes *apart, bool more)
{
    if (m == 1) dot_typed(1, x, w, steps, lanes, apart, more);
    if (m == 2) dot_typed(2, x, w, steps, lanes, apart, more);
    if (DOT_X == 3 && m == 3) dot_typed(3, x, w, steps, lanes, apart, more);
    if (DOT_X >= 4 && m == 4) dot_typed(4, x, w, steps, lanes, apart, more);
    if (DOT_X >= 6 && m == 6) dot_typed(6, x, w, steps, lanes, apart, more);
}

/* The lanes meet: columns n.. of a tile go to their rows of y. */
static void dot_leave(const struct product *p, int64_t tile, int64_t n, int64_t columns,
                      const float *lanes, const struct dot_lanes *apart)
{
    const int64_t rows = p->rows - tile * DOT_X;
    for (int64_t r = 0; r < rows && r < DOT_X; r++) {
        float out[DOT_LANES];
        for (int64_t c = 0; c < columns; c += 16) {
            struct vf16 sum[16];
            VF_UNROLL for (int j = 0; j < 16; j++)
                VF_UNROLL for (int v = 0; v < VF16; v++)
                    sum[j].part[v] = vf_load(lanes + r * apart->row + (c + j) * 16 + v * VL);
            sums16(out + c, sum);
        }
        char *y = p->y[tile * DOT_X + r];
        y += (n - p->y_first) * (int64_t)dtype_size(p->y_type);
        row_store(y, p->y_type, out, (int)columns);
    }
}

/* ---- a share of columns ------------------------------------------------------------------------- */

static bool dot_readable(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_BF16 || type == DTYPE_F16;
}

/* Columns n.. of W to a panel of f32; those that are not there are the last one again. */
static void dot_fill(float *panel, const struct linear *w, int64_t n, int64_t columns, int64_t steps)
{
    const int64_t groups = (columns + DOT_W - 1) / DOT_W;
    for (int64_t c = 0; c < groups * DOT_W; c++) {
        enum dtype type;
        const void *row = linear_weight_row(w, n + (c < columns ? c : columns - 1), &type);
        float *to = panel + (c / DOT_W * steps * DOT_W + c % DOT_W) * 16;
        panel_row(to, 16 * DOT_W, type, row, 0, w->K);
    }
}

/* A group of a panel from a step on. */
static void dot_of_panel(struct dot_weights *w, const float *panel, int64_t group, int64_t steps,
                         int64_t step)
{
    w->type = DTYPE_F32, w->stride = 16 * DOT_W, w->K = (steps - step) * 16, w->groups = 1;
    for (int c = 0; c < DOT_W; c++) {
        w->row[c] = (const char *)(panel + ((group * steps + step) * DOT_W + c) * 16);
        w->next[c] = 0;
    }
}

/* Rows n, n + apart, .. up to n + 3 apart, but none from `end` on: the last one again; and as many
 * groups behind them as lie alike. Through the panel if they are not of one type that vectors read.
 * Filled in place: a whole struct that is copied right after its parts were written waits for them. */
static void dot_of_rows(struct dot_weights *w, float *panel, const struct linear *of, int64_t n,
                        int64_t apart, int64_t end, int64_t steps)
{
    enum dtype type[DOT_W];
    bool readable = true;
    w->groups = apart;
    for (int c = 0; c < DOT_W; c++) {
        const int64_t at = n + c * apart;
        const bool there = at < end;
        const struct linear_run run = linear_run_of(of, there ? at : end - 1);
        const int64_t rows = !there ? apart : run.rows < end - at ? run.rows : end - at;
        w->row[c] = run.at;
        w->next[c] = there ? run.step : 0;
        if (rows < w->groups) w->groups = rows;
        type[c] = run.type;
        readable = readable && run.type == type[0] && dot_readable(run.type);
    }
    w->type = type[0], w->stride = 16, w->K = of->K;
    if (readable) return;
    for (int c = 0; c < DOT_W; c++)
        panel_row(panel + c * 16, 16 * DOT_W, type[c], w->row[c], 0, of->K);
    dot_of_panel(w, panel, 0, steps, 0);
}

/* One tile of x, all there is: weights stream by, DOT_W streams side by side. */
static void dot_stream(const struct dots *d, int64_t n, int64_t columns, float *lanes, float *panel)
{
    const int m = dot_rows(d->p->rows);
    const int64_t wide = DOT_LANES / m / 16 * 16;
    struct dot_weights w;
    for (int64_t c = 0; c < columns; c += wide) {
        const int64_t some = columns - c < wide ? columns - c : wide, each = (some + DOT_W - 1) / DOT_W;
        const struct dot_lanes apart = {wide * 16, each * 16};
        for (int64_t i = 0; i < each; i += w.groups) {
            dot_of_rows(&w, panel, d->p->w, n + c + i, each, n + c + some, d->steps);
            if (w.groups > each - i) w.groups = each - i;
            dot_sized(m, d->x, &w, d->steps, lanes + i * 16, &apart, false);
        }
        dot_leave(d->p, 0, n + c, some, lanes, &apart);
    }
}

/* The weights of the next panel, asked for bit by bit while one is used. */
struct dot_next {
    const char *at;
    int64_t lines; /* at a time */
};

static struct dot_next dot_next(const struct dots *d, int64_t n)
{
    enum dtype type;
    if (n >= d->p->first + d->p->columns) return (struct dot_next){0};
    const char *row = linear_weight_row(d->p->w, n, &type);
    const int64_t bytes = DOT_COLUMNS * d->p->w->K * (int64_t)dtype_size(type);
    const int64_t stretches = (d->steps + DOT_STRETCH - 1) / DOT_STRETCH;
    const int64_t bunches = (dots_tiles(d->p) + DOT_BUNCH - 1) / DOT_BUNCH;
    const int64_t times = bunches * stretches * (DOT_COLUMNS / DOT_W);
    return (struct dot_next){row, (bytes / 64 + times - 1) / times};
}

VF_INLINE void dot_ask(struct dot_next *next)
{
    for (int64_t i = 0; i < next->lines; i++, next->at += 64) __builtin_prefetch(next->at, 0, 2);
}

/* A bunch of tiles by a panel, stretch by stretch, group by group. */
static void dot_bunch(const struct dots *d, int64_t first, int64_t n, int64_t columns, float *lanes,
                      const float *panel, struct dot_next *next)
{
    const struct dot_lanes apart = {DOT_COLUMNS * 16, 16};
    const int64_t left = dots_tiles(d->p) - first, tiles = left < DOT_BUNCH ? left : DOT_BUNCH;
    for (int64_t s = 0; s < d->steps; s += DOT_STRETCH) {
        const int64_t steps = d->steps - s < DOT_STRETCH ? d->steps - s : DOT_STRETCH;
        for (int64_t g = 0; g * DOT_W < columns; g++) {
            struct dot_weights w;
            dot_of_panel(&w, panel, g, d->steps, s);
            dot_ask(next);
            for (int64_t i = 0; i < tiles; i++) {
                const int64_t row = (first + i) * DOT_X, rows = d->p->rows - row;
                const int m = dot_rows(rows < DOT_X ? rows : DOT_X);
                dot_sized(m, d->x + (row * d->steps + s * m) * 16, &w, steps,
                          lanes + (i * DOT_LANES + g * DOT_W) * 16, &apart, s > 0);
            }
        }
    }
    for (int64_t i = 0; i < tiles; i++, lanes += DOT_LANES * 16)
        dot_leave(d->p, first + i, n, columns, lanes, &apart);
}

/* All tiles of x by one panel. */
static void dot_panel(const struct dots *d, int64_t n, int64_t columns, float *lanes, float *panel)
{
    struct dot_next next = dot_next(d, n + columns);
    dot_fill(panel, d->p->w, n, columns, d->steps);
    for (int64_t tile = 0; tile < dots_tiles(d->p); tile += DOT_BUNCH)
        dot_bunch(d, tile, n, columns, lanes, panel, &next);
}

static void dot_panels(const struct dots *d, int64_t n, int64_t columns, float *lanes, float *panel)
{
    for (int64_t c = 0; c < columns; c += DOT_COLUMNS) {
        const int64_t left = columns - c;
        dot_panel(d, n + c, left < DOT_COLUMNS ? left : DOT_COLUMNS, lanes, panel);
    }
}

static void dots_run(void *context, int64_t begin, int64_t end, int thread)
{
    const struct dots_job *job = context;
    float *lanes = job->work.data + thread * job->work.stride;
    float *panel = lanes + DOT_BUNCH * DOT_LANES * 16;
    const struct dots *d = job->list;
    for (int64_t unit = begin; unit < end;) {
        while (unit >= d->first_unit + dots_units(d->p)) d++;
        const int64_t last = d->first_unit + dots_units(d->p), next = last < end ? last : end;
        const int64_t from = (unit - d->first_unit) * DOT_COLUMNS;
        const int64_t to = (next - d->first_unit) * DOT_COLUMNS, all = d->p->columns;
        (d->p->rows <= DOT_X ? dot_stream : dot_panels)(d, d->p->first + from,
                                                        (to < all ? to : all) - from, lanes, panel);
        unit = next;
    }
}

/* ---- x ------------------------------------------------------------------------------------------ */

static void dots_enter(void *context, int64_t begin, int64_t end, int thread)
{
    const struct dots_job *job = context;
    const struct dots *d = job->list;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        while (i >= d->first_tile + dots_tiles(d->p)) d++;
        const int64_t tile = i - d->first_tile, first = tile * DOT_X, left = d->p->rows - first;
        const int m = dot_rows(left < DOT_X ? left : DOT_X);
        float *to = d->x + first * d->steps * 16;
        for (int64_t r = 0; r < m; r++) /* a row that is not there: the first one again */
            panel_row(to + r * 16, m * 16, d->p->x_type, d->p->x[first + (r < left ? r : 0)], 0,
                      d->p->w->K);
    }
}

bool CPU_NAME(product_run)(struct device *device, struct arena *scratch, const struct product *list,
                           int64_t count)
{
    const size_t mark = arena_mark(scratch);
    struct dots_job job = {0};
    int64_t tiles = 0, units = 0, panel = 0;
    job.list = arena_take(scratch, (size_t)count * sizeof *job.list);
    for (int64_t i = 0; i < count && job.list; i++) {
        const struct product *p = &list[i];
        struct dots *d = &job.list[i];
        *d = (struct dots){p, NULL, (p->w->K + 15) / 16, tiles, units};
        const int64_t rows = dots_tiles(p) * DOT_X, wide = p->rows > DOT_X ? DOT_COLUMNS : DOT_W;
        d->x = arena_take(scratch, (size_t)(rows * d->steps * 16) * sizeof(float));
        tiles += dots_tiles(p), units += dots_units(p);
        if (wide * d->steps * 16 > panel) panel = wide * d->steps * 16;
    }
    job.work = cpu_take_rows(device, scratch, DOT_BUNCH * DOT_LANES * 16 + panel);
    const bool room = !scratch->failed;
    if (room) {
        pool_run(device->pool, tiles, 1, dots_enter, &job);
        pool_run(device->pool, units, 1, dots_run, &job);
    }
    arena_release(scratch, mark);
    return room;
}

void CPU_NAME(cpu_linear_forward)(struct device *device, struct arena *scratch, const void *args)
{
    linear_forward_with(CPU_NAME(product_run), device, scratch, args);
}

void CPU_NAME(cpu_linear_ce_forward)(struct device *device, struct arena *scratch, const void *args)
{
    linear_ce_forward_with(CPU_NAME(product_run), device, scratch, args);
}

void CPU_NAME(cpu_experts_forward)(struct device *device, struct arena *scratch, const void *args)
{
    experts_forward_with(CPU_NAME(product_run), device, scratch, args);
}
