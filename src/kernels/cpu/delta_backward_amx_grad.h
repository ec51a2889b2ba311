/* delta_backward_amx_grad.h: the way back through a chunk. With G the gradient of the state after
 * it, S the state before it, U what its tokens wrote:
 *
 *     dN = until (K G) + P^T dO       E = (I + beta L)^-T dN       dv = beta E
 *     F = E U^T     dL = -beta F with decay, below the diagonal
 *     Z = dO U^T    dP = Z with decay, with the diagonal
 *     dq = since (dO S^T) + dP K
 *     dk = until (U G^T) - since beta (E S^T) + (dL + dL^T) K + dP^T Q
 *     G  = end G + Q^T (since dO) - K^T (since beta E)
 *     dbeta_i = E_i . W_i - sum_j L_ij F_ij */
#ifndef KERNELS_CPU_DELTA_BACKWARD_AMX_GRAD_H
#define KERNELS_CPU_DELTA_BACKWARD_AMX_GRAD_H

#include "kernels/cpu/delta_backward_amx_pairs.h"

/* 32 entries of a token's gradient, to be added to its tensor row by row: rows of a tensor may lie
 * a power of two apart, and 64 of them at once have no place in L1. */
TILE_INLINE void put_pair(struct side s, int row, const __m512 *x)
{
    float *to = s.grad + row * s.wide;
    expect_write(to + AHEAD * s.wide);
    expect_write(to + AHEAD * s.wide + 16);
    _mm512_store_ps(to, x[0]);
    _mm512_store_ps(to + 16, x[1]);
}

/* m->rows to the tokens' rows of a gradient. */
static void add_rows(const struct head *m, const struct tensor *grad, int64_t head, int steps)
{
    const float *from = m->rows;
    for (int i = 0; grad && i < m->count; i++, from += rows_wide(steps)) {
        float *to = (float *)row_of(grad, m->row + i, head);
        for (int c = 0; c < 32 * steps; c += 16)
            _mm512_storeu_ps(to + c,
                             _mm512_add_ps(_mm512_loadu_ps(to + c), _mm512_load_ps(from + c)));
    }
}

TILE_INLINE void side_grad(struct side *s, const struct head *m, int half, int panel, int steps)
{
    s->wide = rows_wide(steps);
    s->grad = m->rows + HALF * half * s->wide + WIDE * panel;
}

/* sum + x . the 32 entries in a row of pairs. */
TILE_INLINE __m512 plus_dot(__m512 sum, const __m512 *x, __m512i pairs)
{
    return _mm512_fmadd_ps(x[1], high_of(pairs), _mm512_fmadd_ps(x[0], low_of(pairs), sum));
}

/* ---- through the solve ----------------------------------------------------------------------- */

TILE_INLINE void multiply_dn(const struct head *m, int half, int panel, float *to)
{
    tiles_product(to, TILE_AT(m->k, 2 * half * m->ks), m->ks, TILE_AT(m->G_down, panel * m->ks * 2),
                  m->ks);
    tiles_product(to + 4 * TILE_FLOATS, TILE_AT(m->P_turned, 5 * half), 2,
                  TILE_AT(m->dout_on, (2 * panel + half) * 2), 2 - half);
}

TILE_INLINE struct side prepare_dn(const struct head *m, int half, int panel)
{
    return (struct side){.tile = m->tile,
                         .by = {m->until + HALF * half},
                         .in = TILE_AT(m->kept->u, 2 * half * m->vs + panel),
                         .out = {TILE_AT(m->u_out, 2 * half * m->vs + panel)},
                         .apart = m->vs * TILE_HALVES,
                         .on = TILE_AT(m->x_on, (2 * panel + half) * 2),
                         .lanes = {m->left + 16 * HALF * half}};
}

