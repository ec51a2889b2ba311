/* attn_amx.c: attention in bf16 on AMX tiles. docs/kernels/attn.md.
 *
 *     S^T = K q^T     keys as they lie, 16 rows of a tile; queries as pairs of channels by columns
 *     O  += P V       P turned to rows of queries, in two bf16 parts (off by 2^-18); values as pairs
 *                     of tokens
 *
 * A sheet of up to 4 pages is packed page by page; with its last one it meets all columns, so that
 * their sums are loaded and stored once for 256 tokens. Where there is one tile of columns (tokens
 * one by one, and few) keys are read where they lie, and values packed two strips at a time in L1.
 *
 * Sums are f32. An entry of a tile depends on its own row and column alone, and every column meets
 * the same products in the same order however many there are: a token alone, a prompt, a draft. */
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/attn_sums_tmpl.h"
#include "kernels/cpu/delta_amx_pack.h"

enum { SHEET = 4, HALVES = 2 * SHEET }; /* pages; of 32 tokens */
enum { FLUSH = 0x8040 }; /* denormals are zero: tiles do so anyway, and vectors trap on them */

#define TILE_AT(base, n) ((base) + (size_t)(n) * TILE_HALVES)

/* 64 keys as A tiles: a group of 16 rows, `row` bytes apart, by 32 channels a step. */
struct attn_keys {
    const char *at;
    size_t row, step, group;
};

/* What a block keeps in its memory. steps: of 32 channels; strips: of 16 value columns. */
struct attn_amx {
    int tiles, steps, strips;
    uint16_t *q; /* B [tiles][steps]: 16 pairs of channels by 16 columns */
    uint16_t *k; /* A [SHEET][4][steps]: 16 keys */
    uint16_t *v; /* B [HALVES][strips], of one tile of columns [HALVES][2]: 16 pairs of tokens */
    uint16_t *p; /* A [2 tiles][HALVES][hi, lo]: 16 columns by 32 tokens */
    float *s;    /* [2 tiles][SHEET][64][16]: keys by columns */
    uint32_t *turn; /* [2][16][16] */
    struct attn_page *page; /* [SHEET], so far */
    struct attn_keys *keys; /* [SHEET] */
    bool *strays; /* [SHEET]: some of the page's values are no numbers; they are 0 in v */
};

static struct attn_amx room_of(const struct attn_args *a, int columns, char *memory, size_t *bytes)
{
    struct attn_amx m = {.tiles = (columns + 15) / 16, .steps = (int)attn_wide(a->q->dim[2]) / 32,
                         .strips = (int)attn_wide(a->v->dim[2]) / 16};
    const int tiles[] = {m.tiles * m.steps, SHEET * 4 * m.steps, HALVES * m.strips, 4 * HALVES};
    uint16_t **const part[] = {&m.q, &m.k, &m.v, &m.p};
    size_t used = 0;
    for (int i = 0; i < 4; i++) {
        *part[i] = (uint16_t *)(memory + used);
        used += (size_t)tiles[i] * TILE_SIZE;
    }
    m.s = (float *)(memory + used), used += 2 * SHEET * 4 * TILE_SIZE;
    m.turn = (uint32_t *)(memory + used), used += 2 * TILE_SIZE;
    m.page = (struct attn_page *)(memory + used), used += SHEET * sizeof *m.page;
    m.keys = (struct attn_keys *)(memory + used), used += SHEET * sizeof *m.keys;
    m.strays = (bool *)(memory + used);
    *bytes = used + SHEET * sizeof *m.strays;
    return m;
}

static size_t amx_bytes(const struct attn_args *a, int columns)
{
    static char nowhere[1];
    size_t bytes;
    room_of(a, columns, nowhere, &bytes);
    return bytes;
}

static struct attn_amx room(const struct attn_block *b)
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

static void amx_enter(const struct attn_block *b)
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

