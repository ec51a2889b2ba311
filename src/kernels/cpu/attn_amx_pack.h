/* attn_amx_pack.h: what a block of attention on tiles keeps in its memory, and how queries, keys and
 * values come there: attn_amx.c has the whole. */
#ifndef KERNELS_CPU_ATTN_AMX_PACK_H
#define KERNELS_CPU_ATTN_AMX_PACK_H

#include "kernels/cpu/attn.h"
#include "kernels/cpu/delta_amx_pack.h"
#include "kernels/cpu/vec_avx512.h"

enum { SHEET = 4, HALVES = 2 * SHEET }; /* pages; of 32 tokens */
/* Lines called at a time where there is one tile of columns: for a step of scores, two rows of values, a
 * pair of their tiles. */
enum { FEW_SCORES = 16, FEW_VALUES = 16, FEW_MIX = 16 };
#define TILE_AT(base, n) ((base) + (size_t)(n) * TILE_HALVES)

/* What a block keeps in its memory. steps: of 32 channels; strips: of 16 value columns. */
struct attn_amx {
    int tiles, steps, strips;
    uint16_t *q; /* B [tiles][steps]: 16 pairs of channels by 16 columns */
    uint16_t *k; /* A [SHEET or 1][4][steps]: 16 keys */
    uint16_t *v; /* B [HALVES or 1][strips]: 16 pairs of tokens */
    uint16_t *p; /* A [2 tiles][HALVES][hi, lo]: 16 columns by 32 tokens */
    float *s;    /* [2 tiles][SHEET][64][16]: keys by columns */
    uint32_t *turn; /* [2][16][16] */
    struct attn_page *page; /* [SHEET], so far */
    bool *strays; /* [SHEET]: some of the page's values are no numbers; they are 0 in v */
};

static inline struct attn_amx room_of(const struct attn_args *a, int columns, char *memory,
                                      size_t *bytes)
{
    struct attn_amx m = {.tiles = (columns + 15) / 16, .steps = (int)attn_wide(a->q->dim[2]) / 32,
                         .strips = (int)attn_wide(a->v->dim[2]) / 16};
    const int pages = m.tiles == 1 ? 1 : SHEET, halves = m.tiles == 1 ? 1 : HALVES; /* packed */
    const int tiles[] = {m.tiles * m.steps, pages * 4 * m.steps, halves * m.strips, 4 * HALVES};
    uint16_t **const part[] = {&m.q, &m.k, &m.v, &m.p};
    size_t used = 0;
    for (int i = 0; i < 4; i++) {
        *part[i] = (uint16_t *)(memory + used);
        used += (size_t)tiles[i] * TILE_SIZE;
    }
    m.s = (float *)(memory + used), used += 2 * SHEET * 4 * TILE_SIZE;
    m.turn = (uint32_t *)(memory + used), used += 2 * TILE_SIZE;
    m.page = (struct attn_page *)(memory + used), used += SHEET * sizeof *m.page;
    m.strays = (bool *)(memory + used);
    *bytes = used + SHEET * sizeof *m.strays;
    return m;
}

static inline size_t amx_bytes(const struct attn_args *a, int columns)
{
    static char nowhere[1];
    size_t bytes;
    room_of(a, columns, nowhere, &bytes);
    return bytes;
}

static inline struct attn_amx room(const struct attn_block *b)
{
    size_t bytes;
    return room_of(b->args, b->columns, b->work, &bytes);
}

/* ---- operands ----------------------------------------------------------------------------------- */

/* Entries at.. of a row of `width`, 32 of them; beyond its end 0. */
TILE_INLINE __m512i row32(const void *row, int64_t at, int64_t width)
{
    const uint16_t *half = (const uint16_t *)row + at;
    const int64_t left = width - at;
    if (left >= 32) return _mm512_loadu_si512(half);
    return left <= 0 ? _mm512_setzero_si512()
                     : _mm512_maskz_loadu_epi16(0xffffffffu >> (32 - left), half);
}

static inline void amx_enter(const struct attn_block *b)
{
    const struct tensor *q = b->args->q;
    const struct attn_amx m = room(b);
    for (int t = 0; t < m.tiles; t++)
        for (int s = 0; s < m.steps; s++) {
            __m512i turned[16];
            for (int i = 0; i < 16; i++) {
                const int c = 16 * t + i;
                _mm512_storeu_si512(m.turn + 16 * i,
                                    c < b->columns ? row32(attn_column(b, q, c), 32 * s, q->dim[2])
                                                   : _mm512_setzero_si512());
            }
            turn16(turned, m.turn, TILE_BYTES);
            for (int i = 0; i < 16; i++)
                _mm512_storeu_si512(TILE_AT(m.q, t * m.steps + s) + 32 * i, turned[i]);
        }
}

