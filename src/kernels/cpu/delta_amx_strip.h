/* delta_amx_strip.h: one chunk against a strip of 32 value columns, given its coefficients.
 *
 * Per half chunk h, with Kin, Qin the rows decayed from the chunk's start, Kout to its end:
 *
 *     W = V - Kin S - L X0 (h = 1)     X = A W     O = Qin S + P X     S = decay S + Kout X
 *
 * A strip's state (16 KB, and 8 KB as operand) stays in L1 through a batch of chunks; coefficients
 * pass by L1. Every operation on tiles has side work: the vector units pack what an earlier one
 * left, in four slices between its steps. The order below gives each packing an operation to hide
 * behind that does not need it; program order alone makes it correct. */
#ifndef KERNELS_CPU_DELTA_AMX_STRIP_H
#define KERNELS_CPU_DELTA_AMX_STRIP_H

#include "kernels/cpu/delta_amx_rows.h"

/* ---- side work: slice 0 to 3 ----------------------------------------------------------------- */

/* Addresses are made once: a slice's stores could alias any struct. */
struct side {
    const float *tile;  /* what the operation left */
    uint16_t *to;       /* operand tiles: W, X, state */
    char *row;          /* first row of V or O, or of S in f32 */
    const float *decay;
    enum dtype dtype;   /* of V and O: a constant */
    const struct amx *m; /* the rows that side_w and side_x see to: of this strip, chunk, from `errand` on */
    int chunk, strip, errand;
};
typedef void side_work(struct side s, int slice);

TILE_INLINE void side_none(struct side s, int slice) { (void)s, (void)slice; }

/* 32 columns of a row of V: even and odd ones. */
TILE_INLINE void load_columns(const char *row, enum dtype dtype, __m512 *even, __m512 *odd)
{
    if (dtype == DTYPE_BF16) {
        const __m512i pairs = _mm512_load_si512(row);
        *even = low_of(pairs), *odd = high_of(pairs);
    } else {
        *even = _mm512_load_ps(row), *odd = _mm512_load_ps(row + TILE_BYTES);
    }
}

/* W = V - what was read. */
TILE_INLINE void side_w(struct side s, int slice)
{
    const size_t row = STRIP_WIDE * dtype_size(s.dtype);
    const char *v = s.row + (size_t)(4 * slice) * row;
    for (int t = 4 * slice; t < 4 * slice + 4; t++, v += row) {
        const float *r = s.tile + t * 16;
        __m512 x0, x1, y0, y1;
        load_columns(v, s.dtype, &x0, &x1);
        load_columns(v + 16 * row, s.dtype, &y0, &y1);
        x0 = _mm512_sub_ps(x0, _mm512_load_ps(r));
        x1 = _mm512_sub_ps(x1, _mm512_load_ps(r + TILE_FLOATS));
        y0 = _mm512_sub_ps(y0, _mm512_load_ps(r + 2 * TILE_FLOATS));
        y1 = _mm512_sub_ps(y1, _mm512_load_ps(r + 3 * TILE_FLOATS));
        _mm512_store_si512(s.to + t * 32, pack_pair(x0, y0));
        _mm512_store_si512(s.to + TILE_HALVES + t * 32, pack_pair(x1, y1));
    }
    run_errand(s.m, s.chunk, s.strip, s.errand + slice, s.dtype);
}

TILE_INLINE void side_x(struct side s, int slice)
{
    for (int t = 4 * slice; t < 4 * slice + 4; t++)
        for (int n = 0; n < 2; n++) {
            const float *r = s.tile + n * TILE_FLOATS + t * 16;
            const __m512 x = _mm512_load_ps(r), y = _mm512_load_ps(r + 2 * TILE_FLOATS);
            _mm512_store_si512(s.to + n * TILE_HALVES + t * 32, pack_pair(x, y));
        }
    run_errand(s.m, s.chunk, s.strip, s.errand + slice, s.dtype);
}

TILE_INLINE void side_o(struct side s, int slice)
{
    const size_t row = STRIP_WIDE * dtype_size(s.dtype);
    const float *r = s.tile + slice / 2 * 2 * TILE_FLOATS + slice % 2 * 8 * 16;
    char *to = s.row + (size_t)(8 * slice) * row;
    for (int t = 0; t < 8; t++, r += 16, to += row) {
        const __m512 even = _mm512_load_ps(r), odd = _mm512_load_ps(r + TILE_FLOATS);
        if (s.dtype == DTYPE_BF16)
            _mm512_store_si512(to, pack_pair(even, odd));
        else
            _mm512_store_ps(to, even), _mm512_store_ps(to + TILE_BYTES, odd);
    }
}

