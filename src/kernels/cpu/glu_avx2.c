/* glu_avx2.c: the gated linear unit for AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/glu_tmpl.h"
#include "kernels/cpu/glu_backward_tmpl.h"
