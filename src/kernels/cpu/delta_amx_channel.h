/* delta_amx_channel.h: the coefficients of a chunk with a gate for each key channel.
 *
 * A decay is then part of the product k_i . k_j, channel by channel: it is split at a block's edge
 * between i and j, so that both factors are products of e^g <= 1:
 *
 *     rows     k_i times the decay from the edge before block b to token i
 *     columns  k_j times the decay from token j to that edge
 *
 * Within a block there is no such edge. There the columns are decayed to the block's end, and the
 * block's own decay is divided out again: good as long as it is above e^-60, where nothing overflows
 * or underflows; a stronger block goes pair by pair. */
#ifndef KERNELS_CPU_DELTA_AMX_CHANNEL_H
#define KERNELS_CPU_DELTA_AMX_CHANNEL_H

#include "kernels/cpu/delta_amx_gram.h"

static const float STRONGEST = 8.75e-27f; /* e^-60 */

/* e^g of the block's rows; 1 from `count` on. */
static void channel_rates(const struct amx *m, const struct amx_rows *g, int count)
{
    const int steps = m->steps;
    const char *row = g->data;
    float *rate = m->channels.rate;
    for (int i = 0; i < 16; i++, row += g->stride * (int64_t)sizeof(float), rate += 32)
        for (int s = 0; s < steps; s++) {
            __m512 even = _mm512_set1_ps(1.0f), odd = even;
            if (i < count) {
                even = load16(row, DTYPE_F32, 32 * s), odd = load16(row, DTYPE_F32, 32 * s + 16);
                split_pairs(&even, &odd);
                even = vf_exp(even), odd = vf_exp(odd);
            }
            _mm512_store_ps(rate + s * 512, even);
            _mm512_store_ps(rate + s * 512 + 16, odd);
        }
}

/* Rows of the block, 32 channels of it: decayed from its start, and from the chunk's. */
TILE_INLINE void channel_rows(const struct amx *m, const struct chunk *c, int b, int s)
{
    const struct channels *h = &m->channels;
    const uint16_t *k = TILE_AT(m->k, s), *q = TILE_AT(m->q, s);
    uint16_t *near_k = TILE_AT(h->k, s), *near_q = TILE_AT(h->q, s);
    uint16_t *k_in = TILE_AT(c->k_in, b * m->steps + s), *q_in = TILE_AT(c->q_in, b * m->steps + s);
    const float *rate = h->rate + s * 512;
    const __m512 before0 = _mm512_load_ps(h->since + 32 * s);
    const __m512 before1 = _mm512_load_ps(h->since + 32 * s + 16);
    __m512 since0 = _mm512_set1_ps(1.0f), since1 = since0;
    for (int i = 0; i < 16 * 32; i += 32) {
        since0 = _mm512_mul_ps(since0, _mm512_load_ps(rate + i));
        since1 = _mm512_mul_ps(since1, _mm512_load_ps(rate + i + 16));
        const __m512i x = _mm512_load_si512(k + i), y = _mm512_load_si512(q + i);
        const __m512 x0 = _mm512_mul_ps(low_of(x), since0), x1 = _mm512_mul_ps(high_of(x), since1);
        const __m512 y0 = _mm512_mul_ps(low_of(y), since0), y1 = _mm512_mul_ps(high_of(y), since1);
        _mm512_store_si512(near_k + i, pack_pair(x0, x1));
        _mm512_store_si512(near_q + i, pack_pair(y0, y1));
        _mm512_store_si512(k_in + i, pack_pair(_mm512_mul_ps(x0, before0),
                                               _mm512_mul_ps(x1, before1)));
        _mm512_store_si512(q_in + i, pack_pair(_mm512_mul_ps(y0, before0),
                                               _mm512_mul_ps(y1, before1)));
    }
    _mm512_store_ps(h->block + 32 * s, since0);
    _mm512_store_ps(h->block + 32 * s + 16, since1);
}