/* The keys of page n of the sheet: packed, or where they lie if one tile of columns meets them. */
static struct attn_keys place_keys(const struct attn_amx *m, const struct attn_page *page, int n,
                                   int64_t D)
{
    const size_t step = (size_t)page->k_step;
    if (m->tiles == 1 && page->keys == PAGE && D % 32 == 0)
        return (struct attn_keys){page->k, step, TILE_BYTES, 16 * step};
    for (int j = 0; j < PAGE; j++) {
        const char *row = page->k + j * page->k_step;
        uint16_t *to = TILE_AT(m->k, (4 * n + j / 16) * m->steps) + j % 16 * 32;
        if (m->tiles > 1) attn_call(page->next_k, page->k_step, 2 * D, j, 1);
        for (int s = 0; s < m->steps; s++, to += TILE_HALVES)
            _mm512_storeu_si512(to, j < page->keys ? row32(row, 32 * s, D)
                                                   : _mm512_setzero_si512());
    }
    return (struct attn_keys){(const char *)TILE_AT(m->k, 4 * n * m->steps), TILE_BYTES, TILE_SIZE,
                              (size_t)m->steps * TILE_SIZE};
}

/* Where a half is infinite or NaN. */
TILE_INLINE __mmask32 strays_of(__m512i halves)
{
    const __m512i exponent = _mm512_set1_epi16(0x7f80);
    return _mm512_cmpeq_epi16_mask(_mm512_and_si512(halves, exponent), exponent);
}

/* Tokens j and j + 1, strips i and i + 1, as rows of pairs of two tiles. Returns where there were no
 * numbers: a token that a column does not see meets it with weight 0, and 0 times what is no number is
 * none. Such values become 0 here, and add_strays brings them to those that see them. */
TILE_INLINE __mmask32 pack_pairs(uint16_t *to, const struct attn_page *page, int j, int i, int64_t Dv)
{
    const char *row = page->v + j * page->v_step;
    __m512i x = _mm512_setzero_si512(), y = x;
    if (j < page->keys) x = row32(row, 16 * i, Dv);
    if (j + 1 < page->keys) y = row32(row + page->v_step, 16 * i, Dv);
    const __mmask32 bad_x = strays_of(x), bad_y = strays_of(y);
    x = _mm512_mask_mov_epi16(x, bad_x, _mm512_setzero_si512());
    y = _mm512_mask_mov_epi16(y, bad_y, _mm512_setzero_si512());
    const __m512i low_x = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(x));
    const __m512i low_y = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(y));
    const __m512i high_x = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(x, 1));
    const __m512i high_y = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(y, 1));
    _mm512_storeu_si512(to, _mm512_or_si512(low_x, _mm512_slli_epi32(low_y, 16)));
    _mm512_storeu_si512(to + TILE_HALVES, _mm512_or_si512(high_x, _mm512_slli_epi32(high_y, 16)));
    return bad_x | bad_y;
}

/* All strips of page n of the sheet. */
static void pack_values(const struct attn_amx *m, const struct attn_page *page, int n, int64_t Dv)
{
    __mmask32 any = 0;
    for (int j = 0; j < PAGE; j += 2) {
        uint16_t *to = TILE_AT(m->v, (2 * n + j / 32) * m->strips) + j % 32 / 2 * 32;
        attn_call(page->next_v, page->v_step, 2 * Dv, j, 2);
        for (int i = 0; i < m->strips; i += 2, to += 2 * TILE_HALVES)
            any |= pack_pairs(to, page, j, i, Dv);
    }
    m->strays[n] = any != 0;
}

/* Strips i and i + 1 of all pages, which stay in L1 until one tile of columns has met them. */
static void pack_strips(const struct attn_amx *m, int pages, int i, int64_t Dv)
{
    for (int n = 0; n < pages; n++) {
        const struct attn_page *page = &m->page[n];
        const int row = PAGE * i / m->strips, end = PAGE * (i + 2) / m->strips;
        __mmask32 any = 0;
        attn_call(page->next_v, page->v_step, 2 * Dv, row, end - row);
        for (int j = 0; j < PAGE; j += 2)
            any |= pack_pairs(TILE_AT(m->v, 2 * (2 * n + j / 32)) + j % 32 / 2 * 32, page, j, i, Dv);
        m->strays[n] = m->strays[n] || any != 0;
    }
}

/* ---- scores ------------------------------------------------------------------------------------- */

