/* linear_hopper.cu: bf16 products of many rows on GPUs of compute capability 9.0, whose tensor cores
 * take operands from shared memory. Same sums as linear_prompt.cu, bit for bit: on these GPUs a chain
 * of wgmma is the chain of mma that it stands for (measured: docs/kernels/cuda.md).
 *
 * A block makes tile after tile of 128 rows by 128 columns. One thread asks for what comes, 64 k at a
 * time (tensor maps: zeros beyond the edges, swizzled), also of the next tile while one is written;
 * two groups of four warps have 64 rows each: while one adds up a slice the other one multiplies. */
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tiles.cuh"

#ifdef GDN_SM90A
#include <cuda.h>
#include <cudaTypedefs.h>

enum { GROUPS = 2, GROUP = 128, THREADS = (GROUPS + 1) * GROUP, ROWS = 64 * GROUPS };
enum { COLUMNS = LINEAR_HOPPER_COLUMNS, DEPTH = 64, STAGES = 6, MOST_PIECES = 8 };
enum { HALF = ROWS * DEPTH * 2, STAGE = 2 * HALF, ROOM = STAGES * STAGE + 1024 + 16 * STAGES };
enum { SUMS = 64 }; /* of a thread: 64 x 128 over 128 threads */

struct maps {
    CUtensorMap x, w[MOST_PIECES];
};

/* ---- instructions ---------------------------------------------------------------------------- */

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
/* d = [64 rows] x [128 columns] over 16 k, or added to it; asynchronous. */
static __device__ inline void multiply_async(float (&d)[SUMS], uint64_t x, uint64_t w, int adds)
{
    asm volatile(
        "{.reg .pred p; setp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
        "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,"
        "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
        "%64, %65, p, 1, 1, 0, 0;}\n"
#define EIGHT(i)                                                                               \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])
        : EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48), EIGHT(56)
#undef EIGHT
        : "l"(x), "l"(w), "r"(adds));
}