/* The new state of 32 channels, and the same as the next chunk's operand. */
TILE_INLINE void side_s(struct side s, int slice)
{
    float *S = (float *)(void *)s.row;
    for (int d = 8 * slice; d < 8 * slice + 8; d += 2)
        for (int n = 0; n < 2; n++) {
            const float *add = s.tile + (d / 16 * 2 + n) * TILE_FLOATS + d % 16 * 16;
            float *at = S + d * STRIP_WIDE + 16 * n;
            const __m512 x = _mm512_fmadd_ps(_mm512_load_ps(at), _mm512_set1_ps(s.decay[d]),
                                             _mm512_load_ps(add));
            const __m512 y = _mm512_fmadd_ps(_mm512_load_ps(at + STRIP_WIDE),
                                             _mm512_set1_ps(s.decay[d + 1]),
                                             _mm512_load_ps(add + 16));
            _mm512_store_ps(at, x);
            _mm512_store_ps(at + STRIP_WIDE, y);
            _mm512_store_si512(s.to + n * TILE_HALVES + d / 2 * 32, pack_pair(x, y));
        }
}

/* ---- on tiles: 0 to 3 sum 32 rows x 32 columns, 4 and 5 hold rows, 6 and 7 columns --------------- */

TILE_INLINE void tiles_clear(void) { tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3); }

TILE_INLINE void tiles_take(const float *from)
{
    tile_load(0, from, TILE_BYTES);
    tile_load(1, from + TILE_FLOATS, TILE_BYTES);
    tile_load(2, from + 2 * TILE_FLOATS, TILE_BYTES);
    tile_load(3, from + 3 * TILE_FLOATS, TILE_BYTES);
}

TILE_INLINE void tiles_leave(float *to)
{
    tile_store(0, to, TILE_BYTES);
    tile_store(1, to + TILE_FLOATS, TILE_BYTES);
    tile_store(2, to + 2 * TILE_FLOATS, TILE_BYTES);
    tile_store(3, to + 3 * TILE_FLOATS, TILE_BYTES);
}

TILE_INLINE void tiles_step(const uint16_t *a0, const uint16_t *a1, const uint16_t *b)
{
    tile_load_once(4, a0, TILE_BYTES);
    tile_load(6, b, TILE_BYTES);
    tile_load(7, b + TILE_HALVES, TILE_BYTES);
    tile_load_once(5, a1, TILE_BYTES);
    tile_dp(0, 4, 6);
    tile_dp(1, 4, 7);
    tile_dp(2, 5, 6);
    tile_dp(3, 5, 7);
}

/* A strip of a chunk at work; `steps` and the dtype of rows are constants in the common case. */
struct strip {
    const struct amx *m;
    const struct chunk *c;
    uint16_t *state; /* B [steps][2] */
    float *S;
    char *v, *o;
    int steps, chunk, strip;
    enum dtype dtype;
};

/* Rows of a half (k_in or q_in) times the state of the strip. The side work ends before the last
 * step: that one may read what it made. */
TILE_INLINE void tiles_state(const struct strip *p, const uint16_t *rows, int half, side_work *work,
                             struct side s)
{
    const int n = p->steps;
    const uint16_t *a = rows + (size_t)(2 * half * n) * TILE_HALVES;
    int slice = 0;
    for (int i = 0; i < n; i++) {
        for (; slice * (n - 1) < 4 * i || (i == n - 1 && slice < 4); slice++) work(s, slice);
        tiles_step(a + (size_t)i * TILE_HALVES, a + (size_t)(n + i) * TILE_HALVES,
                   p->state + (size_t)(2 * i) * TILE_HALVES);
    }
}

/* Four products of one step, side work between them. */
TILE_INLINE void tiles_short(const uint16_t *a0, const uint16_t *a1, const uint16_t *b,
                             side_work *work, struct side s)
{
    tile_load_once(4, a0, TILE_BYTES);
    tile_load(6, b, TILE_BYTES);
    tile_dp(0, 4, 6);
    work(s, 0);
    tile_load(7, b + TILE_HALVES, TILE_BYTES);
    tile_dp(1, 4, 7);
    work(s, 1);
    tile_load_once(5, a1, TILE_BYTES);
    tile_dp(2, 5, 6);
    work(s, 2);
    tile_dp(3, 5, 7);
    work(s, 3);
}

