/* delta_amx_gate.h: the coefficients of a chunk with one gate a head.
 *
 * Every decay is a product of factors e^g <= 1 made by multiplying on from row to row: nothing
 * overflows, and a gate of -inf gives zeros, not the NaN of -inf - -inf. */
#ifndef KERNELS_CPU_DELTA_AMX_GATE_H
#define KERNELS_CPU_DELTA_AMX_GATE_H

#include "kernels/cpu/delta_amx_solve.h"
#include "kernels/cpu/math.h"

static void gate_decays(const struct amx *m, const struct chunk *c)
{
    float g[AMX_CHUNK];
    for (int i = 0; i < AMX_CHUNK; i++) memcpy(g + i, row_at(&m->g, i, 0), sizeof *g);
    for (int i = 0; i < AMX_CHUNK; i++) m->alpha[i] = cpu_expf(g[i]);
    float since = 1.0f, until = 1.0f;
    for (int i = 0; i < AMX_CHUNK; i++) {
        since *= m->alpha[i];
        m->since[i] = since;
        m->until[AMX_CHUNK - 1 - i] = until;
        until *= m->alpha[AMX_CHUNK - 1 - i];
    }
    for (int d = 0; d < m->Dk; d++) c->decay[d] = since;
}

/* The keys of a block turned: pairs of channels 32 s .. by tokens. */
TILE_INLINE void turn_keys(const struct amx *m, int b, int s)
{
    const char *from = (const char *)m->k + (size_t)(16 * b) * m->qk_bytes + s * TILE_BYTES;
    uint16_t *to = m->kT + (b * m->steps + s) * TILE_HALVES;
    __m512i t[16];
    turn16(t, from, m->qk_bytes);
    for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * 32, t[i]);
}

/* Channels 32 s .. by pairs of tokens of a half, decayed to the chunk's end. */
TILE_INLINE void keys_out(const struct amx *m, const struct chunk *c, int half, int s)
{
    const __m512 until0 = _mm512_load_ps(m->until + 32 * half);
    const __m512 until1 = _mm512_load_ps(m->until + 32 * half + 16);
    const uint16_t *first = m->kT + (2 * half * m->steps + s) * TILE_HALVES;
    const uint16_t *second = first + m->steps * TILE_HALVES;
    for (int p = 0; p < 16; p++) {
        const __m512i x = _mm512_load_si512(first + p * 32), y = _mm512_load_si512(second + p * 32);
        uint16_t *to = c->k_out + ((2 * s + p / 8) * 2 + half) * TILE_HALVES + p % 8 * 64;
        _mm512_store_si512(to, pack_pair(_mm512_mul_ps(low_of(x), until0),
                                         _mm512_mul_ps(low_of(y), until1)));
        _mm512_store_si512(to + 32, pack_pair(_mm512_mul_ps(high_of(x), until0),
                                              _mm512_mul_ps(high_of(y), until1)));
    }
}

/* Row i of k and of q, times its decay. */
TILE_INLINE void gate_row(const struct amx *m, const struct chunk *c, int i)
{
    const __m512 by = _mm512_set1_ps(m->since[i]);
    const size_t at = (size_t)(i / 16 * m->steps) * TILE_HALVES + (size_t)(i % 16 * 32);
    const char *k = (const char *)m->k + (size_t)i * m->qk_bytes;
    const char *q = (const char *)m->q + (size_t)i * m->qk_bytes;
    for (int s = 0; s < m->steps; s++) {
        const __m512i x = _mm512_loadu_si512(k + s * TILE_BYTES);
        const __m512i y = _mm512_loadu_si512(q + s * TILE_BYTES);
        _mm512_store_si512(c->k_in + at + s * TILE_HALVES,
                           pack_pair(_mm512_mul_ps(low_of(x), by), _mm512_mul_ps(high_of(x), by)));
        _mm512_store_si512(c->q_in + at + s * TILE_HALVES,
                           pack_pair(_mm512_mul_ps(low_of(y), by), _mm512_mul_ps(high_of(y), by)));
    }
}

/* k.k and q.k of block b against blocks j and, where `two`, j + 1. */
TILE_INLINE void gram_blocks(const struct amx *m, int b, int j, bool two)
{
    const size_t down = (size_t)(16 * b) * m->qk_bytes;
    const uint16_t *kT = m->kT + j * m->steps * TILE_HALVES;
    float *to = m->gram + j * 2 * TILE_FLOATS;
    tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3);
    for (int s = 0; s < m->steps; s++) {
        tile_load(4, (const char *)m->k + down + s * TILE_BYTES, m->qk_bytes);
        tile_load(5, (const char *)m->q + down + s * TILE_BYTES, m->qk_bytes);
        tile_load(6, kT + s * TILE_HALVES, TILE_BYTES);
        tile_dp(0, 4, 6);
        tile_dp(1, 5, 6);
        if (!two) continue;
        tile_load(7, kT + (m->steps + s) * TILE_HALVES, TILE_BYTES);
        tile_dp(2, 4, 7);
        tile_dp(3, 5, 7);
    }
    tile_store(0, to, TILE_BYTES);
    tile_store(1, to + TILE_FLOATS, TILE_BYTES);
    if (!two) return;
    tile_store(2, to + 2 * TILE_FLOATS, TILE_BYTES);
    tile_store(3, to + 3 * TILE_FLOATS, TILE_BYTES);
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
        /* gated by 0 is not enough on and above the diagonal: 0 times inf */
        l[b] = _mm512_maskz_mov_ps((__mmask16)(now - 1), l[b]);
        p[b] = _mm512_maskz_mov_ps((__mmask16)(2 * now - 1), p[b]);
        place_row(m, c, b, i, l, p);
    }
}

TILE_INLINE void gate_block(const struct amx *m, const struct chunk *c, int b, __m512 *keep)
{
    for (int s = 0; s < m->steps; s++) turn_keys(m, b, s);
    gram_blocks(m, b, 0, b > 0);
    if (b >= 2) gram_blocks(m, b, 2, b == 3);
    for (int i = 16 * b; i < 16 * b + 16; i++) gate_row(m, c, i);
    gate_grams(m, c, b, keep);
    if (b % 2)
        for (int s = 0; s < m->steps; s++) keys_out(m, c, b / 2, s);
}

/* The coefficients of a chunk, a block of 16 rows at a time while they are in L1. */
static void prepare_gate(const struct amx *m, const struct chunk *c)
{
    __m512 keep[ROW_BLOCKS];
    gate_decays(m, c);
    gate_block(m, c, 0, keep);
    gate_block(m, c, 1, keep);
    gate_block(m, c, 2, keep);
    gate_block(m, c, 3, keep);
    make_inverse(m, c);
}

#endif
