/* attn_backward_avx2.c: the gradients of attention with AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/attn_backward_tmpl.h"
