/* lse.c: the logsumexp of a row in tiles, one order for whoever needs one. */
#include "kernels/cpu/lse.h"

#include "base/cpu.h"

const struct lse_walk *lse_walk_of(uint32_t isa)
{
    if (isa & CPU_AVX512) return &lse_walk_avx512;
    return isa & CPU_AVX2 ? &lse_walk_avx2 : &lse_walk_portable;
}

void lse_meet(struct cpu_lse *lse, struct cpu_lse tile)
{
    const float max = tile.max > lse->max ? tile.max : lse->max, shift = lse_shift(max);
    lse->sum = lse->sum * cpu_expf(lse->max - shift) + tile.sum * cpu_expf(tile.max - shift);
    lse->max = max;
}

void cpu_lse_add(uint32_t isa, struct cpu_lse *lse, const float *x, int64_t n)
{
    lse_meet(lse, lse_walk_of(isa)->tile(x, n, NULL));
}
