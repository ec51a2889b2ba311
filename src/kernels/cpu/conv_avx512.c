/* conv_avx512.c: the convolution's tiles for AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/conv_tmpl.h"
#include "kernels/cpu/conv_backward_tmpl.h"
