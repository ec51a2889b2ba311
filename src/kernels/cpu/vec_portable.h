/* vec_portable.h: the vector vocabulary, for any machine.
 *
 * A kernel's body (*_tmpl.h) is written once in these words and compiled for each ISA by including
 * one of vec_portable.h, vec_avx2.h, vec_avx512.h before it:
 *
 *     vf, VL                 a vector of VL floats; lanes never meet except in sums16
 *     vf_fma(a, b, c)        a b + c; fused where the ISA has it, so each ISA has its own bits
 *     vf_exp                 the polynomial of math.h; e^0 is exactly 1
 *     vf_decay               e^x for x <= 0, by fewer steps where the ISA has them
 *     load, store            from any address that is aligned to an element
 *     struct vf16, sums16    16 lanes of a sum whatever VL is, and the one tree that ends it
 *     VF_REGISTERS           how many a tile may count on
 *     VF_UNROLL              before a loop of constant length over registers
 */
#ifndef KERNELS_CPU_VEC_PORTABLE_H
#define KERNELS_CPU_VEC_PORTABLE_H

#include <string.h>

#include "kernels/cpu/math.h"

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vf_bits __attribute__((vector_size(16)));
typedef uint32_t vf_word32 __attribute__((vector_size(16)));
typedef uint16_t vf_half __attribute__((vector_size(8)));
enum { VL = 4, VF_REGISTERS = 16 };

#define VF_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define VF_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VF_UNROLL _Pragma("GCC unroll 32")
#endif

VF_INLINE vf vf_set1(float x) { return (vf){x, x, x, x}; }
VF_INLINE vf vf_zero(void) { return vf_set1(0.0f); }

VF_INLINE vf vf_load(const float *from)
{
    vf x;
    memcpy(&x, from, sizeof x);
    return x;
}
VF_INLINE void vf_store(float *to, vf x) { memcpy(to, &x, sizeof x); }

VF_INLINE vf vf_add(vf a, vf b) { return a + b; }
VF_INLINE vf vf_sub(vf a, vf b) { return a - b; }
VF_INLINE vf vf_mul(vf a, vf b) { return a * b; }
VF_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }

/* The conversions and exp of dtype.h and math.h, lane by lane: the same bits. */
VF_INLINE vf vf_load_bf16(const uint16_t *from)
{
    vf_half half;
    memcpy(&half, from, sizeof half);
    return (vf)(__builtin_convertvector(half, vf_word32) << 16 * (vf_word32){1, 1, 1, 1});
}
VF_INLINE vf vf_load_f16(const uint16_t *from)
{
    return (vf){f16_to_f32(from[0]), f16_to_f32(from[1]), f16_to_f32(from[2]),
                f16_to_f32(from[3])};
}
/* Signed bytes; bits `shift` .. `shift` + 3 of bytes. */
VF_INLINE vf vf_load_i8(const uint8_t *from)
{
    return (vf){(int8_t)from[0], (int8_t)from[1], (int8_t)from[2], (int8_t)from[3]};
}
VF_INLINE vf vf_load_u4(const uint8_t *from, int shift)
{
    return (vf){(float)(from[0] >> shift & 15), (float)(from[1] >> shift & 15),
                (float)(from[2] >> shift & 15), (float)(from[3] >> shift & 15)};
}
VF_INLINE void vf_store_bf16(uint16_t *to, vf x)
{
    const vf_word32 u = (vf_word32)x, one = {1, 1, 1, 1}, nan = (vf_word32)(x != x);
    const vf_word32 up = u + one * 0x7fff + (u >> 16 * one & one), quiet = u | one * 0x400000;
    const vf_word32 rounded = ((up & ~nan) | (quiet & nan)) >> 16 * one;
    const vf_half half = __builtin_convertvector(rounded, vf_half);
    memcpy(to, &half, sizeof half);
}
VF_INLINE void vf_store_f16(uint16_t *to, vf x)
{
    for (int l = 0; l < VL; l++) to[l] = f32_to_f16(x[l]);
}
/* To bf16 and back. */
VF_INLINE vf vf_round_bf16(vf x)
{
    uint16_t half[VL];
    vf_store_bf16(half, x);
    return vf_load_bf16(half);
}

VF_INLINE vf vf_select(vf_bits yes, vf a, vf b)
{
    return (vf)(((vf_bits)a & yes) | ((vf_bits)b & ~yes));
}

VF_INLINE vf vf_exp(vf x)
{
    x = vf_select(x < vf_set1(-105.0f), vf_set1(-105.0f), x);
    x = vf_select(x > vf_set1(89.0f), vf_set1(89.0f), x);
    const vf shifted = x * vf_set1(1.44269504f) + vf_set1(12582912.0f);
    const vf n = shifted - vf_set1(12582912.0f);
    const vf r = x - n * vf_set1(0.693359375f) - n * vf_set1(-2.12194440e-4f);
    vf p = vf_set1(1.9875691500e-4f);
    p = p * r + vf_set1(1.3981999507e-3f);
    p = p * r + vf_set1(8.3334519073e-3f);
    p = p * r + vf_set1(4.1665795894e-2f);
    p = p * r + vf_set1(1.6666665459e-1f);
    p = p * r + vf_set1(5.0000001201e-1f);
    p = vf_set1(1.0f) + (r + r * r * p);
    const vf_bits one = {1, 1, 1, 1}, bias = one * 127, magic = one * 0x4b400000;
    const vf_bits whole = (vf_bits)shifted - magic, half = whole >> one;
    return p * (vf)((half + bias) << 23 * one) * (vf)((whole - half + bias) << 23 * one);
}
VF_INLINE vf vf_decay(vf x) { return vf_exp(x); }

/* ---- sums over a row: element k goes to lane k mod 16 ------------------------------------------- */

enum { VF16 = 16 / VL };
struct vf16 {
    vf part[VF16];
};

/* The tree: l + (l+8), then +4, +2, +1. */
VF_INLINE float sum16(const struct vf16 *x)
{
    const vf s = (x->part[0] + x->part[2]) + (x->part[1] + x->part[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* 16 of them at once: out[j] = sum16(x + j), the same bits. */
VF_INLINE void sums16(float *out, const struct vf16 *x)
{
    for (int j = 0; j < 16; j++) out[j] = sum16(x + j);
}

#endif