/* Keys of the block decayed to its end, turned. */
TILE_INLINE void channel_turn(const struct amx *m, int b, int s)
{
    const uint16_t *k = TILE_AT(m->k, s);
    uint16_t *to = m->channels.turn;
    const float *rate = m->channels.rate + s * 512;
    __m512 until0 = _mm512_set1_ps(1.0f), until1 = until0;
    for (int i = 15 * 32; i >= 0; i -= 32) {
        const __m512i x = _mm512_load_si512(k + i);
        _mm512_store_si512(to + i, pack_pair(_mm512_mul_ps(low_of(x), until0),
                                             _mm512_mul_ps(high_of(x), until1)));
        until0 = _mm512_mul_ps(until0, _mm512_load_ps(rate + i));
        until1 = _mm512_mul_ps(until1, _mm512_load_ps(rate + i + 16));
    }
    turn_tile(TILE_AT(m->kT, b * m->steps + s), to);
}

/* B [steps] times a factor for each channel. */
TILE_INLINE void scale_columns(uint16_t *to, const uint16_t *from, const float *by, int steps)
{
    for (int s = 0; s < steps; s++, by += 32, from += TILE_HALVES, to += TILE_HALVES)
        for (int p = 0; p < 16; p++) {
            const __m512i x = _mm512_load_si512(from + p * 32);
            const __m512 x0 = _mm512_mul_ps(low_of(x), _mm512_set1_ps(by[p]));
            const __m512 x1 = _mm512_mul_ps(high_of(x), _mm512_set1_ps(by[16 + p]));
            _mm512_store_si512(to + p * 32, pack_pair(x0, x1));
        }
}

/* keys_out (delta_amx_gate.h), where h->far reaches the chunk's end. */
TILE_INLINE void channel_keys_out(const struct amx *m, const struct chunk *c, int half, int s)
{
    const float *far0 = m->channels.far[2 * half] + 32 * s;
    const float *far1 = m->channels.far[2 * half + 1] + 32 * s;
    const uint16_t *first = TILE_AT(m->kT, 2 * half * m->steps + s);
    const uint16_t *second = TILE_AT(first, m->steps);
    for (int p = 0; p < 16; p++) {
        const __m512i x = _mm512_load_si512(first + p * 32), y = _mm512_load_si512(second + p * 32);
        const __m512 x0 = _mm512_mul_ps(low_of(x), _mm512_set1_ps(far0[p]));
        const __m512 x1 = _mm512_mul_ps(high_of(x), _mm512_set1_ps(far0[16 + p]));
        const __m512 y0 = _mm512_mul_ps(low_of(y), _mm512_set1_ps(far1[p]));
        const __m512 y1 = _mm512_mul_ps(high_of(y), _mm512_set1_ps(far1[16 + p]));
        uint16_t *to = TILE_AT(c->k_out, (2 * s + p / 8) * 2 + half) + p % 8 * 64;
        _mm512_store_si512(to, pack_pair(x0, y0));
        _mm512_store_si512(to + 32, pack_pair(x1, y1));
    }
}

/* The block against itself, pair by pair. */
static void channel_pairs(const struct amx *m, float *gram)
{
    const struct channels *h = &m->channels;
    for (int j = 0; j < 16; j++)
        for (int i = j; i < 16; i++) {
            __m512 l = _mm512_setzero_ps(), p = l;
            for (int s = 0; s < m->steps; s++) {
                const uint16_t *k = TILE_AT(m->k, s) + i * 32, *q = TILE_AT(m->q, s) + i * 32;
                const float *rate = h->rate + (s * 16 + i) * 32;
                float *product = h->product + 32 * s;
                const __m512i y = _mm512_load_si512(k), z = _mm512_load_si512(q);
                __m512 x0 = low_of(y), x1 = high_of(y);
                if (i > j) {
                    x0 = _mm512_mul_ps(_mm512_load_ps(product), _mm512_load_ps(rate));
                    x1 = _mm512_mul_ps(_mm512_load_ps(product + 16), _mm512_load_ps(rate + 16));
                }
                _mm512_store_ps(product, x0), _mm512_store_ps(product + 16, x1);
                l = _mm512_fmadd_ps(x0, low_of(y), _mm512_fmadd_ps(x1, high_of(y), l));
                p = _mm512_fmadd_ps(x0, low_of(z), _mm512_fmadd_ps(x1, high_of(z), p));
            }
            gram[i * 16 + j] = _mm512_reduce_add_ps(l);
            gram[TILE_FLOATS + i * 16 + j] = _mm512_reduce_add_ps(p);
        }
}

