/* linear_stream.cu: few bf16 rows times bf16 weights on GPUs of compute capability 9.0 and later, whose
 * blocks can ask for long copies and hear when they are there. Same sums as linear_rows.cu, bit for bit
 * (linear.cuh has the arithmetic); for a head, whose W should never stop coming, and for 9 to 32 rows, of
 * which linear_rows.cu reads x once a block.
 *
 * A block stays and has a run of columns. W comes through a ring of stages, 16 columns each and one copy
 * a column; the ring fills before the wait for the kernel in front. A warp has a slice of K, of x all
 * that it needs in registers, and goes from stage to stage; what warps made of one stage is added up
 * while they are at the next one:
 *
 *     gates | x [rows][K + 8] | stages [depth][16][K + 8] | sums [2][slices][rows][16 + 8]
 *
 * The 8 behind each row keep ldmatrix free of bank conflicts. */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tiles.cuh"

enum { COLUMNS = 16, UNIT = 8, GAP = COLUMNS + 8, GATES = 128, MOST_DEPTH = GATES / 8, FEW = 8 };

struct stream {
    struct view x, y;
    struct pieces w; /* their tiles are of 1 column */
    int32_t units, depth; /* of 8 columns in all; stages */
    int32_t slice, slices, T, K;
};

/* Shared memory of a block. */
struct hall {
    uint16_t *x, *w;
    float *sums;
    int32_t pitch, of_group; /* of_group: sums of 16 columns */
};

/* Returns its bytes. */
static __host__ __device__ inline size_t hall_over(struct hall *h, float *room, const struct stream &a,
                                                   int32_t rows)
{
    h->pitch = a.K + UNIT;
    h->of_group = a.slices * rows * GAP;
    h->x = (uint16_t *)room + GATES / 2;
    h->w = h->x + (size_t)(a.T * h->pitch);
    h->sums = (float *)(h->w + (size_t)(a.depth * COLUMNS) * (size_t)h->pitch);
    return GATES + 2 * (size_t)(a.T + a.depth * COLUMNS) * (size_t)h->pitch +
           sizeof(float) * 2 * (size_t)h->of_group;
}

/* ---- what comes in --------------------------------------------------------------------------- */

/* A warp asks for columns n.. up to `end`, 16 at most. */
static __device__ inline void ask(const struct stream &a, const struct hall &h, shared_at gates,
                                  int32_t stage, int32_t n, int32_t end)
{
    const int32_t lane = (int32_t)threadIdx.x % WARP;
    const int32_t columns = end - n < COLUMNS ? end - n : (int32_t)COLUMNS;
    if (lane == 0) gate_expect(gates + 8 * stage, 2 * columns * a.K);
    if (lane >= columns) return;
    const struct piece &p = piece_of(a.w, n + lane);
    copy_long(shared_address(h.w + (size_t)(stage * COLUMNS + lane) * (size_t)h.pitch),
              (const uint16_t *)p.data + (n + lane - p.tile) * p.stride, 2 * a.K, gates + 8 * stage);
}

/* A warp's own slice of all rows comes; blocks begin at different rows, for they all read the same. */
template <int STEPS>
static __device__ inline void bring_rows(const struct stream &a, const struct hall &h, int32_t k,
                                         int32_t width)
{
    enum { LANES = STEPS * 32 / UNIT, AT_ONCE = WARP / LANES };
    const int32_t lane = (int32_t)threadIdx.x % WARP, at = k + lane % LANES * UNIT;
    int32_t t = ((int32_t)blockIdx.x + lane / LANES) % a.T;
#pragma unroll 1
    for (int32_t i = lane / LANES; i < a.T; i += AT_ONCE) {
        if (at < k + width)
            copy_common(shared_address(h.x + t * h.pitch + at),
                        (const uint16_t *)a.x.data + t * a.x.stride[0] + at, true);
        t = t + AT_ONCE < a.T ? t + AT_ONCE : t + AT_ONCE - a.T;
    }
    copies_end();
    copies_wait<0>();
    __syncwarp();
}

/* ---- products -------------------------------------------------------------------------------- */

/* A warp's part of x: 16 rows, of which the upper 8 may not be there, and 32 k for each step. Rows
 * that are not there repeat the last one: no row sees another. */
