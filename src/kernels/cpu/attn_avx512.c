/* attn_avx512.c: attention with AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/attn_tmpl.h"
