/* rope_avx2.c: rotary positions for AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/rope_tmpl.h"
