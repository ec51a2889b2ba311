/* head_linear_tmpl.h: y[t,h] = W_h x[t,h] in the words of a vector vocabulary: as it lies by the
 * product of linear.h, turned ([K, N] in memory) by a tile of sums over columns:
 *
 *     lane n of y += x[k] W[k][n], one chain with k ascending, whatever stands beside it. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/row_tmpl.h"

enum {
    TURNED_ROWS = VF_REGISTERS >= 32 ? 6 : VL == 8 ? 4 : 2, /* of a tile */
    TURNED_WIDE = VF_REGISTERS >= 32 ? 4 : 2                /* vectors of a tile */
};

struct turned {
    const struct head_linear_args *a;
    int64_t tiles; /* of rows */
};

static inline void *head_row(const struct tensor *t, int64_t i, int64_t j)
{
    return tensor_at(t, i * t->stride[0] + j * t->stride[1]);
}

VF_INLINE float turned_get(enum dtype type, const void *row, int64_t k)
{
    const uint16_t *half = row;
    if (type == DTYPE_F32) return ((const float *)row)[k];
    return type == DTYPE_BF16 ? bf16_to_f32(half[k]) : f16_to_f32(half[k]);
}

/* `left` columns from n on, of m rows: m, and for whole tiles left, are constants. */
VF_INLINE void turned_tile(const int m, const struct head_linear_args *a, int64_t t, int64_t h,
                           int64_t n, int64_t left)
{
    const enum dtype type = a->w->dtype;
    vf sum[TURNED_ROWS][TURNED_WIDE];
    const void *x[TURNED_ROWS];
    for (int r = 0; r < m; r++) x[r] = head_row(a->x, t + r, h);
    VF_UNROLL for (int r = 0; r < m; r++)
        VF_UNROLL for (int v = 0; v < TURNED_WIDE; v++) sum[r][v] = vf_zero();
    for (int64_t k = 0; k < a->x->dim[2]; k++) {
        const void *row = head_row(a->w, h, k);
        vf wide[TURNED_WIDE];
        VF_UNROLL for (int v = 0; v < TURNED_WIDE; v++) {
            const int64_t some = left - v * VL;
            wide[v] = some > 0 ? row_get(type, row, n + v * VL, some < VL ? some : VL) : vf_zero();
        }
        VF_UNROLL for (int r = 0; r < m; r++) {
            const vf one = vf_set1(turned_get(a->x->dtype, x[r], k));
            VF_UNROLL for (int v = 0; v < TURNED_WIDE; v++)
                sum[r][v] = vf_fma(one, wide[v], sum[r][v]);
        }
    }
    VF_UNROLL for (int r = 0; r < m; r++)
        VF_UNROLL for (int v = 0; v < TURNED_WIDE; v++) {
            const int64_t some = left - v * VL;
            if (some <= 0) continue;
            row_put(a->y->dtype, head_row(a->y, t + r, h), n + v * VL, some < VL ? some : VL,
                    sum[r][v]);
        }
}

VF_INLINE void turned_rows(const int m, const struct head_linear_args *a, int64_t t, int64_t h)
{
    const int64_t N = a->y->dim[2], wide = TURNED_WIDE * VL;
    int64_t n = 0;
    for (; n + wide <= N; n += wide) turned_tile(m, a, t, h, n, wide);
    if (n < N) turned_tile(m, a, t, h, n, N - n);
}

static void turned_run(void *context, int64_t begin, int64_t end, int thread)
{
    const struct turned *job = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const int64_t h = i / job->tiles, stop = job->a->x->dim[0];
        int64_t t = i % job->tiles * TURNED_ROWS;
        if (t + TURNED_ROWS <= stop)
            turned_rows(TURNED_ROWS, job->a, t, h);
        else
            for (; t < stop; t++) turned_rows(1, job->a, t, h);
    }
}

void CPU_NAME(cpu_head_linear_forward)(struct device *device, struct arena *scratch,
                                       const void *args)
{
    const struct head_linear_args *a = args;
    struct turned job = {a, (a->x->dim[0] + TURNED_ROWS - 1) / TURNED_ROWS};
    if (!a->turned)
        head_linear_forward_with(CPU_NAME(product_run), device, scratch, a);
    else
        pool_run(device->pool, job.tiles * a->x->dim[1], 1, turned_run, &job);
}
