/* vec_avx2.h: the vector vocabulary (vec_portable.h) for AVX2 with FMA and F16C. */
#ifndef KERNELS_CPU_VEC_AVX2_H
#define KERNELS_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>

typedef __m256 vf;
enum { VL = 8, VF_REGISTERS = 16 };

#define VF_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define VF_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VF_UNROLL _Pragma("GCC unroll 32")
#endif

VF_INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
VF_INLINE vf vf_zero(void) { return _mm256_setzero_ps(); }
VF_INLINE vf vf_load(const float *from) { return _mm256_loadu_ps(from); }
VF_INLINE void vf_store(float *to, vf x) { _mm256_storeu_ps(to, x); }
VF_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
VF_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
VF_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
VF_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }

VF_INLINE vf vf_load_bf16(const uint16_t *from)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
VF_INLINE vf vf_load_f16(const uint16_t *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
}
/* Signed bytes; bits `shift` .. `shift` + 3 of bytes. */
VF_INLINE vf vf_load_i8(const uint8_t *from)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(from)));
}
VF_INLINE vf vf_load_u4(const uint8_t *from, int shift)
{
    const __m256i wide = _mm256_srli_epi32(_mm256_cvtepu8_epi32(_mm_loadu_si64(from)), shift);
    return _mm256_cvtepi32_ps(_mm256_and_si256(wide, _mm256_set1_epi32(15)));
}

/* To bf16 (nearest, ties to even, a NaN stays one) and back. */
VF_INLINE vf vf_round_bf16(vf x)
{
    const __m256i u = _mm256_castps_si256(x), top = _mm256_set1_epi32((int)0xffff0000);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const vf nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    const vf rounded = _mm256_castsi256_ps(_mm256_and_si256(up, top));
    return _mm256_blendv_ps(rounded, _mm256_castsi256_ps(_mm256_and_si256(quiet, top)), nan);
}
VF_INLINE void vf_store_bf16(uint16_t *to, vf x)
{
    const __m256i u = _mm256_srli_epi32(_mm256_castps_si256(vf_round_bf16(x)), 16);
    const __m256i pairs = _mm256_packus_epi32(u, u);
    const __m256i half = _mm256_permute4x64_epi64(pairs, 0x08);
    _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(half));
}
VF_INLINE void vf_store_f16(uint16_t *to, vf x)
{
    _mm_storeu_si128((__m128i *)to, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

/* As cpu_expf: 2^n in two halves, so that subnormal results come out too. The order of min and max
 * lets a NaN through. */
VF_INLINE vf vf_exp(vf x)
{
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-105.0f), x));
    const vf magic = _mm256_set1_ps(12582912.0f);
    const vf shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(1.44269504f), magic);
    const vf n = _mm256_sub_ps(shifted, magic);
    vf r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    vf p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r), _mm256_set1_ps(1.0f));
    const __m256i whole = _mm256_sub_epi32(_mm256_castps_si256(shifted),
                                           _mm256_set1_epi32(0x4b400000));
    const __m256i half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const __m256i rest = _mm256_sub_epi32(whole, half);
    const __m256i low = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i high = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(low));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(high));
}
VF_INLINE vf vf_decay(vf x) { return vf_exp(x); }

/* ---- sums over a row: element k goes to lane k mod 16 ------------------------------------------- */

enum { VF16 = 16 / VL };
struct vf16 {
    vf part[VF16];
};

/* The tree: l + (l+8), then +4, +2, +1. 8 sums at once: the halves of a, b, c, d hold x[0] and x[4],
 * x[1] and x[5], and so on. */
VF_INLINE vf vf_meet8(const struct vf16 *x)
{
    vf s[8], h[4], pair[2];
    for (int j = 0; j < 8; j++) s[j] = _mm256_add_ps(x[j].part[0], x[j].part[1]);
    for (int j = 0; j < 4; j++)
        h[j] = _mm256_add_ps(_mm256_permute2f128_ps(s[j], s[j + 4], 0x20),
                             _mm256_permute2f128_ps(s[j], s[j + 4], 0x31));
    for (int j = 0; j < 2; j++)
        pair[j] = _mm256_add_ps(_mm256_shuffle_ps(h[2 * j], h[2 * j + 1], 0x44),
                                _mm256_shuffle_ps(h[2 * j], h[2 * j + 1], 0xee));
    return _mm256_add_ps(_mm256_shuffle_ps(pair[0], pair[1], 0x88),
                         _mm256_shuffle_ps(pair[0], pair[1], 0xdd));
}

/* out[j] = sum16(x + j), 16 of them. */
VF_INLINE void sums16(float *out, const struct vf16 *x)
{
    vf_store(out, vf_meet8(x));
    vf_store(out + 8, vf_meet8(x + 8));
}

VF_INLINE float sum16(const struct vf16 *x)
{
    const vf s = _mm256_add_ps(x->part[0], x->part[1]);
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    const __m128 h = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 0x55)));
}

#endif