/* m->s of tile t and, where there are two, the one after it, for page n of the sheet. */
TILE_INLINE void scores(const struct attn_amx *m, int n, int t, bool two)
{
    const struct attn_page *page = &m->page[n];
    const struct attn_keys keys = m->keys[n];
    const uint16_t *q = TILE_AT(m->q, t * m->steps), *q1 = TILE_AT(q, m->steps);
    float *to = m->s + n * PAGE * 16, *to1 = to + SHEET * PAGE * 16;
    for (int j = 0; j < 4; j += 2, to += 2 * TILE_FLOATS, to1 += 2 * TILE_FLOATS) {
        const char *k = keys.at + (size_t)j * keys.group, *k1 = k + keys.group;
        tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3);
        for (int s = 0; s < m->steps; s++, k += keys.step, k1 += keys.step) {
            const int turn = j / 2 * m->steps + s, row = PAGE * turn / (2 * m->steps);
            tile_load(4, k, keys.row);
            tile_load(6, TILE_AT(q, s), TILE_BYTES);
            tile_dp(0, 4, 6);
            tile_load(5, k1, keys.row);
            tile_dp(1, 5, 6);
            if (m->tiles == 1)
                attn_call(page->next_k, page->k_step, m->steps * TILE_BYTES, row,
                          PAGE * (turn + 1) / (2 * m->steps) - row);
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

/* ---- weights ------------------------------------------------------------------------------------ */

/* The largest of each column of scores s [64][16] times `scale`, or top. A NaN is never the largest. */
TILE_INLINE __m512 largest_score(const float *s, __m512 scale, __m512 top)
{
    __m512 most[4];
    for (int n = 0; n < 4; n++) most[n] = top;
    for (int j = 0; j < PAGE; j += 4)
        VF_UNROLL for (int n = 0; n < 4; n++)
            most[n] = _mm512_max_ps(_mm512_mul_ps(_mm512_load_ps(s + (j + n) * 16), scale), most[n]);
    return _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
}

/* Scores times scale, those not seen -inf. */
static void mask_scores(float *s, __m512 scale, __m512i seen)
{
    for (int j = 0; j < PAGE; j++, s += 16) {
        const __mmask16 sees = _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32(j));
        const __m512 x = _mm512_mul_ps(_mm512_load_ps(s), scale);
        _mm512_store_ps(s, _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), sees, x));
    }
}

/* The weights of 32 tokens of 16 columns as A tiles: hi to p, lo behind it. Adds to sum [4]. */
static void weigh_half(const struct attn_amx *m, const float *s, __m512 scale, __m512 top,
                       __m512 *sum, uint16_t *p)
{
    const __m512i half = _mm512_set1_epi32(0x8000), high = _mm512_set1_epi32((int)0xffff0000);
    uint32_t *hi = m->turn, *lo = hi + TILE_FLOATS;
    __m512i turned[16];
    VF_UNROLL for (int i = 0; i < 16; i++) {
        const __m512 a = _mm512_mul_ps(_mm512_load_ps(s + 32 * i), scale);
        const __m512 b = _mm512_mul_ps(_mm512_load_ps(s + 32 * i + 16), scale);
        const __m512 x = vf_exp(_mm512_sub_ps(a, top)), y = vf_exp(_mm512_sub_ps(b, top));
        sum[2 * i % 4] = _mm512_add_ps(sum[2 * i % 4], x);
        sum[2 * i % 4 + 1] = _mm512_add_ps(sum[2 * i % 4 + 1], y);
        const __m512i u = _mm512_add_epi32(_mm512_castps_si512(x), half);
        const __m512i v = _mm512_add_epi32(_mm512_castps_si512(y), half);
        const __m512 hi_x = _mm512_castsi512_ps(_mm512_and_si512(u, high));
        const __m512 hi_y = _mm512_castsi512_ps(_mm512_and_si512(v, high));
        _mm512_store_si512(hi + 16 * i,
                           _mm512_mask_mov_epi16(v, 0x55555555, _mm512_srli_epi32(u, 16)));
        _mm512_store_si512(lo + 16 * i, pack_pair(_mm512_sub_ps(x, hi_x), _mm512_sub_ps(y, hi_y)));
    }
    for (int part = 0; part < 2; part++, p += TILE_HALVES) {
        turn16(turned, hi + part * TILE_FLOATS, TILE_BYTES);
        for (int i = 0; i < 16; i++) _mm512_store_si512(p + 32 * i, turned[i]);
    }
}

