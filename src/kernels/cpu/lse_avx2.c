/* lse_avx2.c: walks over logits with AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/lse_tmpl.h"
