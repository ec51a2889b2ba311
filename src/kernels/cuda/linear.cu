/* linear.cu: packed projections, of any types, in f32. Truth: kernels/ref/linear.c.
 *
 * A warp makes 4 columns of 8 rows. Its lanes lie along K: element k belongs to lane k/4 mod 32, k
 * ascending, and the lanes meet in a tree. bf16 with bf16 goes to tensor cores (linear_rows.cu). */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tiles.cuh"

enum { WARPS = 4, COLUMNS = 4, ROWS = 8, STEP = 4 * WARP };

static __global__ void __launch_bounds__(WARPS *WARP)
    linear(struct view x, struct view y, struct pieces w)
{
    let_next_start();
    wait_for_input();
    const struct piece &p = piece_of(w, (int32_t)blockIdx.y);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int32_t n0 = ((int32_t)blockIdx.y - p.tile) * WARPS * COLUMNS + warp * COLUMNS;
    const int64_t t0 = (int64_t)blockIdx.x * ROWS, left = x.dim[0] - t0;
    const int rows = left < ROWS ? (int)left : ROWS;
    const char *from = (const char *)x.data + t0 * x.stride[0] * (int64_t)bytes_of(x.dtype);
    const int64_t row_bytes = x.stride[0] * (int64_t)bytes_of(x.dtype);
    const int64_t column_bytes = p.stride * (int64_t)bytes_of(p.dtype);
    float sum[COLUMNS][ROWS] = {};
    for (int64_t k = 4 * lane; k < w.K; k += STEP) {
        struct four f[COLUMNS];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            f[c] = n0 + c < p.rows ? load_four(p.data + (n0 + c) * column_bytes, p.dtype, k, w.K)
                                   : four{};
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            const struct four v = load_four(from + r * row_bytes, x.dtype, k, w.K);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
#pragma unroll
                for (int e = 0; e < 4; e++) sum[c][r] = fmaf(f[c].at[e], v.at[e], sum[c][r]);
        }
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r >= rows) break;
            const float all = warp_sum(sum[c][r]);
            if (lane == 0 && n0 + c < p.rows)
                put(y, (t0 + r) * y.stride[0] + p.row + n0 + c, all);
        }
}

/* How columns are made depends on their weight alone, whatever the number of rows: bf16 rows meet bf16
 * weights, and the bf16 values of quantised ones, on tensor cores. */
enum form { IN_F32 = 1, ON_TILES = 2, CODED_Q8 = 4, CODED_Q4 = 8 };

static enum form form_of(const struct tensor *x, const struct linear_part *part)
{
    switch (part->w->dtype) {
    case DTYPE_Q8: return CODED_Q8;
    case DTYPE_Q4: return CODED_Q4;
    case DTYPE_BF16: return x->dtype == DTYPE_BF16 ? ON_TILES : IN_F32;
    default: return IN_F32;
    }
}

/* Parts from `first` on that are made in these forms, as many as travel at once; returns the part
 * after them. */
static int gather(struct pieces *g, const struct tensor *x, const struct linear *w, int first,
                  int64_t most, unsigned forms)
{
    *g = (struct pieces){};
    g->K = w->K;
    for (; first < w->parts && g->count < PIECES; first++) {
        const struct linear_part *part = &w->part[first];
        const struct tensor *t = part->w;
        if (!(form_of(x, part) & forms)) break;
        if (part->row >= most) continue;
        const int64_t rows = part->rows < most - part->row ? part->rows : most - part->row;
        const int64_t stride = t->rank > 1 ? t->stride[t->rank - 2] : t->dim[0];
        GDN_CHECK(t->rank < 3 || t->stride[0] == t->dim[1] * t->stride[1], "a weight with gaps");
        struct piece *p = &g->piece[g->count++];
        p->data = (const char *)t->data + part->from * stride * (int64_t)dtype_size(t->dtype);
        p->stride = stride;
        p->row = part->row;
        p->rows = (int32_t)rows;
        p->dtype = t->dtype;
    }
    return first;
}

/* A block makes so many columns of a piece, and `plain` of one of bf16. */
static void cut(struct pieces *g, int32_t columns, int32_t plain)
{
    g->tiles = 0;
    for (int32_t i = 0; i < g->count; i++) {
        g->piece[i].tile = g->tiles;
        const int32_t each = g->piece[i].dtype == DTYPE_BF16 ? plain : columns;
        g->tiles += (g->piece[i].rows + each - 1) / each;
    }
}

