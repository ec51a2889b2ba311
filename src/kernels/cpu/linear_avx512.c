/* linear_avx512.c: the matrix products for AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/linear_tmpl.h"
