/* delta_amx_strip.h: one chunk against strips of 32 value columns, given its coefficients.
 *
 * Per half chunk h, with Kd, Qd the rows decayed from the chunk's start:
 *
 *     W = V - Kd S - L X0 (h = 1)     X = A W     O = Qd S + P X
 *     S = decay S + Kout X
 *
 * Operations on tiles alternate between two strips, and beside each one the vector units pack what
 * the one before it left: X(strip 0) beside tiles of strip 1 and so on. Program order alone makes
 * it correct. */
#ifndef KERNELS_CPU_DELTA_AMX_STRIP_H
#define KERNELS_CPU_DELTA_AMX_STRIP_H

#include "kernels/cpu/delta_amx_chunk.h"

/* ---- on tiles -------------------------------------------------------------------------------- */

TILE_INLINE void tiles_clear(void)
{
    tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3);
}

TILE_INLINE void tiles_leave(float *to)
{
    tile_store(0, to, TILE_BYTES);
    tile_store(1, to + TILE_FLOATS, TILE_BYTES);
    tile_store(2, to + 2 * TILE_FLOATS, TILE_BYTES);
    tile_store(3, to + 3 * TILE_FLOATS, TILE_BYTES);
}

/* 32 rows x 32 columns += a (tiles a0, a1) b (tiles at b) over 32 entries. */
TILE_INLINE void tiles_step(const uint16_t *a0, const uint16_t *a1, const uint16_t *b)
{
    tile_load(4, a0, TILE_BYTES);
    tile_load(6, b, TILE_BYTES);
    tile_load(7, b + TILE_HALVES, TILE_BYTES);
    tile_load(5, a1, TILE_BYTES);
    tile_dp(0, 4, 6);
    tile_dp(1, 4, 7);
    tile_dp(2, 5, 6);
    tile_dp(3, 5, 7);
}

/* += rows of a half chunk (k_in or q_in) times the state of a strip. */
TILE_INLINE void tiles_state(const struct chunk *c, const uint16_t *rows, int half, int strip,
                             side_work *work, const struct side *s)
{
    const int n = c->steps;
    const uint16_t *a = rows + (size_t)(2 * half * n) * TILE_HALVES;
    const uint16_t *b = c->state + (size_t)(strip * 2 * n) * TILE_HALVES;
    for (int i = 0; i < n; i++) {
        tiles_step(a + (size_t)i * TILE_HALVES, a + (size_t)(n + i) * TILE_HALVES,
                   b + (size_t)(2 * i) * TILE_HALVES);
        if (i < 4) work(s, i);
    }
    for (int i = n; i < 4; i++) work(s, i);
}

static inline const uint16_t *x_of(const struct chunk *c, int strip, int half)
{
    return c->x + (size_t)((strip & 1) * 4 + half * 2) * TILE_HALVES;
}

/* What the tokens of a half read of the state (and of the first half). */
TILE_INLINE void op_read(const struct chunk *c, int half, int strip, float *to, side_work *work,
                         const struct side *s)
{
    tiles_clear();
    tiles_state(c, c->k_in, half, strip, work, s);
    if (half == 1) tiles_step(c->l, c->l + TILE_HALVES, x_of(c, strip, 0));
    tiles_leave(to);
}

TILE_INLINE void op_solve(const struct chunk *c, int half, int strip, float *to, side_work *work,
                          const struct side *s)
{
    const uint16_t *a = c->a + (size_t)(2 * half) * TILE_HALVES;
    const uint16_t *b = c->w + (size_t)((strip & 1) * 2) * TILE_HALVES;
    tiles_clear();
    tile_load(4, a, TILE_BYTES);
    tile_load(6, b, TILE_BYTES);
    tile_dp(0, 4, 6);
    work(s, 0);
    tile_load(7, b + TILE_HALVES, TILE_BYTES);
    tile_dp(1, 4, 7);
    work(s, 1);
    tile_load(5, a + TILE_HALVES, TILE_BYTES);
    tile_dp(2, 5, 6);
    work(s, 2);
    tile_dp(3, 5, 7);
    work(s, 3);
    tiles_leave(to);
}

TILE_INLINE void op_output(const struct chunk *c, int half, int strip, float *to, side_work *work,
                           const struct side *s)
{
    const uint16_t *p = c->p + (size_t)(4 * half) * TILE_HALVES;
    tiles_clear();
    tiles_state(c, c->q_in, half, strip, work, s);
    for (int i = 0; i <= half; i++)
        tiles_step(p + (size_t)i * TILE_HALVES, p + (size_t)(2 + i) * TILE_HALVES,
                   x_of(c, strip, i));
    tiles_leave(to);
}

