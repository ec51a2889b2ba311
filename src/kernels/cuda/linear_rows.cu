/* linear_rows.cu: few bf16 rows times bf16 weights on tensor cores, sums in f32.
 *
 *     y[t, n] = sum_k W[n, k] x[t, k] = slice 0 + slice 1 + ..     (linear.cuh: the arithmetic)
 *
 * Few rows are bound by how W comes from memory, so much of it is asked for at once: a warp has a
 * slice of K of 8, 16 or 32 columns, and copies it to shared memory before it waits for the kernel in
 * front of it. Only x is asked for after that wait. A warp has up to 4 stages of its own, of 64 k:
 *
 *     stage: [columns][64 + 8] of W, [rows][64 + 8] of x
 *
 * The 8 behind each row keep ldmatrix free of bank conflicts. x is the left operand of m16n8k16, W
 * the right one. Rows that are not there repeat the last one: no row sees another. Copies are made
 * with as few instructions as can be, for these bound the kernel before memory does. */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tiles.cuh"

enum { CHUNK = 64, PITCH = CHUNK + 8, UNITS = CHUNK / 8, AT_ONCE = WARP / UNITS };

/* What a warp works on. */
struct patch {
    const uint16_t *weights, *rows; /* first column, first row */
    int64_t stride, row_stride, end; /* end: of the slice */
    int32_t columns, T; /* that are there */
    bool even; /* all rows of both can be copied 16 bytes at a time */
};

/* Elements k..k+7 of a row to `to`, zeros beyond the end. */
static __device__ inline void fetch_eight(uint16_t *to, const uint16_t *row, int64_t k, int64_t end)
{
#pragma unroll
    for (int i = 0; i < 8; i++) to[i] = k + i < end ? row[k + i] : (uint16_t)0;
}

/* 64 elements of up to MOST rows from k on: asked for, not yet there. COMMON: other blocks of the
 * multiprocessor ask for them as well. */
template <int MOST, bool COMMON>
static __device__ inline void fetch(uint16_t *to, const uint16_t *from, int64_t stride, int32_t rows,
                                    const struct patch &p, int64_t k)
{
    const int lane = (int)threadIdx.x % WARP, first = lane / UNITS, at = lane % UNITS * 8;
    const uint16_t *row = from + first * stride;
    to += first * PITCH + at;
    if (p.even && k + CHUNK <= p.end) {
        const shared_at place = shared_address(to);
        row += k + at;
#pragma unroll
        for (int i = 0; i < MOST / AT_ONCE; i++, row += AT_ONCE * stride) {
            if (first + i * AT_ONCE >= rows) break;
            if (COMMON)
                copy_common(place + i * AT_ONCE * PITCH * 2, row, true);
            else
                copy_later(place + i * AT_ONCE * PITCH * 2, row, true);
        }
        return;
    }
    for (int n = first; n < rows; n += AT_ONCE, to += AT_ONCE * PITCH, row += AT_ONCE * stride)
        fetch_eight(to, row, k + at, p.end);
}

/* One row comes straight; more of them are read by all blocks of a multiprocessor alike. */
template <int R>
static __device__ inline void fetch_rows(uint16_t *to, const struct patch &p, int64_t k)
{
    if (R == 1 && p.T <= 2)
        fetch<8, false>(to, p.rows, p.row_stride, p.T, p, k);
    else
        fetch<8 * R, true>(to, p.rows, p.row_stride, p.T, p, k);
}

/* d += the 64 k of a stage. R: groups of 8 rows. */
template <int R, int TILES>
static __device__ inline void multiply(float (*d)[TILES][4], const uint16_t *stage, int32_t T)
{
    const int lane = (int)threadIdx.x % WARP, row = lane % 8, matrix = lane / 8;
    const uint16_t *x = stage + 8 * TILES * PITCH;
#pragma unroll
    for (int k = 0; k < CHUNK; k += 32) {
        uint32_t b[TILES][4];
#pragma unroll
        for (int i = 0; i < TILES; i++)
            tile_load(b[i], shared_address(stage + (8 * i + row) * PITCH + k + 8 * matrix));
#pragma unroll
        for (int r = 0; r < (R + 1) / 2; r++) {
            uint32_t low[4], high[4] = {};
            const int t = 16 * r + row;
            tile_load(low, shared_address(x + (t < T ? t : T - 1) * PITCH + k + 8 * matrix));
            if (R > 1)
                tile_load(high, shared_address(x + (t + 8 < T ? t + 8 : T - 1) * PITCH + k +
                                               8 * matrix));
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint32_t a[4] = {low[2 * half], high[2 * half], low[2 * half + 1],
                                       high[2 * half + 1]};
#pragma unroll
                for (int i = 0; i < TILES; i++)
                    tile_multiply(d[r][i], a, b[i][2 * half], b[i][2 * half + 1]);
            }
        }
    }
}