static __device__ inline void multiply_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ inline void multiply_end(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Until at most N of the groups between begin and end are under way. */
template <int N> static __device__ inline void multiply_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* What an instruction is told of 8-row pieces of 64 k, swizzled, one behind the other. */
static __device__ inline uint64_t matrix_at(shared_at at)
{
    return (uint64_t)((at & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

/* 128 rows from `row` on, 64 k from k on; the gate hears of their bytes. */
static __device__ inline void fetch(shared_at to, const CUtensorMap *from, int32_t k, int32_t row,
                                    shared_at gate)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"((uint64_t)from), "r"(k), "r"(row), "r"(gate)
                 : "memory");
}

/* ---- a block --------------------------------------------------------------------------------- */

/* Stages are filled and emptied in turn; `turn` counts them over all tiles. */
struct ring {
    shared_at stage, full, empty;
    uint32_t turn;
};

static __device__ inline shared_at stage_of(const struct ring &r) { return r.stage + r.turn % STAGES * STAGE; }
static __device__ inline shared_at full_of(const struct ring &r) { return r.full + r.turn % STAGES * 8; }
static __device__ inline int phase_of(const struct ring &r) { return (int)(r.turn / STAGES & 1); }

/* A tile: rows t0.., columns n0.. of a piece. */
struct tile {
    int32_t t0, n0, piece;
};

static __device__ inline struct tile tile_of(const struct pieces &w, int32_t i, int32_t row_tiles)
{
    const int32_t column = i / row_tiles;
    int32_t p = w.count - 1;
    while (w.piece[p].tile > column) p--;
    return tile{i % row_tiles * ROWS, (column - w.piece[p].tile) * COLUMNS, p};
}

static __device__ void fetch_tiles(const struct maps &maps, const struct pieces &w, int32_t tiles,
                                   int32_t row_tiles, struct ring r)
{
    const int32_t steps = (int32_t)((w.K + DEPTH - 1) / DEPTH);
    for (int32_t i = (int32_t)blockIdx.x; i < tiles; i += (int32_t)gridDim.x) {
        const struct tile t = tile_of(w, i, row_tiles);
        for (int32_t s = 0; s < steps; s++, r.turn++) {
            if (r.turn >= STAGES) gate_wait(r.empty + r.turn % STAGES * 8, phase_of(r) ^ 1);
            gate_expect(full_of(r), STAGE);
            fetch(stage_of(r), &maps.x, s * DEPTH, t.t0, full_of(r));
            fetch(stage_of(r) + HALF, &maps.w[t.piece], s * DEPTH, t.n0, full_of(r));
        }
    }
}

/* The stage of the turn before is read no more, by this group. */
static __device__ inline void leave_stage(const struct ring &r)
{
    if (threadIdx.x % GROUP == 0) gate_arrive(r.empty + (r.turn - 1) % STAGES * 8);
}

/* d: 64 k more. */
static __device__ inline void step(float (&d)[SUMS], const struct ring &r, bool adds)
{
    gate_wait(full_of(r), phase_of(r));
    const shared_at x = stage_of(r) + (threadIdx.x / GROUP) * 64 * DEPTH * 2;
    const shared_at w = stage_of(r) + HALF;
    multiply_begin();
#pragma unroll
    for (int j = 0; j < DEPTH / 16; j++)
        multiply_async(d, matrix_at(x + 32 * j), matrix_at(w + 32 * j), adds || j > 0);
    multiply_end();
}

/* all = the tile, slice after slice. A step is asked for before the one in front of it is there. */
static __device__ inline void run_tile(float (&all)[SUMS], int32_t steps, int32_t in_slice,
                                       struct ring &r)
{
    float d[SUMS];
#pragma unroll
    for (int i = 0; i < SUMS; i++) all[i] = -0.0f; /* to which everything adds as it is */
    for (int32_t from = 0; from < steps; from += in_slice) {
        const int32_t end = steps - from < in_slice ? steps : from + in_slice;
        step(d, r, false);
        r.turn++;
        for (int32_t s = from + 1; s < end; s++, r.turn++) {
            step(d, r, true);
            multiply_wait<1>();
            leave_stage(r);
        }
        multiply_wait<0>();
#pragma unroll
        for (int i = 0; i < SUMS; i++) asm volatile("" : "+f"(d[i])::"memory"); /* not before */
        leave_stage(r);
#pragma unroll
        for (int i = 0; i < SUMS; i++) all[i] += d[i];
    }
}

/* Pair j of lane q for four pairs of four lanes: afterwards a lane has pair q of all four. */
static __device__ inline uint4 turn_quad(const uint32_t (&v)[4])
{
    const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
    const uint32_t a = __shfl_xor_sync(~0u, odd ? v[0] : v[1], 1);
    const uint32_t b = __shfl_xor_sync(~0u, odd ? v[2] : v[3], 1);
    const uint32_t low0 = odd ? a : v[0], low1 = odd ? v[1] : a;
    const uint32_t high0 = odd ? b : v[2], high1 = odd ? v[3] : b;
    const uint32_t c = __shfl_xor_sync(~0u, high ? low0 : high0, 2);
    const uint32_t d = __shfl_xor_sync(~0u, high ? low1 : high1, 2);
    return high ? make_uint4(c, d, high0, high1) : make_uint4(low0, low1, c, d);
}

/* y is bf16 and its rows can be written 16 bytes at a time. */
static __device__ void put_tile(const struct view &y, const struct piece &p, const struct tile &t,
                                const float (&all)[SUMS])
{
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, q = lane % 4;
    uint16_t *to = (uint16_t *)y.data;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int64_t row = t.t0 + 16 * warp + lane / 4 + 8 * h;
#pragma unroll
        for (int j = 0; j < COLUMNS / 32; j++) {
            uint32_t v[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[i] = bf16_pair(all[16 * j + 4 * i + 2 * h], all[16 * j + 4 * i + 2 * h + 1]);
            const uint4 eight = turn_quad(v);
            const int32_t n = t.n0 + 32 * j + 8 * q;
            const int64_t at = row * y.stride[0] + p.row + n;
            const uint32_t pair[4] = {eight.x, eight.y, eight.z, eight.w};
            if (row >= y.dim[0]) continue;
            if (n + 8 <= p.rows)
                *(uint4 *)(to + at) = eight;
            else
                for (int i = 0; i < 8 && n + i < p.rows; i++)
                    to[at + i] = (uint16_t)(pair[i / 2] >> i % 2 * 16);
        }
    }
}
#endif

static __global__ void __launch_bounds__(THREADS, 1)
    many_rows_hopper(const __grid_constant__ struct maps maps,
                     const __grid_constant__ struct pieces w, struct view y, int32_t tiles,
                     int32_t row_tiles, int32_t in_slice)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    DYNAMIC_SHARED(room);
    struct ring r = {};
    r.stage = (shared_address(room) + 1023) & ~1023u;
    r.full = r.stage + STAGES * STAGE, r.empty = r.full + 8 * STAGES;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            gate_make(r.full + 8 * i, 1);
            gate_make(r.empty + 8 * i, GROUPS);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x / GROUP == GROUPS) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
        if (threadIdx.x == GROUPS * GROUP) fetch_tiles(maps, w, tiles, row_tiles, r);
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    const int32_t steps = (int32_t)((w.K + DEPTH - 1) / DEPTH);
    for (int32_t i = (int32_t)blockIdx.x; i < tiles; i += (int32_t)gridDim.x) {
        const struct tile t = tile_of(w, i, row_tiles);
        float all[SUMS];
        run_tile(all, steps, in_slice, r);
        put_tile(y, w.piece[t.piece], t, all);
    }
#endif
}

