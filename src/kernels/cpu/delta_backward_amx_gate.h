/* delta_backward_amx_gate.h: keys, queries and gates of a chunk: operands, decays, the squares of
 * products with decay, and (I + beta L)^-1, in f32.
 *
 * Every decay is a product of factors e^g made by multiplying on from row to row: nothing
 * overflows, and no decay is the exponential of a difference of large sums. */
#ifndef KERNELS_CPU_DELTA_BACKWARD_AMX_GATE_H
#define KERNELS_CPU_DELTA_BACKWARD_AMX_GATE_H

#include "kernels/cpu/delta_backward_amx_chunk.h"

/* One number a token, 0 after the chunk's last. */
static void load_each(float *to, const struct tensor *t, const struct head *m)
{
    const int64_t next = t->stride[0] * (int64_t)dtype_size(t->dtype);
    const char *from = row_of(t, m->row, m->h);
    for (int i = 0; i < m->count; i++, from += next)
        if (t->dtype == DTYPE_F32)
            memcpy(to + i, from, sizeof *to);
        else
            cpu_load_row(to + i, from, t->dtype, 1);
    for (int i = m->count; i < CHUNK; i++) to[i] = 0.0f;
}

static void load_gates(const struct head *m)
{
    float *alpha = m->alpha, *all_since = m->since, *all_until = m->until;
    float since = 1.0f, until = 1.0f;
    load_each(m->beta, m->a->beta, m);
    load_each(alpha, m->a->g, m);
    for (int i = 0; i < CHUNK; i++) alpha[i] = cpu_expf(alpha[i]);
    for (int i = 0; i < CHUNK; i++) {
        since *= alpha[i];
        all_since[i] = since;
        all_until[CHUNK - 1 - i] = until;
        until *= alpha[CHUNK - 1 - i];
    }
}

/* Row i of the decays is row i - 1 times e^g_i, with a new 1 on the diagonal. */
TILE_INLINE void decay_block(float *decay, const float *alphas, int b, __m512 *keep)
{
    keep[b] = _mm512_setzero_ps();
    for (int t = 0; t < 16; t++) {
        const __m512 alpha = _mm512_set1_ps(alphas[16 * b + t]);
        for (int j = 0; j <= b; j++) {
            keep[j] = _mm512_mul_ps(keep[j], alpha);
            if (j == b)
                keep[j] = _mm512_mask_mov_ps(keep[j], (__mmask16)(1u << t), _mm512_set1_ps(1.0f));
            _mm512_store_ps(decay + block_at(b, j) + 16 * t, keep[j]);
        }
    }
}

static void make_decays(const struct head *m)
{
    __m512 keep[BLOCKS];
    load_gates(m);
    decay_block(m->decay, m->alpha, 0, keep);
    decay_block(m->decay, m->alpha, 1, keep);
    decay_block(m->decay, m->alpha, 2, keep);
    decay_block(m->decay, m->alpha, 3, keep);
}

/* ---- squares --------------------------------------------------------------------------------- */

/* Rows t and t + 16 of half a square times their decays; the diagonal belongs to it or not. A gate
 * of 0 is not enough above it: 0 times inf. */
TILE_INLINE void gate_rows(const float *tile, const float *decay, float *to, int half, int panel,
                           int t, bool diagonal)
{
    __m512 x[4];
    for (int i = 0; i < 4; i++) {
        const int b = 2 * half + i / 2, j = 2 * panel + i % 2;
        const __mmask16 live = (__mmask16)(j < b ? 0xffff : (1 << (t + diagonal)) - 1);
        x[i] = left_at(tile, 0, 16 * (i / 2) + t, i % 2);
        if (j <= b)
            x[i] = _mm512_maskz_mul_ps(live, x[i], _mm512_load_ps(decay + block_at(b, j) + 16 * t));
    }
    for (int i = 0; i < 4; i++) {
        const int b = 2 * half + i / 2, j = 2 * panel + i % 2;
        if (j <= b) _mm512_store_ps(to + block_at(b, j) + 16 * t, x[i]);
    }
}

