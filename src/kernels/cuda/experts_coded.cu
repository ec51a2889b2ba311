/* experts_coded.cu: bf16 rows at experts of bf16, q8 or q4, on tensor cores (coded.cuh). Truth:
 * kernels/ref/experts.c.
 *
 *     enter  h[t, j] = silu(G x_t) (U x_t), rounded to bf16: a block has some columns of G and the same of
 *            U for one visit, a warp a slice of K
 *     leave  y[t]: a block has some columns of y for all visits of a row, a warp some pairs of a visit and a
 *            slice of I
 *
 * Each row for itself, in the arithmetic of linear.cuh: its bits know of no other row. Nothing is asked for
 * before the wait: which experts they are has just been found out. */
#include "kernels/cuda/coded.cuh"
#include "kernels/cuda/experts.cuh"

/* [units][8 TILES]: the first of 8 rows of sums. */
template <int TILES>
static __device__ inline void put_row(float *sums, int unit, float (*d)[TILES][4])
{
    const int lane = (int)threadIdx.x % WARP;
    if (lane >= 4) return;
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int e = 0; e < 2; e++)
            sums[unit * 8 * TILES + 8 * i + 2 * lane + e] = d[0][i][e];
}

template <int TILES>
static __device__ inline float row_sum(const float *sums, int first, int slices, int n)
{
    float sum = sums[first * 8 * TILES + n];
    for (int s = 1; s < slices; s++) sum += sums[(first + s) * 8 * TILES + n];
    return sum;
}

template <enum dtype D> static __device__ inline int64_t row_bytes(const struct matrix &m)
{
    return m.stride * (D == DTYPE_BF16 ? 2 : 1);
}

/* Columns n0, .. of a matrix of N rows, and as many of another: the next ones, or those of its own. */
template <enum dtype D>
static __device__ inline struct strip strip_of(const struct matrix &a, const struct matrix *b,
                                               int64_t n0, int half, int64_t N, int64_t K)
{
    const int64_t stride = row_bytes<D>(a), left = N - n0, rest = b ? left : left - half;
    const char *first = (const char *)a.data + n0 * stride;
    const char *second = b ? (const char *)b->data + n0 * stride : first + half * stride;
    return {{first, second},
            stride,
            K,
            {left < half ? (int32_t)left : half, rest < half ? (int32_t)rest : half},
            is_even(a.data, stride) && is_even(second, stride)};
}

/* ---- enter ----------------------------------------------------------------------------------- */

template <enum dtype D, int TILES>
static __global__ void __launch_bounds__(MOST_SLICES *WARP, 2)
    enter_coded(struct experts_call c, uint16_t *h, int depth, int size)
{
    enum { HALF = 4 * TILES };
    DYNAMIC_SHARED(sums); /* [slices][8 TILES]; then the stages, warp by warp */
    let_next_start();
    wait_for_input();
    const int64_t visit = blockIdx.x, t = visit / c.best;
    const struct expert e = c.table[c.ids[visit]];
    const int64_t K = c.x.dim[1], slice = linear_slice(K), n0 = (int64_t)blockIdx.y * HALF;
    const int warp = (int)threadIdx.x / WARP, slices = (int)blockDim.x / WARP;
    const int64_t from = warp * slice, end = from + slice < K ? from + slice : K;
    char *own = (char *)(sums + slices * 8 * TILES) + warp * depth * size;
    const struct strip s = strip_of<D>(e.gate, &e.up, n0, HALF, c.I, K);
    float d[1][TILES][4] = {};
    begin_slice<D, TILES>(own, size, depth, s, from, end);
    const uint16_t *row = (const uint16_t *)c.x.data + t * c.x.stride[0];
    const struct lines l = {row, 0, 1, is_even(row, 0)};
    run_slice<D, 1, TILES>(d, own, size, depth, s, l, from, end);
    put_row<TILES>(sums, warp, d);
    __syncthreads();
    const int i = (int)threadIdx.x;
    if (i >= HALF || n0 + i >= c.I) return;
    const float gate = row_sum<TILES>(sums, 0, slices, i);
    const float up = row_sum<TILES>(sums, 0, slices, HALF + i);
    h[visit * c.I + n0 + i] = bf16_of(act_of(ACT_SILU, gate) * up);
}

