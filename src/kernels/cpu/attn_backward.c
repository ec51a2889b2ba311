/* attn_backward.c: the gradients of attention for any machine. */
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/attn_backward_tmpl.h"
