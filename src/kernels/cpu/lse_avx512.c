/* lse_avx512.c: walks over logits with AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/lse_tmpl.h"
