/* delta_amx_rows.h: rows of a call on their way to the chunks and back.
 *
 * A head's rows lie far apart, often a multiple of 4 KB, and then share a set of L1 and need a page
 * each. So a row is touched once, over its whole width, and soon after that of the head beside it:
 * keys go to tiles block by block, values to strips, outputs leave strips in the next turn. While strips
 * run, the rows of the next turn are called for, a few lines at a time: more at once would stand in the
 * way of what strips read from L2. */
#ifndef KERNELS_CPU_DELTA_AMX_ROWS_H
#define KERNELS_CPU_DELTA_AMX_ROWS_H

#include "kernels/cpu/delta_amx_chunk.h"

enum { ERRANDS = 16 }; /* of a strip of a chunk */

/* Of `values` of a batch. */
TILE_INLINE char *value_at(char *values, int strip, int row, enum dtype dtype)
{
    return values + (size_t)(strip * BATCH_ROWS + row) * STRIP_WIDE * dtype_size(dtype);
}

/* 32 values of any type, even and odd columns of f32. */
TILE_INLINE void enter_wide(char *to, const char *from, enum dtype dtype)
{
    __m512 x = load16(from, dtype, 0), y = load16(from, dtype, 16);
    split_pairs(&x, &y);
    _mm512_store_ps(to, x), _mm512_store_ps(to + TILE_BYTES, y);
}

/* ---- in ---------------------------------------------------------------------------------------- */

TILE_INLINE void enter_pairs(uint16_t *to, const struct amx_rows *from, int count, int steps,
                             enum dtype dtype)
{
    const char *row = from->data;
    const int64_t stride = from->stride * (int64_t)dtype_size(dtype);
    int i = 0;
    for (; i < count && i < 16; i++, row += stride, to += 32)
        for (int s = 0; s < steps; s++)
            _mm512_store_si512(TILE_AT(to, s), load_pairs(row, dtype, 32 * s));
    for (; i < 16; i++, to += 32)
        for (int s = 0; s < steps; s++) _mm512_store_si512(TILE_AT(to, s), _mm512_setzero_si512());
}

/* A block of 16 rows as A tiles; zeros from `count` on. */
static void enter_keys(uint16_t *to, const struct amx_rows *from, int count, int steps)
{
    if (from->dtype == DTYPE_BF16)
        enter_pairs(to, from, count, steps, DTYPE_BF16);
    else if (from->dtype == DTYPE_F16)
        enter_pairs(to, from, count, steps, DTYPE_F16);
    else
        enter_pairs(to, from, count, steps, DTYPE_F32);
}

/* Values of chunk `chunk`, of which `count` rows come from `row` on; zeros after them. */
static void enter_values(const struct amx *m, int chunk, int64_t row, int count)
{
    const struct amx_rows *v = &m->now.head->v;
    const enum dtype dtype = v->dtype;
    const int strips = m->strips;
    const size_t size = STRIP_WIDE * dtype_size(m->dtype), strip = BATCH_ROWS * size;
    const char *from = row_at(v, row);
    const int64_t stride = v->stride * (int64_t)dtype_size(dtype);
    char *to = m->v + (size_t)(chunk * AMX_CHUNK) * size;
    for (int i = 0; i < count; i++, from += stride, to += size)
        for (int n = 0; n < strips; n++)
            if (m->dtype == DTYPE_BF16)
                _mm512_store_si512(to + (size_t)n * strip, _mm512_loadu_si512(from + n * TILE_BYTES));
            else
                enter_wide(to + (size_t)n * strip, from + (size_t)n * STRIP_WIDE * dtype_size(dtype),
                           dtype);
    for (int n = 0; n < strips && count < AMX_CHUNK; n++)
        memset(to + (size_t)n * strip, 0, (size_t)(AMX_CHUNK - count) * size);
}

/* ---- out, and ahead ------------------------------------------------------------------------------ */

/* Row `row` of the turn before. */
TILE_INLINE void leave_row(const struct amx *m, int row, enum dtype dtype)
{
    const struct amx_rows *o = &m->before.head->o;
    const int strips = m->strips;
    const enum dtype out = dtype == DTYPE_BF16 ? DTYPE_BF16 : o->dtype;
    char *to = row_at(o, m->before.row + row);
    const char *from = value_at(m->left, 0, row, dtype);
    for (int n = 0; n < strips; n++, from += BATCH_ROWS * STRIP_WIDE * dtype_size(dtype)) {
        if (dtype == DTYPE_BF16) {
            _mm512_storeu_si512(to + n * TILE_BYTES, _mm512_load_si512(from));
        } else {
            __m512 x = _mm512_load_ps(from), y = _mm512_load_ps(from + TILE_BYTES);
            join_pairs(&x, &y);
            store32(to, out, STRIP_WIDE * n, x, y);
        }
    }
}

TILE_INLINE void call_row(const struct amx_rows *rows, int64_t row, int width)
{
    const char *at = row_at(rows, row);
    const size_t bytes = (size_t)width * dtype_size(rows->dtype);
    for (size_t byte = 0; byte < bytes; byte += 64) _mm_prefetch(at + byte, _MM_HINT_T0);
}

TILE_INLINE void run_row(const struct amx *m, int row, enum dtype dtype)
{
    const struct amx_head *h = m->next.head;
    if (row < m->before.rows) leave_row(m, row, dtype);
    if (row >= m->next.rows) return;
    const int64_t at = m->next.row + row;
    call_row(&h->q, at, m->Dk);
    call_row(&h->k, at, m->Dk);
    call_row(&h->v, at, m->Dv);
    call_row(&h->g, at, h->channel ? m->Dk : 1);
    call_row(&h->beta, at, 1);
    call_row(&h->o, at, m->Dv); /* stores that miss are served one after another */
}

/* Errand n of a strip of chunk i: all of them together meet every row of the chunk. */
TILE_INLINE void run_errand(const struct amx *m, int i, int strip, int n, enum dtype dtype)
{
    const int each = (AMX_CHUNK / ERRANDS + m->strips - 1) / m->strips;
    const int row = (strip * ERRANDS + n) * each;
    for (int r = row; r < row + each && r < AMX_CHUNK; r++) run_row(m, i * AMX_CHUNK + r, dtype);
}

#endif