/* ---- the call -------------------------------------------------------------------------------- */

/* Rows of K elements, `stride` apart, for pieces of 128 by 64. */
static bool make_map(CUtensorMap *map, const void *data, int64_t rows, int64_t K, int64_t stride)
{
    static PFN_cuTensorMapEncodeTiled_v12000 encode;
    const cuuint64_t dim[2] = {(cuuint64_t)K, (cuuint64_t)rows};
    const cuuint64_t apart[1] = {(cuuint64_t)stride * 2};
    const cuuint32_t box[2] = {DEPTH, ROWS}, step[2] = {1, 1};
    cudaDriverEntryPointQueryResult found;
    if (!encode && (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", (void **)&encode,
                                                     12000, cudaEnableDefault, &found) !=
                        cudaSuccess || found != cudaDriverEntryPointSuccess))
        return false;
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)data, dim, apart, box, step,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* How many blocks run at once on a GPU that has these instructions; 0: it has not. */
static unsigned processors(void)
{
    static int count = -1;
    int major = 0, minor = 0;
    if (count >= 0) return (unsigned)count;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0);
    if (major != 9 || minor != 0) count = 0;
    return (unsigned)count;
}

bool linear_hopper(struct device *device, const struct view &x, const struct view &y,
                   const struct pieces &w)
{
    struct maps maps;
    const int32_t row_tiles = (int32_t)blocks_for(x.dim[0], ROWS), tiles = row_tiles * w.tiles;
    const bool fits = processors() > 0 && w.count <= MOST_PIECES && y.dtype == DTYPE_BF16 &&
                      (size_t)y.data % 16 == 0 && y.stride[0] % 8 == 0;
    if (!fits || tiles < (int32_t)processors() / 2) return false; /* too few: smaller ones */
    if (!make_map(&maps.x, x.data, x.dim[0], w.K, x.stride[0])) return false;
    for (int i = 0; i < w.count; i++) {
        const struct piece &p = w.piece[i];
        if (p.row % 8 != 0 || !make_map(&maps.w[i], p.data, p.rows, w.K, p.stride)) return false;
    }
    const unsigned most = processors(), blocks = (unsigned)tiles < most ? (unsigned)tiles : most;
    launch(device, many_rows_hopper, dim3(blocks), THREADS, ROOM, maps, w, y, tiles, row_tiles,
           (int32_t)(linear_slice(w.K) / DEPTH));
    return true;
}

#else

bool linear_hopper(struct device *device, const struct view &x, const struct view &y,
                   const struct pieces &w)
{
    (void)device, (void)x, (void)y, (void)w;
    return false;
}

#endif