/* What the chunk adds to channels 32 step .. of a strip: X stays in tiles 4 to 7. */
TILE_INLINE void op_write_open(const struct chunk *c, int strip)
{
    const uint16_t *x = (c->until ? c->xs : c->x) + (size_t)((strip & 1) * 4) * TILE_HALVES;
    tile_load(4, x, TILE_BYTES);
    tile_load(5, x + TILE_HALVES, TILE_BYTES);
    tile_load(6, x + 2 * TILE_HALVES, TILE_BYTES);
    tile_load(7, x + 3 * TILE_HALVES, TILE_BYTES);
}

TILE_INLINE void op_write(const struct chunk *c, int step, float *to, side_work *work,
                          const struct side *s)
{
    for (int i = 0; i < 2; i++) {
        const uint16_t *a = c->k_out + (size_t)((2 * step + i) * 2) * TILE_HALVES;
        tile_zero(0), tile_zero(1);
        tile_load(2, a, TILE_BYTES);
        tile_load(3, a + TILE_HALVES, TILE_BYTES);
        tile_dp(0, 2, 4);
        tile_dp(1, 2, 5);
        work(s, 2 * i);
        tile_dp(0, 3, 6);
        tile_dp(1, 3, 7);
        work(s, 2 * i + 1);
        tile_store(0, to + 2 * i * TILE_FLOATS, TILE_BYTES);
        tile_store(1, to + (2 * i + 1) * TILE_FLOATS, TILE_BYTES);
    }
}

/* ---- beside them ----------------------------------------------------------------------------- */

static inline const char *row_at(const struct amx_rows *r, int64_t row, int64_t column)
{
    return (const char *)r->data + (row * r->stride + column) * (int64_t)dtype_size(r->dtype);
}

/* W = V - what op_read left. */
static inline void side_w(const struct side *s, int slice)
{
    const struct chunk *c = s->c;
    uint16_t *w = c->w + (size_t)((s->strip & 1) * 2) * TILE_HALVES;
    for (int t = 4 * slice; t < 4 * slice + 4; t++) {
        const char *v0 = row_at(&c->v, HALF_CHUNK * s->half + t, (int64_t)s->strip * STRIP_WIDE);
        const char *v1 = row_at(&c->v, HALF_CHUNK * s->half + t + 16,
                                (int64_t)s->strip * STRIP_WIDE);
        for (int n = 0; n < 2; n++) {
            const float *r = s->tile + n * TILE_FLOATS + t * 16;
            const __m512 x = _mm512_sub_ps(load16(v0, c->v.dtype, 16 * n), _mm512_load_ps(r));
            const __m512 y = _mm512_sub_ps(load16(v1, c->v.dtype, 16 * n),
                                           _mm512_load_ps(r + 2 * TILE_FLOATS));
            _mm512_store_si512(w + n * TILE_HALVES + t * 32, pack_pair(x, y));
        }
    }
}

/* X as op_solve left it, and X decayed to the end of the chunk. */
static inline void side_x(const struct side *s, int slice)
{
    const struct chunk *c = s->c;
    const size_t at = (size_t)((s->strip & 1) * 4 + s->half * 2) * TILE_HALVES;
    for (int t = 4 * slice; t < 4 * slice + 4; t++)
        for (int n = 0; n < 2; n++) {
            const float *r = s->tile + n * TILE_FLOATS + t * 16;
            const size_t to = at + (size_t)(n * TILE_HALVES + t * 32);
            __m512 x = _mm512_load_ps(r), y = _mm512_load_ps(r + 2 * TILE_FLOATS);
            _mm512_store_si512(c->x + to, pack_pair(x, y));
            if (!c->until) continue;
            x = _mm512_mul_ps(x, _mm512_set1_ps(c->until[HALF_CHUNK * s->half + t]));
            y = _mm512_mul_ps(y, _mm512_set1_ps(c->until[HALF_CHUNK * s->half + t + 16]));
            _mm512_store_si512(c->xs + to, pack_pair(x, y));
        }
}

static inline void side_o(const struct side *s, int slice)
{
    const struct chunk *c = s->c;
    for (int t = 8 * slice; t < 8 * slice + 8; t++) {
        const float *r = s->tile + (t / 16 * 2) * TILE_FLOATS + t % 16 * 16;
        char *o = (char *)row_at(&c->o, HALF_CHUNK * s->half + t, (int64_t)s->strip * STRIP_WIDE);
        store32(o, c->o.dtype, 0, _mm512_load_ps(r), _mm512_load_ps(r + TILE_FLOATS));
    }
}

