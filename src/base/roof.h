/* roof.h: what bounds every kernel on this machine, as work to be timed: multiply-adds that never
 * leave registers, and memory that is only read. */
#ifndef BASE_ROOF_H
#define BASE_ROOF_H

#include <stddef.h>
#include <stdint.h>

/* Instruction sets, weakest first; needs: cpu flags (base/cpu.h). */
enum { ROOF_PORTABLE, ROOF_AVX2, ROOF_AVX512, ROOF_TILES, ROOFS };
struct roof {
    const char *name;
    uint32_t needs;
    double (*multiply_adds)(void); /* some of this thread; returns how many flops they were */
};
extern const struct roof roofs[ROOFS];
/* The strongest that these flags allow. */
const struct roof *roof_of(uint32_t flags);

/* Reads n floats as four streams side by side. */
void roof_read(const float *x, size_t n);

#endif
