/* attn_avx2.c: attention with AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/attn_tmpl.h"
