/* linear_amx_panel.h: weights of any type as A tiles of bf16: 16 rows of W by 32 of its k.
 *
 * The one place of the tile product that knows how weights are stored. */
#ifndef KERNELS_CPU_LINEAR_AMX_PANEL_H
#define KERNELS_CPU_LINEAR_AMX_PANEL_H

#include "kernels/cpu/delta_amx_pack.h"
#include "kernels/cpu/linear.h"

enum { TILE_K = 32 };

/* Where the A tiles of 16 rows of W are: that of step s at at + s * step, its rows `stride` bytes
 * apart. */
struct tiles_of_w {
    const char *at;
    size_t step, stride;
};

/* Whether rows of this type can become tiles; others go to the vector product. */
static inline bool panel_takes(enum dtype type)
{
    return type == DTYPE_BF16 || dtype_quantised(type);
}

/* Up to 16 f16 as f32. */
TILE_INLINE void panel_f16(float to[16], const uint8_t *from, int64_t count)
{
    const __mmask16 some = (__mmask16)(count >= 16 ? 0xffffu : (1u << count) - 1);
    _mm512_storeu_ps(to, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(some, from)));
}

/* A block of codes (tensor/quant.h). No value is below the normal numbers, so that what the conversion
 * does there does not matter. */
TILE_INLINE __m512i panel_block(const uint8_t *code, const enum dtype type, __m512 scale,
                                __m512 minimum)
{
    __m512 low, high;
    if (type == DTYPE_Q8) {
        const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)code));
        const __m512i rest = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(code + 16)));
        low = _mm512_mul_ps(_mm512_cvtepi32_ps(wide), scale);
        high = _mm512_mul_ps(_mm512_cvtepi32_ps(rest), scale);
    } else {
        const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)code));
        low = _mm512_cvtepi32_ps(_mm512_and_si512(wide, _mm512_set1_epi32(15)));
        high = _mm512_cvtepi32_ps(_mm512_srli_epi32(wide, 4));
        low = _mm512_fmadd_ps(low, scale, minimum);
        high = _mm512_fmadd_ps(high, scale, minimum);
    }
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Which of the 32 elements of a step there are. */
TILE_INLINE __mmask32 panel_some(int64_t K, int64_t step)
{
    const int64_t left = K - step * TILE_K;
    return left >= TILE_K ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1;
}

/* Bytes that are asked for ahead of where a quantised row is read. */
enum { PANEL_AHEAD = 4096 };

TILE_INLINE void panel_quantised(char *to, size_t step, const enum dtype type, const void *row,
                                 int64_t K, int64_t first, int64_t steps)
{
    enum { SCALES = 16 };
    const struct quant_row blocks = quant_row_at(row, type, K);
    const int64_t bytes = type == DTYPE_Q8 ? 32 : 16;
    float scale[SCALES], minimum[SCALES] = {0};
    for (int64_t s = 0; s < steps; s++, to += step) {
        const int64_t b = first + s, i = s % SCALES;
        const uint8_t *code = blocks.code + b * bytes;
        if (i == 0) {
            panel_f16(scale, blocks.scale + 2 * b, steps - s);
            if (type == DTYPE_Q4) panel_f16(minimum, blocks.minimum + 2 * b, steps - s);
        }
        if (b * bytes % 64 == 0) __builtin_prefetch(code + PANEL_AHEAD, 0, 2);
        __m512i x = panel_block(code, type, _mm512_set1_ps(scale[i]), _mm512_set1_ps(minimum[i]));
        if ((b + 1) * TILE_K > K) x = _mm512_maskz_mov_epi16(panel_some(K, b), x);
        _mm512_storeu_si512(to, x);
    }
}

/* Steps first .. first + steps - 1 of a row: 64 bytes each, `step` bytes apart; from K on 0. */
static inline void panel_row_tiles(char *to, size_t step, enum dtype type, const void *row,
                                   int64_t K, int64_t first, int64_t steps)
{
    const uint16_t *half = row;
    GDN_CHECK(panel_takes(type), "tiles of %s", dtype_name(type));
    if (type == DTYPE_Q8)
        panel_quantised(to, step, DTYPE_Q8, row, K, first, steps);
    else if (type == DTYPE_Q4)
        panel_quantised(to, step, DTYPE_Q4, row, K, first, steps);
    else
        for (int64_t s = first; s < first + steps; s++, to += step)
            _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(panel_some(K, s), half + s * TILE_K));
}

/* Rows n .. n + rows - 1, the rest of the 16 is 0. */
static inline void panel_tiles(char *to, size_t step, const struct linear *w, int64_t n,
                               int64_t rows, int64_t first, int64_t steps)
{
    for (int64_t r = 0; r < TILE_ROWS; r++, to += TILE_BYTES) {
        enum dtype type;
        if (r >= rows) {
            for (int64_t s = 0; s < steps; s++) memset(to + (size_t)s * step, 0, TILE_BYTES);
            continue;
        }
        const void *row = linear_weight_row(w, n + r, &type);
        panel_row_tiles(to, step, type, row, w->K, first, steps);
    }
}

/* Columns n .. n + 15 as they lie, if tiles can read them there. */
static inline bool tiles_in_place(struct tiles_of_w *tiles, const struct linear *w, int64_t n,
                                  int64_t rows)
{
    const struct linear_part *part = linear_part_of(w, n);
    const struct tensor *t = part->w;
    const int64_t row = part->from + n - part->row;
    if (rows < TILE_ROWS || n + TILE_ROWS > part->row + part->rows || w->K % TILE_K != 0 ||
        t->dtype != DTYPE_BF16)
        return false;
    const char *at = cpu_row(t, row), *last = cpu_row(t, row + TILE_ROWS - 1);
    const int64_t stride = t->rank > 1 ? 2 * t->stride[t->rank - 2] : 0;
    *tiles = (struct tiles_of_w){at, TILE_BYTES, (size_t)stride};
    return last - at == (TILE_ROWS - 1) * stride;
}

#endif
