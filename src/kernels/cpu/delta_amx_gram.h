/* delta_amx_gram.h: products of the keys and queries of a block of 16 rows with the keys of the
 * blocks up to it: what both kinds of gates begin with. */
#ifndef KERNELS_CPU_DELTA_AMX_GRAM_H
#define KERNELS_CPU_DELTA_AMX_GRAM_H

#include "kernels/cpu/delta_amx_solve.h"

/* 16 rows of 32 channels as pairs of channels by rows. */
TILE_INLINE void turn_tile(uint16_t *to, const uint16_t *from)
{
    __m512i t[16];
    turn16(t, from, TILE_BYTES);
    for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * 32, t[i]);
}

/* m->gram of rows k, q (A [steps]) against first and, where there is one, second (B [steps]): the
 * blocks j and j + 1. */
TILE_INLINE void gram_blocks(const struct amx *m, const uint16_t *k, const uint16_t *q, int j,
                             const uint16_t *first, const uint16_t *second)
{
    float *to = m->gram + j * 2 * TILE_FLOATS;
    tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3);
    for (int s = 0; s < m->steps; s++) {
        tile_load(4, TILE_AT(k, s), TILE_BYTES);
        tile_load(5, TILE_AT(q, s), TILE_BYTES);
        tile_load(6, TILE_AT(first, s), TILE_BYTES);
        tile_dp(0, 4, 6);
        tile_dp(1, 5, 6);
        if (!second) continue;
        tile_load(7, TILE_AT(second, s), TILE_BYTES);
        tile_dp(2, 4, 7);
        tile_dp(3, 5, 7);
    }
    tile_store(0, to, TILE_BYTES);
    tile_store(1, to + TILE_FLOATS, TILE_BYTES);
    if (!second) return;
    tile_store(2, to + 2 * TILE_FLOATS, TILE_BYTES);
    tile_store(3, to + 3 * TILE_FLOATS, TILE_BYTES);
}

#endif
