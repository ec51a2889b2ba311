/* delta_backward_amx_pairs.h: what pairs of tokens of a chunk give to queries, keys, gates and
 * beta, and the gates' gradient from all its parts:
 *
 *     F = E U^T     dL = -beta F with decay, below the diagonal
 *     Z = dO U^T    dP = Z with decay, with the diagonal
 *     dg_l = <end S, G> + sum_{i>=l} used_i + sum_{j<l} left_j + sum_{i>=l>j} pair_ij */
#ifndef KERNELS_CPU_DELTA_BACKWARD_AMX_PAIRS_H
#define KERNELS_CPU_DELTA_BACKWARD_AMX_PAIRS_H

#include "kernels/cpu/delta_backward_amx_state.h"

/* ---- between tokens -------------------------------------------------------------------------- */

/* The squares of a chunk. */
struct squares {
    const float *tile, *decay, *L, *beta;
    float *P, *dL, *pairs, *wrote;
};

/* F and Z, row 16 b + t of columns 32 panel ..: dL, and dP over P, whose own use ends here; what
 * the pairs give to the gates between their tokens, and to beta of the row. */
TILE_INLINE void pair_row(struct squares s, int b, int panel, int t)
{
    const __m512 beta = _mm512_set1_ps(-s.beta[16 * b + t]);
    __m512 dL[2], dP[2], pairs[2], wrote = _mm512_load_ps(s.wrote + 16 * (16 * b + t));
    for (int n = 0; n < 2; n++) {
        const int j = 2 * panel + n, at = block_at(b, j) + 16 * t;
        dL[n] = dP[n] = pairs[n] = _mm512_setzero_ps();
        if (j > b) continue;
        const unsigned live = j < b ? 0xffff : (1u << t) - 1;
        const __m512 decay = _mm512_load_ps(s.decay + at), L = _mm512_load_ps(s.L + at);
        const __m512 F =
            _mm512_maskz_mov_ps((__mmask16)live, left_at(s.tile, 0, 16 * (b % 2) + t, n));
        const __m512 Z =
            _mm512_maskz_mov_ps((__mmask16)(2 * live + 1), left_at(s.tile, 1, 16 * (b % 2) + t, n));
        dL[n] = _mm512_mul_ps(F, beta);
        wrote = _mm512_fnmadd_ps(L, F, wrote);
        pairs[n] = _mm512_fmadd_ps(dL[n], L, _mm512_mul_ps(Z, _mm512_load_ps(s.P + at)));
        dL[n] = _mm512_mul_ps(dL[n], decay);
        dP[n] = _mm512_mul_ps(Z, decay);
    }
    _mm512_store_ps(s.wrote + 16 * (16 * b + t), wrote);
    for (int n = 0; n < 2; n++) {
        const int j = 2 * panel + n, at = block_at(b, j) + 16 * t;
        if (j > b) continue;
        _mm512_store_ps(s.pairs + at, pairs[n]);
        _mm512_store_ps(s.dL + at, dL[n]);
        _mm512_store_ps(s.P + at, dP[n]);
    }
}

/* dL and its transpose in one: what stands in the other triangle is added on the diagonal. */
static void pack_both(uint16_t *to, float *square, const float *turned)
{
    for (int b = 0; b < BLOCKS; b++)
        for (int j = b; j < BLOCKS; j++)
            for (int t = 0; t < 16; t++) {
                const int at = block_at(b, j) + 16 * t;
                const __m512 x = _mm512_load_ps(turned + at);
                _mm512_store_ps(square + at,
                                j > b ? x : _mm512_add_ps(x, _mm512_load_ps(square + at)));
            }
    for (int b = 0; b < BLOCKS; b++)
        for (int half = 0; half < 2; half++)
            for (int t = 0; t < 16; t++) {
                const float *at = square + block_at(b, 2 * half) + 16 * t;
                _mm512_store_si512(TILE_AT(to, 2 * b + half) + 32 * t,
                                   pack_pair(_mm512_load_ps(at), _mm512_load_ps(at + TILE_FLOATS)));
            }
}

