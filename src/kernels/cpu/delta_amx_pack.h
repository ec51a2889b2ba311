/* delta_amx_pack.h: rows of f32 and bf16 into the operands of tiles, and back.
 *
 * A pair is a dword of two bf16. Which two entries of a sum share a dword is free as long as both
 * operands agree: channels pair as they lie in memory (2p, 2p+1); tokens t and t+16 of a half chunk
 * pair, so that packing never crosses lanes. */
#ifndef KERNELS_CPU_DELTA_AMX_PACK_H
#define KERNELS_CPU_DELTA_AMX_PACK_H

#include <immintrin.h>

#include "kernels/cpu/tile.h"
#include "tensor/dtype.h"

enum { TILE_HALVES = TILE_SIZE / 2, TILE_FLOATS = TILE_SIZE / 4 };

/* bf16 of x and y, nearest (a tie goes away from zero), y in the upper half: four operations that
 * any port takes. vcvtne2ps2bf16 and a permute cost half as much again. */
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

/* 16 entries of a row. */
TILE_INLINE __m512 load16(const void *row, enum dtype dtype, int64_t at)
{
    if (dtype == DTYPE_F32) return _mm512_loadu_ps((const float *)row + at);
    const __m256i half = _mm256_loadu_si256((const __m256i *)((const uint16_t *)row + at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* 32 entries of a row. */
TILE_INLINE void store32(void *row, enum dtype dtype, int64_t at, __m512 x, __m512 y)
{
    if (dtype == DTYPE_F32) {
        _mm512_storeu_ps((float *)row + at, x);
        _mm512_storeu_ps((float *)row + at + 16, y);
        return;
    }
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(y, x);
    _mm512_storeu_si512((uint16_t *)row + at, both);
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
