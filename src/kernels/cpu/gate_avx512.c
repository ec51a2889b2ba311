/* gate_avx512.c: decay and write strength for AVX-512. */
#include "kernels/cpu/vec_avx512.h"
#define CPU_NAME(name) name##_avx512
#include "kernels/cpu/gate_tmpl.h"
#include "kernels/cpu/gate_backward_tmpl.h"