/* ---- leave ----------------------------------------------------------------------------------- */

enum { MOST_WARPS = 32 };

/* What the warps of a block do: warp w has pairs w, w + warps, .. of a visit and a slice. */
struct duty {
    int slices, chunks, pairs, warps, depth, size; /* chunks: stages of a slice */
};

template <enum dtype D, int TILES>
static __global__ void __launch_bounds__(MOST_WARPS *WARP)
    leave_coded(struct experts_call c, const uint16_t *h, struct duty u)
{
    enum { COLUMNS = 8 * TILES, X = COLUMNS * coded<D>::PITCH };
    DYNAMIC_SHARED(sums); /* [pairs][8 TILES]; then the stages, warp by warp */
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.y, K = c.y.dim[1];
    const int64_t n0 = (int64_t)blockIdx.x * COLUMNS, slice = linear_slice(c.I);
    const int warp = (int)threadIdx.x / WARP, units = (u.pairs + u.warps - 1) / u.warps * u.chunks;
    char *own = (char *)(sums + u.pairs * COLUMNS) + warp * u.depth * u.size;
    const struct lines l = {h + t * c.best * c.I, c.I, 1, is_even(h, 2 * c.I)};
    float d[1][TILES][4] = {};
    for (int n = -u.depth; n < units; n++) {
        /* Unit n is multiplied, unit n + depth asked for. */
        if (n >= 0) {
            const int pair = warp + n / u.chunks * u.warps;
            const int64_t from = pair % u.slices * slice, k = from + n % u.chunks * CHUNK;
            const int64_t end = from + slice < c.I ? from + slice : c.I, left = end - k;
            char *here = own + n % u.depth * u.size;
            wait_stage(u.depth);
            __syncwarp();
            if (pair < u.pairs && left > 0)
                multiply<D, 1, TILES>(d, here, here + X, 1,
                                      left < CHUNK ? (int)((left + QUANT - 1) / QUANT)
                                                   : CHUNK / QUANT);
            if (pair < u.pairs && n % u.chunks == u.chunks - 1) {
                put_row<TILES>(sums, pair, d);
#pragma unroll
                for (int i = 0; i < TILES; i++)
                    d[0][i][0] = d[0][i][1] = d[0][i][2] = d[0][i][3] = 0.0f;
            }
            __syncwarp();
        }
        const int next = n + u.depth, pair = warp + next / u.chunks * u.warps;
        if (next < units && pair < u.pairs) {
            const int64_t j = pair / u.slices, from = pair % u.slices * slice;
            const int64_t k = from + next % u.chunks * CHUNK;
            const int64_t end = from + slice < c.I ? from + slice : c.I;
            struct lines row = l;
            row.x += j * c.I;
            if (k < end) {
                const struct matrix down = c.table[c.ids[t * c.best + j]].down;
                char *there = own + next % u.depth * u.size;
                fetch_codes<D, TILES>(there, strip_of<D>(down, NULL, n0, COLUMNS / 2, K, c.I), k,
                                      end);
                fetch_lines(there + X, row, k, end);
            }
        }
        copies_end();
    }
    __syncthreads();
    const int n = (int)threadIdx.x;
    if (n >= COLUMNS || n0 + n >= K) return;
    float y = 0.0f;
    for (int64_t j = 0; j < c.best; j++)
        y = fmaf(get(c.weight, t * c.weight.stride[0] + j),
                 row_sum<TILES>(sums, (int)j * u.slices, u.slices, n), y);
    put(c.y, t * c.y.stride[0] + n0 + n, y);
}

/* ---- the call -------------------------------------------------------------------------------- */

static int slice_chunks(int64_t K)
{
    const int64_t most = K < linear_slice(K) ? K : linear_slice(K);
    return (int)((most + CHUNK - 1) / CHUNK);
}

