/* delta_backward_amx_state.h: the way forward of the AMX backward: what each chunk writes, and the
 * state before it. The state and its gradient as operands.
 *
 *     w = v - since (K S)     u = (I + beta L)^-1 (beta w)     S = end S + K^T (until u) */
#ifndef KERNELS_CPU_DELTA_BACKWARD_AMX_STATE_H
#define KERNELS_CPU_DELTA_BACKWARD_AMX_STATE_H

#include "kernels/cpu/delta_backward_amx_gate.h"

/* ---- the state and its gradient -------------------------------------------------------------- */

/* Rows t and t + 16 of 32 channels of a strip to both operands; the second one needs 16 rows before
 * it can turn them. */
TILE_INLINE void state_rows(struct side s, const __m512 x[2][2], int t)
{
    for (int i = 0; i < 2; i++) {
        _mm512_store_si512(TILE_AT(s.on, i) + 32 * t, pack_pair(x[0][i], x[1][i]));
        _mm512_store_si512(TILE_AT(s.aside, i) + 32 * t, pack_pair(x[i][0], x[i][1]));
    }
    expect_pairs(s.on, TILE_HALVES, t);
    if (t < 15) return;
    for (int i = 0; i < 2; i++) turn_tile(TILE_AT(s.across, i), TILE_AT(s.aside, i));
}

/* S = end S + what the product left. */
TILE_INLINE void side_state(struct side s, int t)
{
    const __m512 end = _mm512_set1_ps(s.end);
    float *at = s.S + t * WIDE;
    __m512 x[2][2];
    for (int r = 0; r < 2; r++)
        for (int n = 0; n < 2; n++)
            x[r][n] = _mm512_fmadd_ps(_mm512_load_ps(at + 16 * r * WIDE + 16 * n), end,
                                      left_at(s.tile, 0, 16 * r + t, n));
    for (int r = 0; r < 2; r++)
        for (int n = 0; n < 2; n++) _mm512_store_ps(at + 16 * r * WIDE + 16 * n, x[r][n]);
    state_rows(s, x, t);
}

TILE_INLINE struct side state_side(const struct head *m, float *S, uint16_t *down, uint16_t *across,
                                   int step, int strip)
{
    return (struct side){.tile = m->tile,
                         .S = S + (strip * m->ks + step) * 32 * WIDE,
                         .end = m->since[CHUNK - 1],
                         .on = TILE_AT(down, (strip * m->ks + step) * 2),
                         .aside = m->aside,
                         .across = TILE_AT(across, (step * m->vs + strip) * 2)};
}

static void pack_state(const struct head *m, float *S, uint16_t *down, uint16_t *across)
{
    for (int strip = 0; strip < m->vs; strip++)
        for (int step = 0; step < m->ks; step++) {
            const struct side s = state_side(m, S, down, across, step, strip);
            for (int t = 0; t < 16; t++) {
                __m512 x[2][2];
                for (int r = 0; r < 2; r++)
                    for (int n = 0; n < 2; n++)
                        x[r][n] = _mm512_load_ps(s.S + (16 * r + t) * WIDE + 16 * n);
                state_rows(s, x, t);
            }
        }
}

/* 16 x 16 of a dense state [Dv][Dk] to or from strips. */
static void load_state(const struct head *m, float *S, const struct tensor *t)
{
    const int Dk = 32 * m->ks, Dv = 32 * m->vs;
    memset(S, 0, sizeof(float) * (size_t)(Dk * Dv));
    for (int c = 0; t && c < Dv; c += 16)
        for (int d = 0; d < Dk; d += 16) {
            float *block = m->tile;
            __m512i turned[16];
            for (int i = 0; i < 16; i++)
                cpu_load_row(block + 16 * i,
                             tensor_at(t, m->b * t->stride[0] + m->h * t->stride[1] +
                                              (c + i) * t->stride[2] + d),
                             t->dtype, 16);
            turn16(turned, block, TILE_BYTES);
            for (int i = 0; i < 16; i++)
                _mm512_store_si512(S + (c / WIDE * Dk + d + i) * WIDE + c % WIDE, turned[i]);
        }
}

static void add_state(const struct head *m, const struct tensor *t, const float *S)
{
    const int Dk = 32 * m->ks, Dv = 32 * m->vs;
    for (int c = 0; t && c < Dv; c += 16)
        for (int d = 0; d < Dk; d += 16) {
            __m512i turned[16];
            turn16(turned, S + (c / WIDE * Dk + d) * WIDE + c % WIDE, WIDE * sizeof(float));
            for (int i = 0; i < 16; i++) {
                float *to = tensor_at(t, m->b * t->stride[0] + m->h * t->stride[1] +
                                             (c + i) * t->stride[2] + d);
                _mm512_storeu_ps(
                    to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_castsi512_ps(turned[i])));
            }
        }
}

/* ---- what a chunk writes --------------------------------------------------------------------- */

TILE_INLINE void multiply_w(const struct head *m, int half, int panel, float *to)
{
    tiles_product(to, TILE_AT(m->k, 2 * half * m->ks), m->ks, TILE_AT(m->S_down, panel * m->ks * 2),
                  m->ks);
}

