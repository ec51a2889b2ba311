/* glu_avx512.c: the gated linear unit for AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/glu_tmpl.h"
#include "kernels/cpu/glu_backward_tmpl.h"
