/* linear_quant.cu: bf16 rows times q8 or q4 weights. Truth: kernels/ref/linear.c.
 *
 *     y[t, n] = sum_k W[n, k] x[t, k]     in the arithmetic of linear.cuh, by the values of W as bf16
 *
 * Few rows: W is streamed as it lies (coded.cuh). Many: linear_panel makes bf16 of some rows of W at a
 * time, small enough to stay in the L2 cache, for the kernels of prompts. */
#include "kernels/cuda/coded.cuh"

/* A block makes 8 TILES columns of a piece. `sums`: its shared memory; behind them the stages, warp by
 * warp: a warp a slice. */
template <enum dtype D, int R, int TILES>
static __device__ void make_columns(float *sums, const struct view &x, const struct view &y,
                                    int64_t K, const struct piece &piece, int depth, int size)
{
    enum { COLUMNS = 8 * TILES, HALF = COLUMNS / 2 };
    const int warp = (int)threadIdx.x / WARP, slices = (int)blockDim.x / WARP;
    const int32_t n0 = ((int32_t)blockIdx.y - piece.tile) * COLUMNS, left = piece.rows - n0;
    const int64_t t0 = (int64_t)blockIdx.x * 8 * R, T = x.dim[0] - t0, slice = linear_slice(K);
    const int64_t from = warp * slice, end = from + slice < K ? from + slice : K;
    const int64_t stride = piece.stride * (D == DTYPE_BF16 ? 2 : 1);
    const char *first = piece.data + n0 * stride;
    const struct strip s = {{first, first + HALF * stride},
                            stride,
                            K,
                            {left < HALF ? left : HALF, left - HALF},
                            is_even(piece.data, stride)};
    const struct lines l = {(const uint16_t *)x.data + t0 * x.stride[0], x.stride[0],
                            T < 8 * R ? (int32_t)T : 8 * R, is_even(x.data, 2 * x.stride[0])};
    char *own = (char *)(sums + slices * 8 * R * (COLUMNS + 4)) + warp * depth * size;
    float d[(R + 1) / 2][TILES][4] = {};
    begin_slice<D, TILES>(own, size, depth, s, from, end);
    wait_for_input();
    run_slice<D, R, TILES>(d, own, size, depth, s, l, from, end);
    put_sums<R, TILES>(sums, warp, d);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < l.T * COLUMNS; i += (int)blockDim.x) {
        const int t = i / COLUMNS, n = i % COLUMNS;
        const float sum = sum_of<R, TILES>(sums, slices, t, n);
        if (n < left) put(y, (t0 + t) * y.stride[0] + piece.row + n0 + n, sum);
    }
}

/* Pieces of D, and of bf16 that stand beside them (gates of the delta rule): 8 columns a block. */
template <enum dtype D, int R, int TILES>
static __global__ void __launch_bounds__(MOST_SLICES *WARP, R == 1 ? 2 : 1)
    few_coded(struct view x, struct view y, struct pieces w, int depth, int size)
{
    DYNAMIC_SHARED(room);
    let_next_start();
    const struct piece &piece = piece_of(w, (int32_t)blockIdx.y);
    if (piece.dtype == D)
        make_columns<D, R, TILES>(room, x, y, w.K, piece, depth, size);
    else
        make_columns<DTYPE_BF16, R, 1>(room, x, y, w.K, piece, depth, size);
}

/* ---- the call -------------------------------------------------------------------------------- */

static int stage_of(const struct few_form &f, enum dtype d, int64_t T)
{
    const int64_t rows = T < f.rows ? T : f.rows;
    const int coded = stage_bytes(d, f.columns, rows), plain = stage_bytes(DTYPE_BF16, 8, rows);
    return coded > plain ? coded : plain;
}

static size_t shared_of(const struct few_form &f, enum dtype d, int64_t T, int64_t K)
{
    const int size = stage_of(f, d, T);
    const int slices = linear_slices(K);
    return sums_bytes(slices, f.rows, f.columns) + (size_t)(slices * f.depth * size);
}

struct few_form linear_coded_form(struct device *device, enum dtype d, int64_t T, int64_t N,
                                  int64_t K)
{
    return linear_form(device, shared_of, d, CHUNK, T, N, K);
}