TILE_INLINE void side_dn(struct side s, int t)
{
    __m512 x[2][2], u[2][2], left[2];
    for (int r = 0; r < 2; r++) {
        const int row = 16 * r + t;
        const __m512 until = _mm512_set1_ps(s.by[0][row]);
        const __m512i pairs = _mm512_load_si512(s.in + r * s.apart + 32 * t);
        for (int n = 0; n < 2; n++) x[r][n] = _mm512_mul_ps(until, left_at(s.tile, 0, row, n));
        left[r] = plus_dot(_mm512_load_ps(s.lanes[0] + 16 * row), x[r], pairs);
        for (int n = 0; n < 2; n++) x[r][n] = _mm512_add_ps(x[r][n], left_at(s.tile, 1, row, n));
        u[r][0] = _mm512_mul_ps(until, low_of(pairs));
        u[r][1] = _mm512_mul_ps(until, high_of(pairs));
    }
    expect_pairs(s.out[0], s.apart, t);
    expect_pairs(s.on, TILE_HALVES, t);
    for (int i = 0; i < 2; i++) {
        _mm512_store_si512(s.out[0] + i * s.apart + 32 * t, pack_pair(u[i][0], u[i][1]));
        _mm512_store_si512(TILE_AT(s.on, i) + 32 * t, pack_pair(x[0][i], x[1][i]));
        _mm512_store_ps(s.lanes[0] + 16 * (16 * i + t), left[i]);
    }
}

TILE_INLINE void multiply_du(const struct head *m, int half, int panel, float *to)
{
    tiles_product(to, TILE_AT(m->kept->back, 5 * half), 2, TILE_AT(m->x_on, (2 * panel + half) * 2),
                  2 - half);
}

TILE_INLINE struct side prepare_du(const struct head *m, int half, int panel)
{
    const int at = 2 * half * m->vs + panel;
    struct side s = {.tile = m->tile,
                     .by = {m->beta + HALF * half, m->since + HALF * half},
                     .in = TILE_AT(m->kept->read, at),
                     .out = {TILE_AT(m->du, at), TILE_AT(m->du_in, at)},
                     .apart = m->vs * TILE_HALVES,
                     .on = TILE_AT(m->y_on, (2 * panel + half) * 2),
                     .lanes = {m->wrote + 16 * HALF * half, m->used + 16 * HALF * half}};
    side_values(&s, m, half, panel);
    side_grad(&s, m, half, panel, m->vs);
    return s;
}

TILE_INLINE void du_rows(struct side s, int t, enum dtype dtype)
{
    __m512 e[2][2], dv[2][2], y[2][2], wrote[2], used[2];
    for (int r = 0; r < 2; r++) {
        const int row = 16 * r + t;
        const __m512 beta = _mm512_set1_ps(s.by[0][row]), since = _mm512_set1_ps(-s.by[1][row]);
        const __m512i pairs = _mm512_load_si512(s.in + r * s.apart + 32 * t);
        const __m512 read[2] = {low_of(pairs), high_of(pairs)};
        wrote[r] = _mm512_load_ps(s.lanes[0] + 16 * row);
        used[r] = _mm512_load_ps(s.lanes[1] + 16 * row);
        for (int n = 0; n < 2; n++) {
            e[r][n] = left_at(s.tile, 0, row, n);
            dv[r][n] = _mm512_mul_ps(beta, e[r][n]);
            y[r][n] = _mm512_mul_ps(since, dv[r][n]);
            const __m512 w = _mm512_sub_ps(value_at(s, dtype, row, n), read[n]);
            wrote[r] = _mm512_fmadd_ps(e[r][n], w, wrote[r]);
            used[r] = _mm512_fnmadd_ps(dv[r][n], read[n], used[r]);
        }
    }
    expect_pairs(s.out[0], s.apart, t);
    expect_pairs(s.out[1], s.apart, t);
    expect_pairs(s.on, TILE_HALVES, t);
    for (int i = 0; i < 2; i++) {
        _mm512_store_si512(s.out[0] + i * s.apart + 32 * t, pack_pair(e[i][0], e[i][1]));
        _mm512_store_si512(s.out[1] + i * s.apart + 32 * t, pack_pair(y[i][0], y[i][1]));
        _mm512_store_si512(TILE_AT(s.on, i) + 32 * t, pack_pair(y[0][i], y[1][i]));
        _mm512_store_ps(s.lanes[0] + 16 * (16 * i + t), wrote[i]);
        _mm512_store_ps(s.lanes[1] + 16 * (16 * i + t), used[i]);
        put_pair(s, 16 * i + t, dv[i]);
    }
}