static void make_pairs(const struct head *m)
{
    const struct squares squares = {m->tile, m->decay,  m->L,     m->beta,
                                    m->P,    m->square, m->pairs, m->wrote};
    turn_rows(m->u_turned, m->kept->u, m->vs);
    for (int half = 0; half < 2; half++)
        for (int panel = 0; panel <= half; panel++) {
            const uint16_t *u = TILE_AT(m->u_turned, panel * 2 * m->vs);
            tiles_product(m->tile, TILE_AT(m->du, 2 * half * m->vs), m->vs, u, m->vs);
            tiles_product(m->tile + 4 * TILE_FLOATS, TILE_AT(m->dout, 2 * half * m->vs), m->vs, u,
                          m->vs);
            for (int i = 0; i < HALF; i++) pair_row(squares, 2 * half + i / 16, panel, i % 16);
        }
    pack_lower(m->dP, m->P);
    turn_square(m->turned, m->P);
    pack_upper(m->dP_turned, m->turned);
    turn_square(m->turned, m->square);
    pack_both(m->dL, m->square, m->turned);
}

/* ---- of the gates and beta ------------------------------------------------------------------- */

/* <S, G> of the operands, which lie alike. */
static float meet_states(const struct head *m)
{
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
    const uint16_t *S = m->kept->S, *G = m->G_across;
    for (int i = 0; i < 2 * m->ks * m->vs * 16; i += 4)
        for (int n = 0; n < 4; n++)
            sum[n] = _mm512_dpbf16_ps(sum[n], (__m512bh)_mm512_load_si512(S + 32 * (i + n)),
                                      (__m512bh)_mm512_load_si512(G + 32 * (i + n)));
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

/* passed[l]: the pairs i >= l > j, as 16 lanes. */
TILE_INLINE void pass_block(float *passed, const float *pairs, int b, __m512 *sum)
{
    for (int t = 15; t >= 0; t--) {
        __m512 all = _mm512_setzero_ps();
        for (int j = 0; j <= b; j++) {
            const float *at = pairs + block_at(b, j) + 16 * t;
            sum[j] = _mm512_add_ps(sum[j], _mm512_load_ps(at));
            const __mmask16 before = (__mmask16)(j < b ? 0xffff : (1u << t) - 1);
            all = _mm512_mask_add_ps(all, before, all, sum[j]);
        }
        _mm512_store_ps(passed + 16 * (16 * b + t), all);
    }
}

/* Sums of the lanes of 64 rows. */
static void meet_lanes(float *to, const float *rows)
{
    for (int i = 0; i < CHUNK; i += 16) {
        __m512i t[16];
        turn16(t, rows + 16 * i, TILE_BYTES);
        for (int n = 8; n > 0; n /= 2)
            for (int k = 0; k < n; k++)
                t[k] = _mm512_castps_si512(
                    _mm512_add_ps(_mm512_castsi512_ps(t[k]), _mm512_castsi512_ps(t[k + n])));
        _mm512_store_si512(to + i, t[0]);
    }
}

static void add_each(const struct head *m, const struct tensor *grad, const float *x)
{
    for (int i = 0; grad && i < m->count; i++) *(float *)row_of(grad, m->row + i, m->h) += x[i];
}

/* The gate of token l: what is left of the state, what of it is used at l or later, what was
 * written before l and is left at the end, pairs of a token before l with one at l or later. Each
 * with its decay and nothing subtracted. */
static void finish_gates(const struct head *m)
{
    float *used = m->sums, *left = used + CHUNK, *passed = left + CHUNK, *wrote = passed + CHUNK;
    __m512 sum[BLOCKS] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                          _mm512_setzero_ps()};
    pass_block(m->passed, m->pairs, 3, sum);
    pass_block(m->passed, m->pairs, 2, sum);
    pass_block(m->passed, m->pairs, 1, sum);
    pass_block(m->passed, m->pairs, 0, sum);
    meet_lanes(used, m->used);
    meet_lanes(left, m->left);
    meet_lanes(passed, m->passed);
    meet_lanes(wrote, m->wrote);
    float before = m->since[CHUNK - 1] * meet_states(m), after = 0.0f;
    for (int i = 0; i < CHUNK; i++) {
        passed[i] += before;
        before += left[i];
    }
    for (int i = CHUNK - 1; i >= 0; i--) {
        after += used[i];
        passed[i] += after;
    }
    add_each(m, m->a->g->grad, passed);
    add_each(m, m->a->beta->grad, wrote);
}

#endif
