/* linear_rows.cu: few bf16 rows times bf16 weights on tensor cores, sums in f32.
 *
 *     y[t, n] = sum_k W[n, k] x[t, k] = slice 0 + slice 1 + ..     (linear.cuh: the arithmetic)
 *
 * Few rows are bound by how W comes from memory, so much of it is asked for at once: a warp has a
 * slice of K of 8, 16 or 32 columns, and copies it to shared memory before it waits for the kernel in
 * front of it. Only x is asked for after that wait. A slice that is too long goes through in spans:
 *
 *     a warp's own: [columns of W, then rows of x][2 spans + 8]
 *
 * The 8 behind each row keep ldmatrix free of bank conflicts. x is the left operand of m16n8k16, W
 * the right one. Rows that are not there repeat the last one: no row sees another. */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tiles.cuh"

enum { STEP = 64 };

/* What a warp works on. */
struct patch {
    const uint16_t *weights, *rows; /* first column, first row */
    int64_t stride, row_stride, K;
    int32_t columns, T; /* that are there */
};

/* Elements k..k+7 of a row of K to `to`, zeros beyond it: asked for, not yet there. */
template <bool COMMON>
static __device__ inline void fetch_eight(uint16_t *to, const uint16_t *row, int64_t k, int64_t K)
{
    if ((size_t)(row + k) % 16 == 0 && (k + 8 <= K || k >= K)) {
        const uint16_t *from = k < K ? row + k : row;
        if (COMMON)
            copy_common(shared_address(to), from, k < K);
        else
            copy_later(shared_address(to), from, k < K);
        return;
    }
    for (int i = 0; i < 8; i++) to[i] = k + i < K ? row[k + i] : (uint16_t)0;
}

/* Elements k..k+n-1 of so many rows. Lanes go along a row, and on to the next. */
template <bool COMMON>
static __device__ inline void fetch(uint16_t *to, int pitch, const uint16_t *from, int64_t stride,
                                    int rows, int64_t k, int n, int64_t K)
{
    const int units = n / 8;
    int row = (int)threadIdx.x % WARP / units, unit = (int)threadIdx.x % WARP % units;
    while (row < rows) {
        fetch_eight<COMMON>(to + row * pitch + 8 * unit, from + row * stride, k + 8 * unit, K);
        unit += WARP;
        while (unit >= units) unit -= units, row++;
    }
}

/* x is small enough to come straight when there is one row of it; more is read by all blocks of a
 * multiprocessor alike. */
static __device__ inline void fetch_rows(uint16_t *to, int pitch, const struct patch &p, int64_t k,
                                         int n)
{
    if (p.T > 2)
        fetch<true>(to, pitch, p.rows, p.row_stride, p.T, k, n, p.K);
    else
        fetch<false>(to, pitch, p.rows, p.row_stride, p.T, k, n, p.K);
}

