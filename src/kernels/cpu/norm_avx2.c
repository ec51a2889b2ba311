/* norm_avx2.c: norm, add_norm, gated_norm and l2norm for AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/norm_tmpl.h"
#include "kernels/cpu/norm_backward_tmpl.h"