/* The keys of a page, packed as the n-th. whole: no row and no channel is missing. */
TILE_INLINE void pack_keys_as(const struct attn_amx *m, struct attn_page *page, int n, int64_t D,
                              bool whole)
{
    const int64_t lines = m->tiles > 1 ? (page->next_k.lines + PAGE - 1) / PAGE : 0;
    for (int j = 0; j < PAGE; j++) {
        const char *row = page->k + j * page->k_step;
        uint16_t *to = TILE_AT(m->k, (4 * n + j / 16) * m->steps) + j % 16 * 32;
        attn_call(&page->next_k, lines);
        for (int s = 0; s < m->steps; s++, to += TILE_HALVES) {
            __m512i x = _mm512_setzero_si512();
            if (whole)
                x = _mm512_loadu_si512(row + (size_t)s * TILE_BYTES);
            else if (j < page->keys)
                x = row32(row, 32 * s, D);
            _mm512_store_si512(to, x);
        }
    }
}

static inline void pack_keys(const struct attn_amx *m, struct attn_page *page, int n, int64_t D)
{
    if (page->keys == PAGE && D % 32 == 0)
        pack_keys_as(m, page, n, D, true);
    else
        pack_keys_as(m, page, n, D, false);
}

/* Where value entry d stands among the columns of tiles, and in acc: of 32 entries, those whose place in
 * their eight is below 4 are the columns of one tile, the others those of the next. So words are
 * interleaved within lanes. */
static inline int64_t value_place(int64_t d)
{
    return d / 32 * 32 + d % 8 / 4 * 16 + d % 32 / 8 * 4 + d % 4;
}

/* Tokens j and j + 1 as pairs, all strips. Returns the largest size that was met, sign apart, or
 * `most`. */
TILE_INLINE __m512i pack_pairs(const struct attn_amx *m, const struct attn_page *page, uint16_t *to,
                               int j, int64_t Dv, bool whole, __m512i most)
{
    const __m512i size = _mm512_set1_epi16(0x7fff);
    const char *row = page->v + j * page->v_step, *below = row + page->v_step;
    for (int i = 0; i < m->strips; i += 2, to += 2 * TILE_HALVES) {
        __m512i x = _mm512_setzero_si512(), y = x;
        if (whole || j < page->keys) x = row32(row, 16 * i, whole ? 16 * i + 32 : Dv);
        if (whole || j + 1 < page->keys) y = row32(below, 16 * i, whole ? 16 * i + 32 : Dv);
        most = _mm512_max_epu16(most, _mm512_and_si512(x, size));
        most = _mm512_max_epu16(most, _mm512_and_si512(y, size));
        _mm512_store_si512(to, _mm512_unpacklo_epi16(x, y));
        _mm512_store_si512(to + TILE_HALVES, _mm512_unpackhi_epi16(x, y));
    }
    return most;
}

/* What is left to call of the keys, and then of the values. */
TILE_INLINE void call_both(struct attn_page *page, int64_t lines)
{
    attn_call(page->next_k.lines > 0 ? &page->next_k : &page->next_v, lines);
}

/* What is no number among packed values becomes 0: a token that a column does not see meets it with
 * weight 0, and 0 times what is no number is none. add_strays brings it to those that see it. */
static inline void clear_strays(const struct attn_amx *m, uint16_t *at)
{
    const __m512i exponent = _mm512_set1_epi16(0x7f80);
    for (int i = 0; i < m->strips * TILE_ROWS; i++, at += 32) {
        const __m512i x = _mm512_load_si512(at);
        const __mmask32 stray = _mm512_cmpeq_epi16_mask(_mm512_and_si512(x, exponent), exponent);
        _mm512_store_si512(at, _mm512_mask_mov_epi16(x, stray, _mm512_setzero_si512()));
    }
}

/* Tokens j .. j + 31 of page n of the sheet, packed as the place-th half. */
static inline void pack_half(const struct attn_amx *m, int n, int j, int place, int64_t Dv)
{
    struct attn_page *page = &m->page[n];
    const bool whole = page->keys == PAGE && Dv % 32 == 0;
    const int64_t lines = m->tiles > 1 ? (page->next_v.lines + 15) / 16 : FEW_VALUES;
    uint16_t *to = TILE_AT(m->v, place * m->strips);
    __m512i most = _mm512_setzero_si512();
    for (int i = 0; i < 16; i++) {
        call_both(page, lines);
        most = whole ? pack_pairs(m, page, to + 32 * i, j + 2 * i, Dv, true, most)
                     : pack_pairs(m, page, to + 32 * i, j + 2 * i, Dv, false, most);
    }
    if (_mm512_cmpge_epu16_mask(most, _mm512_set1_epi16(0x7f80)) == 0) return;
    m->strays[n] = true;
    clear_strays(m, to);
}

#endif
