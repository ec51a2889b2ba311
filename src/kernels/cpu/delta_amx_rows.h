/* delta_amx_rows.h: rows of a call on their way to the chunks and back.
 *
 * A head's rows lie far apart, often a multiple of 4 KB, and then share a set of L1 and need a page
 * each. So a row is touched once, over its whole width: keys go to tiles block by block, values to
 * strips, outputs leave strips when the next batch is at work. While strips run, the rows of the next
 * batch are called for, a few lines at a time: more at once would stand in the way of what strips
 * read from L2. */
#ifndef KERNELS_CPU_DELTA_AMX_ROWS_H
#define KERNELS_CPU_DELTA_AMX_ROWS_H

#include "kernels/cpu/delta_amx_chunk.h"

enum { ERRANDS = 16 }; /* of a strip of a chunk */

TILE_INLINE char *value_at(const struct amx *m, char *values, int strip, int row)
{
    const size_t size = dtype_size(m->dtype);
    return values + (size_t)(strip * BATCH_ROWS + row) * STRIP_WIDE * size;
}

/* A block of 16 rows as A tiles; zeros from `count` on. */
TILE_INLINE void enter_keys(uint16_t *to, const struct amx_rows *from, int count, int steps)
{
    for (int i = 0; i < 16; i++)
        for (int s = 0; s < steps; s++) {
            const __m512i x = i < count ? load_pairs(row_at(from, i), from->dtype, 32 * s)
                                        : _mm512_setzero_si512();
            _mm512_store_si512(TILE_AT(to, s) + i * 32, x);
        }
}

/* A row of values for row `row` of the batch; NULL: zeros. */
TILE_INLINE void enter_values(const struct amx *m, const char *from, int row)
{
    const enum dtype dtype = m->head->v.dtype;
    for (int strip = 0; strip < m->strips; strip++) {
        char *to = value_at(m, m->v, strip, row);
        __m512 x = _mm512_setzero_ps(), y = x;
        if (m->dtype == DTYPE_BF16) {
            const __m512i pairs = from ? load_pairs(from, dtype, 32 * strip) : _mm512_setzero_si512();
            _mm512_store_si512(to, pairs);
            continue;
        }
        if (from) {
            x = load16(from, dtype, 32 * strip), y = load16(from, dtype, 32 * strip + 16);
            split_pairs(&x, &y);
        }
        _mm512_store_ps(to, x), _mm512_store_ps(to + TILE_BYTES, y);
    }
}

/* Row `row` of the batch before. */
TILE_INLINE void leave_values(const struct amx *m, int row)
{
    char *to = row_at(&m->head->o, m->left_row + row);
    for (int strip = 0; strip < m->strips; strip++) {
        const char *from = value_at(m, m->left, strip, row);
        __m512 x = _mm512_load_ps(from);
        if (m->dtype == DTYPE_BF16) {
            _mm512_storeu_ps(to + strip * TILE_BYTES, x);
            continue;
        }
        __m512 y = _mm512_load_ps(from + TILE_BYTES);
        join_pairs(&x, &y);
        if (m->head->o.dtype == DTYPE_BF16) {
            _mm512_storeu_si512(to + strip * TILE_BYTES, (__m512i)_mm512_cvtne2ps_pbh(y, x));
            continue;
        }
        store16(to, m->head->o.dtype, 32 * strip, x);
        store16(to, m->head->o.dtype, 32 * strip + 16, y);
    }
}

TILE_INLINE void call_row(const struct amx_rows *rows, int64_t row, int width)
{
    const char *at = row_at(rows, row);
    const size_t bytes = (size_t)width * dtype_size(rows->dtype);
    for (size_t byte = 0; byte < bytes; byte += 64) _mm_prefetch(at + byte, _MM_HINT_T1);
}

TILE_INLINE void run_row(const struct amx *m, int row)
{
    const struct amx_head *h = m->head;
    if (row < m->left_rows) leave_values(m, row);
    if (m->row + row >= h->rows) return;
    call_row(&h->q, m->row + row, m->Dk);
    call_row(&h->k, m->row + row, m->Dk);
    call_row(&h->v, m->row + row, m->Dv);
    call_row(&h->g, m->row + row, h->channel ? m->Dk : 1);
    call_row(&h->beta, m->row + row, 1);
}

/* Errand n of a strip of chunk i: all of them together meet every row of the chunk. */
TILE_INLINE void run_errand(const struct amx *m, int i, int strip, int n)
{
    const int each = (AMX_CHUNK / ERRANDS + m->strips - 1) / m->strips;
    const int row = (strip * ERRANDS + n) * each;
    for (int r = row; r < row + each && r < AMX_CHUNK; r++) run_row(m, i * AMX_CHUNK + r);
}

#endif