TILE_INLINE struct side prepare_w(const struct head *m, int half, int panel)
{
    struct side s = {.tile = m->tile,
                     .by = {m->since + HALF * half, m->beta + HALF * half},
                     .out = {TILE_AT(m->kept->read, 2 * half * m->vs + panel)},
                     .apart = m->vs * TILE_HALVES,
                     .on = TILE_AT(m->x_on, (2 * panel + half) * 2)};
    side_values(&s, m, half, panel);
    return s;
}

TILE_INLINE void w_rows(struct side s, int t, enum dtype dtype)
{
    __m512 read[2][2], x[2][2];
    for (int r = 0; r < 2; r++)
        for (int n = 0; n < 2; n++) {
            const int row = 16 * r + t;
            const __m512 beta = _mm512_set1_ps(s.by[1][row]);
            read[r][n] = _mm512_mul_ps(_mm512_set1_ps(s.by[0][row]), left_at(s.tile, 0, row, n));
            x[r][n] = _mm512_mul_ps(beta, _mm512_sub_ps(value_at(s, dtype, row, n), read[r][n]));
        }
    expect_pairs(s.out[0], s.apart, t);
    expect_pairs(s.on, TILE_HALVES, t);
    for (int i = 0; i < 2; i++) {
        _mm512_store_si512(s.out[0] + i * s.apart + 32 * t, pack_pair(read[i][0], read[i][1]));
        _mm512_store_si512(TILE_AT(s.on, i) + 32 * t, pack_pair(x[0][i], x[1][i]));
    }
}

TILE_INLINE void side_w_f32(struct side s, int t) { w_rows(s, t, DTYPE_F32); }
TILE_INLINE void side_w_bf16(struct side s, int t) { w_rows(s, t, DTYPE_BF16); }

TILE_INLINE void multiply_u(const struct head *m, int half, int panel, float *to)
{
    tiles_product(to, TILE_AT(m->solve, 4 * half), 2, TILE_AT(m->x_on, panel * 4), half + 1);
}

TILE_INLINE struct side prepare_u(const struct head *m, int half, int panel)
{
    return (struct side){.tile = m->tile,
                         .by = {m->until + HALF * half},
                         .out = {TILE_AT(m->kept->u, 2 * half * m->vs + panel)},
                         .apart = m->vs * TILE_HALVES,
                         .on = TILE_AT(m->y_on, (2 * panel + half) * 2)};
}

TILE_INLINE void side_u(struct side s, int t)
{
    __m512 u[2][2], x[2][2];
    for (int r = 0; r < 2; r++)
        for (int n = 0; n < 2; n++) {
            u[r][n] = left_at(s.tile, 0, 16 * r + t, n);
            x[r][n] = _mm512_mul_ps(_mm512_set1_ps(s.by[0][16 * r + t]), u[r][n]);
        }
    expect_pairs(s.out[0], s.apart, t);
    expect_pairs(s.on, TILE_HALVES, t);
    for (int i = 0; i < 2; i++) {
        _mm512_store_si512(s.out[0] + i * s.apart + 32 * t, pack_pair(u[i][0], u[i][1]));
        _mm512_store_si512(TILE_AT(s.on, i) + 32 * t, pack_pair(x[0][i], x[1][i]));
    }
}

TILE_INLINE void multiply_state(const struct head *m, int half, int panel, float *to)
{
    tiles_product(to, TILE_AT(m->k_down, 4 * half), 2, TILE_AT(m->y_on, panel * 4), 2);
}

TILE_INLINE struct side prepare_state(const struct head *m, int half, int panel)
{
    return state_side(m, m->S, m->S_down, m->kept[1].S, half, panel);
}

/* The products; all is inlined, so that sizes in `m` may be constants. */
TILE_INLINE void write_through(const struct head *m, const struct head *all, bool more)
{
    call_rows(all, all->a->k, all->row + CHUNK, all->kh);
    if (all->a->v->dtype == DTYPE_F32)
        run_stage(m, 2, m->vs, multiply_w, prepare_w, side_w_f32);
    else
        run_stage(m, 2, m->vs, multiply_w, prepare_w, side_w_bf16);
    call_rows(all, all->a->v, all->row + CHUNK, all->h);
    run_stage(m, 2, m->vs, multiply_u, prepare_u, side_u);
    if (!more) return;
    pair_columns(m->k_down, m->k_turned, m->ks);
    run_stage(m, m->ks, m->vs, multiply_state, prepare_state, side_state);
}

/* Forward through the chunk; the state after it where there is another one. */
static void chunk_forward(const struct head *m, bool more)
{
    struct head usual = *m;
    usual.ks = usual.vs = USUAL;
    pack_rows(m->k, m->a->k, m, m->kh, m->ks);
    turn_rows(m->k_turned, m->k, m->ks);
    make_decays(m);
    make_square(m, m->L, m->k, false);
    make_inverse(m, m->kept);
    if (m->ks == USUAL && m->vs == USUAL)
        write_through(&usual, m, more);
    else
        write_through(m, m, more);
}

#endif
