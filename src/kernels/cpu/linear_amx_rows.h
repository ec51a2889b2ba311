/* linear_amx_rows.h: rows of x into B tiles, and sums of tiles to rows of y.
 *
 * A row of bf16 is one column of tiles. A row of f32 is three, the first, second and third 8 bits of
 * its significand: they add up to it exactly, and its products are added up at the end. Columns stand
 * row by row, 16 in a tile:
 *
 *     bf16   r0 r1 r2 .. r15 | r16 ..
 *     f32    r0 r0'r0"r1 .. r5 | r5'r5".. | .. r15" | r16 ..        16 rows are 3 tiles: a unit */
#ifndef KERNELS_CPU_LINEAR_AMX_ROWS_H
#define KERNELS_CPU_LINEAR_AMX_ROWS_H

#include "kernels/cpu/linear_amx_panel.h"
#include "kernels/cpu/row_tmpl.h"

enum { UNIT_ROWS = 16, MOST_PARTS = 3 };

/* How many columns a row is. */
static inline int parts_of(enum dtype x) { return x == DTYPE_BF16 ? 1 : MOST_PARTS; }

/* The upper 16 bits of each: 16 bf16, cut off and not rounded. */
TILE_INLINE __m256i upper_half(__m512i x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16)); }

/* x as the sum of three bf16, exactly. An infinity or NaN is the first part alone. */
TILE_INLINE void split_three(__m512 x, __m256i *part)
{
    const __m512i top = _mm512_set1_epi32((int)0xffff0000), quiet = _mm512_set1_epi32(0x00400000);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i whole = _mm512_castps_si512(x);
    const __m512i first = _mm512_and_si512(_mm512_mask_or_epi32(whole, nan, whole, quiet), top);
    const __m512i size = _mm512_and_si512(first, _mm512_set1_epi32(0x7fffffff));
    const __mmask16 finite = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(0x7f800000));
    const __m512 rest = _mm512_maskz_sub_ps(finite, x, _mm512_castsi512_ps(first));
    const __m512i second = _mm512_and_si512(_mm512_castps_si512(rest), top);
    part[0] = upper_half(first);
    part[1] = upper_half(second);
    part[2] = upper_half(_mm512_castps_si512(_mm512_sub_ps(rest, _mm512_castsi512_ps(second))));
}

/* Elements k .. k + 31 of a row, from K on 0: 64 bytes for each part. */
TILE_INLINE void enter_row(char *to, enum dtype type, const void *row, int64_t k, int64_t K)
{
    const int64_t left = K - k;
    if (type == DTYPE_BF16) {
        const __mmask32 some = left >= TILE_K ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1;
        _mm512_store_si512(to, _mm512_maskz_loadu_epi16(some, (const uint16_t *)row + k));
        return;
    }
    for (int64_t i = 0; i < TILE_K; i += 16, to += TILE_BYTES / 2) {
        __m256i part[MOST_PARTS];
        const int64_t rest = left - i;
        split_three(rest >= 16 ? row_get(type, row, k + i, 16)
                               : rest > 0 ? row_get(type, row, k + i, rest) : vf_zero(), part);
        for (int p = 0; p < MOST_PARTS; p++)
            _mm256_store_si256((__m256i *)(to + p * TILE_BYTES), part[p]);
    }
}

/* The B tiles of a unit, `rows` of its 16, at step s: those of the next step lie TILE_SIZE on, those
 * of the next tile `tile` bytes. The columns behind the last row are 0. */
static inline void enter_unit(char *to, size_t tile, enum dtype type, const void *const *x,
                              int64_t rows, int64_t s, int64_t K)
{
    _Alignas(64) char flat[UNIT_ROWS * MOST_PARTS][TILE_BYTES];
    const int parts = parts_of(type);
    for (int64_t r = 0; r < rows; r++) enter_row(flat[r * parts], type, x[r], s * TILE_K, K);
    const int64_t columns = rows * parts, tiles = (columns + TILE_ROWS - 1) / TILE_ROWS;
    memset(flat[columns], 0, (size_t)(tiles * TILE_ROWS - columns) * TILE_BYTES);
    for (int64_t t = 0; t < tiles; t++, to += tile) {
        __m512i pair[TILE_ROWS];
        turn16(pair, flat[t * TILE_ROWS], TILE_BYTES);
        for (int i = 0; i < TILE_ROWS; i++) _mm512_store_si512(to + i * TILE_BYTES, pair[i]);
    }
}

/* Two bf16 a dword, x in the lower half: nearest, ties to even; what is below the normal numbers is 0,
 * as in sums of tiles. */
TILE_INLINE __m512i round_pair(__m512 x, __m512 y)
{
    const __m512i interleave =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(interleave, (__m512i)_mm512_cvtne2ps_pbh(y, x));
}

/* Columns of a row leave: rounded as round_pair does where y is bf16. */
TILE_INLINE void leave_row(enum dtype type, void *y, int64_t columns, __m512 sum)
{
    if (type == DTYPE_BF16)
        _mm512_mask_storeu_epi16(y, (__mmask32)0xffff >> (UNIT_ROWS - columns),
                                 _mm512_castsi256_si512((__m256i)_mm512_cvtneps_pbh(sum)));
    else
        row_put(type, y, 0, columns, sum);
}

/* 32 columns of W for the rows of a unit of bf16, to rows of bf16: two C tiles, one behind the other. */
static inline void leave_wide(const char *sums, int64_t rows, void *const *y, size_t at)
{
    _Alignas(64) __m512i pair[UNIT_ROWS];
    __m512i turned[UNIT_ROWS];
    for (int i = 0; i < UNIT_ROWS; i++, sums += 2 * TILE_BYTES)
        pair[i] = round_pair(_mm512_load_ps(sums), _mm512_load_ps(sums + TILE_BYTES));
    turn16(turned, pair, TILE_BYTES);
    for (int64_t r = 0; r < rows; r++) _mm512_storeu_si512((char *)y[r] + at, turned[r]);
}

/* 16 columns of W (`columns` of them real) for the rows of a unit: sums[t] is a C tile [16 n][16] of
 * its t-th tile, `tile` bytes apart; y[r] + at is where row r's go. */
static inline void leave_unit(const char *sums, size_t tile, int parts, int64_t rows, void *const *y,
                              size_t at, enum dtype type, int64_t columns)
{
    _Alignas(64) float flat[UNIT_ROWS * MOST_PARTS][TILE_ROWS];
    for (int64_t t = 0; t * TILE_ROWS < rows * parts; t++, sums += tile) {
        __m512i turned[TILE_ROWS];
        turn16(turned, sums, TILE_BYTES);
        for (int i = 0; i < TILE_ROWS; i++)
            _mm512_store_si512(flat[t * TILE_ROWS + i], turned[i]);
    }
    for (int64_t r = 0; r < rows; r++) {
        __m512 sum = _mm512_load_ps(flat[r * parts]);
        if (parts == MOST_PARTS) {
            const __m512 low = _mm512_load_ps(flat[r * parts + 2]);
            sum = _mm512_add_ps(sum, _mm512_add_ps(_mm512_load_ps(flat[r * parts + 1]), low));
        }
        leave_row(type, (char *)y[r] + at, columns, sum);
    }
}

#endif
