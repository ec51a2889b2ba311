/* head_linear_avx512.c: products of heads for AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/head_linear_tmpl.h"