TILE_INLINE void side_du_f32(struct side s, int t) { du_rows(s, t, DTYPE_F32); }
TILE_INLINE void side_du_bf16(struct side s, int t) { du_rows(s, t, DTYPE_BF16); }

/* ---- of queries and keys --------------------------------------------------------------------- */

TILE_INLINE void multiply_dq(const struct head *m, int half, int panel, float *to)
{
    tiles_product(to, TILE_AT(m->dout, 2 * half * m->vs), m->vs,
                  TILE_AT(m->kept->S, panel * m->vs * 2), m->vs);
    tiles_product(to + 4 * TILE_FLOATS, TILE_AT(m->dP, 4 * half), 2, TILE_AT(m->k_on, panel * 4),
                  half + 1);
}

TILE_INLINE struct side prepare_dq(const struct head *m, int half, int panel)
{
    struct side s = {.tile = m->tile,
                     .by = {m->since + HALF * half},
                     .in = TILE_AT(m->q, 2 * half * m->ks + panel),
                     .apart = m->ks * TILE_HALVES,
                     .lanes = {m->used + 16 * HALF * half}};
    side_grad(&s, m, half, panel, m->ks);
    return s;
}

TILE_INLINE void side_dq(struct side s, int t)
{
    __m512 x[2][2], dq[2][2], sum[2];
    for (int r = 0; r < 2; r++) {
        const int row = 16 * r + t;
        for (int n = 0; n < 2; n++) {
            x[r][n] = _mm512_mul_ps(_mm512_set1_ps(s.by[0][row]), left_at(s.tile, 0, row, n));
            dq[r][n] = _mm512_add_ps(x[r][n], left_at(s.tile, 1, row, n));
        }
        sum[r] = plus_dot(_mm512_load_ps(s.lanes[0] + 16 * row), x[r],
                          _mm512_load_si512(s.in + r * s.apart + 32 * t));
    }
    for (int r = 0; r < 2; r++) {
        _mm512_store_ps(s.lanes[0] + 16 * (16 * r + t), sum[r]);
        put_pair(s, 16 * r + t, dq[r]);
    }
}

/* All of dk is one sum, which the tiles leave where it belongs. */
TILE_INLINE void multiply_dk(const struct head *m, int half, int panel)
{
    const int64_t wide = rows_wide(m->ks);
    const size_t row = (size_t)wide * sizeof(float);
    float *to = m->rows + HALF * half * wide + WIDE * panel, *low = to + 16 * wide;
    tiles_clear();
    tiles_add(TILE_AT(m->u_out, 2 * half * m->vs), m->vs, TILE_AT(m->G_across, panel * m->vs * 2),
              m->vs);
    tiles_add(TILE_AT(m->du_in, 2 * half * m->vs), m->vs, TILE_AT(m->kept->S, panel * m->vs * 2),
              m->vs);
    tiles_add(TILE_AT(m->dL, 4 * half), 2, TILE_AT(m->k_on, panel * 4), 2);
    tiles_add(TILE_AT(m->dP_turned, 5 * half), 2, TILE_AT(m->q_on, (2 * panel + half) * 2),
              2 - half);
    tile_store(0, to, row);
    tile_store(1, to + 16, row);
    tile_store(2, low, row);
    tile_store(3, low + 16, row);
}

/* ---- of the state ---------------------------------------------------------------------------- */

TILE_INLINE void multiply_gradient(const struct head *m, int half, int panel, float *to)
{
    tiles_clear();
    tiles_add(TILE_AT(m->q_down, 4 * half), 2, TILE_AT(m->dout_in, panel * 4), 2);
    tiles_add(TILE_AT(m->k_down, 4 * half), 2, TILE_AT(m->y_on, panel * 4), 2);
    tiles_leave(to);
}

