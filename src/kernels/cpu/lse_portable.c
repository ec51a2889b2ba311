/* lse_portable.c: walks over logits for any machine. */
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name##_portable
#include "kernels/cpu/lse_tmpl.h"
