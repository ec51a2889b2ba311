/* rope.c: rotary positions for any machine. */
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/rope_tmpl.h"