static __m512i seen_of(const struct attn_block *b, int t)
{
    int32_t seen[16];
    for (int i = 0; i < 16; i++) seen[i] = attn_seen(b, 16 * t + i);
    return _mm512_loadu_si512(seen);
}

/* Tile t of the block, the n-th of m->s and m->p: scores become weights; the sums so far shrink. */
static void weigh(const struct attn_block *b, const struct attn_amx *m,
                  const struct attn_sums *sums, int pages, int t, int n)
{
    float *s = m->s + n * SHEET * PAGE * 16, shrink[16];
    const __m512 old = _mm512_loadu_ps(sums->top + 16 * t), one = _mm512_set1_ps(1.0f);
    __m512 scale[SHEET], top = old, sum[4];
    for (int i = 0; i < pages; i++) {
        scale[i] = _mm512_set1_ps((float)b->args->scale);
        if (m->page[i].last) mask_scores(s + i * PAGE * 16, scale[i], seen_of(b, t)), scale[i] = one;
        top = largest_score(s + i * PAGE * 16, scale[i], top);
    }
    for (int i = 0; i < 4; i++) sum[i] = _mm512_setzero_ps();
    for (int i = 0; i < 2 * pages; i++)
        weigh_half(m, s + i * 32 * 16, scale[i / 2], top, sum, TILE_AT(m->p, 2 * (n * HALVES + i)));
    const __m512 keep = vf_exp(_mm512_sub_ps(old, top));
    const __m512 all = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
    float *weight = sums->weight + 16 * t;
    _mm512_storeu_ps(weight, _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(weight), keep), all));
    _mm512_storeu_ps(sums->top + 16 * t, top);
    _mm512_storeu_ps(shrink, keep);
    for (int i = 0; i < 16; i++)
        if (shrink[i] != 1.0f)
            attn_scale(sums->acc + (16 * t + i) * b->acc_step, shrink[i], 16 * m->strips);
}

/* ---- values ------------------------------------------------------------------------------------- */

/* acc of tile t and, where there are two, the one after it += P V. */
TILE_INLINE void mix(const struct attn_block *b, const struct attn_amx *m,
                     const struct attn_sums *sums, int pages, int t, bool two)
{
    const size_t step = (size_t)b->acc_step * sizeof(float);
    const int strips = m->tiles == 1 ? 2 : m->strips;
    float *acc = sums->acc + 16 * t * b->acc_step, *acc1 = acc + 16 * b->acc_step;
    for (int i = 0; i < m->strips; i += 2, acc += 32, acc1 += 32) {
        if (m->tiles == 1) pack_strips(m, pages, i, b->args->v->dim[2]);
        tile_load(0, acc, step), tile_load(1, acc + 16, step);
        if (two) tile_load(2, acc1, step), tile_load(3, acc1 + 16, step);
        for (int half = 0; half < 2 * pages; half++) {
            const uint16_t *v = TILE_AT(m->v, half * strips + i % strips);
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

/* What pack_values left out of page i, for tile t, the n-th of m->p. */
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
                    sums->acc[c * b->acc_step + d] += weight * bf16_to_f32(v[d]);
        }
    }
}

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

static void amx_fold(const struct attn_block *b, const struct attn_sums *sums,
                     const struct attn_page *page)
{
    const struct attn_amx m = room(b);
    const int n = (int)(page->number % SHEET);
    m.page[n] = *page;
    m.keys[n] = place_keys(&m, page, n, b->args->q->dim[2]);
    m.strays[n] = false;
    if (m.tiles > 1) pack_values(&m, page, n, b->args->v->dim[2]);
    if (n + 1 < SHEET && !page->ends) return;
    const unsigned modes = _mm_getcsr();
    _mm_setcsr(modes | FLUSH);
    tile_open();
    int t = 0;
    for (; t + 2 <= m.tiles; t += 2) fold_tiles(b, &m, sums, n + 1, t, true);
    if (t < m.tiles) fold_tiles(b, &m, sums, n + 1, t, false);
    tile_close();
    _mm_setcsr(modes);
}

const struct attn_form attn_form_amx = {256, SHEET, amx_bytes, amx_enter, amx_fold, attn_merge,
                                        attn_leave};
