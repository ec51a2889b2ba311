/* quant.h: the products of fast mode with quantised weights and few rows of x: int8 by int8.
 *
 *     y = sum over blocks b of   scale_b s_b (sum code x')                       q8
 *                                scale_b s_b (sum code x') + minimum_b s_b sum x'    q4
 *
 * x' are a row's elements of the block over s_b = max |x| / 127, rounded to nearest: the sums in
 * brackets are exact in int32, the others are f32. Relative to the values of the weights (quant.h of
 * tensor), an element of x is off by at most s_b / 2, a weight by the bf16 rounding that is left out.
 * Everything else goes through linear_panel_tmpl.h and is exact. docs/kernels/quant.md. */
#ifndef KERNELS_CPU_QUANT_H
#define KERNELS_CPU_QUANT_H

#include "kernels/cpu/linear.h"

/* Most rows of weights of a product, blocks whose scales are converted at once, bytes that are asked
 * for early; rows of x from which on the panel is taken. */
enum { QUANT_ROWS = 16, QUANT_SCALES = 16, QUANT_AHEAD = 4096, QUANT_FEW = 16 };

/* A row of x. Blocks are filled up with 0 to a multiple of QUANT_SCALES. For q4 the first halves of
 * four blocks stand before the second halves, as the low and high bits of 64 bytes of codes do:
 *
 *     q8   | block 0 | block 1 | ..
 *     q4   | 0..15 of block 0, of 1, of 2, of 3 | 16..31 of block 0, of 1, of 2, of 3 | block 4 .. */
struct quant_x {
    const int8_t *code;   /* [blocks][32] */
    const int32_t *less;  /* [blocks][8] -128 times the sum of each four codes; q8 only */
    const float *scale;   /* [blocks] s_b */
    const float *sum;     /* [blocks] s_b sum x' */
};

/* The products of one row of x and some rows of weights, each of `blocks` blocks. */
typedef void quant_dot(float *y, const void *const *row, int rows, enum dtype dtype,
                       int64_t blocks, const struct quant_x *x);
quant_dot quant_dot_portable, quant_dot_avx2, quant_dot_vnni;

/* Runs the products of a list: what has quantised weights and few rows here, all else with `run`. */
bool quant_products(product_kernel *run, struct device *device, struct arena *scratch,
                    const struct product *list, int64_t count);

#endif
