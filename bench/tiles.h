/* tiles.h: the roof of AMX: products of tiles that stay in registers. */
#ifndef BENCH_TILES_H
#define BENCH_TILES_H

#include "base/pool.h"
#include "kernels/cpu/tile.h"

enum { TILE_PRODUCTS = 1 << 16, TILE_FLOPS = 2 * 16 * 16 * 32 };

/* Four sums side by side, TILE_PRODUCTS for each of begin..end-1. */
static inline void multiply_tiles(void *context, int64_t begin, int64_t end, int thread)
{
    (void)context, (void)thread;
    tile_open();
    tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3), tile_zero(4), tile_zero(5);
    for (int64_t i = begin * TILE_PRODUCTS; i < end * TILE_PRODUCTS; i += 4) {
        tile_dp(0, 4, 5);
        tile_dp(1, 4, 5);
        tile_dp(2, 4, 5);
        tile_dp(3, 4, 5);
    }
    tile_close();
}

/* By all threads: TILE_FLOPS * TILE_PRODUCTS flops each. */
static inline void run_tiles(struct pool *pool, int threads)
{
    pool_run(pool, threads, 1, multiply_tiles, NULL);
}

#endif
