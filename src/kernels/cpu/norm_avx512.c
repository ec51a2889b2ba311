/* norm_avx512.c: norm, add_norm, gated_norm and l2norm for AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/norm_tmpl.h"
#include "kernels/cpu/norm_backward_tmpl.h"