/* d += n elements of k. R: groups of 8 rows. */
template <int R, int TILES>
static __device__ inline void multiply(float (*d)[TILES][4], const uint16_t *w, const uint16_t *x,
                                       int pitch, int n, int32_t T)
{
    const int lane = (int)threadIdx.x % WARP, row = lane % 8, matrix = lane / 8;
#pragma unroll 2
    for (int k = 0; k < n; k += 32) {
        uint32_t b[TILES][4];
#pragma unroll
        for (int i = 0; i < TILES; i++)
            tile_load(b[i], shared_address(w + (8 * i + row) * pitch + k + 8 * matrix));
#pragma unroll
        for (int r = 0; r < (R + 1) / 2; r++) {
            uint32_t low[4], high[4] = {};
            const int t = 16 * r + row;
            tile_load(low, shared_address(x + (t < T ? t : T - 1) * pitch + k + 8 * matrix));
            if (R > 1)
                tile_load(high, shared_address(x + (t + 8 < T ? t + 8 : T - 1) * pitch + k +
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

/* d = the k from..end-1 in spans, two of which are asked for at a time; W before the wait. */
template <int R, int TILES>
static __device__ void run_slice(float (*d)[TILES][4], uint16_t *room, int span,
                                 const struct patch &p, int64_t from, int64_t end)
{
    const int pitch = 2 * span + 8;
    uint16_t *w = room, *x = room + 8 * TILES * pitch;
    const int spans = from < end ? (int)((end - from + span - 1) / span) : 0;
    for (int s = 0; s < 2 && s < spans; s++)
        fetch<false>(w + s * span, pitch, p.weights, p.stride, p.columns, from + s * span, span,
                     p.K);
    wait_for_input();
    for (int s = 0; s < 2; s++) {
        if (s < spans) fetch_rows(x + s * span, pitch, p, from + s * span, span);
        copies_end();
    }
    for (int s = 0; s < spans; s++) {
        const int at = s % 2 * span;
        const int64_t next = from + (int64_t)(s + 2) * span;
        copies_wait<1>();
        __syncwarp();
        multiply<R, TILES>(d, w + at, x + at, pitch, span, p.T);
        __syncwarp();
        if (s + 2 < spans) {
            fetch<false>(w + at, pitch, p.weights, p.stride, p.columns, next, span, p.K);
            fetch_rows(x + at, pitch, p, next, span);
        }
        copies_end();
    }
}

template <int R, int TILES>
static __global__ void __launch_bounds__(MOST_SLICES *WARP)
    few_rows(struct view x, struct view y, struct pieces w, int64_t slice, int span)
{
    enum { COLUMNS = 8 * TILES, GAP = COLUMNS + 4 };
    DYNAMIC_SHARED(sums); /* [slices][8 R][GAP]; then what is each warp's own: a warp a slice */
    let_next_start();
    const struct piece &piece = piece_of(w, (int32_t)blockIdx.y);
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int slices = (int)blockDim.x / WARP;
    const int32_t n0 = ((int32_t)blockIdx.y - piece.tile) * COLUMNS;
    const int64_t t0 = (int64_t)blockIdx.x * 8 * R, T = x.dim[0] - t0;
    const int64_t from = warp * slice, end = from + slice < w.K ? from + slice : w.K;
    const struct patch p = {(const uint16_t *)piece.data + n0 * piece.stride,
                            (const uint16_t *)x.data + t0 * x.stride[0], piece.stride, x.stride[0],
                            end, piece.rows - n0 < COLUMNS ? piece.rows - n0 : (int32_t)COLUMNS,
                            T < 8 * R ? (int32_t)T : 8 * R};
    uint16_t *own = (uint16_t *)(sums + slices * 8 * R * GAP) +
                    (size_t)warp * (COLUMNS + (size_t)p.T) * (size_t)(2 * span + 8);
    float d[(R + 1) / 2][TILES][4] = {};
    run_slice<R, TILES>(d, own, span, p, from, end);
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

static int slices_of(int64_t K)
{
    return (int)((K + linear_slice(K) - 1) / linear_slice(K));
}

static size_t shared_of(const struct few_form &f, int64_t T, int64_t K)
{
    const size_t rows = (size_t)f.columns + (size_t)(T < f.rows ? T : f.rows);
    const size_t sums = sizeof(float) * (size_t)(f.rows * (f.columns + 4));
    return (size_t)slices_of(K) * (sums + sizeof(uint16_t) * rows * (size_t)(2 * f.span + 8));
}

/* As many columns as leave work for 64 blocks; half a slice at a time, or what there is room for
 * twice in shared memory. */
struct few_form linear_few_form(struct device *device, int64_t T, int64_t N, int64_t K)
{
    struct few_form f = {32, T <= 8 ? 8 : T <= 16 ? 16 : 32, 0};
    while (f.columns > 8 && N < 64 * f.columns) f.columns /= 2;
    f.span = (int)((linear_slice(K) / 2 + STEP - 1) / STEP * STEP);
    while (shared_of(f, T, K) > cuda_shared(device)) {
        if (f.span > STEP)
            f.span -= STEP;
        else if (f.columns > 8)
            f.columns /= 2;
        else
            f.rows /= 2;
    }
    return f;
}

template <int R, int TILES>
static void run(struct device *device, const struct view &x, const struct view &y,
                const struct pieces &w, struct few_form f)
{
    launch_early(device, few_rows<R, TILES>, dim3(blocks_for(x.dim[0], 8 * R), (unsigned)w.tiles),
                 (unsigned)slices_of(w.K) * WARP, shared_of(f, x.dim[0], w.K), x, y, w,
                 linear_slice(w.K), f.span);
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
