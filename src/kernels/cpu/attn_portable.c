/* attn_portable.c: attention for any machine. */
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name##_portable
#include "kernels/cpu/attn_tmpl.h"
