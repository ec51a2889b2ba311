/* linear.h: the one product that linear, linear_ce, experts and head_linear are made of, compiled for
 * each ISA, and where its weights come from. docs/kernels/linear.md.
 *
 *     op (linear.c, linear_ce.c, experts.c)     rows of x and y, columns of W: struct product
 *     product_kernel                            x packed once for all its columns, then
 *         linear_tmpl.h   portable, AVX2, AVX-512: 16 lanes over k, one tree
 *         linear_amx.c    tiles; what is not bf16 goes to AVX-512
 *     panel_row, panel_tile                     rows of W of any type as f32, as tiles of bf16
 *
 * Weights are read where they lie while few rows of x meet them. With more, or in a type that no tile
 * and no vector can read, they pass through a panel: some rows of W, brought to f32 (panel_row in
 * linear_panel_tmpl.h) or bf16 (linear_amx_panel.h) once for all rows of x, small enough for the
 * nearest caches. The panel changes nothing in the order of a sum: it only says where an element of W
 * is read. So a new type of weights is one case in each of these two functions, and has the same bits
 * for every M by construction. */
#ifndef KERNELS_CPU_LINEAR_H
#define KERNELS_CPU_LINEAR_H

#include "kernels/cpu/cpu.h"

/* y[r] = columns first .. first + columns - 1 of x[r] W^T, for each row r; at least one of both. */
struct product {
    const struct linear *w;
    int64_t rows, first, columns;
    const void *const *x; /* [rows] each [K] of x_type */
    void *const *y;       /* [rows] each the place of column y_first */
    int64_t y_first;
    enum dtype x_type, y_type;
};

/* Computes all products of a list, its columns shared among the device's threads. An output's bits
 * are a function of its rows of x and W alone. False: the scratch is full. */
typedef bool product_kernel(struct device *device, struct arena *scratch,
                            const struct product *list, int64_t count);
product_kernel product_run, product_run_avx2, product_run_avx512, product_run_amx;

/* The ops with this product. */
void linear_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                         const struct linear_args *args);
void linear_ce_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                            const struct linear_ce_args *args);
void experts_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                          const struct experts_args *args);
bool head_linear_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                              const struct head_linear_args *args); /* not turned */

/* Row n of W where it lies, and how many rows from it on are `step` bytes apart. */
struct linear_run {
    const char *at;
    enum dtype type;
    int64_t step, rows;
};

static inline struct linear_run linear_run_of(const struct linear *w, int64_t n)
{
    const struct linear_part *part = linear_part_of(w, n);
    const struct tensor *t = part->w;
    const int64_t row = part->from + n - part->row, left = part->row + part->rows - n;
    const int64_t matrix = t->rank > 1 ? t->dim[t->rank - 2] : 1, same = matrix - row % matrix;
    const char *at = cpu_row(t, row);
    const int64_t rows = left < same ? left : same;
    const int64_t step = rows > 1 ? (const char *)cpu_row(t, row + 1) - at : 0;
    return (struct linear_run){at, t->dtype, step, rows};
}

/* Row n of W where it lies; *type is its part's. */
static inline const void *linear_weight_row(const struct linear *w, int64_t n,
                                            enum dtype *type)
{
    const struct linear_part *part = linear_part_of(w, n);
    *type = part->w->dtype;
    return cpu_row(part->w, part->from + n - part->row);
}

#endif
