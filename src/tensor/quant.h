/* quant.h: weights in blocks of 32 along K: how a quantised row lies in memory, how it is made, and
 * what its values are. Nothing else knows the layout but the int8 products of kernels/cpu.
 *
 * A row of K numbers has B = ceil(K / 32) blocks; scales and minima are f16, after the codes:
 *
 *     q8   | int8  code[32 B]                        | scale[B] |             34 B bytes
 *     q4   | uint8 code[16 B]: of k (low), of k + 16 | scale[B] | minimum[B]  20 B bytes
 *
 * so that a row is one stream, whole registers of codes follow each other without a gap, and the
 * scales of 16 blocks are converted by one instruction. Rows follow each other; any byte may be the
 * first. Behind K the last block holds codes that nobody reads as values, and that add nothing.
 *
 * The value of a code is   q8: bf16(scale code),   q4: bf16(scale code + minimum)
 * where scale code is exact in f32 (11 bits times 8), the sum is rounded once to f32, and bf16()
 * rounds to nearest even. A quantised weight is a bf16 weight that takes less room: every kernel
 * that goes through these functions gives the bits that it would give for the bf16 tensor. */
#ifndef TENSOR_QUANT_H
#define TENSOR_QUANT_H

#include "tensor/dtype.h"

enum { QUANT_BLOCK = 32 };
/* For rows that cost much when they are off, whatever the others are: embedding, head. */
static const enum dtype quant_fine = DTYPE_Q8;

static inline int64_t quant_blocks(int64_t K) { return (K + QUANT_BLOCK - 1) / QUANT_BLOCK; }

static inline int64_t quant_row_bytes(enum dtype dtype, int64_t K)
{
    return quant_blocks(K) * (dtype == DTYPE_Q8 ? 34 : 20);
}

/* The parts of a row; aligned to nothing. */
struct quant_row {
    const uint8_t *code, *scale, *minimum;
};

static inline struct quant_row quant_row_at(const void *row, enum dtype dtype, int64_t K)
{
    const int64_t B = quant_blocks(K);
    const uint8_t *code = row, *scale = code + B * (dtype == DTYPE_Q8 ? 32 : 16);
    return (struct quant_row){code, scale, scale + 2 * B};
}

static inline float quant_f16(const uint8_t *array, int64_t i)
{
    uint16_t h;
    memcpy(&h, array + 2 * i, sizeof h);
    return f16_to_f32(h);
}

/* The 32 values of block b before they are rounded to bf16. */
static inline void quant_block(float *restrict to, const struct quant_row *row, enum dtype dtype,
                               int64_t b)
{
    const float scale = quant_f16(row->scale, b);
    if (dtype == DTYPE_Q8) {
        const uint8_t *code = row->code + 32 * b;
        for (int i = 0; i < QUANT_BLOCK; i++) to[i] = scale * (float)(int8_t)code[i];
    } else {
        const uint8_t *code = row->code + 16 * b;
        const float minimum = quant_f16(row->minimum, b);
        for (int i = 0; i < 16; i++) to[i] = scale * (float)(code[i] & 15) + minimum;
        for (int i = 0; i < 16; i++) to[i + 16] = scale * (float)(code[i] >> 4) + minimum;
    }
}

/* bf16() of finite numbers. */
static inline uint32_t quant_round(float x)
{
    const uint32_t u = f32_bits(x);
    return u + 0x7fffu + (u >> 16 & 1u);
}

/* Values [from, from + n) of a row of K; `from` is a multiple of 32. */
static inline void quant_load_bf16(uint16_t *to, const void *at, enum dtype dtype, int64_t K,
                                   int64_t from, int64_t n)
{
    const struct quant_row row = quant_row_at(at, dtype, K);
    float wide[QUANT_BLOCK];
    uint16_t half[QUANT_BLOCK];
    for (int64_t i = 0; i < n; i += QUANT_BLOCK) {
        uint16_t *out = n - i < QUANT_BLOCK ? half : to + i;
        quant_block(wide, &row, dtype, (from + i) / QUANT_BLOCK);
        for (int j = 0; j < QUANT_BLOCK; j++) out[j] = (uint16_t)(quant_round(wide[j]) >> 16);
        if (out == half) memcpy(to + i, half, (size_t)(n - i) * sizeof *to);
    }
}

/* The same numbers as f32. */
static inline void quant_load_f32(float *to, const void *at, enum dtype dtype, int64_t K,
                                  int64_t from, int64_t n)
{
    const struct quant_row row = quant_row_at(at, dtype, K);
    float wide[QUANT_BLOCK];
    for (int64_t i = 0; i < n; i += QUANT_BLOCK) {
        const int64_t some = n - i < QUANT_BLOCK ? n - i : QUANT_BLOCK;
        quant_block(wide, &row, dtype, (from + i) / QUANT_BLOCK);
        for (int j = 0; j < QUANT_BLOCK; j++)
            wide[j] = f32_of_bits(quant_round(wide[j]) & 0xffff0000u);
        memcpy(to + i, wide, (size_t)some * sizeof *to);
    }
}

/* A whole row; not inlined, for who does it now and then. */
void quant_load_row(float *to, const void *row, enum dtype dtype, int64_t K);
/* Value k of a row, for who reads one at a time. */
float quant_value(const void *row, enum dtype dtype, int64_t K, int64_t k);

/* A row of f32, bf16 or f16 as f32. */
void quant_enter(float *to, const void *from, enum dtype dtype, int64_t K);

/* Makes a row of the K numbers x: the scale is the smallest f16 for which no code is out of range,
 * a code the nearest. |scale code (+ minimum) - x| <= scale / 2. False: a number is not finite, or
 * too large for an f16 scale or minimum; then the row is not written. */
bool quant_store(void *row, enum dtype dtype, const float *x, int64_t K);

#endif
