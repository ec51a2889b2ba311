/* glu.c: y = silu(a) b or sigmoid(a) b. Truth: kernels/ref/glu.c. */
#include "kernels/cpu/cpu.h"

enum { CHUNK = 1024 };

static void glu_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct glu_args *g = context;
    int64_t F = tensor_width(g->y), n;
    int64_t a_size = (int64_t)dtype_size(g->a->dtype), b_size = (int64_t)dtype_size(g->b->dtype);
    int64_t y_size = (int64_t)dtype_size(g->y->dtype);
    float a[CHUNK], b[CHUNK];
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const char *a_row = cpu_row(g->a, row), *b_row = cpu_row(g->b, row);
        char *y_row = cpu_row(g->y, row);
        for (int64_t i = 0; i < F; i += n) {
            n = F - i < CHUNK ? F - i : CHUNK;
            cpu_load_row(a, a_row + i * a_size, g->a->dtype, n);
            cpu_load_row(b, b_row + i * b_size, g->b->dtype, n);
            if (g->act == ACT_SILU)
                for (int64_t j = 0; j < n; j++) a[j] = cpu_silu(a[j]) * b[j];
            else
                for (int64_t j = 0; j < n; j++) a[j] = cpu_sigmoid(a[j]) * b[j];
            cpu_store_row(y_row + i * y_size, g->y->dtype, a, n);
        }
    }
}

void cpu_glu_forward(struct device *device, struct arena *scratch, const void *args)
{
    struct glu_args a = *(const struct glu_args *)args;
    (void)scratch;
    pool_run(device->pool, cpu_rows(a.y), cpu_grain(tensor_width(a.y)), glu_rows, &a);
}
