/* linear_backward.h: what the gradients of the matrix products (linear_backward.c) and the one
 * product they are made of, compiled for each ISA (linear_backward_tmpl.h), agree on. */
#ifndef KERNELS_CPU_LINEAR_BACKWARD_H
#define KERNELS_CPU_LINEAR_BACKWARD_H

#include "kernels/cpu/linear.h"

/* c[m][k] += sum over p < P of a[p][m] b[p][k], for M rows of K columns.
 *
 * The sum is made in f32 over 256 p at a time, ascending, and these sums are added to c one after
 * another: the same bits whatever M, the threads and the tiles are. */
struct outer {
    int64_t M, K, P;
    const float *a; /* a[p][m] at a + p * a_p + m * a_m; one of these steps is 1 */
    int64_t a_p, a_m;
    const struct tensor *b;  /* row p of it, or .. */
    const struct linear *w;  /* .. when this is not NULL, row b_first + p of the weight */
    int64_t b_first;
    const struct tensor *c;  /* f32; row m is c_row[m], or c_first + m where that is NULL */
    const int64_t *c_row;
    int64_t c_first;
};

/* False: the scratch is full. */
typedef bool outer_kernel(struct device *device, struct arena *scratch, const struct outer *o);

/* linear and linear_ce backward of call.h with this product. */
void linear_backward_with(outer_kernel *kernel, struct device *device, struct arena *scratch,
                          const struct linear_args *args);
void linear_ce_backward_with(outer_kernel *kernel, struct device *device, struct arena *scratch,
                             const struct linear_ce_args *args);

#endif
