/* rope_avx512.c: rotary positions for AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/rope_tmpl.h"
