/* vec_avx512.h: the vector vocabulary (vec_portable.h) for AVX-512 F, BW, DQ, VL. */
#ifndef KERNELS_CPU_VEC_AVX512_H
#define KERNELS_CPU_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 vf;
enum { VL = 16, VF_REGISTERS = 32 };

#define VF_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define VF_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VF_UNROLL _Pragma("GCC unroll 32")
#endif

VF_INLINE vf vf_set1(float x) { return _mm512_set1_ps(x); }
VF_INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
VF_INLINE vf vf_load(const float *from) { return _mm512_loadu_ps(from); }
VF_INLINE void vf_store(float *to, vf x) { _mm512_storeu_ps(to, x); }
VF_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VF_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VF_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VF_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }

VF_INLINE vf vf_load_bf16(const uint16_t *from)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
VF_INLINE vf vf_load_f16(const uint16_t *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}
/* Signed bytes; bits `shift` .. `shift` + 3 of bytes. */
VF_INLINE vf vf_load_i8(const uint8_t *from)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)from);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
VF_INLINE vf vf_load_u4(const uint8_t *from, unsigned shift)
{
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
    const __m512i code = _mm512_and_si512(_mm512_srli_epi32(wide, shift), _mm512_set1_epi32(15));
    return _mm512_cvtepi32_ps(code);
}

/* To bf16 (nearest, ties to even, a NaN stays one) and back. */
VF_INLINE vf vf_round_bf16(vf x)
{
    const __m512i u = _mm512_castps_si512(x), top = _mm512_set1_epi32((int)0xffff0000);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_mask_mov_epi32(up, nan, quiet), top));
}
VF_INLINE void vf_store_bf16(uint16_t *to, vf x)
{
    const __m512i u = _mm512_srli_epi32(_mm512_castps_si512(vf_round_bf16(x)), 16);
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(u));
}
VF_INLINE void vf_store_f16(uint16_t *to, vf x)
{
    /* gcc 12's plain _mm512_cvtps_ph passes -1 for a mask, with a warning. */
    const __m256i half = _mm512_maskz_cvtps_ph((__mmask16)0xffff, x, _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256((__m256i *)to, half);
}

/* The polynomial of cpu_expf; scalef makes 2^n, subnormal results included. The order of min and max
 * lets a NaN through. */
VF_INLINE vf vf_exp(vf x)
{
    x = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-105.0f), x));
    const vf magic = _mm512_set1_ps(12582912.0f);
    const vf n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504f), magic), magic);
    vf r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    vf p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r), _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* e^x for 0 >= x >= -2^17 (above, up to infinity), within 2^-23 + |x| 2^-28 of itself: n is x / ln 2 in
 * sixteenths, their 2^(j/16) come from a table, and |r| <= ln 2 / 32 needs a cubic; its 1/2 is moved to
 * where r^4 / 24 is least missed. Two thirds of the steps of vf_exp, and no bounds. */
VF_INLINE vf vf_decay(vf x)
{
    const vf root = _mm512_setr_ps(1.0f, 1.04427373f, 1.09050775f, 1.13878858f,
                                   1.18920708f, 1.24185777f, 1.29683959f, 1.35425556f,
                                   1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f,
                                   1.68179286f, 1.75625217f, 1.8340081f, 1.91520655f);
    const vf magic = _mm512_set1_ps(786432.0f); /* its last bit is a sixteenth */
    const vf t = _mm512_fmadd_ps(x, _mm512_set1_ps(1.44269504f), magic);
    const vf n = _mm512_sub_ps(t, magic);
    const vf r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147181f), x);
    const vf third = _mm512_fmadd_ps(r, _mm512_set1_ps(0.166666667f), _mm512_set1_ps(0.500016189f));
    const vf rest = _mm512_fmadd_ps(_mm512_mul_ps(r, r), third, r);
    const vf p = _mm512_permutexvar_ps(_mm512_castps_si512(t), root);
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, rest, p), n);
}

/* ---- sums over a row: element k goes to lane k mod 16 ------------------------------------------- */

enum { VF16 = 16 / VL };
struct vf16 {
    vf part[VF16];
};

/* A step of the tree for two vectors of sums: each half of `keep` lanes stays where it is, the others
 * come by `turn`, an index into both. Blends go to any port, lanes cross on one: two shuffles to a sum
 * would wait for it. */
VF_INLINE vf vf_meet(vf a, vf b, __mmask16 keep, __m512i turn)
{
    return _mm512_add_ps(_mm512_mask_blend_ps(keep, a, b), _mm512_permutex2var_ps(a, turn, b));
}

/* The tree: l + (l+8), then +4, +2, +1. 16 at once: out[j] = sum16(x + j). */
VF_INLINE void sums16(float *out, const struct vf16 *x)
{
    const __m512i by8 = _mm512_set_epi32(23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8);
    const __m512i by4 = _mm512_set_epi32(27, 26, 25, 24, 15, 14, 13, 12, 19, 18, 17, 16, 7, 6, 5, 4);
    const __m512i by2 = _mm512_set_epi32(29, 28, 15, 14, 25, 24, 11, 10, 21, 20, 7, 6, 17, 16, 3, 2);
    const __m512i by1 = _mm512_set_epi32(30, 15, 28, 13, 26, 11, 24, 9, 22, 7, 20, 5, 18, 3, 16, 1);
    vf s[4];
    for (int j = 0; j < 4; j++)
        s[j] = vf_meet(vf_meet(x[j].part[0], x[j + 8].part[0], 0xff00, by8),
                       vf_meet(x[j + 4].part[0], x[j + 12].part[0], 0xff00, by8), 0xf0f0, by4);
    s[0] = vf_meet(s[0], s[2], 0xcccc, by2);
    s[1] = vf_meet(s[1], s[3], 0xcccc, by2);
    vf_store(out, vf_meet(s[0], s[1], 0xaaaa, by1));
}

VF_INLINE float sum16(const struct vf16 *x)
{
    const vf a = x->part[0];
    const vf e = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0xee));
    const __m512 q = _mm512_add_ps(e, _mm512_shuffle_f32x4(e, e, 0x55));
    const __m128 s = _mm512_castps512_ps128(q), h = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 0x55)));
}

#endif
