/* quant_vnni.c: the int8 products of quant.h for AVX-512 with VNNI.
 *
 * vpdpbusd multiplies unsigned by signed bytes. Codes of 8 bits are made unsigned by adding 128; what
 * that adds to a sum is in x->less, where the sum begins. The scales of 16 blocks are converted at
 * once and spread to the lanes of each register of codes (2 blocks of q8, 4 of q4).
 *
 * A row after another; what follows each in memory is asked for. */
#include "kernels/cpu/quant.h"
#include "kernels/cpu/vec_avx512.h"

/* Lane l of register p of a group of 16 blocks takes scale[spread[p][l]]. */
#define EIGHT(b) b, b, b, b, b, b, b, b
#define FOUR(b) b, b, b, b
static const int32_t spread_q8[8][16] = {
    {EIGHT(0), EIGHT(1)}, {EIGHT(2), EIGHT(3)},   {EIGHT(4), EIGHT(5)},   {EIGHT(6), EIGHT(7)},
    {EIGHT(8), EIGHT(9)}, {EIGHT(10), EIGHT(11)}, {EIGHT(12), EIGHT(13)}, {EIGHT(14), EIGHT(15)}};
static const int32_t spread_q4[4][16] = {{FOUR(0), FOUR(1), FOUR(2), FOUR(3)},
                                         {FOUR(4), FOUR(5), FOUR(6), FOUR(7)},
                                         {FOUR(8), FOUR(9), FOUR(10), FOUR(11)},
                                         {FOUR(12), FOUR(13), FOUR(14), FOUR(15)}};

/* 64 bytes, of which `left` are there. */
static inline __m512i load64(const uint8_t *at, int64_t left)
{
    if (left >= 64) return _mm512_loadu_si512(at);
    return _mm512_maskz_loadu_epi8(left > 0 ? ((__mmask64)1 << left) - 1 : 0, at);
}

/* 16 f16, of which `left` are there. */
static inline __m512 load_f16(const uint8_t *at, int64_t left)
{
    const __mmask16 mask = (__mmask16)(left >= 16 ? 0xffffu : (1u << left) - 1);
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at));
}

/* The line that comes QUANT_AHEAD behind `at`: rows lie one after another. Inlined, since gcc 12
 * drops calls of what only prefetches. */
VF_INLINE void ask(const uint8_t *at)
{
    _mm_prefetch((const char *)at + QUANT_AHEAD, _MM_HINT_T1);
}

static inline __m512 add_scaled(__m512 sum, __m512i dot, __m512i spread, __m512 scale)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(spread, scale), sum);
}

/* 16 blocks of a row, of which `left` are there: a constant where all are. Four chains of sums. */
VF_INLINE void group_q8(__m512 sum[4], const struct quant_row *w, int64_t b, int64_t left,
                        const struct quant_x *x)
{
    const __m512i shift = _mm512_set1_epi8(-128);
    ask(w->scale + 2 * b);
    const __m512 scale = _mm512_mul_ps(load_f16(w->scale + 2 * b, left),
                                       _mm512_loadu_ps(x->scale + b));
    VF_UNROLL for (int p = 0; p < 8; p++) {
        if (2 * p >= left) continue;
        const uint8_t *at = w->code + 32 * b + 64 * p;
        ask(at);
        const __m512i own = _mm512_xor_si512(load64(at, 32 * left - 64 * p), shift);
        const __m512i dot = _mm512_dpbusd_epi32(_mm512_loadu_si512(x->less + 8 * b + 16 * p), own,
                                                _mm512_loadu_si512(x->code + 32 * b + 64 * p));
        sum[p % 4] = add_scaled(sum[p % 4], dot, _mm512_loadu_si512(spread_q8[p]), scale);
    }
}

VF_INLINE void group_q4(__m512 sum[4], const struct quant_row *w, int64_t b, int64_t left,
                        const struct quant_x *x)
{
    const __m512i four = _mm512_set1_epi8(15);
    ask(w->scale + 2 * b);
    ask(w->minimum + 2 * b);
    const __m512 scale = _mm512_mul_ps(load_f16(w->scale + 2 * b, left),
                                       _mm512_loadu_ps(x->scale + b));
    sum[0] = _mm512_fmadd_ps(load_f16(w->minimum + 2 * b, left), _mm512_loadu_ps(x->sum + b), sum[0]);
    VF_UNROLL for (int p = 0; p < 4; p++) {
        if (4 * p >= left) continue;
        const uint8_t *at = w->code + 16 * b + 64 * p;
        const int8_t *code = x->code + 32 * b + 128 * p;
        ask(at);
        const __m512i own = load64(at, 16 * left - 64 * p);
        const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(own, 4), four);
        __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(own, four),
                                          _mm512_loadu_si512(code));
        dot = _mm512_dpbusd_epi32(dot, upper, _mm512_loadu_si512(code + 64));
        sum[p] = add_scaled(sum[p], dot, _mm512_loadu_si512(spread_q4[p]), scale);
    }
}

VF_INLINE float row_dot(const struct quant_row *w, enum dtype dtype, int64_t blocks,
                        const struct quant_x *x)
{
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
    int64_t b = 0;
    if (dtype == DTYPE_Q8) {
        for (; b + QUANT_SCALES <= blocks; b += QUANT_SCALES)
            group_q8(sum, w, b, QUANT_SCALES, x);
        if (b < blocks) group_q8(sum, w, b, blocks - b, x);
    } else {
        for (; b + QUANT_SCALES <= blocks; b += QUANT_SCALES)
            group_q4(sum, w, b, QUANT_SCALES, x);
        if (b < blocks) group_q4(sum, w, b, blocks - b, x);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]),
                                              _mm512_add_ps(sum[2], sum[3])));
}

VF_INLINE void rows_dot(float *y, const void *const *row, int rows, const enum dtype dtype,
                        int64_t blocks, const struct quant_x *x)
{
    for (int r = 0; r < rows; r++) {
        const struct quant_row w = quant_row_at(row[r], dtype, blocks * QUANT_BLOCK);
        y[r] = row_dot(&w, dtype, blocks, x);
    }
}

void quant_dot_vnni(float *y, const void *const *row, int rows, enum dtype dtype,
                    int64_t blocks, const struct quant_x *x)
{
    if (dtype == DTYPE_Q8)
        rows_dot(y, row, rows, DTYPE_Q8, blocks, x);
    else
        rows_dot(y, row, rows, DTYPE_Q4, blocks, x);
}
