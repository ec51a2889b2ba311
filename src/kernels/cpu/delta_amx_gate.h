/* delta_amx_gate.h: the coefficients of a chunk with one gate a head.
 *
 * Every decay is a product of factors e^g <= 1 made by multiplying on from row to row: nothing
 * overflows, and a gate of -inf gives zeros, not the NaN of -inf - -inf. */
#ifndef KERNELS_CPU_DELTA_AMX_GATE_H
#define KERNELS_CPU_DELTA_AMX_GATE_H

#include "kernels/cpu/delta_amx_gram.h"

/* m->alpha has the gates. */
static void gate_decays(const struct amx *m, const struct chunk *c)
{
    for (int i = 0; i < AMX_CHUNK; i += 16)
        _mm512_store_ps(m->alpha + i, vf_exp(_mm512_load_ps(m->alpha + i)));
    float since = 1.0f, until = 1.0f;
    for (int i = 0; i < AMX_CHUNK; i++) {
        since *= m->alpha[i];
        m->since[i] = since;
        m->until[AMX_CHUNK - 1 - i] = until;
        until *= m->alpha[AMX_CHUNK - 1 - i];
    }
    for (int d = 0; d < m->Dk; d++) c->decay[d] = since;
}

/* Channels 32 s .. by pairs of tokens of a half, decayed to the chunk's end. */
TILE_INLINE void keys_out(const struct amx *m, const struct chunk *c, int half, int s)
{
    const __m512 until0 = _mm512_load_ps(m->until + 32 * half);
    const __m512 until1 = _mm512_load_ps(m->until + 32 * half + 16);
    const uint16_t *first = TILE_AT(m->kT, 2 * half * m->steps + s);
    const uint16_t *second = TILE_AT(first, m->steps);
    for (int p = 0; p < 16; p++) {
        const __m512i x = _mm512_load_si512(first + p * 32), y = _mm512_load_si512(second + p * 32);
        uint16_t *to = TILE_AT(c->k_out, (2 * s + p / 8) * 2 + half) + p % 8 * 64;
        _mm512_store_si512(to, pack_pair(_mm512_mul_ps(low_of(x), until0),
                                         _mm512_mul_ps(low_of(y), until1)));
        _mm512_store_si512(to + 32, pack_pair(_mm512_mul_ps(high_of(x), until0),
                                              _mm512_mul_ps(high_of(y), until1)));
    }
}

/* Rows of block b of k and of q, times their decay. */
TILE_INLINE void gate_rows(const struct amx *m, const struct chunk *c, int b)
{
    uint16_t *k_in = TILE_AT(c->k_in, b * m->steps), *q_in = TILE_AT(c->q_in, b * m->steps);
    const uint16_t *k = m->k, *q = m->q;
    const float *since = m->since + 16 * b;
    const int steps = m->steps;
    for (int s = 0; s < steps; s++)
        for (int i = 0; i < 16; i++, k += 32, q += 32, k_in += 32, q_in += 32) {
            const __m512 by = _mm512_set1_ps(since[i]);
            const __m512i x = _mm512_load_si512(k), y = _mm512_load_si512(q);
            _mm512_store_si512(k_in, pack_pair(_mm512_mul_ps(low_of(x), by),
                                               _mm512_mul_ps(high_of(x), by)));
            _mm512_store_si512(q_in, pack_pair(_mm512_mul_ps(low_of(y), by),
                                               _mm512_mul_ps(high_of(y), by)));
        }
}

/* Products of block b times decays. Row i of `keep` is row i - 1 times e^g_i, with a new 1 on the
 * diagonal. */
TILE_INLINE void gate_grams(const struct amx *m, const struct chunk *c, int b, __m512 *keep)
{
    keep[b] = _mm512_setzero_ps();
    for (int i = 0; i < 16; i++) {
        const __m512 alpha = _mm512_set1_ps(m->alpha[16 * b + i]);
        const __mmask16 now = (__mmask16)(1u << i);
        __m512 l[ROW_BLOCKS], p[ROW_BLOCKS];
        for (int j = 0; j <= b; j++) {
            const float *gram = m->gram + j * 2 * TILE_FLOATS + i * 16;
            keep[j] = _mm512_mul_ps(keep[j], alpha);
            if (j == b) keep[j] = _mm512_mask_mov_ps(keep[j], now, _mm512_set1_ps(1.0f));
            l[j] = _mm512_mul_ps(keep[j], _mm512_load_ps(gram));
            p[j] = _mm512_mul_ps(keep[j], _mm512_load_ps(gram + TILE_FLOATS));
        }
        place_row(m, c, b, i, l, p);
    }
}

/* Block b of the coefficients, whose rows are in m->q and m->k while they are in L1. */
TILE_INLINE void gate_block(const struct amx *m, const struct chunk *c, int b, __m512 *keep)
{
    const size_t block = (size_t)m->steps * TILE_HALVES;
    for (int s = 0; s < m->steps; s++) turn_tile(TILE_AT(m->kT, b * m->steps + s), TILE_AT(m->k, s));
    for (int j = 0; j <= b; j += 2) {
        const uint16_t *first = m->kT + (size_t)j * block;
        gram_blocks(m, m->k, m->q, j, first, j < b ? first + block : NULL);
    }
    gate_rows(m, c, b);
    gate_grams(m, c, b, keep);
    if (b % 2)
        for (int s = 0; s < m->steps; s++) keys_out(m, c, b / 2, s);
}

#endif
