/* delta_amx_solve.h: from gated products of keys to (I + L)^-1 beta, in f32.
 *
 * L is strictly lower triangular, beta_i k_i.k_j decay(i, j). Only halves of 32 are inverted,
 *
 *     | I + L0        |^-1     | A0                |
 *     | L10    I + L1 |     =  | -A1 L10 A0     A1 |
 *
 * each 16 x 16 by forward substitution: no power of L is ever formed, so repeated keys with beta
 * near 2 stay harmless. The second half meets the first one by substitution (strip_solve), where
 * an inverse of 64 would cost four times as much. */
#ifndef KERNELS_CPU_DELTA_AMX_SOLVE_H
#define KERNELS_CPU_DELTA_AMX_SOLVE_H

#include "kernels/cpu/delta_amx_chunk.h"

enum { SOLVE_FLOATS = 4 * TILE_FLOATS };

/* Row i of (I + L)^-1 R: r[i] - sum over j < i of l[i][j] x[j]. */
TILE_INLINE __m512 substitute(__m512 r, const float *l, const float *x, int i)
{
    __m512 even = r, odd = _mm512_setzero_ps();
    int j = 0;
    for (; j + 2 <= i; j += 2) {
        even = _mm512_fnmadd_ps(_mm512_set1_ps(l[j]), _mm512_load_ps(x + j * 16), even);
        odd = _mm512_fnmadd_ps(_mm512_set1_ps(l[j + 1]), _mm512_load_ps(x + j * 16 + 16), odd);
    }
    if (j < i) even = _mm512_fnmadd_ps(_mm512_set1_ps(l[j]), _mm512_load_ps(x + j * 16), even);
    return _mm512_add_ps(even, odd);
}

/* to = -l a, 16 x 16 each. */
TILE_INLINE void multiply_negative(float *to, const float *l, const float *a)
{
    for (int i = 0; i < 16; i += 4) {
        __m512 r[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                       _mm512_setzero_ps()};
        for (int k = 0; k < 16; k++) {
            const __m512 x = _mm512_load_ps(a + k * 16);
            for (int n = 0; n < 4; n++)
                r[n] = _mm512_fnmadd_ps(_mm512_set1_ps(l[(i + n) * 16 + k]), x, r[n]);
        }
        for (int n = 0; n < 4; n++) _mm512_store_ps(to + (i + n) * 16, r[n]);
    }
}

TILE_INLINE void pack_inverse(const struct amx *m, const struct chunk *c, int half)
{
    const __m512 beta0 = _mm512_load_ps(m->beta + 32 * half);
    const __m512 beta1 = _mm512_load_ps(m->beta + 32 * half + 16);
    const float *top = m->inverse + 2 * half * TILE_FLOATS, *low = top + TILE_FLOATS;
    const float *corner = m->solve + half * SOLVE_FLOATS + 3 * TILE_FLOATS;
    uint16_t *a = c->a + 2 * half * TILE_HALVES;
    for (int i = 0; i < 16; i++) {
        const __m512 x = _mm512_mul_ps(_mm512_load_ps(top + i * 16), beta0);
        const __m512 y = _mm512_mul_ps(_mm512_load_ps(corner + i * 16), beta0);
        const __m512 z = _mm512_mul_ps(_mm512_load_ps(low + i * 16), beta1);
        _mm512_store_si512(a + i * 32, pack_pair(x, _mm512_setzero_ps()));
        _mm512_store_si512(a + TILE_HALVES + i * 32, pack_pair(y, z));
    }
}

/* m->solve (L of both halves) to the tiles c->a, times beta of their columns. */
static void make_inverse(const struct amx *m, const struct chunk *c)
{
    for (int i = 0; i < 16; i++) {
        const __m512 one = _mm512_maskz_mov_ps((__mmask16)(1u << i), _mm512_set1_ps(1.0f));
        for (int b = 0; b < ROW_BLOCKS; b++) {
            const float *l = m->solve + b / 2 * SOLVE_FLOATS + b % 2 * TILE_FLOATS + i * 16;
            float *x = m->inverse + b * TILE_FLOATS;
            _mm512_store_ps(x + i * 16, substitute(one, l, x, i));
        }
    }
    for (int half = 0; half < 2; half++) {
        float *s = m->solve + half * SOLVE_FLOATS;
        multiply_negative(s + 3 * TILE_FLOATS, s + 2 * TILE_FLOATS,
                          m->inverse + 2 * half * TILE_FLOATS);
    }
    for (int i = 0; i < 16; i++)
        for (int half = 0; half < 2; half++) {
            float *s = m->solve + half * SOLVE_FLOATS, *x = s + 3 * TILE_FLOATS;
            const float *l = s + TILE_FLOATS + i * 16;
            _mm512_store_ps(x + i * 16, substitute(_mm512_load_ps(x + i * 16), l, x, i));
        }
    pack_inverse(m, c, 0);
    pack_inverse(m, c, 1);
}

/* Row i of block b of the gated products (f32, one vector for each block j <= b): k.k goes times beta
 * to the half's own solve, as it is to the first half's share of W; q.k to P. What stands on and above
 * the diagonal of block b is dropped. */
TILE_INLINE void place_row(const struct amx *m, const struct chunk *c, int b, int i, __m512 *l,
                           __m512 *p)
{
    /* A decay of 0 is not enough on and above the diagonal: 0 times inf. */
    l[b] = _mm512_maskz_mov_ps((__mmask16)((1u << i) - 1), l[b]);
    p[b] = _mm512_maskz_mov_ps((__mmask16)((2u << i) - 1), p[b]);
    const __m512 zero = _mm512_setzero_ps(), beta = _mm512_set1_ps(m->beta[16 * b + i]);
    float *solve = m->solve + b / 2 * SOLVE_FLOATS;
    uint16_t *to = c->p + 2 * b * TILE_HALVES + i * 32;
    _mm512_store_ps(solve + b % 2 * TILE_FLOATS + i * 16, _mm512_mul_ps(l[b], beta));
    if (b % 2) _mm512_store_ps(solve + 2 * TILE_FLOATS + i * 16, _mm512_mul_ps(l[b - 1], beta));
    _mm512_store_si512(to, pack_pair(p[0], b > 0 ? p[1] : zero));
    if (b < 2) return;
    _mm512_store_si512(to + TILE_HALVES, pack_pair(p[2], b > 2 ? p[3] : zero));
    _mm512_store_si512(c->l + (b - 2) * TILE_HALVES + i * 32, pack_pair(l[0], l[1]));
}

#endif
