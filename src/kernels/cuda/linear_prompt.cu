/* linear_prompt.cu: bf16 products of many rows (linear.cuh has the arithmetic: that of few rows).
 *
 * A block makes 128 rows by 64 columns, a warp 64 by 32. 64 k at a time come to shared memory, some
 * of them ahead; at the end of a slice its sums join those of the slices before. */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tiles.cuh"

enum { ROWS = 128, COLUMNS = LINEAR_PROMPT_COLUMNS, DEPTH = 64, STAGES = 4 };
enum { WARP_ROWS = 64, WARP_COLUMNS = 32, ROW_TILES = WARP_ROWS / 16, COLUMN_TILES = WARP_COLUMNS / 8 };
enum { WARPS = ROWS / WARP_ROWS * (COLUMNS / WARP_COLUMNS), THREADS = WARPS * WARP };
enum { STAGE = (ROWS + COLUMNS) * DEPTH * 2 }; /* bytes: rows, then weights */

typedef float sums[ROW_TILES][COLUMN_TILES][4];

/* Where a block works. */
struct place {
    const uint16_t *rows, *weights; /* the first of each */
    int64_t row_stride, weight_stride, K;
    int32_t T, N; /* how many there are, from there on */
};

/* 16 bytes of number c of a row of 64 k stand at c ^ row % 8. */
static __device__ inline shared_at spot(shared_at at, int row, int c)
{
    return at + (row * DEPTH * 2 + ((c ^ (row & 7)) << 4));
}

template <int MOST>
static __device__ inline void load_rows(const uint16_t *from, int64_t stride, int32_t n, int64_t k,
                                        int64_t K, shared_at to)
{
    const int c = (int)threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < MOST * 8 / THREADS; i++) {
        const int row = (int)threadIdx.x / 8 + THREADS / 8 * i;
        const bool there = row < n && k + 8 * c < K;
        copy_later(spot(to, row, c), there ? from + row * stride + k + 8 * c : from, there);
    }
}

static __device__ inline void load_stage(const struct place &p, int64_t step, shared_at stages)
{
    const shared_at to = stages + (int)(step % STAGES) * STAGE;
    load_rows<ROWS>(p.rows, p.row_stride, p.T, step * DEPTH, p.K, to);
    load_rows<COLUMNS>(p.weights, p.weight_stride, p.N, step * DEPTH, p.K, to + ROWS * DEPTH * 2);
}

/* What a warp needs for 16 k. */
struct left_right {
    uint32_t rows[ROW_TILES][4], weights[COLUMN_TILES / 2][4];
};

static __device__ inline void take(shared_at stage, int k, struct left_right *x)
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int row = warp % (ROWS / WARP_ROWS) * WARP_ROWS;
    const int column = warp / (ROWS / WARP_ROWS) * WARP_COLUMNS;
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
        tile_load(x->rows[i], spot(stage, row + 16 * i + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (int i = 0; i < COLUMN_TILES / 2; i++)
        tile_load(x->weights[i], spot(stage + ROWS * DEPTH * 2,
                                      column + 16 * i + lane % 8 + lane / 16 * 8,
                                      2 * k + lane / 8 % 2));
}

static __device__ inline void multiply(const struct left_right &x, sums &d)
{
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; n++)
            tile_multiply(d[i][n], x.rows[i], x.weights[n / 2][n % 2 * 2],
                          x.weights[n / 2][n % 2 * 2 + 1]);
}

/* The sums of a slice join those before it. */
static __device__ inline void join(sums &all, sums &slice, bool first)
{
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                all[i][n][e] = first ? slice[i][n][e] : all[i][n][e] + slice[i][n][e];
                slice[i][n][e] = 0.0f;
            }
}

static __device__ void run_slices(const struct place &p, int64_t slice, shared_at stages, sums &all)
{
    const int64_t steps = (p.K + DEPTH - 1) / DEPTH, in_slice = slice / DEPTH;
    sums d = {};
    for (int64_t s = 0; s < STAGES - 1; s++) {
        if (s < steps) load_stage(p, s, stages);
        copies_end();
    }
    for (int64_t s = 0, end = in_slice; s < steps; s++) {
        struct left_right x;
        const shared_at stage = stages + (int)(s % STAGES) * STAGE;
        copies_wait<STAGES - 2>();
        __syncthreads();
        if (s + STAGES - 1 < steps) load_stage(p, s + STAGES - 1, stages);
        copies_end();
#pragma unroll
        for (int k = 0; k < DEPTH / 16; k++) {
            take(stage, k, &x);
            multiply(x, d);
        }
        if (s + 1 == end || s + 1 == steps) {
            join(all, d, end == in_slice);
            end += in_slice;
        }
    }
}

static __device__ inline void put_pair(const struct view &y, int64_t at, float low, float high,
                                       bool both)
{
    if (both && y.dtype == DTYPE_BF16 && (size_t)((uint16_t *)y.data + at) % 4 == 0) {
        *(uint32_t *)((uint16_t *)y.data + at) = bf16_pair(low, high);
    } else {
        put(y, at, low);
        if (both) put(y, at + 1, high);
    }
}

static __global__ void __launch_bounds__(THREADS, 2)
    many_rows(struct view x, struct view y, const __grid_constant__ struct pieces w,
              int64_t slice)
{
    DYNAMIC_SHARED(room);
    const struct piece &piece = piece_of(w, (int32_t)blockIdx.y);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int32_t n0 = ((int32_t)blockIdx.y - piece.tile) * COLUMNS;
    const int64_t t0 = (int64_t)blockIdx.x * ROWS, T = x.dim[0] - t0;
    const struct place p = {(const uint16_t *)x.data + t0 * x.stride[0],
                            (const uint16_t *)piece.data + n0 * piece.stride, x.stride[0],
                            piece.stride, w.K, T < ROWS ? (int32_t)T : (int32_t)ROWS,
                            piece.rows - n0};
    sums all;
    run_slices(p, slice, shared_address(room), all);
    const int row = warp % (ROWS / WARP_ROWS) * WARP_ROWS + lane / 4;
    const int column = warp / (ROWS / WARP_ROWS) * WARP_COLUMNS + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < ROW_TILES; i++)
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int t = row + 16 * i + 8 * h, c = column + 8 * n;
                if (t < p.T && c < p.N)
                    put_pair(y, (t0 + t) * y.stride[0] + piece.row + n0 + c, all[i][n][2 * h],
                             all[i][n][2 * h + 1], c + 1 < p.N);
            }
}

/* ---- the call -------------------------------------------------------------------------------- */

/* Enough rows, and all that is read lies so that it can be copied 16 bytes at a time. */
bool linear_prompt_fits(const struct tensor *x, const struct linear *w)
{
    bool fits = x->dim[0] > 64 && (size_t)x->data % 16 == 0 && x->stride[0] % 8 == 0 &&
                w->K % 8 == 0;
    for (int i = 0; i < w->parts; i++) {
        const struct tensor *t = w->part[i].w;
        const int64_t stride = t->rank > 1 ? t->stride[t->rank - 2] : t->dim[0];
        fits = fits && (size_t)t->data % 16 == 0 && stride % 8 == 0;
    }
    return fits;
}

void linear_prompt(struct device *device, const struct view &x, const struct view &y,
                   const struct pieces &w)
{
    launch(device, many_rows, dim3(blocks_for(x.dim[0], ROWS), (unsigned)w.tiles), THREADS,
           (size_t)STAGES * STAGE, x, y, w, linear_slice(w.K));
}
