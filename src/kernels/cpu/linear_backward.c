/* linear_backward.c: the gradients of y = x W^T and of the cross entropy of a head:
 *     dx = dy W,  dW += dy^T x,
 * each one product (linear_backward.h). Truth: kernels/ref/linear.c, kernels/ref/linear_ce.c.
 *
 * The cross entropy makes its logits again, some rows and a tile of the vocabulary at a time, with the
 * device's own linear: once for the logsumexp of each row, once for
 *     dz[t, n] = dloss[t] (e^(z - lse) - [n = target]),
 * which is the dy of that tile. Rows without a target are left out before anything is multiplied, so
 * that nothing of them, not even a NaN, reaches a gradient. */
#include "kernels/cpu/linear_backward.h"

#include "kernels/cpu/vec_portable.h"
#define CPU_NAME(name) name
#include "kernels/cpu/linear_backward_tmpl.h"

void linear_backward_with(outer_kernel *kernel, struct device *device, struct arena *scratch,
                          const struct linear_args *args)
{
    const struct tensor *dy = args->y->grad, *x = args->x;
    const struct linear *w = args->w;
    const int64_t T = cpu_rows(x);
    if (!dy) return;
    struct outer o = {.M = T, .K = w->K, .P = w->N, .a = dy->data, .a_p = 1, .a_m = dy->stride[0],
                      .w = w, .c = x->grad};
    if (x->grad && !kernel(device, scratch, &o)) return;
    for (int i = 0; i < w->parts; i++) {
        const struct linear_part *part = &w->part[i];
        if (!part->w->grad) continue;
        o = (struct outer){.M = part->rows, .K = w->K, .P = T,
                           .a = (const float *)dy->data + part->row, .a_p = dy->stride[0], .a_m = 1,
                           .b = x, .c = part->w->grad, .c_first = part->from};
        if (!kernel(device, scratch, &o)) return;
    }
}

/* ---- cross entropy ------------------------------------------------------------------------------ */

enum { ENTROPY_ROWS = 512, ENTROPY_TILE = CPU_LSE_TILE };

/* Some rows that have a target, and a tile of the vocabulary. */
struct entropy_back {
    const struct linear_ce_args *args;
    struct tensor x, z; /* [rows, K] a copy; [rows, tile] logits, then dz */
    int64_t rows, first, tile;
    uint32_t isa;
    int64_t row[ENTROPY_ROWS]; /* which of the call's */
    struct cpu_lse lse[ENTROPY_ROWS];
};

/* Logits of the tile's columns, with the order of sums that the device's linear has. */
static void make_logits(struct device *device, struct arena *scratch, struct entropy_back *e)
{
    const struct linear *w = e->args->w;
    const size_t mark = arena_mark(scratch);
    struct linear_part *parts = arena_take(scratch, (size_t)w->parts * sizeof *parts);
    struct linear tile = {.K = w->K, .part = parts};
    if (!parts) return;
    e->z = tensor_over(e->z.data, DTYPE_F32, 2, (int64_t[]){e->rows, e->tile});
    for (int i = 0; i < w->parts; i++) {
        const struct linear_part *part = &w->part[i];
        const int64_t begin = part->row > e->first ? part->row : e->first;
        int64_t end = part->row + part->rows;
        if (end > e->first + e->tile) end = e->first + e->tile;
        if (begin >= end) continue;
        parts[tile.parts++] = (struct linear_part){part->w, part->from + begin - part->row,
                                                   end - begin, begin - e->first};
        tile.N += end - begin;
    }
    const struct linear_args product = {.x = &e->x, .y = &e->z, .w = &tile};
    device->forward[OP_LINEAR](device, scratch, &product);
    arena_release(scratch, mark);
}

static void sum_rows(void *context, int64_t begin, int64_t end, int thread)
{
    struct entropy_back *e = context;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        cpu_lse_add(e->isa, &e->lse[i], cpu_row(&e->z, i), e->tile);
}

