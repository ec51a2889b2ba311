/* attn_amx.c: attention in bf16 on AMX tiles. docs/kernels/attn.md.
 *
 *     S^T = K q^T     keys as they lie, 16 rows of a tile; queries as pairs of channels by columns
 *     O  += P V       P turned to rows of queries, in two bf16 parts (off by 2^-18); values as pairs
 *                     of tokens
 *
 * A sheet of up to 4 pages is packed page by page; with its last one it meets all columns, so that
 * their sums are loaded and stored once for 256 tokens. Where there is one tile of columns (tokens
 * one by one, and few) keys are read where they lie, and values packed 32 tokens at a time, in L1, for
 * tiles of as many rows as there are columns.
 *
 * Sums are f32. An entry of a tile depends on its own row and column alone, and every column meets
 * the same products in the same order however many there are: a token alone, a prompt, a draft. */
#include "kernels/cpu/attn_amx_weigh.h"

enum { FLUSH = 0x8040 }; /* denormals are zero: tiles do so anyway, and vectors trap on them */

/* ---- scores ------------------------------------------------------------------------------------- */

/* m->s of tile t and, where there are two, the one after it, for page n of the sheet. */
TILE_INLINE void scores(const struct attn_amx *m, int n, int t, bool two)
{
    const uint16_t *q = TILE_AT(m->q, t * m->steps), *q1 = TILE_AT(q, m->steps);
    float *to = m->s + n * PAGE * 16, *to1 = to + SHEET * PAGE * 16;
    for (int j = 0; j < 4; j += 2, to += 2 * TILE_FLOATS, to1 += 2 * TILE_FLOATS) {
        const uint16_t *k = TILE_AT(m->k, (4 * n + j) * m->steps), *k1 = TILE_AT(k, m->steps);
        tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3);
        for (int s = 0; s < m->steps; s++) {
            tile_load(4, TILE_AT(k, s), TILE_BYTES);
            tile_load(6, TILE_AT(q, s), TILE_BYTES);
            tile_dp(0, 4, 6);
            tile_load(5, TILE_AT(k1, s), TILE_BYTES);
            tile_dp(1, 5, 6);
            if (!two) continue;
            tile_load(7, TILE_AT(q1, s), TILE_BYTES);
            tile_dp(2, 4, 7);
            tile_dp(3, 5, 7);
        }
        tile_store(0, to, TILE_BYTES);
        tile_store(1, to + TILE_FLOATS, TILE_BYTES);
        if (!two) continue;
        tile_store(2, to1, TILE_BYTES);
        tile_store(3, to1 + TILE_FLOATS, TILE_BYTES);
    }
}

/* The same of the only tile: keys are read where they lie, if all of them are there. */
static void score_few(const struct attn_amx *m, int n, int64_t D)
{
    struct attn_page *page = &m->page[n];
    const bool lies = page->keys == PAGE && D % 32 == 0;
    const size_t row = lies ? (size_t)page->k_step : TILE_BYTES;
    const size_t step = lies ? TILE_BYTES : TILE_SIZE;
    const size_t group = lies ? 16 * row : (size_t)m->steps * TILE_SIZE;
    const char *at = lies ? page->k : (const char *)m->k;
    float *to = m->s + n * PAGE * 16;
    if (!lies) pack_keys(m, page, 0, D);
    for (int j = 0; j < 4; j += 2, at += 2 * group, to += 2 * TILE_FLOATS) {
        tile_zero(2), tile_zero(3);
        for (int s = 0; s < m->steps; s++) {
            tile_load(6, TILE_AT(m->q, s), TILE_BYTES);
            tile_load(4, at + (size_t)s * step, row);
            tile_dp(2, 4, 6);
            attn_call(&page->next_k, FEW_SCORES);
            tile_load(7, at + group + (size_t)s * step, row);
            tile_dp(3, 7, 6);
        }
        tile_store(2, to, TILE_BYTES);
        tile_store(3, to + TILE_FLOATS, TILE_BYTES);
    }
}

/* ---- values ------------------------------------------------------------------------------------- */

/* acc of tile t and, where there are two, the one after it += P V. */
TILE_INLINE void mix(const struct attn_block *b, const struct attn_amx *m,
                     const struct attn_sums *sums, int pages, int t, bool two)
{
    const size_t step = (size_t)b->acc_step * sizeof(float);
    float *acc = sums->acc + 16 * t * b->acc_step, *acc1 = acc + 16 * b->acc_step;
    for (int i = 0; i < m->strips; i += 2, acc += 32, acc1 += 32) {
        tile_load(0, acc, step), tile_load(1, acc + 16, step);
        if (two) tile_load(2, acc1, step), tile_load(3, acc1 + 16, step);
        for (int half = 0; half < 2 * pages; half++) {
            const uint16_t *v = TILE_AT(m->v, half * m->strips + i);
            const uint16_t *p = TILE_AT(m->p, 2 * half);
            tile_load(6, v, TILE_BYTES), tile_load(7, TILE_AT(v, 1), TILE_BYTES);
            for (int part = 0; part < 2; part++) {
                tile_load(4, TILE_AT(p, part), TILE_BYTES);
                tile_dp(0, 4, 6);
                tile_dp(1, 4, 7);
                if (!two) continue;
                tile_load(5, TILE_AT(p, 2 * HALVES + part), TILE_BYTES);
                tile_dp(2, 5, 6);
                tile_dp(3, 5, 7);
            }
        }
        tile_store(0, acc, step), tile_store(1, acc + 16, step);
        if (two) tile_store(2, acc1, step), tile_store(3, acc1 + 16, step);
    }
}

