/* delta_amx_pack.h: rows of f32 and bf16 into the operands of tiles, and back.
 *
 * A pair is a dword of two bf16. Which two entries of a sum share a dword is free as long as both
 * operands agree: channels pair as they lie in memory (2p, 2p+1); tokens t and t+16 of a half chunk
 * pair, so that packing never crosses lanes. */
#ifndef KERNELS_CPU_DELTA_AMX_PACK_H
#define KERNELS_CPU_DELTA_AMX_PACK_H

#include <immintrin.h>

#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec_avx512.h"
#include "tensor/dtype.h"

enum { TILE_HALVES = TILE_SIZE / 2, TILE_FLOATS = TILE_SIZE / 4 };

/* bf16 of x and y, nearest (a tie goes away from zero), y in the upper half: four operations that
 * any port takes. vcvtne2ps2bf16 and a permute cost half as much again. A NaN stays one if its low
 * half is zero, as in those that arithmetic makes. */
TILE_INLINE __m512i pack_pair(__m512 x, __m512 y)
{
    const __m512i half = _mm512_set1_epi32(0x8000);
    const __m512i a = _mm512_add_epi32(_mm512_castps_si512(x), half);
    const __m512i b = _mm512_add_epi32(_mm512_castps_si512(y), half);
    return _mm512_mask_mov_epi16(b, 0x55555555, _mm512_srli_epi32(a, 16));
}

/* The two halves of 16 dwords as f32: exact. */
TILE_INLINE __m512 low_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
TILE_INLINE __m512 high_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

/* Even and odd entries of the 32 in x, y; and back. */
TILE_INLINE void split_pairs(__m512 *x, __m512 *y)
{
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    const __m512 a = *x, b = *y;
    *x = _mm512_permutex2var_ps(a, even, b);
    *y = _mm512_permutex2var_ps(a, odd, b);
}

TILE_INLINE void join_pairs(__m512 *x, __m512 *y)
{
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const __m512 a = *x, b = *y;
    *x = _mm512_permutex2var_ps(a, low, b);
    *y = _mm512_permutex2var_ps(a, high, b);
}

/* Every NaN the same one: see pack_pair. */
TILE_INLINE __m512 clean(__m512 x)
{
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(x, nan, _mm512_set1_ps(__builtin_nanf("")));
}

/* 16 entries of a row. */
TILE_INLINE __m512 load16(const void *row, enum dtype dtype, int64_t at)
{
    if (dtype == DTYPE_F32) return clean(_mm512_loadu_ps((const float *)row + at));
    const uint16_t *half = (const uint16_t *)row + at;
    return dtype == DTYPE_F16 ? vf_load_f16(half) : vf_load_bf16(half);
}

/* 32 entries of a row. */
TILE_INLINE void store32(void *row, enum dtype dtype, int64_t at, __m512 x, __m512 y)
{
    if (dtype == DTYPE_F32) {
        _mm512_storeu_ps((float *)row + at, x), _mm512_storeu_ps((float *)row + at + 16, y);
        return;
    }
    uint16_t *to = (uint16_t *)row + at;
    if (dtype == DTYPE_F16) {
        vf_store_f16(to, x), vf_store_f16(to + 16, y);
        return;
    }
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(y, x));
}

/* bf16 of 32 entries of a row of any type. */
TILE_INLINE __m512i load_pairs(const void *row, enum dtype dtype, int64_t at)
{
    if (dtype == DTYPE_BF16) return _mm512_loadu_si512((const uint16_t *)row + at);
    __m512 x = load16(row, dtype, at), y = load16(row, dtype, at + 16);
    split_pairs(&x, &y);
    return pack_pair(x, y);
}

/* A 16 x 16 matrix of dwords, its rows `stride` bytes apart, turned: to[c] has column c. The four
 * dwords of a lane come together by loads, the rest is within lanes. */
TILE_INLINE void turn16(__m512i *to, const void *from, size_t stride)
{
    const char *at = from;
    for (int lane = 0; lane < 4; lane++, at += 16) {
        __m512i r[4];
        for (size_t i = 0; i < 4; i++) {
            const char *row = at + i * stride;
            r[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)row));
            r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const __m128i *)(row + 4 * stride)), 1);
            r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const __m128i *)(row + 8 * stride)), 2);
            r[i] = _mm512_inserti32x4(r[i], _mm_loadu_si128((const __m128i *)(row + 12 * stride)), 3);
        }
        const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
        const __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
        to[4 * lane] = _mm512_unpacklo_epi64(a, c);
        to[4 * lane + 1] = _mm512_unpackhi_epi64(a, c);
        to[4 * lane + 2] = _mm512_unpacklo_epi64(b, d);
        to[4 * lane + 3] = _mm512_unpackhi_epi64(b, d);
    }
}

#endif