static void slope_rows(void *context, int64_t begin, int64_t end, int thread)
{
    struct entropy_back *e = context;
    const struct tensor *dloss = e->args->loss->grad;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float lse = (float)cpu_lse_value(&e->lse[i]);
        const float up = *(const float *)tensor_at(dloss, e->row[i]);
        const int64_t target = e->args->targets[e->row[i]] - e->first;
        float *z = cpu_row(&e->z, i);
        for (int64_t n = 0; n < e->tile; n++) z[n] = up * cpu_expf(z[n] - lse);
        if (target >= 0 && target < e->tile) z[target] -= up;
    }
}

/* dx and dW of the tile. */
static bool add_tile(outer_kernel *kernel, struct device *device, struct arena *scratch,
                     const struct entropy_back *e)
{
    const struct linear_ce_args *a = e->args;
    const struct linear *w = a->w;
    struct outer o = {.M = e->rows, .K = w->K, .P = e->tile, .a = e->z.data, .a_p = 1,
                      .a_m = e->tile, .w = w, .b_first = e->first, .c = a->x->grad,
                      .c_row = e->row};
    if (a->x->grad && !kernel(device, scratch, &o)) return false;
    for (int i = 0; i < w->parts; i++) {
        const struct linear_part *part = &w->part[i];
        const int64_t begin = part->row > e->first ? part->row : e->first;
        int64_t end = part->row + part->rows;
        if (end > e->first + e->tile) end = e->first + e->tile;
        if (begin >= end || !part->w->grad) continue;
        o = (struct outer){.M = end - begin, .K = w->K, .P = e->rows,
                           .a = (const float *)e->z.data + (begin - e->first), .a_p = e->tile,
                           .a_m = 1, .b = &e->x, .c = part->w->grad,
                           .c_first = part->from + begin - part->row};
        if (!kernel(device, scratch, &o)) return false;
    }
    return true;
}

static void set_tile(struct entropy_back *e, int64_t first)
{
    e->first = first;
    e->tile = e->args->vocab - first < ENTROPY_TILE ? e->args->vocab - first : ENTROPY_TILE;
}

static bool entropy_rows_back(outer_kernel *kernel, struct device *device, struct arena *scratch,
                              struct entropy_back *e)
{
    const int64_t vocab = e->args->vocab;
    for (int64_t i = 0; i < e->rows; i++) e->lse[i] = (struct cpu_lse){-INFINITY, 0.0f};
    for (int64_t first = 0; first < vocab; first += ENTROPY_TILE) {
        set_tile(e, first);
        make_logits(device, scratch, e);
        pool_run(device->pool, e->rows, 8, sum_rows, e);
    }
    for (int64_t first = 0; first < vocab; first += ENTROPY_TILE) {
        set_tile(e, first);
        make_logits(device, scratch, e);
        pool_run(device->pool, e->rows, 8, slope_rows, e);
        if (!add_tile(kernel, device, scratch, e)) return false;
    }
    return true;
}

void linear_ce_backward_with(outer_kernel *kernel, struct device *device, struct arena *scratch,
                             const struct linear_ce_args *args)
{
    const struct tensor *x = args->x;
    const int64_t T = cpu_rows(x), K = args->w->K, size = (int64_t)dtype_size(x->dtype);
    if (!args->loss->grad) return;
    struct entropy_back *e = arena_take(scratch, sizeof *e);
    char *copy = arena_take(scratch, (size_t)(ENTROPY_ROWS * K * size));
    float *z = arena_take(scratch, (size_t)(ENTROPY_ROWS * ENTROPY_TILE) * sizeof *z);
    if (!e || !copy || !z) return;
    *e = (struct entropy_back){.args = args, .isa = device->isa, .z = {.data = z}};
    for (int64_t t = 0; t < T;) {
        for (e->rows = 0; t < T && e->rows < ENTROPY_ROWS; t++) {
            if (args->targets[t] < 0) continue;
            memcpy(copy + e->rows * K * size, cpu_row(x, t), (size_t)(K * size));
            e->row[e->rows++] = t;
        }
        e->x = tensor_over(copy, x->dtype, 2, (int64_t[]){e->rows, K});
        if (e->rows && !entropy_rows_back(kernel, device, scratch, e)) return;
    }
}
