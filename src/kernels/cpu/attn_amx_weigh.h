/* attn_amx_weigh.h: scores of attention on tiles become weights in two bf16 parts, and the sums so far
 * shrink by them: attn_amx.c has the whole. */
#ifndef KERNELS_CPU_ATTN_AMX_WEIGH_H
#define KERNELS_CPU_ATTN_AMX_WEIGH_H

#include "kernels/cpu/attn_amx_pack.h"
#include "kernels/cpu/attn_sums_tmpl.h"

/* The largest of each column of scores s [64][16] times `scale`, or top. A NaN is never the largest. */
TILE_INLINE __m512 largest_score(const float *s, __m512 scale, __m512 top)
{
    __m512 most[4];
    for (int n = 0; n < 4; n++) most[n] = top;
    for (int j = 0; j < PAGE; j += 4)
        VF_UNROLL for (int n = 0; n < 4; n++)
            most[n] = _mm512_max_ps(_mm512_mul_ps(_mm512_load_ps(s + (j + n) * 16), scale), most[n]);
    return _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
}

/* Scores times scale, those not seen -inf. */
static inline void mask_scores(float *s, __m512 scale, __m512i seen)
{
    for (int j = 0; j < PAGE; j++, s += 16) {
        const __mmask16 sees = _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32(j));
        const __m512 x = _mm512_mul_ps(_mm512_load_ps(s), scale);
        _mm512_store_ps(s, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), sees, x));
    }
}

/* The weights of 32 tokens of 16 columns as A tiles: hi to p, lo behind it. Adds to sum [4]. */
static inline void weigh_half(const struct attn_amx *m, const float *s, __m512 scale, __m512 top,
                       __m512 *sum, uint16_t *p)
{
    const __m512i half = _mm512_set1_epi32(0x8000), high = _mm512_set1_epi32((int)0xffff0000);
    uint32_t *hi = m->turn, *lo = hi + TILE_FLOATS;
    __m512i turned[16];
    VF_UNROLL for (int i = 0; i < 16; i++) {
        const __m512 a = _mm512_mul_ps(_mm512_load_ps(s + 32 * i), scale);
        const __m512 b = _mm512_mul_ps(_mm512_load_ps(s + 32 * i + 16), scale);
        const __m512 x = vf_exp(_mm512_sub_ps(a, top)), y = vf_exp(_mm512_sub_ps(b, top));
        sum[2 * i % 4] = _mm512_add_ps(sum[2 * i % 4], x);
        sum[2 * i % 4 + 1] = _mm512_add_ps(sum[2 * i % 4 + 1], y);
        const __m512i u = _mm512_add_epi32(_mm512_castps_si512(x), half);
        const __m512i v = _mm512_add_epi32(_mm512_castps_si512(y), half);
        const __m512 hi_x = _mm512_castsi512_ps(_mm512_and_si512(u, high));
        const __m512 hi_y = _mm512_castsi512_ps(_mm512_and_si512(v, high));
        _mm512_store_si512(hi + 16 * i,
                           _mm512_mask_mov_epi16(v, 0x55555555, _mm512_srli_epi32(u, 16)));
        _mm512_store_si512(lo + 16 * i, pack_pair(_mm512_sub_ps(x, hi_x), _mm512_sub_ps(y, hi_y)));
    }
    for (int part = 0; part < 2; part++, p += TILE_HALVES) {
        turn16(turned, hi + part * TILE_FLOATS, TILE_BYTES);
        for (int i = 0; i < 16; i++) _mm512_store_si512(p + 32 * i, turned[i]);
    }
}

/* Four columns by four tokens in a vector: lane 4 n + c is of token n. */
TILE_INLINE __m512 four_tokens(const float *s)
{
    const __m512 x = _mm512_insertf32x4(_mm512_castps128_ps512(_mm_load_ps(s)), _mm_load_ps(s + 16), 1);
    return _mm512_insertf32x4(_mm512_insertf32x4(x, _mm_load_ps(s + 32), 2), _mm_load_ps(s + 48), 3);
}

TILE_INLINE __m512 four_times(const float *x)
{
    return _mm512_broadcast_f32x4(_mm_loadu_ps(x));
}

/* As largest_score, of four columns. */
static inline __m512 largest_of_four(const float *s, __m512 scale, __m512 top)
{
    for (int j = 0; j < PAGE; j += 4)
        top = _mm512_max_ps(_mm512_mul_ps(four_tokens(s + j * 16), scale), top);
    top = _mm512_max_ps(top, _mm512_shuffle_f32x4(top, top, 0x4e));
    return _mm512_max_ps(top, _mm512_shuffle_f32x4(top, top, 0xb1));
}

/* As weigh_half, of four columns: the same chains, token by token. Rows 4.. of the tiles stay what they
 * were: they are sums of columns that there are not. */