TILE_INLINE struct side prepare_gradient(const struct head *m, int half, int panel)
{
    return state_side(m, m->G, m->G_down, m->G_across, half, panel);
}

/* ---- a chunk --------------------------------------------------------------------------------- */

/* q, k, do as operands; the squares. */
static void chunk_load(const struct head *m)
{
    pack_rows(m->k, m->a->k, m, m->kh, m->ks);
    pack_rows(m->q, m->a->q, m, m->kh, m->ks);
    turn_rows(m->k_turned, m->q, m->ks);
    pair_columns(m->q_down, m->k_turned, m->ks);
    turn_rows(m->k_turned, m->k, m->ks);
    pair_columns(m->k_down, m->k_turned, m->ks);
    pair_tokens(m->q_on, m->q, m->ks);
    pair_tokens(m->k_on, m->k, m->ks);
    make_decays(m);
    make_square(m, m->L, m->k, false);
    make_square(m, m->P, m->q, true);
    turn_square(m->turned, m->P);
    pack_upper(m->P_turned, m->turned);
}

static void load_dout(const struct head *m)
{
    const struct tensor *dout = m->a->o->grad;
    if (dout)
        pack_rows(m->dout, dout, m, m->h, m->vs);
    else
        memset(m->dout, 0, (size_t)(BLOCKS * m->vs) * TILE_SIZE);
    pair_tokens(m->dout_on, m->dout, m->vs);
    const uint16_t *from = m->dout_on;
    uint16_t *to = m->dout_in;
    for (int tile = 0; tile < BLOCKS * m->vs; tile++)
        for (int t = 0; t < 16; t++, from += 32, to += 32) {
            const float *since = m->since + HALF * (tile / 2 % 2) + t;
            const __m512i x = _mm512_load_si512(from);
            _mm512_store_si512(to, pack_pair(_mm512_mul_ps(low_of(x), _mm512_set1_ps(since[0])),
                                             _mm512_mul_ps(high_of(x), _mm512_set1_ps(since[16]))));
        }
}

/* The products; all is inlined, so that sizes in `m` may be constants. */
TILE_INLINE void back_through(const struct head *m, const struct head *all)
{
    const struct delta_args *a = all->a;
    const int64_t row = all->row, before = row - CHUNK;
    call_rows(all, a->v->grad, row, all->h);
    run_stage(m, 2, m->vs, multiply_dn, prepare_dn, side_dn);
    call_rows(all, a->q->grad, row, all->kh);
    if (all->a->v->dtype == DTYPE_F32)
        run_stage(m, 2, m->vs, multiply_du, prepare_du, side_du_f32);
    else
        run_stage(m, 2, m->vs, multiply_du, prepare_du, side_du_bf16);
    add_rows(all, a->v->grad, all->h, all->vs);
    call_rows(all, a->k->grad, row, all->kh);
    make_pairs(all);
    call_rows(all, a->k, before, all->kh);
    run_stage(m, 2, m->ks, multiply_dq, prepare_dq, side_dq);
    add_rows(all, a->q->grad, all->kh, all->ks);
    call_rows(all, a->q, before, all->kh);
    for (int i = 0; i < 2 * m->ks; i++) multiply_dk(m, i % 2, i / 2);
    add_rows(all, a->k->grad, all->kh, all->ks);
    call_rows(all, a->o->grad, before, all->h);
    finish_gates(all);
    call_rows(all, a->v, before, all->h);
    run_stage(m, m->ks, m->vs, multiply_gradient, prepare_gradient, side_state);
}

static void chunk_backward(const struct head *m)
{
    struct head usual = *m;
    usual.ks = usual.vs = USUAL;
    chunk_load(m);
    load_dout(m);
    memset(m->used, 0, sizeof(float) * 16 * CHUNK);
    memset(m->left, 0, sizeof(float) * 16 * CHUNK);
    memset(m->wrote, 0, sizeof(float) * 16 * CHUNK);
    if (m->ks == USUAL && m->vs == USUAL)
        back_through(&usual, m);
    else
        back_through(m, m);
}

#endif
