/* coded.cuh: few bf16 rows times weights as they lie, bf16, q8 or q4 (tensor/quant.h), on tensor cores.
 *
 * The arithmetic is that of linear.cuh: slices of K, each a chain of m16n8k16 over the bf16 values of
 * the weights. A q8 or q4 weight gives the bits of the bf16 weight that has its values.
 *
 * A warp has a slice of K of 8 TILES columns in two halves (a gate and its up; or neighbours). What
 * it reads of W comes in stages of 128 k by 16-byte copies, all that there is room for before the
 * wait for the kernel in front, and becomes bf16 in registers:
 *
 *     stage: [8 TILES columns] codes of 128 k | their scales | their minima | gap
 *            [T rows] of x, 128 k | gap
 *
 *     bf16  256 bytes                    q8   scale (c + 128 + 2^15) - scale (128 + 2^15) = scale c
 *     q8    128 | 8                           exactly: a code is placed in the low half of a float
 *     q4    64 | 8 | 8                   q4   scale c + minimum, a code cut out of a float
 *
 * Gaps keep the columns of a tile in banks of their own. Rows of W that are not there are not read, and
 * what they give is nobody's; rows of x that are not there repeat the last one. */
#ifndef KERNELS_CUDA_CODED_CUH
#define KERNELS_CUDA_CODED_CUH

#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/tiles.cuh"

enum { CHUNK = 128, QUANT = 32, ROW_BYTES = 2 * CHUNK + 16 };

template <enum dtype D> struct coded;
template <> struct coded<DTYPE_BF16> {
    enum { CODES = 2 * CHUNK, SIDES = 0, PITCH = CODES + 16 };
};
template <> struct coded<DTYPE_Q8> {
    enum { CODES = CHUNK, SIDES = 1, PITCH = CODES + 16 };
};
template <> struct coded<DTYPE_Q4> {
    enum { CODES = CHUNK / 2, SIDES = 2, PITCH = CODES + 16 };
};

/* Columns of W that a block makes: two halves of 4 TILES. */
struct strip {
    const char *codes[2]; /* first rows */
    int64_t stride, K;    /* bytes; of the whole rows */
    int32_t columns[2];   /* that are there */
    bool even;            /* can be copied 16 bytes at a time */
};

/* Rows of x. */
struct lines {
    const uint16_t *x;
    int64_t stride;
    int32_t T;
    bool even;
};

template <enum dtype D> static __device__ inline int64_t code_bytes(int64_t K)
{
    if (D == DTYPE_BF16) return 2 * K;
    return (K + QUANT - 1) / QUANT * (D == DTYPE_Q8 ? QUANT : QUANT / 2);
}

static __device__ inline bool is_even(const void *data, int64_t stride_bytes)
{
    return ((size_t)data | (size_t)stride_bytes) % 16 == 0;
}

static __device__ inline const char *column_of(const struct strip &s, int half, int i)
{
    return i < half ? s.codes[0] + i * s.stride : s.codes[1] + (i - half) * s.stride;
}

static __device__ inline bool is_there(const struct strip &s, int half, int i)
{
    return i < half ? i < s.columns[0] : i - half < s.columns[1];
}

/* ---- from memory ----------------------------------------------------------------------------- */

/* Byte by byte, zeros for what is not there: bytes from .. from + n - 1 of a row that has `all`. */
static __device__ inline void copy_bytes(char *to, const char *row, int64_t from, int n, int64_t all)
{
    for (int i = 0; i < n; i++) to[i] = from + i < all ? row[from + i] : 0;
}

/* k .. k + 127 of the columns, as far as `end`: asked for, not yet there. */
template <enum dtype D, int TILES>
static __device__ inline void fetch_codes(char *to, const struct strip &s, int64_t k, int64_t end)
{
    typedef coded<D> form;
    enum { UNITS = form::CODES / 16, AT_ONCE = WARP / UNITS, HALF = 4 * TILES };
    const int lane = (int)threadIdx.x % WARP;
    const int64_t codes = code_bytes<D>(s.K), scales = (s.K + QUANT - 1) / QUANT * 2;
    const int64_t from = k * form::CODES / CHUNK, until = end * form::CODES / CHUNK;
    if (!s.even) {
        for (int i = lane; i < 2 * HALF; i += WARP) {
            if (!is_there(s, HALF, i)) continue;
            const char *row = column_of(s, HALF, i);
            char *at = to + i * form::PITCH;
            copy_bytes(at, row, from, form::CODES, D == DTYPE_BF16 ? until : codes);
            for (int side = 0; side < form::SIDES; side++)
                copy_bytes(at + form::CODES + 8 * side, row, codes + side * scales + k / 16, 8,
                           codes + (side + 1) * scales);
        }
        return;
    }
#pragma unroll
    for (int n = 0; n < 2 * HALF; n += AT_ONCE) {
        const int i = n + lane / UNITS, at = lane % UNITS * 16;
        if (i < 2 * HALF && is_there(s, HALF, i))
            copy_later(shared_address(to + i * form::PITCH + at), column_of(s, HALF, i) + from + at,
                       from + at < until);
    }
#pragma unroll
    for (int n = lane; n < 2 * HALF * 2 * form::SIDES; n += WARP) {
        const int i = n % (2 * HALF), part = n / (2 * HALF), side = part / 2, at = part % 2 * 4;
        if (is_there(s, HALF, i) && k + 64 * (part % 2) < end)
            copy_four(shared_address(to + i * form::PITCH + form::CODES + 8 * side + at),
                      column_of(s, HALF, i) + codes + side * scales + k / 16 + at);
    }
}

