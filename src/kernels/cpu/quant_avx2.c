/* quant_avx2.c: the int8 products of quant.h for AVX2.
 *
 * There is no product of signed bytes: |code| times x' with the code's sign is one, and no pair of
 * them leaves 16 bits (2 x 128 x 127). Codes of 4 bits are unsigned as they are. */
#include "kernels/cpu/quant.h"
#include "kernels/cpu/vec_avx2.h"

static inline __m256i load32(const void *at) { return _mm256_loadu_si256(at); }

/* Sums of four neighbours each. */
static inline __m256i sums4(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

/* A block's 32 codes: lane l has the sum of products 4l .. 4l + 3. */
static inline __m256i dot_q8(const uint8_t *code, const int8_t *x)
{
    const __m256i w = load32(code);
    return sums4(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(load32(x), w)));
}

/* Two blocks (or one and nothing): lanes 0..3 are of the first. */
static inline __m256i dot_q4(const uint8_t *code, bool two, const int8_t *x)
{
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i w = two ? load32(code) : _mm256_zextsi128_si256(_mm_loadu_si128((const void *)code));
    const __m256i a = _mm256_maddubs_epi16(_mm256_and_si256(w, low), load32(x));
    const __m256i b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(w, 4), low),
                                           load32(x + 64));
    return sums4(_mm256_add_epi16(a, b));
}

static inline float sum8(__m256 v)
{
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Eight f16 from b on, those behind the last as 0, times eight floats. */
VF_INLINE __m256 scales8(const uint8_t *f16, int64_t b, int64_t blocks, const float *x)
{
    uint8_t room[16];
    const uint8_t *at = f16 + 2 * b;
    if (blocks - b < 8) {
        memset(room, 0, sizeof room);
        at = memcpy(room, at, (size_t)(blocks - b) * 2);
    }
    return _mm256_mul_ps(_mm256_cvtph_ps(_mm_loadu_si128((const void *)at)), _mm256_loadu_ps(x + b));
}

/* The line that comes QUANT_AHEAD behind `at`: rows lie one after another. Inlined, since gcc 12
 * drops calls of what only prefetches. */
VF_INLINE void ask(const uint8_t *at)
{
    _mm_prefetch((const char *)at + QUANT_AHEAD, _MM_HINT_T1);
}

/* Eight blocks, of which `left` are there: a constant where all are. Two chains of sums. */
VF_INLINE void group_q8(__m256 sum[2], const struct quant_row *w, int64_t b, int64_t left,
                        const struct quant_x *x)
{
    float scale[8];
    ask(w->scale + 2 * b);
    _mm256_storeu_ps(scale, scales8(w->scale, b, b + left, x->scale));
    VF_UNROLL for (int i = 0; i < 8; i++) {
        if (i >= left) continue;
        if (i % 2 == 0) ask(w->code + 32 * (b + i));
        const __m256i dot = dot_q8(w->code + 32 * (b + i), x->code + 32 * (b + i));
        sum[i % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_broadcast_ss(&scale[i]),
                                     sum[i % 2]);
    }
}

VF_INLINE void group_q4(__m256 sum[2], const struct quant_row *w, int64_t b, int64_t left,
                        const struct quant_x *x)
{
    ask(w->scale + 2 * b);
    ask(w->minimum + 2 * b);
    const __m256 scale = scales8(w->scale, b, b + left, x->scale);
    sum[1] = _mm256_add_ps(sum[1], scales8(w->minimum, b, b + left, x->sum));
    VF_UNROLL for (int i = 0; i < 8; i += 2) {
        if (i >= left) continue;
        if (i % 4 == 0) ask(w->code + 16 * (b + i));
        const int8_t *codes = x->code + (b + i) / 4 * 128 + (b + i) % 4 * 16;
        const __m256i dot = dot_q4(w->code + 16 * (b + i), i + 1 < left, codes);
        const __m256i spread = _mm256_setr_epi32(i, i, i, i, i + 1, i + 1, i + 1, i + 1);
        sum[i / 2 % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot),
                                         _mm256_permutevar8x32_ps(scale, spread), sum[i / 2 % 2]);
    }
}

VF_INLINE float row_dot(const struct quant_row *w, const enum dtype dtype, int64_t blocks,
                        const struct quant_x *x)
{
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    int64_t b = 0;
    if (dtype == DTYPE_Q8) {
        for (; b + 8 <= blocks; b += 8) group_q8(sum, w, b, 8, x);
        if (b < blocks) group_q8(sum, w, b, blocks - b, x);
    } else {
        for (; b + 8 <= blocks; b += 8) group_q4(sum, w, b, 8, x);
        if (b < blocks) group_q4(sum, w, b, blocks - b, x);
    }
    return sum8(_mm256_add_ps(sum[0], sum[1]));
}

void quant_dot_avx2(float *y, const void *const *row, int rows, enum dtype dtype,
                    int64_t blocks, const struct quant_x *x)
{
    for (int r = 0; r < rows; r++) {
        const struct quant_row w = quant_row_at(row[r], dtype, blocks * QUANT_BLOCK);
        y[r] = dtype == DTYPE_Q8 ? row_dot(&w, DTYPE_Q8, blocks, x)
                                 : row_dot(&w, DTYPE_Q4, blocks, x);
    }
}
