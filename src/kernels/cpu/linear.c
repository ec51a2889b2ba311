/* linear.c: y = x W^T, rows block by block through the product of linear.h, and that product for any
 * machine. Truth: kernels/ref/linear.c. */
#include "kernels/cpu/quant.h"

#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/linear_tmpl.h"

enum { MOST_ROWS = 512 }; /* multiplied together: x of more would not stay in a cache */

void linear_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                         const struct linear_args *args)
{
    const int64_t T = cpu_rows(args->x);
    const void *x[MOST_ROWS];
    void *y[MOST_ROWS];
    struct product p = {.w = args->w, .columns = args->w->N, .x = x, .y = y,
                        .x_type = args->x->dtype, .y_type = args->y->dtype};
    for (int64_t t = 0; t < T; t += p.rows) {
        p.rows = T - t < MOST_ROWS ? T - t : MOST_ROWS;
        for (int64_t r = 0; r < p.rows; r++)
            x[r] = cpu_row(args->x, t + r), y[r] = cpu_row(args->y, t + r);
        const bool room = args->fast ? quant_products(run, device, scratch, &p, 1)
                                     : run(device, scratch, &p, 1);
        if (!room) return;
    }
}