template <int STEPS, int R> struct slab {
    uint32_t low[STEPS][(R + 1) / 2][4], high[STEPS][R > 1 ? (R + 1) / 2 : 1][4];
};

template <int STEPS, int R>
static __device__ inline void load_slab(struct slab<STEPS, R> *x, const struct hall &h, int32_t k,
                                        int32_t steps, int32_t T)
{
    const int32_t lane = (int32_t)threadIdx.x % WARP, row = lane % 8, matrix = lane / 8;
#pragma unroll
    for (int i = 0; i < STEPS; i++)
#pragma unroll
        for (int r = 0; r < (R + 1) / 2; r++) {
            if (i >= steps) break;
            const int32_t t = 16 * r + row;
            const uint16_t *from = h.x + k + 32 * i + 8 * matrix;
            tile_load(x->low[i][r], shared_address(from + (t < T ? t : T - 1) * h.pitch));
            if (R > 1)
                tile_load(x->high[i][r], shared_address(from + (t + 8 < T ? t + 8 : T - 1) * h.pitch));
        }
}

/* sums = the warp's slice of a stage's columns */
template <int STEPS, int R>
static __device__ inline void multiply(float *sums, const struct slab<STEPS, R> &x, const uint16_t *w,
                                       int32_t pitch, int32_t steps)
{
    enum { M = (R + 1) / 2 };
    const int32_t lane = (int32_t)threadIdx.x % WARP, row = lane % 8, matrix = lane / 8;
    float d[M][2][4] = {};
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        if (i >= steps) break;
        uint32_t b[2][4];
#pragma unroll
        for (int n = 0; n < 2; n++)
            tile_load(b[n], shared_address(w + (UNIT * n + row) * pitch + 32 * i + 8 * matrix));
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int r = 0; r < M; r++) {
                const uint32_t a[4] = {x.low[i][r][2 * half], R > 1 ? x.high[i][r][2 * half] : 0,
                                       x.low[i][r][2 * half + 1],
                                       R > 1 ? x.high[i][r][2 * half + 1] : 0};
#pragma unroll
                for (int n = 0; n < 2; n++) tile_multiply(d[r][n], a, b[n][2 * half], b[n][2 * half + 1]);
            }
    }
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                sums[(8 * r + lane / 4) * GAP + UNIT * n + lane % 4 * 2 + e] = d[r / 2][n][r % 2 * 2 + e];
}

/* Columns n.. up to `end`, 16 at most: y = slice 0 + slice 1 + .. */
static __device__ inline void add_up(const struct stream &a, const float *sums, int32_t rows, int32_t n,
                                     int32_t end)
{
#pragma unroll 1
    for (int32_t i = (int32_t)threadIdx.x; i < a.T * COLUMNS; i += (int32_t)blockDim.x) {
        const int32_t t = i / COLUMNS, c = i % COLUMNS;
        float part[MOST_SLICES];
        if (n + c >= end) continue;
#pragma unroll
        for (int32_t s = 0; s < MOST_SLICES; s++)
            if (s < a.slices) part[s] = sums[(s * rows + t) * GAP + c];
        float sum = part[0];
#pragma unroll
        for (int32_t s = 1; s < MOST_SLICES; s++)
            if (s < a.slices) sum += part[s];
        const struct piece &p = piece_of(a.w, n + c);
        const int64_t at = t * a.y.stride[0] + p.row + n + c - p.tile;
        if (a.y.dtype == DTYPE_BF16)
            ((uint16_t *)a.y.data)[at] = bf16_of(sum);
        else
            ((float *)a.y.data)[at] = sum;
    }
}

