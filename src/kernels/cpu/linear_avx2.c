/* linear_avx2.c: the matrix products for AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/linear_tmpl.h"
