/* delta_amx_gate.h: the coefficients of a chunk with one gate a head.
 *
 * Every decay is a product of factors e^g <= 1 made by multiplying on from row to row: nothing
 * overflows, and a gate of -inf gives zeros, not the NaN of -inf - -inf. */
#ifndef KERNELS_CPU_DELTA_AMX_GATE_H
#define KERNELS_CPU_DELTA_AMX_GATE_H

#include "kernels/cpu/delta_amx_solve.h"
#include "kernels/cpu/math.h"

static void gate_decays(const struct chunk *c)
{
    for (int i = 0; i < AMX_CHUNK; i++) {
        float g;
        memcpy(&g, row_at(&c->g, i, 0), sizeof g);
        c->alpha[i] = g;
    }
    for (int i = 0; i < AMX_CHUNK; i++) c->alpha[i] = cpu_expf(c->alpha[i]);
    float since = 1.0f, until = 1.0f;
    for (int i = 0; i < AMX_CHUNK; i++) {
        since *= c->alpha[i];
        c->since[i] = since;
    }
    for (int i = AMX_CHUNK - 1; i >= 0; i--) {
        c->until[i] = until;
        until *= c->alpha[i];
    }
    for (int d = 0; d < c->Dk; d++) c->decay[d] = since;
}

/* A tiles of 64 rows, each times its decay. */
static void gate_rows(const struct chunk *c, const uint16_t *rows, uint16_t *to)
{
    for (int i = 0; i < AMX_CHUNK; i++) {
        const __m512 by = _mm512_set1_ps(c->since[i]);
        const char *row = (const char *)rows + (size_t)i * c->qk_bytes;
        uint16_t *at = to + (size_t)(i / 16 * c->steps) * TILE_HALVES + i % 16 * 32;
        for (int s = 0; s < c->steps; s++) {
            const __m512i pairs = _mm512_loadu_si512(row + s * TILE_BYTES);
            _mm512_store_si512(at + s * TILE_HALVES, pack_pair(_mm512_mul_ps(low_of(pairs), by),
                                                               _mm512_mul_ps(high_of(pairs), by)));
        }
    }
}

/* The keys turned: pairs of channels by tokens, and channels by pairs of tokens. */
static void turn_keys(const struct chunk *c)
{
    for (int b = 0; b < ROW_BLOCKS; b++)
        for (int s = 0; s < c->steps; s++) {
            __m512i t[16];
            turn16(t, (const char *)c->k + (size_t)(16 * b) * c->qk_bytes + s * TILE_BYTES, c->qk_bytes);
            uint16_t *to = c->kT + (b * c->steps + s) * TILE_HALVES;
            for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * 32, t[i]);
        }
    for (int half = 0; half < 2; half++)
        for (int s = 0; s < c->steps; s++) {
            const uint16_t *first = c->kT + (2 * half * c->steps + s) * TILE_HALVES;
            const uint16_t *second = first + c->steps * TILE_HALVES;
            for (int p = 0; p < 16; p++) {
                const __m512i x = _mm512_load_si512(first + p * 32);
                const __m512i y = _mm512_load_si512(second + p * 32);
                uint16_t *to = c->k_out + ((2 * s + p / 8) * 2 + half) * TILE_HALVES + p % 8 * 64;
                _mm512_store_si512(to, _mm512_mask_mov_epi16(_mm512_slli_epi32(y, 16), 0x55555555, x));
                _mm512_store_si512(to + 32, _mm512_mask_mov_epi16(y, 0x55555555, _mm512_srli_epi32(x, 16)));
            }
        }
}

/* k.k and q.k of block b against blocks j and, where `two`, j + 1. */
TILE_INLINE void gram_blocks(const struct chunk *c, int b, int j, bool two)
{
    const size_t down = (size_t)(16 * b) * c->qk_bytes;
    const uint16_t *first = c->kT + j * c->steps * TILE_HALVES;
    float *to = c->gram + (b * 4 + j) * 2 * TILE_FLOATS;
    tiles_clear();
    for (int s = 0; s < c->steps; s++) {
        tile_load(4, (const char *)c->k + down + s * TILE_BYTES, c->qk_bytes);
        tile_load(5, (const char *)c->q + down + s * TILE_BYTES, c->qk_bytes);
        tile_load(6, first + s * TILE_HALVES, TILE_BYTES);
        tile_dp(0, 4, 6);
        tile_dp(1, 5, 6);
        if (!two) continue;
        tile_load(7, first + (c->steps + s) * TILE_HALVES, TILE_BYTES);
        tile_dp(2, 4, 7);
        tile_dp(3, 5, 7);
    }
    tile_store(0, to, TILE_BYTES);
    tile_store(1, to + TILE_FLOATS, TILE_BYTES);
    if (!two) return;
    tile_store(2, to + 2 * TILE_FLOATS, TILE_BYTES);
    tile_store(3, to + 3 * TILE_FLOATS, TILE_BYTES);
}

/* Products times decays: row i of `keep` is row i - 1 times e^g_i, with a new 1 on the diagonal. */
static void gate_grams(const struct chunk *c)
{
    __m512 keep[ROW_BLOCKS];
    for (int b = 0; b < ROW_BLOCKS; b++) {
        keep[b] = _mm512_setzero_ps();
        for (int i = 0; i < 16; i++) {
            const __m512 alpha = _mm512_set1_ps(c->alpha[16 * b + i]);
            const __mmask16 now = (__mmask16)(1u << i);
            __m512 l[ROW_BLOCKS], p[ROW_BLOCKS];
            for (int j = 0; j <= b; j++) {
                const float *gram = c->gram + (b * 4 + j) * 2 * TILE_FLOATS + i * 16;
                keep[j] = _mm512_mul_ps(keep[j], alpha);
                if (j == b) keep[j] = _mm512_mask_mov_ps(keep[j], now, _mm512_set1_ps(1.0f));
                l[j] = _mm512_mul_ps(keep[j], _mm512_load_ps(gram));
                p[j] = _mm512_mul_ps(keep[j], _mm512_load_ps(gram + TILE_FLOATS));
            }
            /* gated by 0 is not enough on and above the diagonal: 0 times inf */
            l[b] = _mm512_maskz_mov_ps((__mmask16)(now - 1), l[b]);
            p[b] = _mm512_maskz_mov_ps((__mmask16)(2 * now - 1), p[b]);
            place_row(c, b, i, l, p);
        }
    }
}

static void prepare_gate(const struct chunk *c)
{
    gate_decays(c);
    turn_keys(c);
    for (int b = 0; b < ROW_BLOCKS; b++)
        for (int j = 0; j <= b; j += 2) gram_blocks(c, b, j, j < b);
    gate_rows(c, c->k, c->k_in);
    gate_rows(c, c->q, c->q_in);
    gate_grams(c);
    make_inverse(c);
}

#endif