/* Channels 32 step .. of the state: all products of one step; X is in tiles 4 to 7. */
TILE_INLINE void tiles_write(const struct chunk *c, int step, float *to, side_work *work,
                             struct side s)
{
    for (int i = 0; i < 2; i++) {
        const uint16_t *a = c->k_out + (size_t)((2 * step + i) * 2) * TILE_HALVES;
        tile_zero(0), tile_zero(1);
        tile_load_once(2, a, TILE_BYTES);
        tile_load_once(3, a + TILE_HALVES, TILE_BYTES);
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

/* ---- a chunk, a batch ------------------------------------------------------------------------ */

TILE_INLINE struct side work_w(const struct strip *p, int half, int tile)
{
    return (struct side){.tile = p->m->tile[tile], .to = p->m->w, .dtype = p->dtype,
                         .row = p->v + (size_t)(half * HALF_CHUNK * STRIP_WIDE) * dtype_size(p->dtype),
                         .m = p->m, .chunk = p->chunk, .strip = p->strip, .errand = 8 * half};
}

TILE_INLINE struct side work_x(const struct strip *p, int half, int tile)
{
    return (struct side){.tile = p->m->tile[tile], .to = TILE_AT(p->m->x, 2 * half),
                         .dtype = p->dtype, .m = p->m, .chunk = p->chunk, .strip = p->strip, .errand = 8 * half + 4};
}

TILE_INLINE struct side work_o(const struct strip *p, int half, int tile)
{
    return (struct side){.tile = p->m->tile[tile], .dtype = p->dtype,
                         .row = p->o + (size_t)(half * HALF_CHUNK * STRIP_WIDE) * dtype_size(p->dtype)};
}

/* Step i of the state comes from tile[1], tile[0], tile[1] .. */
TILE_INLINE struct side work_s(const struct strip *p, const struct chunk *c, int step)
{
    return (struct side){.tile = p->m->tile[~step & 1], .to = TILE_AT(p->state, 2 * step),
                         .row = (char *)(p->S + (size_t)step * (32 * STRIP_WIDE)),
                         .decay = c->decay + 32 * step};
}

static const struct side no_work;

/* Up to X of both halves and O of the first; O of the second waits for X1 in tile[2]. `late` is the
 * last side work of the chunk before. */
TILE_INLINE void strip_solve(const struct strip *p, side_work *work, struct side late)
{
    const struct amx *m = p->m;
    const struct chunk *c = p->c;
    tiles_clear();
    tiles_state(p, c->k_in, 0, work, late);
    tiles_leave(m->tile[0]);

    tiles_clear();
    tiles_state(p, c->k_in, 1, side_w, work_w(p, 0, 0));
    tiles_leave(m->tile[1]);

    tiles_clear();
    tiles_short(c->a, TILE_AT(c->a, 1), m->w, side_none, no_work);
    tiles_leave(m->tile[0]);

    tiles_clear();
    tiles_state(p, c->q_in, 0, side_x, work_x(p, 0, 0));
    tiles_step(c->p, TILE_AT(c->p, 2), m->x);
    tiles_leave(m->tile[2]);

    tiles_take(m->tile[1]);
    tiles_short(c->l, TILE_AT(c->l, 1), m->x, side_o, work_o(p, 0, 2));
    tiles_leave(m->tile[1]);

    tiles_clear();
    tiles_state(p, c->q_in, 1, side_w, work_w(p, 1, 1));
    tiles_step(TILE_AT(c->p, 4), TILE_AT(c->p, 6), m->x);
    tiles_leave(m->tile[2]);

    tiles_clear();
    tiles_short(TILE_AT(c->a, 2), TILE_AT(c->a, 3), m->w, side_none, no_work);
    tiles_leave(m->tile[0]);
}

/* The rest, but for the side work of the last step of the state. */
TILE_INLINE void strip_write(const struct strip *p)
{
    const struct amx *m = p->m;
    const struct chunk *c = p->c;
    tiles_clear();
    tiles_step(c->k_out, TILE_AT(c->k_out, 2), m->x);
    for (int slice = 0; slice < 4; slice++) side_x(work_x(p, 1, 0), slice);
    tiles_step(TILE_AT(c->k_out, 1), TILE_AT(c->k_out, 3), TILE_AT(m->x, 2));
    tiles_leave(m->tile[1]);

    tiles_take(m->tile[2]);
    if (p->steps == 1) {
        tiles_short(TILE_AT(c->p, 5), TILE_AT(c->p, 7), TILE_AT(m->x, 2), side_none, no_work);
        tiles_leave(m->tile[2]);
        for (int slice = 0; slice < 4; slice++) side_o(work_o(p, 1, 2), slice);
        return;
    }
    tiles_short(TILE_AT(c->p, 5), TILE_AT(c->p, 7), TILE_AT(m->x, 2), side_s, work_s(p, c, 0));
    tiles_leave(m->tile[2]);
    tile_load(4, m->x, TILE_BYTES);
    tile_load(5, TILE_AT(m->x, 1), TILE_BYTES);
    tile_load(6, TILE_AT(m->x, 2), TILE_BYTES);
    tile_load(7, TILE_AT(m->x, 3), TILE_BYTES);
    tiles_write(c, 1, m->tile[0], side_o, work_o(p, 1, 2));
    for (int i = 2; i < p->steps; i++)
        tiles_write(c, i, m->tile[~i & 1], side_s, work_s(p, c, i - 1));
}

TILE_INLINE void strip_chunks(const struct amx *m, int chunks, int strip, int steps,
                              enum dtype dtype)
{
    struct strip p = {.m = m, .steps = steps, .strip = strip, .dtype = dtype,
                      .state = TILE_AT(m->state, strip * 2 * steps),
                      .S = m->S + (size_t)(strip * steps) * (32 * STRIP_WIDE)};
    for (int i = 0; i < chunks; i++) {
        p.c = &m->chunk[i], p.chunk = i;
        p.v = value_at(m->v, strip, i * AMX_CHUNK, dtype);
        p.o = value_at(m->o, strip, i * AMX_CHUNK, dtype);
        if (i == 0)
            strip_solve(&p, side_none, no_work);
        else
            strip_solve(&p, side_s, work_s(&p, &m->chunk[i - 1], steps - 1));
        strip_write(&p);
    }
    for (int slice = 0; slice < 4; slice++)
        side_s(work_s(&p, &m->chunk[chunks - 1], steps - 1), slice);
}

/* The chunks of a batch. */
static void run_strip(const struct amx *m, int chunks, int strip)
{
    if (m->dtype == DTYPE_BF16 && m->steps == 4)
        strip_chunks(m, chunks, strip, 4, DTYPE_BF16);
    else if (m->dtype == DTYPE_BF16)
        strip_chunks(m, chunks, strip, m->steps, DTYPE_BF16);
    else
        strip_chunks(m, chunks, strip, m->steps, DTYPE_F32);
}

/* ---- the state before the first chunk and after the last --------------------------------------- */

/* Even columns, then odd ones; and the same as operand. */
static void enter_state(const struct amx *m, const struct amx_head *head)
{
    const enum dtype dtype = head->S_type;
    const size_t row = STRIP_WIDE * dtype_size(dtype);
    const char *from = head->S;
    float *at = m->S;
    uint16_t *to = m->state;
    for (int i = 0; i < m->strips * m->steps; i++, to += 2 * TILE_HALVES)
        for (int d = 0; d < 32; d += 2, from += 2 * row, at += 2 * STRIP_WIDE) {
            enter_wide((char *)at, from, dtype);
            enter_wide((char *)(at + STRIP_WIDE), from + row, dtype);
            for (int n = 0; n < 2; n++)
                _mm512_store_si512(to + n * TILE_HALVES + d * 16,
                                   pack_pair(_mm512_load_ps(at + 16 * n),
                                             _mm512_load_ps(at + STRIP_WIDE + 16 * n)));
        }
}

static void leave_state(const struct amx *m, const struct amx_head *head)
{
    const enum dtype dtype = head->S_type;
    const float *at = m->S;
    for (int64_t i = 0; i < (int64_t)m->Dk * m->strips; i++, at += STRIP_WIDE) {
        __m512 x = _mm512_load_ps(at), y = _mm512_load_ps(at + 16);
        join_pairs(&x, &y);
        store32(head->S, dtype, i * STRIP_WIDE, x, y);
    }
}

#endif
