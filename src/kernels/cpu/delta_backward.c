/* delta_backward.c: the backward of delta for any machine. */
#include "kernels/cpu/vec_portable.h"

/* to[c][r] = from[r][c], 16 x 16. */
static void turn(float *to, int64_t to_ld, const float *from, int64_t from_ld)
{
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++) to[c * to_ld + r] = from[r * from_ld + c];
}

#define CPU_NAME(name) name
#include "kernels/cpu/delta_backward_tmpl.h"