/* The new state of 32 channels, and the same as the next chunk's operand. */
static inline void side_s(const struct side *s, int slice)
{
    const struct chunk *c = s->c;
    const size_t step = (size_t)(s->strip * c->steps + s->step);
    float *S = c->S + step * (32 * STRIP_WIDE);
    uint16_t *b = c->state + 2 * step * TILE_HALVES;
    for (int d = 8 * slice; d < 8 * slice + 8; d += 2) {
        const __m512 keep0 = _mm512_set1_ps(c->decay[32 * s->step + d]);
        const __m512 keep1 = _mm512_set1_ps(c->decay[32 * s->step + d + 1]);
        for (int n = 0; n < 2; n++) {
            const float *add = s->tile + (d / 16 * 2 + n) * TILE_FLOATS + d % 16 * 16;
            float *at = S + d * STRIP_WIDE + 16 * n;
            const __m512 x = _mm512_fmadd_ps(_mm512_load_ps(at), keep0, _mm512_load_ps(add));
            const __m512 y = _mm512_fmadd_ps(_mm512_load_ps(at + STRIP_WIDE), keep1,
                                             _mm512_load_ps(add + 16));
            _mm512_store_ps(at, x);
            _mm512_store_ps(at + STRIP_WIDE, y);
            _mm512_store_si512(b + n * TILE_HALVES + d / 2 * 32, pack_pair(x, y));
        }
    }
}

/* ---- a pair of strips, a single one ---------------------------------------------------------- */

#define SIDE(n, strip_, half_, step_) \
    &(const struct side) { .c = c, .tile = c->tile[n], .strip = (strip_), .half = (half_), .step = (step_) }

/* The first halves of both strips up to X, or the second ones. */
TILE_INLINE void pair_half(const struct chunk *c, int a, int half, side_work *before,
                           const struct side *pending)
{
    const int b = a + 1;
    op_read(c, half, a, c->tile[0], before, pending);
    op_read(c, half, b, c->tile[1], side_w, SIDE(0, a, half, 0));
    op_solve(c, half, a, c->tile[0], side_w, SIDE(1, b, half, 0));
    op_solve(c, half, b, c->tile[1], side_x, SIDE(0, a, half, 0));
}

static void run_pair(const struct chunk *c, int a)
{
    const int b = a + 1, n = c->steps;
    pair_half(c, a, 0, side_none, NULL);
    pair_half(c, a, 1, side_x, SIDE(1, b, 0, 0));
    op_output(c, 0, a, c->tile[0], side_x, SIDE(1, b, 1, 0));
    op_output(c, 0, b, c->tile[1], side_o, SIDE(0, a, 0, 0));
    op_output(c, 1, a, c->tile[0], side_o, SIDE(1, b, 0, 0));
    op_output(c, 1, b, c->tile[1], side_o, SIDE(0, a, 1, 0));
    op_write_open(c, a);
    op_write(c, 0, c->tile[0], side_o, SIDE(1, b, 1, 0));
    for (int i = 1; i < n; i++)
        op_write(c, i, c->tile[i & 1], side_s, SIDE(~i & 1, a, 0, i - 1));
    op_write_open(c, b);
    op_write(c, 0, c->tile[n & 1], side_s, SIDE(~n & 1, a, 0, n - 1));
    for (int i = 1; i < n; i++)
        op_write(c, i, c->tile[(n + i) & 1], side_s, SIDE(~(n + i) & 1, b, 0, i - 1));
    for (int i = 0; i < 4; i++) side_s(SIDE(1, b, 0, n - 1), i);
}

TILE_INLINE void now(side_work *work, const struct side *s)
{
    for (int i = 0; i < 4; i++) work(s, i);
}

static void run_single(const struct chunk *c, int a)
{
    for (int half = 0; half < 2; half++) {
        op_read(c, half, a, c->tile[0], side_none, NULL);
        now(side_w, SIDE(0, a, half, 0));
        op_solve(c, half, a, c->tile[0], side_none, NULL);
        now(side_x, SIDE(0, a, half, 0));
    }
    for (int half = 0; half < 2; half++) {
        op_output(c, half, a, c->tile[0], side_none, NULL);
        now(side_o, SIDE(0, a, half, 0));
    }
    op_write_open(c, a);
    for (int i = 0; i < c->steps; i++) {
        op_write(c, i, c->tile[0], side_none, NULL);
        now(side_s, SIDE(0, a, 0, i));
    }
}

/* The state of every strip as operand, before the first chunk. */
static void pack_state(const struct chunk *c)
{
    for (int strip = 0; strip < c->Dv / STRIP_WIDE; strip++)
        for (int d = 0; d < c->Dk; d += 2)
            for (int n = 0; n < 2; n++) {
                const float *at = c->S + ((size_t)strip * (size_t)c->Dk + (size_t)d) * STRIP_WIDE;
                const size_t tile = (size_t)((strip * c->steps + d / 32) * 2 + n);
                _mm512_store_si512(c->state + tile * TILE_HALVES + d % 32 * 16,
                                   pack_pair(_mm512_load_ps(at + 16 * n),
                                             _mm512_load_ps(at + STRIP_WIDE + 16 * n)));
            }
}

#endif
