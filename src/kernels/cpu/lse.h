/* lse.h: walks over logits, compiled for each ISA (lse_tmpl.h). */
#ifndef KERNELS_CPU_LSE_H
#define KERNELS_CPU_LSE_H

#include "kernels/cpu/cpu.h"

/* What is taken off before an exponential: inf - inf would be NaN. */
static inline float lse_shift(float max) { return isinf(max) ? 0.0f : max; }

enum { LSE_CLASSES = 64 };

struct lse_walk {
    /* max, and the sum of e^(x - lse_shift(max)), of at most CPU_LSE_TILE elements; peak (or NULL):
     * [LSE_CLASSES], the largest so far of those whose place is the same modulo LSE_CLASSES */
    struct cpu_lse (*tile)(const float *x, int64_t n, float *peak);
    /* the first of x[from .. n - 1] above the bound, or n */
    int64_t (*above)(const float *x, int64_t from, int64_t n, float bound);
};
extern const struct lse_walk lse_walk_portable, lse_walk_avx2, lse_walk_avx512;

/* The one for a device's isa. */
const struct lse_walk *lse_walk_of(uint32_t isa);

/* lse := lse and a tile behind it. */
void lse_meet(struct cpu_lse *lse, struct cpu_lse tile);

#endif
