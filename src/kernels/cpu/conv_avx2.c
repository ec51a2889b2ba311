/* conv_avx2.c: the convolution's tiles for AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/conv_tmpl.h"
#include "kernels/cpu/conv_backward_tmpl.h"