/* d = the k from..end-1, whose W is asked for before the wait as far as there are stages for it. */
template <int R, int TILES>
static __device__ void run_slice(float (*d)[TILES][4], uint16_t *stage, int depth,
                                 const struct patch &p, int64_t from)
{
    const int size = (8 * TILES + p.T) * PITCH;
    const int chunks = from < p.end ? (int)((p.end - from + CHUNK - 1) / CHUNK) : 0;
    for (int c = 0; c < depth && c < chunks; c++)
        fetch<8 * TILES, false>(stage + c * size, p.weights, p.stride, p.columns, p,
                                from + c * CHUNK);
    wait_for_input();
    for (int c = 0; c < depth; c++) {
        if (c < chunks)
            fetch_rows<R>(stage + c * size + 8 * TILES * PITCH, p, from + c * CHUNK);
        copies_end();
    }
    for (int c = 0; c < chunks; c++) {
        uint16_t *here = stage + c % depth * size;
        const int64_t next = from + (c + depth) * CHUNK;
        wait_stage(depth);
        __syncwarp();
        multiply<R, TILES>(d, here, p.T);
        __syncwarp();
        if (c + depth < chunks) {
            fetch<8 * TILES, false>(here, p.weights, p.stride, p.columns, p, next);
            fetch_rows<R>(here + 8 * TILES * PITCH, p, next);
        }
        copies_end();
    }
}

template <int R, int TILES>
static __global__ void __launch_bounds__(MOST_SLICES *WARP)
    few_rows(struct view x, struct view y, struct pieces w, int64_t slice, int depth)
{
    enum { COLUMNS = 8 * TILES, GAP = COLUMNS + 4 };
    DYNAMIC_SHARED(sums); /* [slices][8 R][GAP]; then the stages, warp by warp: a warp a slice */
    let_next_start();
    const struct piece &piece = piece_of(w, (int32_t)blockIdx.y);
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int slices = (int)blockDim.x / WARP;
    const int32_t n0 = ((int32_t)blockIdx.y - piece.tile) * COLUMNS;
    const int64_t t0 = (int64_t)blockIdx.x * 8 * R, T = x.dim[0] - t0, from = warp * slice;
    struct patch p = {(const uint16_t *)piece.data + n0 * piece.stride,
                      (const uint16_t *)x.data + t0 * x.stride[0], piece.stride, x.stride[0],
                      from + slice < w.K ? from + slice : w.K,
                      piece.rows - n0 < COLUMNS ? piece.rows - n0 : (int32_t)COLUMNS,
                      T < 8 * R ? (int32_t)T : 8 * R, false};
    p.even = ((size_t)p.weights | (size_t)p.rows | 2 * (size_t)(p.stride | p.row_stride)) % 16 == 0;
    uint16_t *own = (uint16_t *)(sums + slices * 8 * R * GAP) +
                    (size_t)(warp * depth) * (COLUMNS + (size_t)p.T) * PITCH;
    float d[(R + 1) / 2][TILES][4] = {};
    run_slice<R, TILES>(d, own, depth, p, from);
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                sums[((warp * R + r) * 8 + lane / 4) * GAP + 8 * i + lane % 4 * 2 + e] =
                    d[r / 2][i][r % 2 * 2 + e];
    __syncthreads();
    for (int i = (int)threadIdx.x; i < p.T * COLUMNS; i += (int)blockDim.x) {
        const int t = i / COLUMNS, n = i % COLUMNS;
        const float *at = sums + t * GAP + n;
        float sum = at[0];
        for (int s = 1; s < slices; s++) sum += at[s * 8 * R * GAP];
        if (n < p.columns) put(y, (t0 + t) * y.stride[0] + piece.row + n0 + n, sum);
    }
}

/* ---- the call -------------------------------------------------------------------------------- */

static size_t shared_of(const struct few_form &f, enum dtype, int64_t T, int64_t K)
{
    const size_t rows = (size_t)f.columns + (size_t)(T < f.rows ? T : f.rows);
    const size_t sums = sizeof(float) * (size_t)(f.rows * (f.columns + 4));
    return (size_t)linear_slices(K) * (sums + sizeof(uint16_t) * rows * (size_t)(f.depth * PITCH));
}

struct few_form linear_few_form(struct device *device, int64_t T, int64_t N, int64_t K)
{
    return linear_form(device, shared_of, DTYPE_BF16, CHUNK, T, N, K);
}

template <int R, int TILES>
static void run(struct device *device, const struct view &x, const struct view &y,
                const struct pieces &w, struct few_form f)
{
    launch_as(device, !w.made, few_rows<R, TILES>,
              dim3(blocks_for(x.dim[0], 8 * R), (unsigned)w.tiles),
              (unsigned)linear_slices(w.K) * WARP, shared_of(f, DTYPE_BF16, x.dim[0], w.K), x, y, w,
              linear_slice(w.K), f.depth);
}

template <int TILES>
static void run_tiles(struct device *device, const struct view &x, const struct view &y,
                      const struct pieces &w, struct few_form f)
{
    if (f.rows == 8)
        run<1, TILES>(device, x, y, w, f);
    else if (f.rows == 16)
        run<2, TILES>(device, x, y, w, f);
    else
        run<4, TILES>(device, x, y, w, f);
}

void linear_few(struct device *device, const struct view &x, const struct view &y,
                const struct pieces &w, struct few_form form)
{
    if (form.columns == 8)
        run_tiles<1>(device, x, y, w, form);
    else if (form.columns == 16)
        run_tiles<2>(device, x, y, w, form);
    else
        run_tiles<4>(device, x, y, w, form);
}