/* Weights in scratch are a panel of values (linear_quant.cu): the kernel in front makes them. */
static bool is_made(const struct arena *scratch, const struct linear_part *part)
{
    const unsigned char *at = (const unsigned char *)part->w->data;
    return at >= scratch->base && at < scratch->base + scratch->size;
}

struct few_form linear_form(struct device *device, few_bytes *bytes, enum dtype d, int chunk,
                            int64_t T, int64_t N, int64_t K)
{
    struct few_form f = {32, T <= 8 ? 8 : T <= 16 ? 16 : 32, MOST_STAGES};
    while (f.columns > 8 && N < 64 * f.columns) f.columns /= 2;
    while (f.depth > 1 && f.depth / 2 * chunk >= linear_slice(K)) f.depth /= 2;
    while (bytes(f, d, T, K) > cuda_shared(device)) {
        if (f.depth > 1)
            f.depth /= 2;
        else if (f.columns > 8)
            f.columns /= 2;
        else
            f.rows /= 2;
    }
    return f;
}

/* However x meets W: the same bits. */
static void run_few(struct device *device, const struct view &x, const struct view &y, struct pieces *g,
                    int64_t most)
{
    const struct few_form few = linear_few_form(device, x.dim[0], most, g->K);
    cut(g, LINEAR_STREAM_COLUMNS, LINEAR_STREAM_COLUMNS);
    if (linear_stream(device, x, y, *g)) return;
    cut(g, few.columns, few.columns);
    linear_few(device, x, y, *g, few);
}

static void run_many(struct device *device, const struct view &x, const struct view &y,
                     struct pieces *g, bool fast)
{
    if (fast) linear_lt(device, x, y, g);
    if (g->count == 0) return;
    cut(g, LINEAR_HOPPER_COLUMNS, LINEAR_HOPPER_COLUMNS);
    if (linear_hopper(device, x, y, *g)) return;
    cut(g, LINEAR_PROMPT_COLUMNS, LINEAR_PROMPT_COLUMNS);
    linear_prompt(device, x, y, *g);
}

/* Parts from `first` on that are quantised. */
static int run_coded(struct device *device, struct arena *scratch, const struct tensor *x,
                     const struct tensor *y, const struct linear *w, int first, int64_t most,
                     bool fast)
{
    enum { FEW = 64 };
    const enum dtype d = w->part[first].w->dtype;
    if (x->dtype != DTYPE_BF16 || x->dim[0] > FEW) {
        const size_t mark = arena_mark(scratch);
        linear_panel(device, scratch, x, y, w, first, most, fast);
        arena_release(scratch, mark);
        return first + 1;
    }
    const struct few_form few = linear_coded_form(device, d, x->dim[0], most, w->K);
    struct pieces g;
    const int next = gather(&g, x, w, first, most, form_of(x, &w->part[first]) | ON_TILES);
    cut(&g, few.columns, 8);
    linear_coded(device, d, view_of(x), view_of(y), g, few);
    return next;
}

void linear_run(struct device *device, struct arena *scratch, const struct tensor *x,
                const struct tensor *y, const struct linear *w, int64_t most, bool fast)
{
    const struct view from = view_of(x), to = view_of(y);
    struct pieces g;
    for (int next = 0; next < w->parts && w->part[next].row < most;) {
        const enum form form = form_of(x, &w->part[next]);
        if (form == CODED_Q8 || form == CODED_Q4) {
            next = run_coded(device, scratch, x, y, w, next, most, fast);
            continue;
        }
        const bool tiles = form == ON_TILES;
        const bool made = is_made(scratch, &w->part[next]);
        next = gather(&g, x, w, next, most, form);
        g.made = made;
        if (tiles && linear_prompt_fits(x, w)) {
            run_many(device, from, to, &g, fast);
            continue;
        }
        if (tiles) {
            run_few(device, from, to, &g, most);
            continue;
        }
        cut(&g, WARPS * COLUMNS, WARPS * COLUMNS);
        launch_early(device, linear, dim3(blocks_for(x->dim[0], ROWS), (unsigned)g.tiles),
                     WARPS * WARP, 0, from, to, g);
    }
}

void cuda_linear(struct device *device, struct arena *scratch, const void *args)
{
    const struct linear_args *a = (const struct linear_args *)args;
    linear_run(device, scratch, a->x, a->y, a->w, a->w->N, a->fast);
}
