#include "tensor/quant.h"

#include <math.h>

void quant_load_row(float *to, const void *row, enum dtype dtype, int64_t K)
{
    quant_load_f32(to, row, dtype, K, 0, K);
}

float quant_value(const void *row, enum dtype dtype, int64_t K, int64_t k)
{
    float block[QUANT_BLOCK];
    quant_load_f32(block, row, dtype, K, k / QUANT_BLOCK * QUANT_BLOCK, k % QUANT_BLOCK + 1);
    return block[k % QUANT_BLOCK];
}

void quant_enter(float *to, const void *from, enum dtype dtype, int64_t K)
{
    const uint16_t *half = from;
    if (dtype == DTYPE_BF16)
        for (int64_t k = 0; k < K; k++) to[k] = bf16_to_f32(half[k]);
    else if (dtype == DTYPE_F16)
        for (int64_t k = 0; k < K; k++) to[k] = f16_to_f32(half[k]);
    else
        memcpy(to, from, (size_t)K * sizeof *to);
}

/* The smallest f16 that is not below x >= 0; the largest that is not above x. */
static uint16_t f16_above(float x)
{
    const uint16_t h = f32_to_f16(x);
    return f16_to_f32(h) < x ? (uint16_t)(h + 1) : h;
}

static uint16_t f16_below(float x)
{
    const uint16_t h = f32_to_f16(x);
    if (f16_to_f32(h) <= x) return h;
    if (h == 0) return 0x8001; /* x is negative and nearer to 0 than f16 can tell */
    return (uint16_t)(h & 0x8000u ? h + 1 : h - 1);
}

static void put_f16(uint8_t *array, int64_t i, uint16_t h) { memcpy(array + 2 * i, &h, sizeof h); }

/* The whole numbers nearest to x / scale, below 2^22: 1.5 * 2^23 leaves no fraction. */
static void make_codes(int32_t *code, const float *x, float less, float scale)
{
    const float shift = 0x1.8p23f, over = scale > 0 ? scale : 1;
    for (int i = 0; i < QUANT_BLOCK; i++)
        code[i] = (int32_t)(((x[i] - less) / over + shift) - shift);
}

struct range {
    float low, high;
};

/* Eight at a time, so that the compiler does them together. */
static struct range range_of(const float *x)
{
    float low[8], high[8];
    memcpy(low, x, sizeof low);
    memcpy(high, x, sizeof high);
    for (int i = 8; i < QUANT_BLOCK; i += 8)
        for (int l = 0; l < 8; l++) {
            low[l] = x[i + l] < low[l] ? x[i + l] : low[l];
            high[l] = x[i + l] > high[l] ? x[i + l] : high[l];
        }
    struct range all = {low[0], high[0]};
    for (int l = 1; l < 8; l++) {
        all.low = low[l] < all.low ? low[l] : all.low;
        all.high = high[l] > all.high ? high[l] : all.high;
    }
    return all;
}

static void store_q8(uint8_t *code, uint8_t *scales, int64_t b, const float *x)
{
    const struct range all = range_of(x);
    const uint16_t scale = f16_above((all.high > -all.low ? all.high : -all.low) / 127);
    int32_t q[QUANT_BLOCK];
    make_codes(q, x, 0, f16_to_f32(scale));
    put_f16(scales, b, scale);
    for (int i = 0; i < QUANT_BLOCK; i++) code[32 * b + i] = (uint8_t)q[i];
}

static void store_q4(uint8_t *code, uint8_t *scales, uint8_t *minima, int64_t b, const float *x)
{
    const struct range all = range_of(x);
    const uint16_t minimum = f16_below(all.low);
    const float least = f16_to_f32(minimum);
    const uint16_t scale = f16_above((all.high - least) / 15);
    int32_t q[QUANT_BLOCK];
    make_codes(q, x, least, f16_to_f32(scale));
    put_f16(minima, b, minimum);
    put_f16(scales, b, scale);
    for (int i = 0; i < 16; i++) code[16 * b + i] = (uint8_t)(q[i] | q[i + 16] << 4);
}

/* A NaN fits nowhere. */
static bool fits(enum dtype dtype, const float *x, int64_t K)
{
    const float most = dtype == DTYPE_Q8 ? 127 * 65504.0f : 65504.0f;
    int64_t bad = 0;
    for (int64_t k = 0; k < K; k++) bad += !(fabsf(x[k]) <= most);
    return bad == 0;
}

bool quant_store(void *row, enum dtype dtype, const float *x, int64_t K)
{
    if (!fits(dtype, x, K)) return false;
    const int64_t B = quant_blocks(K);
    uint8_t *code = row, *scales = code + B * (dtype == DTYPE_Q8 ? 32 : 16);
    for (int64_t b = 0; b < B; b++) {
        const int64_t k = b * QUANT_BLOCK, n = K - k < QUANT_BLOCK ? K - k : QUANT_BLOCK;
        float tail[QUANT_BLOCK];
        const float *block = x + k;
        if (n < QUANT_BLOCK) { /* the tail repeats the last number: it widens no range */
            memcpy(tail, x + k, (size_t)n * sizeof *tail);
            for (int64_t i = n; i < QUANT_BLOCK; i++) tail[i] = x[K - 1];
            block = tail;
        }
        if (dtype == DTYPE_Q8)
            store_q8(code, scales, b, block);
        else
            store_q4(code, scales, scales + 2 * B, b, block);
    }
    return true;
}