/* The same of the only tile and one half of page n, which is packed as the first: only rows of columns
 * that there are take part (tile_open_few). */
static void mix_few(const struct attn_block *b, const struct attn_amx *m,
                    const struct attn_sums *sums, int n, int half)
{
    const size_t step = (size_t)b->acc_step * sizeof(float);
    const uint16_t *p = TILE_AT(m->p, 2 * (2 * n + half)), *v = m->v;
    float *acc = sums->acc;
    for (int i = 0; i < m->strips; i += 2, acc += 32, v += 2 * TILE_HALVES) {
        tile_load(0, acc, step), tile_load(1, acc + 16, step);
        tile_load(6, v, TILE_BYTES), tile_load(7, TILE_AT(v, 1), TILE_BYTES);
        call_both(&m->page[n], FEW_MIX);
        for (int part = 0; part < 2; part++) {
            tile_load(5, TILE_AT(p, part), TILE_BYTES);
            tile_dp(0, 5, 6);
            tile_dp(1, 5, 7);
        }
        tile_store(0, acc, step), tile_store(1, acc + 16, step);
    }
}

/* What pack_half left out of page i, for tile t, the n-th of m->p. */
static void add_strays(const struct attn_block *b, const struct attn_amx *m,
                       const struct attn_sums *sums, int i, int t, int n)
{
    const struct attn_page *page = &m->page[i];
    const int64_t Dv = b->args->v->dim[2];
    for (int c = 16 * t; c < 16 * t + 16 && c < b->columns; c++) {
        const int seen = page->last ? attn_seen(b, c) : PAGE;
        const uint16_t *p = TILE_AT(m->p, 2 * (n * HALVES + 2 * i)) + c % 16 * 32;
        for (int j = 0; j < seen; j++) {
            const uint16_t *v = (const uint16_t *)(page->v + j * page->v_step);
            const float weight = bf16_to_f32(TILE_AT(p, j / 32 * 2)[j % 32]);
            for (int64_t d = 0; d < Dv; d++)
                if ((v[d] & 0x7f80) == 0x7f80)
                    sums->acc[c * b->acc_step + value_place(d)] += weight * bf16_to_f32(v[d]);
        }
    }
}

/* Tile t and, where there are two, the one after it meet a sheet that is packed whole. */
TILE_INLINE void fold_tiles(const struct attn_block *b, const struct attn_amx *m,
                            const struct attn_sums *sums, int pages, int t, bool two)
{
    for (int n = 0; n < pages; n++) scores(m, n, t, two);
    weigh(b, m, sums, pages, t, 0);
    if (two) weigh(b, m, sums, pages, t + 1, 1);
    mix(b, m, sums, pages, t, two);
    for (int i = 0; i < pages; i++) {
        if (!m->strays[i]) continue;
        add_strays(b, m, sums, i, t, 0);
        if (two) add_strays(b, m, sums, i, t + 1, 1);
    }
}

/* The only tile: keys have met it, values do now, page by page, and are read in the order in which they
 * lie. */
static void fold_few(const struct attn_block *b, const struct attn_amx *m,
                     const struct attn_sums *sums, int pages)
{
    if (b->columns <= 4)
        weigh_few(b, m, sums, pages);
    else
        weigh(b, m, sums, pages, 0, 0);
    for (int half = 0; half < 2 * pages; half++) {
        const int n = half / 2;
        pack_half(m, n, half % 2 * 32, 0, b->args->v->dim[2]);
        mix_few(b, m, sums, n, half % 2);
        if (half % 2 && m->strays[n]) add_strays(b, m, sums, n, 0, 0);
    }
}

static void amx_fold(const struct attn_block *b, const struct attn_sums *sums,
                     const struct attn_page *page)
{
    const struct attn_amx m = room(b);
    const int64_t D = b->args->q->dim[2], Dv = b->args->v->dim[2];
    const int n = (int)(page->number % SHEET), pages = n + 1;
    const bool few = m.tiles == 1, whole = pages == SHEET || page->ends;
    const unsigned modes = _mm_getcsr();
    m.page[n] = *page;
    m.strays[n] = false;
    if (!few) {
        pack_keys(&m, &m.page[n], n, D);
        for (int half = 0; half < 2; half++) pack_half(&m, n, 32 * half, 2 * n + half, Dv);
        if (!whole) return;
    }
    _mm_setcsr(modes | FLUSH);
    tile_open_few(few ? b->columns : TILE_ROWS);
    if (few) score_few(&m, n, D);
    if (few && whole) fold_few(b, &m, sums, pages);
    int t = 0;
    for (; !few && t + 2 <= m.tiles; t += 2) fold_tiles(b, &m, sums, pages, t, true);
    if (!few && t < m.tiles) fold_tiles(b, &m, sums, pages, t, false);
    tile_close();
    _mm_setcsr(modes);
}

/* Entries take their places again. */
static void amx_leave(const struct attn_block *b, const struct attn_sums *sums)
{
    const __m512i first = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
    const __m512i other = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for (int c = 0; c < b->columns; c++) {
        float *acc = sums->acc + c * b->acc_step;
        for (int64_t d = 0; d < attn_wide(b->args->v->dim[2]); d += 32, acc += 32) {
            const __m512 x = _mm512_loadu_ps(acc), y = _mm512_loadu_ps(acc + 16);
            _mm512_storeu_ps(acc, _mm512_permutex2var_ps(x, first, y));
            _mm512_storeu_ps(acc + 16, _mm512_permutex2var_ps(x, other, y));
        }
    }
    attn_leave(b, sums);
}

const struct attn_form attn_form_amx = {256,      SHEET,      true,      amx_bytes, amx_enter,
                                        amx_fold, attn_merge, amx_leave};