/* The same k of the rows of x; zeros from `end` on. */
static __device__ inline void fetch_lines(char *to, const struct lines &l, int64_t k, int64_t end)
{
    enum { UNITS = 2 * CHUNK / 16, AT_ONCE = WARP / UNITS };
    const int lane = (int)threadIdx.x % WARP, at = lane % UNITS * 8;
    for (int t = lane / UNITS; t < l.T; t += AT_ONCE) {
        const uint16_t *row = l.x + t * l.stride;
        char *place = to + t * ROW_BYTES + 2 * at;
        if (l.even && (k + at + 8 <= end || k + at >= end))
            copy_common(shared_address(place), row + k + at, k + at < end);
        else
            for (int i = 0; i < 8; i++)
                ((uint16_t *)place)[i] = k + at + i < end ? row[k + at + i] : (uint16_t)0;
    }
}

/* ---- one value -------------------------------------------------------------------------------- */

static __device__ inline float half_value(uint32_t bits)
{
    return __half2float(__ushort_as_half((unsigned short)bits));
}

static __device__ inline float half_at(const uint8_t *at)
{
    return half_value((uint32_t)at[0] | (uint32_t)at[1] << 8);
}

/* Value k of a quantised row, as f32 of its bf16. */
static __device__ inline float value_of(const uint8_t *row, enum dtype d, int64_t K, int64_t k)
{
    const int64_t blocks = (K + QUANT - 1) / QUANT, b = k / QUANT, i = k % QUANT;
    const uint8_t *scale = row + blocks * (d == DTYPE_Q8 ? QUANT : QUANT / 2) + 2 * b;
    if (d == DTYPE_Q8) return bf16_value(bf16_of(half_at(scale) * (float)(int8_t)row[k]));
    const uint32_t code = row[QUANT / 2 * b + i % 16] >> (i < 16 ? 0 : 4) & 15u;
    return bf16_value(bf16_of(fmaf(half_at(scale), (float)code, half_at(scale + 2 * blocks))));
}

/* ---- to bf16 --------------------------------------------------------------------------------- */

/* Byte I of a word, 0..255, as 2^15 and that much more. */
template <int I> static __device__ inline float byte_above(uint32_t word)
{
    return __uint_as_float(__byte_perm(word, 0x47000000u, 0x7604u | I << 4));
}

/* The four bits of a word from bit P on. */
template <int P> static __device__ inline float nibble(uint32_t word)
{
    return __uint_as_float((word & 15u << P) | (150u - P) << 23) - (float)(1u << (23 - P));
}

/* What a lane has of a column's right operands for 32 k: b[0], b[1] of the first 16 neighbours, b[2],
 * b[3] of the others. `row` is the column in shared memory, block its number there. */
template <enum dtype D>
static __device__ inline void take_block(uint32_t (&b)[4], const char *row, int block)
{
    const int q = (int)threadIdx.x % 4;
    const uint32_t scale = *(const uint16_t *)(row + coded<D>::CODES + 2 * block);
    const float s = half_value(scale);
    if (D == DTYPE_Q8) {
        const float less = -s * 32896.0f;
        const uint16_t *code = (const uint16_t *)(row + 32 * block) + q;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t two = code[4 * i] ^ 0x8080u;
            b[i] = bf16_pair(fmaf(s, byte_above<0>(two), less), fmaf(s, byte_above<1>(two), less));
        }
    } else {
        const float m = half_value(*(const uint16_t *)(row + coded<D>::CODES + 8 + 2 * block));
        const uint16_t *code = (const uint16_t *)(row + 16 * block) + q;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t four = code[4 * i];
            b[i] = bf16_pair(fmaf(s, nibble<0>(four), m), fmaf(s, nibble<8>(four), m));
            b[i + 2] = bf16_pair(fmaf(s, nibble<4>(four), m), fmaf(s, nibble<12>(four), m));
        }
    }
}

