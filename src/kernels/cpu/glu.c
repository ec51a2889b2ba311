/* glu.c: the gated linear unit for any machine. */
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/glu_tmpl.h"
#include "kernels/cpu/glu_backward_tmpl.h"
