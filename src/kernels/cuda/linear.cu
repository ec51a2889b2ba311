/* linear.cu: packed projections, of any types, in f32. Truth: kernels/ref/linear.c.
 *
 * A warp makes 4 columns of 8 rows. Its lanes lie along K: element k belongs to lane k/4 mod 32, k
 * ascending, and the lanes meet in a tree. bf16 with bf16 goes to tensor cores (linear_rows.cu). */
#include "kernels/cuda/linear.cuh"

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

/* bf16 rows meet bf16 weights on tensor cores: how a column is made depends on its weight alone. */
static bool on_tiles(const struct tensor *x, const struct linear_part *part)
{
    return x->dtype == DTYPE_BF16 && part->w->dtype == DTYPE_BF16;
}

/* Parts from `first` on that are made like it, as many as travel at once; returns the part after
 * them. */
static int gather(struct pieces *g, const struct tensor *x, const struct linear *w, int first,
                  int64_t most)
{
    const bool tiles = on_tiles(x, &w->part[first]);
    *g = (struct pieces){};
    g->K = w->K;
    for (; first < w->parts && g->count < PIECES; first++) {
        const struct linear_part *part = &w->part[first];
        const struct tensor *t = part->w;
        if (on_tiles(x, part) != tiles) break;
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

/* A block makes so many columns of a piece. */
static void cut(struct pieces *g, int32_t columns)
{
    g->tiles = 0;
    for (int32_t i = 0; i < g->count; i++) {
        g->piece[i].tile = g->tiles;
        g->tiles += (g->piece[i].rows + columns - 1) / columns;
    }
}

static void run_many(struct device *device, const struct view &x, const struct view &y,
                     struct pieces *g, bool fast)
{
    if (fast) linear_lt(device, x, y, g);
    if (g->count == 0) return;
    cut(g, LINEAR_HOPPER_COLUMNS);
    if (linear_hopper(device, x, y, *g)) return;
    cut(g, LINEAR_PROMPT_COLUMNS);
    linear_prompt(device, x, y, *g);
}

void linear_run(struct device *device, const struct tensor *x, const struct tensor *y,
                const struct linear *w, int64_t most, bool fast)
{
    const struct few_form few = linear_few_form(device, x->dim[0], most, w->K);
    const struct view from = view_of(x), to = view_of(y);
    struct pieces g;
    for (int next = 0; next < w->parts;) {
        const bool tiles = on_tiles(x, &w->part[next]);
        next = gather(&g, x, w, next, most);
        if (tiles && linear_prompt_fits(x, w)) {
            run_many(device, from, to, &g, fast);
            continue;
        }
        cut(&g, tiles ? few.columns : WARPS * COLUMNS);
        if (tiles)
            linear_few(device, from, to, g, few);
        else
            launch_early(device, linear, dim3(blocks_for(x->dim[0], ROWS), (unsigned)g.tiles),
                         WARPS * WARP, 0, from, to, g);
    }
}

void cuda_linear(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct linear_args *a = (const struct linear_args *)args;
    linear_run(device, a->x, a->y, a->w, a->w->N, a->fast);
}
