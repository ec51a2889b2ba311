/* gate_avx2.c: decay and write strength for AVX2. */
#include "kernels/cpu/vec_avx2.h"
#define CPU_NAME(name) name##_avx2
#include "kernels/cpu/gate_tmpl.h"
#include "kernels/cpu/gate_backward_tmpl.h"
