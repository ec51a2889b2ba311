/* math.h: the one exp of code that is not written in vectors (vec_*.h; the functions of the gates are
 * in row_tmpl.h).
 *
 * Every form of every op (one row or many, scalar tail or vectorised loop) uses these, so that a
 * row's bits do not depend on how it was reached. Hence plain arithmetic, branches that are
 * selects, no libm: a loop over them vectorises to exactly what the single call computes. Needs
 * -ffp-contract=off. */
#ifndef KERNELS_CPU_MATH_H
#define KERNELS_CPU_MATH_H

#include <math.h>
#include <stdint.h>

#include "tensor/dtype.h"

/* yes ? a : b without a branch: gcc would split the loop at one and not vectorise it. */
static inline float cpu_select(int yes, float a, float b)
{
    uint32_t mask = 0u - (uint32_t)yes;
    return f32_of_bits((f32_bits(a) & mask) | (f32_bits(b) & ~mask));
}

/* e^x: within 1 ulp, subnormal results included; 0 below -103.98, +inf above 88.72, NaN is NaN.
 *
 * x = n ln2 + r with |r| <= ln2 / 2, e^x = 2^n e^r. Adding 1.5 * 2^23 rounds x / ln2 to n and
 * leaves n in the low bits. ln2 is split so that n * 0.693359375 is exact. 2^n goes on in two
 * halves: n reaches -151 and 128, where one factor would not be a normal number. */
static inline float cpu_expf(float x)
{
    x = cpu_select(x < -105.0f, -105.0f, x);
    x = cpu_select(x > 89.0f, 89.0f, x);
    float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    float r = x - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = 1.0f + (r + r * r * p);
    int32_t whole = (int32_t)(f32_bits(shifted) - 0x4b400000u), half = whole >> 1;
    uint32_t low = (uint32_t)half, high = (uint32_t)whole - low;
    return p * f32_of_bits((low + 127u) << 23) * f32_of_bits((high + 127u) << 23);
}

#endif
