/* dtype.h: the number types a tensor may hold, and their conversions. */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* F64 exists for the reference device: whole models in double, for finite differences. Q8 and Q4
 * are rows of quantised weights (tensor/quant.h): a row can be addressed, an element cannot. */
enum dtype {
    DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F64, DTYPE_I32, DTYPE_Q8, DTYPE_Q4, DTYPE_COUNT
};

static inline bool dtype_quantised(enum dtype t) { return t == DTYPE_Q8 || t == DTYPE_Q4; }

/* What strides count: an element, or a byte of a quantised row. */
static inline size_t dtype_size(enum dtype t)
{
    static const size_t size[DTYPE_COUNT] = {4, 2, 2, 8, 4, 1, 1};
    return size[t];
}

static inline const char *dtype_name(enum dtype t)
{
    static const char *const name[DTYPE_COUNT] = {"f32", "bf16", "f16", "f64", "i32", "q8", "q4"};
    return name[t];
}

/* What sums of this type are kept in, and the type of its gradient. */
static inline enum dtype dtype_wide(enum dtype t) { return t == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32; }

static inline uint32_t f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float bf16_to_f32(uint16_t h) { return f32_of_bits((uint32_t)h << 16); }

/* To nearest, ties to even; a NaN stays a NaN. */
static inline uint16_t f32_to_bf16(float x)
{
    uint32_t u = f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu;
    if (rest >= 0x7c00u) return f32_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest >= 0x400u) return f32_of_bits(sign | ((rest << 13) + 0x38000000u));
    float small = (float)rest * 0x1p-24f; /* subnormal: exact in f32 */
    return f32_of_bits(sign | f32_bits(small));
}

static inline uint16_t f32_to_f16(float x)
{
    uint32_t u = f32_bits(x), sign = u >> 16 & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds past 65504 */
    if (u < 0x38800000u) { /* subnormal half: let the adder round */
        uint32_t r = f32_bits(f32_of_bits(u) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | r);
    }
    uint32_t r = (u + 0xfffu + (u >> 13 & 1u) - 0x38000000u) >> 13;
    return (uint16_t)(sign | r);
}

/* Element i of an array of any float type; a store rounds to f32 first, then once more. */
static inline double dtype_load(const void *array, enum dtype t, int64_t i)
{
    switch (t) {
    case DTYPE_F32: return (double)((const float *)array)[i];
    case DTYPE_BF16: return (double)bf16_to_f32(((const uint16_t *)array)[i]);
    case DTYPE_F16: return (double)f16_to_f32(((const uint16_t *)array)[i]);
    default: return ((const double *)array)[i];
    }
}

static inline void dtype_store(void *array, enum dtype t, int64_t i, double x)
{
    switch (t) {
    case DTYPE_F32: ((float *)array)[i] = (float)x; break;
    case DTYPE_BF16: ((uint16_t *)array)[i] = f32_to_bf16((float)x); break;
    case DTYPE_F16: ((uint16_t *)array)[i] = f32_to_f16((float)x); break;
    default: ((double *)array)[i] = x; break;
    }
}

#endif