static int depth_of(int units) { return units >= MOST_STAGES ? MOST_STAGES : units > 1 ? 2 : 1; }

static size_t duty_bytes(const struct duty &u, int columns)
{
    return sizeof(float) * (size_t)(u.pairs * columns) + (size_t)(u.warps * u.depth * u.size);
}

/* Columns of a block; 0: there is no room. */
static int leave_form(struct device *device, enum dtype d, const struct experts_call *c,
                      struct duty *u)
{
    int columns = 16;
    u->slices = linear_slices(c->I);
    u->chunks = slice_chunks(c->I);
    u->pairs = (int)c->best * u->slices;
    const int rounds = (u->pairs + MOST_WARPS - 1) / MOST_WARPS;
    u->warps = (u->pairs + rounds - 1) / rounds;
    u->depth = depth_of(rounds * u->chunks);
    for (;;) {
        u->size = stage_bytes(d, columns, 1);
        if (duty_bytes(*u, columns) <= cuda_shared(device)) return columns;
        if (columns > 8)
            columns = 8;
        else if (u->depth > 1)
            u->depth /= 2;
        else if (u->warps > 1)
            u->warps = (u->warps + 1) / 2;
        else
            return 0;
    }
}

/* Columns of G, and as many of U. */
static int enter_form(struct device *device, enum dtype d, int64_t K, int *depth, size_t *room)
{
    const int slices = linear_slices(K);
    int columns = 16;
    *depth = depth_of(slice_chunks(K));
    for (;;) {
        *room = (size_t)slices *
                (sizeof(float) * (size_t)columns + (size_t)(*depth * stage_bytes(d, columns, 1)));
        if (*room <= cuda_shared(device)) return columns;
        if (*depth > 1)
            *depth /= 2;
        else if (columns > 8)
            columns = 8;
        else
            return 0;
    }
}

template <enum dtype D, int TILES>
static void run_enter(struct device *device, const struct experts_call &c, uint16_t *h, int depth,
                      size_t room)
{
    launch_early(device, enter_coded<D, TILES>,
                 dim3((unsigned)(c.x.dim[0] * c.best), blocks_for(c.I, 4 * TILES)),
                 (unsigned)linear_slices(c.x.dim[1]) * WARP, room, c, h, depth,
                 stage_bytes(D, 8 * TILES, 1));
}

template <enum dtype D, int TILES>
static void run_leave(struct device *device, const struct experts_call &c, const uint16_t *h,
                      const struct duty &u)
{
    launch_early(device, leave_coded<D, TILES>,
                 dim3(blocks_for(c.y.dim[1], 8 * TILES), (unsigned)c.x.dim[0]),
                 (unsigned)u.warps * WARP, duty_bytes(u, 8 * TILES), c, h, u);
}

template <enum dtype D>
static bool run(struct device *device, struct arena *scratch, const struct experts_call &c)
{
    struct duty u = {};
    int depth;
    size_t room;
    const int in = enter_form(device, D, c.x.dim[1], &depth, &room);
    const int out = leave_form(device, D, &c, &u);
    if (in == 0 || out == 0) return false;
    const int64_t visits = c.x.dim[0] * c.best;
    uint16_t *h = (uint16_t *)arena_take(scratch, (size_t)(visits * c.I) * sizeof *h);
    if (!h) return true; /* the pass sees the arena's flag */
    const uint16_t *made = h;
    if (in == 16)
        run_enter<D, 2>(device, c, h, depth, room);
    else
        run_enter<D, 1>(device, c, h, depth, room);
    if (out == 16)
        run_leave<D, 2>(device, c, made, u);
    else
        run_leave<D, 1>(device, c, made, u);
    return true;
}

bool experts_coded(struct device *device, struct arena *scratch, enum dtype type,
                   const struct experts_call *call)
{
    switch (type) {
    case DTYPE_BF16: return run<DTYPE_BF16>(device, scratch, *call);
    case DTYPE_Q8: return run<DTYPE_Q8>(device, scratch, *call);
    case DTYPE_Q4: return run<DTYPE_Q4>(device, scratch, *call);
    default: return false;
    }
}