template <int STEPS, int R>
static __global__ void __launch_bounds__((R > 1 ? MOST_SLICES / 2 : MOST_SLICES) * WARP)
    stream_rows(const __grid_constant__ struct stream a)
{
    enum { ROWS = 8 * R };
    DYNAMIC_SHARED(room);
    let_next_start();
    const int32_t warp = (int32_t)threadIdx.x / WARP, warps = (int32_t)blockDim.x / WARP;
    const uint32_t units = (uint32_t)a.units;
    const int32_t first = (int32_t)(units * blockIdx.x / gridDim.x) * UNIT;
    const int32_t some = (int32_t)(units * (blockIdx.x + 1) / gridDim.x) * UNIT;
    const int32_t end = some < a.w.tiles ? some : a.w.tiles;
    const bool asks = warp == warps - 1; /* the first one has sums to add up */
    const shared_at gates = shared_address(room);
    struct hall h;
    hall_over(&h, room, a, ROWS);
    if (threadIdx.x == 0)
#pragma unroll 1
        for (int32_t i = 0; i < a.depth; i++) gate_make(gates + 8 * i, 1);
    __syncthreads();
#pragma unroll 1
    for (int32_t i = 0; asks && i < a.depth && first + i * COLUMNS < end; i++)
        ask(a, h, gates, i, first + i * COLUMNS, end);
    wait_for_input();
    const int32_t k = warp * a.slice, left = a.K - k, width = left < a.slice ? left : a.slice;
    const int32_t steps = width / 32;
    struct slab<STEPS, R> x;
    bring_rows<STEPS>(a, h, k, width);
    load_slab(&x, h, k, steps, a.T);
#pragma unroll 1
    for (int32_t n = first, stage = 0, turn = 0; n < end; n += COLUMNS) {
        float *sums = h.sums + (n - first) / COLUMNS % 2 * h.of_group;
        gate_wait(gates + 8 * stage, turn);
        multiply(sums + warp * ROWS * GAP, x, h.w + stage * COLUMNS * h.pitch + k, h.pitch, steps);
        __syncthreads();
        if (asks && n + a.depth * COLUMNS < end) ask(a, h, gates, stage, n + a.depth * COLUMNS, end);
        add_up(a, sums, ROWS, n, end);
        if (++stage == a.depth) stage = 0, turn ^= 1;
    }
}

/* ---- the call -------------------------------------------------------------------------------- */

static bool even(const void *data, int64_t stride)
{
    return ((size_t)data | 2 * (size_t)stride) % 16 == 0;
}

static bool fits(struct device *device, const struct view &x, const struct pieces &w)
{
    enum { MOST_ROWS = 32, MOST_WIDTH = 256 * MOST_SLICES };
    bool fits = cuda_overlaps(device) && x.dim[0] <= MOST_ROWS && w.K % 32 == 0 && w.K <= MOST_WIDTH &&
                even(x.data, x.stride[0]);
    for (int32_t i = 0; i < w.count; i++) fits = fits && even(w.piece[i].data, w.piece[i].stride);
    return fits;
}

template <int STEPS, int R>
static void run(struct device *device, const struct stream &a, int32_t blocks)
{
    struct hall h;
    launch_early(device, stream_rows<STEPS, R>, dim3((unsigned)blocks), (unsigned)a.slices * WARP,
                 hall_over(&h, NULL, a, 8 * R), a);
}

/* Few rows are worth it when there is much W: then by two blocks a multiprocessor, of which one waits
 * while the other adds up. */
bool linear_stream(struct device *device, const struct view &x, const struct view &y,
                   const struct pieces &w)
{
    enum { MUCH = 16 };
    struct stream a = {x, y, w};
    struct hall h;
    int32_t blocks = cuda_processors(device);
    const bool few = x.dim[0] <= FEW;
    const int32_t rows = few ? FEW : 4 * FEW;
    a.K = (int32_t)w.K, a.T = (int32_t)x.dim[0], a.units = (w.tiles + UNIT - 1) / UNIT;
    a.slice = (int32_t)linear_slice(a.K), a.slices = linear_slices(a.K);
    if (!fits(device, x, w) || (few ? a.units < MUCH * blocks : a.slices > MOST_SLICES / 2)) return false;
    const size_t all = cuda_shared(device), room = few ? all / 2 : all;
    if (few) blocks *= 2;
    a.depth = MOST_DEPTH;
    while (a.depth > 1 && hall_over(&h, NULL, a, rows) > room) a.depth--;
    if (hall_over(&h, NULL, a, rows) > all) return false;
    void (*const form)(struct device *, const struct stream &, int32_t) =
        !few ? run<4, 4> : a.slice <= 128 ? run<4, 1> : run<8, 1>;
    form(device, a, blocks < a.units ? blocks : a.units);
    return true;
}
