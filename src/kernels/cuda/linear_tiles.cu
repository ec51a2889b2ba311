/* linear_tiles.cu: bf16 rows times bf16 weights on tensor cores, sums in f32.
 *
 *     y[t, n] = sum_k W[n, k] x[t, k]
 *
 * A block makes 32 columns of 8, 16 or 64 rows. W is the left operand of mma.m16n8k16, x the right
 * one; both are read straight from memory, 16 bytes a thread: k is the same permutation of itself
 * in both, so the 8 neighbours that a thread holds serve as its places in two instructions.
 *
 *     warp w takes the chunks of 64 k whose number is w mod 8, ascending; warps are added in order
 *
 * An element of y is one chain of instructions that no other row takes part in, so its bits do not
 * depend on how many rows there are. Few rows: the weights stream by once, at the rate of memory. */
#include "kernels/cuda/linear.cuh"

enum { WARPS = 8, CHUNK = 64, N_TILES = TILE_COLUMNS / 16 };

/* Elements k..k+7 of a row of K, zeros beyond it. */
static __device__ inline uint4 load_eight(const uint16_t *row, int64_t k, int64_t K)
{
    if (k + 8 <= K && (size_t)(row + k) % 16 == 0) return *(const uint4 *)(row + k);
    uint32_t pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t low = k + 2 * i < K ? row[k + 2 * i] : 0u;
        const uint32_t high = k + 2 * i + 1 < K ? row[k + 2 * i + 1] : 0u;
        pair[i] = low | high << 16;
    }
    return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

#ifndef MMA_BF16
#define MMA_BF16(d, a0, a1, a2, a3, b0, b1)                                                      \
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "     \
        "{%8,%9}, {%0,%1,%2,%3};"                                                                \
        : "+f"((d)[0]), "+f"((d)[1]), "+f"((d)[2]), "+f"((d)[3])                                 \
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1))
#endif

/* 16 columns x 8 rows over 32 k. */
static __device__ inline void multiply(float d[4], const uint4 &low, const uint4 &high,
                                       const uint4 &x)
{
    MMA_BF16(d, low.x, high.x, low.y, high.y, x.x, x.y);
    MMA_BF16(d, low.z, high.z, low.w, high.w, x.z, x.w);
}

template <int R> /* groups of 8 rows */
static __global__ void __launch_bounds__(WARPS *WARP)
    linear_tile(struct view x, struct view y, struct pieces w)
{
    DYNAMIC_SHARED(sums); /* [WARPS][8 R][TILE_COLUMNS] */
    const struct piece &p = piece_of(w, (int32_t)blockIdx.y);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int g = lane / 4, q = lane % 4;
    const int32_t n0 = ((int32_t)blockIdx.y - p.tile) * TILE_COLUMNS;
    const int64_t t0 = (int64_t)blockIdx.x * 8 * R, T = x.dim[0];
    const uint16_t *weights = (const uint16_t *)p.data, *rows = (const uint16_t *)x.data;
    const uint4 zero = make_uint4(0u, 0u, 0u, 0u);
    float d[N_TILES][R][4] = {};
    for (int64_t chunk = warp * CHUNK; chunk < w.K; chunk += WARPS * CHUNK) {
        uint4 a[2][2 * N_TILES];
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 2 * N_TILES; i++) {
                const int32_t n = n0 + 8 * i + g;
                const int64_t k = chunk + 32 * half + 8 * q;
                a[half][i] = n < p.rows ? load_eight(weights + n * p.stride, k, w.K) : zero;
            }
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int r = 0; r < R; r++) {
                const int64_t t = t0 + 8 * r + g, k = chunk + 32 * half + 8 * q;
                const uint4 b = t < T ? load_eight(rows + t * x.stride[0], k, w.K) : zero;
#pragma unroll
                for (int i = 0; i < N_TILES; i++)
                    multiply(d[i][r], a[half][2 * i], a[half][2 * i + 1], b);
            }
    }
#pragma unroll
    for (int i = 0; i < N_TILES; i++)
#pragma unroll
        for (int r = 0; r < R; r++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int n = 16 * i + g + 8 * (e / 2), t = 8 * r + 2 * q + e % 2;
                sums[(warp * 8 * R + t) * TILE_COLUMNS + n] = d[i][r][e];
            }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < 8 * R * TILE_COLUMNS; i += WARPS * WARP) {
        const int t = i / TILE_COLUMNS, n = i % TILE_COLUMNS;
        float sum = sums[i];
        for (int v = 1; v < WARPS; v++) sum += sums[v * 8 * R * TILE_COLUMNS + i];
        if (t0 + t < T && n0 + n < p.rows)
            put(y, (t0 + t) * y.stride[0] + p.row + n0 + n, sum);
    }
}

template <int R>
static void run(struct device *device, const struct view &x, const struct view &y,
                const struct pieces &w)
{
    launch(device, linear_tile<R>, dim3(blocks_for(x.dim[0], 8 * R), (unsigned)w.tiles),
           WARPS * WARP, sizeof(float) * WARPS * 8 * R * TILE_COLUMNS, x, y, w);
}

void linear_tiles(struct device *device, const struct view &x, const struct view &y,
                  const struct pieces &w)
{
    if (x.dim[0] <= 8)
        run<1>(device, x, y, w);
    else if (x.dim[0] <= 16)
        run<2>(device, x, y, w);
    else
        run<8>(device, x, y, w);
}