/* The lower half of rows . keys^T, with decay. */
static void make_square(const struct head *m, float *to, const uint16_t *rows, bool diagonal)
{
    const float *decay = m->decay;
    float *tile = m->tile;
    for (int half = 0; half < 2; half++)
        for (int panel = 0; panel <= half; panel++) {
            tiles_product(tile, TILE_AT(rows, 2 * half * m->ks), m->ks,
                          TILE_AT(m->k_turned, panel * 2 * m->ks), m->ks);
            for (int t = 0; t < 16; t++) gate_rows(tile, decay, to, half, panel, t, diagonal);
        }
}

/* ---- the inverse ----------------------------------------------------------------------------- */

/* The diagonal blocks of (I + beta L)^-1 by substitution, row t of all four at a time: no power of
 * L is formed, so that repeated keys with beta near 2 stay harmless. */
static void invert_diagonal(float *inverse, const float *L, const float *betas)
{
    enum { NEXT = SQUARE_ROW + TILE_FLOATS };
    for (int t = 0; t < 16; t++) {
        __m512 x[BLOCKS];
        for (int b = 0; b < BLOCKS; b++) x[b] = _mm512_setzero_ps();
        for (int j = 0; j < t; j++)
            for (int b = 0; b < BLOCKS; b++)
                x[b] = _mm512_fmadd_ps(_mm512_set1_ps(L[b * NEXT + 16 * t + j]),
                                       _mm512_load_ps(inverse + b * NEXT + 16 * j), x[b]);
        for (int b = 0; b < BLOCKS; b++) {
            const __m512 one = _mm512_maskz_mov_ps((__mmask16)(1u << t), _mm512_set1_ps(1.0f));
            _mm512_store_ps(inverse + b * NEXT + 16 * t,
                            _mm512_fnmadd_ps(_mm512_set1_ps(betas[16 * b + t]), x[b], one));
        }
    }
}

enum { GROUP = 8 }; /* rows whose sums stay in registers */

/* sum[r] += a[r][.] b, 16 columns of each; rows of a and b are 16 floats. */
TILE_INLINE void multiply_rows(__m512 *sum, const float *a, const float *b)
{
    for (int j = 0; j < 16; j++) {
        const __m512 row = _mm512_load_ps(b + 16 * j);
        for (int r = 0; r < GROUP; r++)
            sum[r] = _mm512_fmadd_ps(_mm512_set1_ps(a[16 * r + j]), row, sum[r]);
    }
}

/* Block (b, c) below the diagonal: -inverse(b, b) beta (sum over k of L(b, k) inverse(k, c)). */
TILE_INLINE void invert_block(float *inverse, const float *L, const float *betas, int b, int c)
{
    _Alignas(64) float sums[TILE_FLOATS];
    for (int first = 0; first < 16; first += GROUP) {
        __m512 sum[GROUP];
        for (int r = 0; r < GROUP; r++) sum[r] = _mm512_setzero_ps();
        for (int k = c; k < b; k++)
            multiply_rows(sum, L + block_at(b, k) + 16 * first, inverse + block_at(k, c));
        for (int r = 0; r < GROUP; r++) {
            const __m512 beta = _mm512_set1_ps(-betas[16 * b + first + r]);
            _mm512_store_ps(sums + 16 * (first + r), _mm512_mul_ps(beta, sum[r]));
        }
    }
    for (int first = 0; first < 16; first += GROUP) {
        __m512 sum[GROUP];
        for (int r = 0; r < GROUP; r++) sum[r] = _mm512_setzero_ps();
        multiply_rows(sum, inverse + block_at(b, b) + 16 * first, sums);
        for (int r = 0; r < GROUP; r++)
            _mm512_store_ps(inverse + block_at(b, c) + 16 * (first + r), sum[r]);
    }
}

static void make_inverse(const struct head *m, const struct kept *kept)
{
    invert_diagonal(m->inverse, m->L, m->beta);
    for (int b = 1; b < BLOCKS; b++)
        for (int c = 0; c < b; c++) invert_block(m->inverse, m->L, m->beta, b, c);
    pack_lower(m->solve, m->inverse);
    turn_square(m->turned, m->inverse);
    pack_upper(kept->back, m->turned);
}

#endif
