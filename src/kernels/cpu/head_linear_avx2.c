/* head_linear_avx2.c: products of heads for AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/head_linear_tmpl.h"
