/* norm.c: norm, add_norm, gated_norm and l2norm for any machine. */
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/norm_tmpl.h"
#include "kernels/cpu/norm_backward_tmpl.h"
