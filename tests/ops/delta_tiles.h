/* delta_tiles.h: whether delta runs on tiles here. Its laws on tiles are linked twice: with the
 * library's, which few machines have, and with tiles in plain C (GDN_TILE_EMULATED,
 * kernels/cpu/tile.h), which run wherever there is AVX-512 with bf16. */
#ifndef OPS_DELTA_TILES_H
#define OPS_DELTA_TILES_H

#include <stdio.h>

#include "base/cpu.h"
#include "harness/suite.h"
#include "kernels/cpu/cpu.h"

#ifdef GDN_TILE_EMULATED
enum { TILE_NEEDS = CPU_AVX512 | CPU_AVX512_BF16 };
#else
enum { TILE_NEEDS = CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX };
#endif

/* `found`: what stands in the slot that is to be `wanted`. Otherwise a law would prove the exact
 * form once more: it says that it was skipped. */
static inline bool no_tiles(op_kernel *found, op_kernel *wanted, struct verdict *v, const char *law)
{
    v->cases++;
    if ((cpu_flags() & TILE_NEEDS) == TILE_NEEDS && found == wanted) return false;
    fprintf(stderr, "delta %s: SKIPPED, it does not run on tiles here\n", law);
    return true;
}

#endif