static inline __m512 weigh_four(const float *s, __m512 scale, __m512 top, __m512 sum, uint16_t *p)
{
    const __m512i half = _mm512_set1_epi32(0x8000), high = _mm512_set1_epi32((int)0xffff0000);
    const __m512i upper = _mm512_set_epi16(63, 55, 47, 39, 31, 23, 15, 7, 61, 53, 45, 37, 29, 21, 13, 5,
                                           59, 51, 43, 35, 27, 19, 11, 3, 57, 49, 41, 33, 25, 17, 9, 1);
    for (int i = 0; i < 4; i++, s += 8 * 16, p += 8) {
        __m512i hi[2], lo[2];
        VF_UNROLL for (int n = 0; n < 2; n++) {
            const __m512 a = _mm512_mul_ps(four_tokens(s + n * 64), scale);
            const __m512 x = vf_exp(_mm512_sub_ps(a, top));
            sum = _mm512_add_ps(sum, x);
            hi[n] = _mm512_add_epi32(_mm512_castps_si512(x), half);
            const __m512 rest = _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(hi[n], high)));
            lo[n] = _mm512_add_epi32(_mm512_castps_si512(rest), half);
        }
        _Alignas(64) __m128i row[2][4];
        _mm512_store_si512(row[0], _mm512_permutex2var_epi16(hi[0], upper, hi[1]));
        _mm512_store_si512(row[1], _mm512_permutex2var_epi16(lo[0], upper, lo[1]));
        for (int part = 0; part < 2; part++)
            for (int c = 0; c < 4; c++)
                _mm_store_si128((__m128i *)(TILE_AT(p, part) + 32 * c), row[part][c]);
    }
    return sum;
}

static inline __m512i seen_of(const struct attn_block *b, int t)
{
    int32_t seen[16];
    for (int i = 0; i < 16; i++) seen[i] = attn_seen(b, 16 * t + i);
    return _mm512_loadu_si512(seen);
}

/* The sums of tile t, whose weights go by `top` now: old ones shrink, those of the sheet, `all`, are
 * added. */
static inline void move_top(const struct attn_block *b, const struct attn_amx *m,
                     const struct attn_sums *sums, int t, __m512 old, __m512 top, __m512 all)
{
    const __mmask16 there = (__mmask16)(b->columns - 16 * t >= 16 ? 0xffff
                                                                  : (1 << (b->columns - 16 * t)) - 1);
    const __m512 keep = vf_exp(_mm512_sub_ps(old, top));
    float *weight = sums->weight + 16 * t, shrink[16];
    const __m512 sum = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(weight), keep), all);
    _mm512_mask_storeu_ps(weight, there, sum);
    _mm512_mask_storeu_ps(sums->top + 16 * t, there, top);
    _mm512_storeu_ps(shrink, keep);
    for (int i = 0; i < 16 && 16 * t + i < b->columns; i++)
        if (shrink[i] != 1.0f)
            attn_scale(sums->acc + (16 * t + i) * b->acc_step, shrink[i], 16 * m->strips);
}

/* The only tile of a block of up to four columns. */
static inline void weigh_few(const struct attn_block *b, const struct attn_amx *m,
                      const struct attn_sums *sums, int pages)
{
    const __m512 old = four_times(sums->top), one = _mm512_set1_ps(1.0f);
    __m512 scale[SHEET], top = old, sum = _mm512_setzero_ps();
    for (int i = 0; i < pages; i++) {
        scale[i] = _mm512_set1_ps((float)b->args->scale);
        if (m->page[i].last) mask_scores(m->s + i * PAGE * 16, scale[i], seen_of(b, 0)), scale[i] = one;
        top = largest_of_four(m->s + i * PAGE * 16, scale[i], top);
    }
    for (int i = 0; i < 2 * pages; i++)
        sum = weigh_four(m->s + i * 32 * 16, scale[i / 2], top, sum, TILE_AT(m->p, 2 * i));
    sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4(sum, sum, 0xb1));
    sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4(sum, sum, 0x4e));
    move_top(b, m, sums, 0, old, top, sum);
}

/* Tile t of the block, the n-th of m->s and m->p: scores become weights; the sums so far shrink. */
static inline void weigh(const struct attn_block *b, const struct attn_amx *m,
                  const struct attn_sums *sums, int pages, int t, int n)
{
    float *s = m->s + n * SHEET * PAGE * 16;
    const __m512 old = _mm512_loadu_ps(sums->top + 16 * t), one = _mm512_set1_ps(1.0f);
    __m512 scale[SHEET], top = old, sum[4];
    for (int i = 0; i < pages; i++) {
        scale[i] = _mm512_set1_ps((float)b->args->scale);
        if (m->page[i].last) mask_scores(s + i * PAGE * 16, scale[i], seen_of(b, t)), scale[i] = one;
        top = largest_score(s + i * PAGE * 16, scale[i], top);
    }
    for (int i = 0; i < 4; i++) sum[i] = _mm512_setzero_ps();
    for (int i = 0; i < 2 * pages; i++)
        weigh_half(m, s + i * 32 * 16, scale[i / 2], top, sum, TILE_AT(m->p, 2 * (n * HALVES + i)));
    const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
    move_top(b, m, sums, t, old, top, all);
}

#endif