/* What changes at the end of block b - 1, whose decay is in h->block; b = 0 begins a chunk. */
TILE_INLINE void channel_edge(const struct amx *m, int b)
{
    const struct channels *h = &m->channels;
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int d = 0; d < m->Dk; d += 16) {
        const __m512 by = b ? _mm512_load_ps(h->block + d) : one;
        const __m512 since = b ? _mm512_load_ps(h->since + d) : one;
        _mm512_store_ps(h->since + d, _mm512_mul_ps(since, by));
        for (int j = 0; j + 1 < b; j++)
            _mm512_store_ps(h->far[j] + d, _mm512_mul_ps(_mm512_load_ps(h->far[j] + d), by));
        if (b) _mm512_store_ps(h->far[b - 1] + d, one);
    }
}

/* h->back; whether no channel's decay is too strong for it (nor NaN). */
TILE_INLINE bool channel_back(const struct amx *m)
{
    const struct channels *h = &m->channels;
    __mmask16 strong = 0;
    for (int d = 0; d < m->Dk; d += 16) {
        const __m512 x = _mm512_load_ps(h->block + d);
        strong |= _mm512_cmp_ps_mask(x, _mm512_set1_ps(STRONGEST), _CMP_NGE_UQ);
        _mm512_store_ps(h->back + d, _mm512_div_ps(_mm512_set1_ps(1.0f), x));
    }
    return strong == 0;
}

TILE_INLINE void channel_grams(const struct amx *m, int b)
{
    const struct channels *h = &m->channels;
    const size_t block = (size_t)m->steps * TILE_HALVES;
    const uint16_t *columns[ROW_BLOCKS] = {0};
    for (int j = 0; j <= b; j++) {
        uint16_t *to = h->columns + (size_t)j * block;
        const uint16_t *from = m->kT + (size_t)j * block;
        columns[j] = j == b - 1 ? from : to;
        if (j != b - 1) scale_columns(to, from, j == b ? h->back : h->far[j], m->steps);
    }
    for (int j = 0; j <= b; j += 2)
        gram_blocks(m, h->k, h->q, j, columns[j], j < b ? columns[j + 1] : NULL);
}

/* Block b of the coefficients; its gates from row 0 of g on, 0 after `count` of them. */
TILE_INLINE void channel_block(const struct amx *m, const struct chunk *c, const struct amx_rows *g,
                               int count, int b)
{
    channel_edge(m, b);
    channel_rates(m, g, count);
    for (int s = 0; s < m->steps; s++) {
        channel_rows(m, c, b, s);
        channel_turn(m, b, s);
    }
    const bool mild = channel_back(m);
    channel_grams(m, b);
    if (!mild) channel_pairs(m, m->gram + b * 2 * TILE_FLOATS);
    for (int i = 0; i < 16; i++) {
        __m512 l[ROW_BLOCKS], p[ROW_BLOCKS];
        for (int j = 0; j <= b; j++) {
            l[j] = _mm512_load_ps(m->gram + j * 2 * TILE_FLOATS + i * 16);
            p[j] = _mm512_load_ps(m->gram + (j * 2 + 1) * TILE_FLOATS + i * 16);
        }
        place_row(m, c, b, i, l, p);
    }
}

/* After the last block. */
TILE_INLINE void channel_out(const struct amx *m, const struct chunk *c)
{
    channel_edge(m, ROW_BLOCKS);
    for (int s = 0; s < m->steps; s++) {
        channel_keys_out(m, c, 0, s);
        channel_keys_out(m, c, 1, s);
        for (int p = 0; p < 32; p++)
            c->decay[32 * s + p] = m->channels.since[32 * s + p % 2 * 16 + p / 2];
    }
}

#endif
