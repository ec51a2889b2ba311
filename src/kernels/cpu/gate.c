/* gate.c: decay and write strength for any machine. */
#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/gate_tmpl.h"
#include "kernels/cpu/gate_backward_tmpl.h"