template <enum dtype D, int R, int TILES>
static void run(struct device *device, const struct view &x, const struct view &y,
                const struct pieces &w, struct few_form f)
{
    launch_early(device, few_coded<D, R, TILES>,
                 dim3(blocks_for(x.dim[0], 8 * R), (unsigned)w.tiles),
                 (unsigned)linear_slices(w.K) * WARP, shared_of(f, D, x.dim[0], w.K), x, y, w,
                 f.depth, stage_of(f, D, x.dim[0]));
}

template <enum dtype D, int TILES>
static void run_rows(struct device *device, const struct view &x, const struct view &y,
                     const struct pieces &w, struct few_form f)
{
    if (f.rows == 8)
        run<D, 1, TILES>(device, x, y, w, f);
    else if (f.rows == 16)
        run<D, 2, TILES>(device, x, y, w, f);
    else
        run<D, 4, TILES>(device, x, y, w, f);
}

template <enum dtype D>
static void run_tiles(struct device *device, const struct view &x, const struct view &y,
                      const struct pieces &w, struct few_form f)
{
    if (f.columns == 8)
        run_rows<D, 1>(device, x, y, w, f);
    else if (f.columns == 16)
        run_rows<D, 2>(device, x, y, w, f);
    else
        run_rows<D, 4>(device, x, y, w, f);
}

void linear_coded(struct device *device, enum dtype type, const struct view &x, const struct view &y,
                  const struct pieces &w, struct few_form form)
{
    if (type == DTYPE_Q8)
        run_tiles<DTYPE_Q8>(device, x, y, w, form);
    else
        run_tiles<DTYPE_Q4>(device, x, y, w, form);
}

/* ---- values ---------------------------------------------------------------------------------- */

enum { THREADS = 256, EACH = 4 * THREADS };

/* y[t] = row ids[t] of the table; without ids row first + t. */
static __global__ void values(const uint8_t *table, int64_t stride, enum dtype d, int64_t first,
                              const int32_t *ids, struct view y)
{
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.x, K = y.dim[1];
    const uint8_t *row = table + (ids ? ids[t] : first + t) * stride;
    for (int64_t k = (int64_t)blockIdx.y * EACH + threadIdx.x;
         k < K && k < ((int64_t)blockIdx.y + 1) * EACH; k += THREADS)
        put(y, t * y.stride[0] + k, value_of(row, d, K, k));
}

static void run_values(struct device *device, const struct tensor *w, int64_t first,
                       const int32_t *ids, const struct tensor *y)
{
    launch_early(device, values, dim3((unsigned)y->dim[0], blocks_for(y->dim[1], EACH)), THREADS, 0,
                 (const uint8_t *)w->data, w->stride[w->rank - 2], w->dtype, first, ids, view_of(y));
}

void embed_coded(struct device *device, const struct embed_args *a)
{
    run_values(device, a->table, 0, a->ids, a->y);
}

/* ---- many rows, or rows of f32 --------------------------------------------------------------- */

enum { PANEL_BYTES = 16 << 20 }; /* model/forward.c plans for them */

/* Rows of a panel begin at multiples of 16 bytes. */
static int64_t panel_pitch(int64_t K) { return (K + 7) / 8 * 8; }

static int64_t panel_rows(const struct linear *w)
{
    const int64_t rows = PANEL_BYTES / (2 * panel_pitch(w->K));
    return rows < 1 ? 1 : rows < w->N ? rows : w->N;
}

size_t linear_panel_bytes(const struct linear *w)
{
    return (size_t)(2 * panel_rows(w) * panel_pitch(w->K));
}

void linear_panel(struct device *device, struct arena *scratch, const struct tensor *x,
                  const struct tensor *y, const struct linear *w, int n, int64_t most,
                  bool fast)
{
    const struct linear_part *part = &w->part[n];
    const int64_t pitch = panel_pitch(w->K), some = panel_rows(w), dim[] = {some, w->K};
    struct tensor panel = tensor_over(NULL, DTYPE_BF16, 2, dim);
    panel.stride[0] = pitch;
    panel.data = arena_take(scratch, linear_panel_bytes(w));
    const int64_t rows = part->rows < most - part->row ? part->rows : most - part->row;
    for (int64_t at = 0; panel.data && at < rows; at += some) {
        panel.dim[0] = rows - at < some ? rows - at : some;
        const struct linear_part made = {&panel, 0, panel.dim[0], part->row + at};
        const struct linear one = {w->N, w->K, 1, &made};
        run_values(device, part->w, part->from + at, NULL, &panel);
        linear_run(device, scratch, x, y, &one, made.row + made.rows, fast);
    }
}
