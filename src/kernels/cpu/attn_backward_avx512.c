/* attn_backward_avx512.c: the gradients of attention with AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/attn_backward_tmpl.h"