/* d += the blocks of a stage that there are. R: groups of 8 rows. */
template <enum dtype D, int R, int TILES>
static __device__ inline void multiply(float (*d)[TILES][4], const char *stage, const char *x,
                                       int32_t T, int blocks)
{
    const int lane = (int)threadIdx.x % WARP, row = lane % 8, matrix = lane / 8;
#pragma unroll
    for (int block = 0; block < CHUNK / QUANT; block++) {
        if (block >= blocks) break;
        uint32_t b[TILES][4];
#pragma unroll
        for (int i = 0; i < TILES; i++)
            if (D == DTYPE_BF16)
                tile_load(b[i], shared_address(stage + (8 * i + row) * coded<D>::PITCH +
                                               2 * QUANT * block + 16 * matrix));
            else
                take_block<D>(b[i], stage + (8 * i + lane / 4) * coded<D>::PITCH, block);
#pragma unroll
        for (int r = 0; r < (R + 1) / 2; r++) {
            const int t = 16 * r + row, at = 2 * QUANT * block + 16 * matrix;
            uint32_t low[4], high[4] = {};
            tile_load(low, shared_address(x + (t < T ? t : T - 1) * ROW_BYTES + at));
            if (R > 1)
                tile_load(high, shared_address(x + (t + 8 < T ? t + 8 : T - 1) * ROW_BYTES + at));
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

/* ---- a slice --------------------------------------------------------------------------------- */

static inline int stage_bytes(enum dtype d, int columns, int64_t T)
{
    int pitch = coded<DTYPE_BF16>::PITCH;
    if (d == DTYPE_Q8) pitch = coded<DTYPE_Q8>::PITCH;
    if (d == DTYPE_Q4) pitch = coded<DTYPE_Q4>::PITCH;
    return columns * pitch + (int)T * ROW_BYTES;
}

static __device__ inline int chunks_of(int64_t from, int64_t end)
{
    return from < end ? (int)((end - from + CHUNK - 1) / CHUNK) : 0;
}

/* The first stages of W. */
template <enum dtype D, int TILES>
static __device__ inline void begin_slice(char *stage, int size, int depth, const struct strip &s,
                                          int64_t from, int64_t end)
{
    for (int c = 0; c < depth && c < chunks_of(from, end); c++)
        fetch_codes<D, TILES>(stage + c * size, s, from + c * CHUNK, end);
}

/* d += the k from..end-1; W was begun. */
template <enum dtype D, int R, int TILES>
static __device__ inline void run_slice(float (*d)[TILES][4], char *stage, int size, int depth,
                                        const struct strip &s, const struct lines &l, int64_t from,
                                        int64_t end)
{
    enum { X = 8 * TILES * coded<D>::PITCH };
    const int chunks = chunks_of(from, end);
    for (int c = 0; c < depth; c++) {
        if (c < chunks) fetch_lines(stage + c * size + X, l, from + c * CHUNK, end);
        copies_end();
    }
    for (int c = 0; c < chunks; c++) {
        char *here = stage + c % depth * size;
        const int64_t k = from + c * CHUNK, left = end - k, next = k + depth * CHUNK;
        wait_stage(depth);
        __syncwarp();
        multiply<D, R, TILES>(d, here, here + X, l.T,
                              left < CHUNK ? (int)((left + QUANT - 1) / QUANT) : CHUNK / QUANT);
        __syncwarp();
        if (c + depth < chunks) {
            fetch_codes<D, TILES>(here, s, next, end);
            fetch_lines(here + X, l, next, end);
        }
        copies_end();
    }
}

/* ---- the sums of a block --------------------------------------------------------------------- */

/* [slices][8 R][8 TILES + 4]: a warp puts its part there; a sum is that of all slices, in order. */
template <int R, int TILES>
static __device__ inline void put_sums(float *sums, int slice, float (*d)[TILES][4])
{
    enum { GAP = 8 * TILES + 4 };
    const int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int r = 0; r < R; r++)
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                sums[((slice * R + r) * 8 + lane / 4) * GAP + 8 * i + lane % 4 * 2 + e] =
                    d[r / 2][i][r % 2 * 2 + e];
}

template <int R, int TILES>
static __device__ inline float sum_of(const float *sums, int slices, int t, int n)
{
    enum { GAP = 8 * TILES + 4 };
    const float *at = sums + t * GAP + n;
    float sum = at[0];
    for (int s = 1; s < slices; s++) sum += at[s * 8 * R * GAP];
    return sum;
}

static inline size_t sums_bytes(int slices, int rows, int columns)
{
    return sizeof(float) * (size_t)(slices * rows * (columns + 4));
}

#endif
