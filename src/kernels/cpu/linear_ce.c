/* linear_ce.c: the cross entropy of a head without its logits in memory, some rows and a stretch of
 * the vocabulary at a time. Truth: kernels/ref/linear_ce.c.
 *
 * Logits are made by the product that linear is made of, and summed up in the tiles of cpu_lse: the
 * loss is that of whole rows of logits. */
#include "kernels/cpu/linear.h"

enum { MOST_ROWS = 512, STRETCH = 4 * CPU_LSE_TILE };

/* loss = logsumexp - logit of the target, for the rows that have one. */
struct entropy {
    const struct linear_ce_args *args;
    struct product product;
    uint32_t isa;
    float *logits; /* [rows, STRETCH] */
    const void *x[MOST_ROWS];
    void *y[MOST_ROWS];
    int64_t row[MOST_ROWS];
    float hit[MOST_ROWS]; /* the target's logit, once its tile has come */
    struct cpu_lse lse[MOST_ROWS];
};

static void entropy_rows(void *context, int64_t begin, int64_t end, int thread)
{
    struct entropy *e = context;
    const int64_t columns = e->product.columns;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *logits = e->y[i];
        const int64_t target = e->args->targets[e->row[i]] - e->product.first;
        for (int64_t n = 0; n < columns; n += CPU_LSE_TILE) {
            const int64_t left = columns - n;
            cpu_lse_add(e->isa, &e->lse[i], logits + n, left < CPU_LSE_TILE ? left : CPU_LSE_TILE);
        }
        if (target >= 0 && target < columns) e->hit[i] = logits[target];
    }
}

static bool entropy_block(product_kernel *run, struct device *device, struct arena *scratch,
                          struct entropy *e)
{
    struct product *p = &e->product;
    const int64_t vocab = e->args->vocab;
    for (int64_t i = 0; i < p->rows; i++) {
        e->lse[i] = (struct cpu_lse){-INFINITY, 0.0f};
        e->y[i] = e->logits + i * STRETCH;
    }
    for (int64_t n = 0; p->rows && n < vocab; n += STRETCH) {
        p->first = p->y_first = n;
        p->columns = vocab - n < STRETCH ? vocab - n : STRETCH;
        if (!run(device, scratch, p, 1)) return false;
        pool_run(device->pool, p->rows, 8, entropy_rows, e);
    }
    for (int64_t i = 0; i < p->rows; i++) {
        float loss = (float)(cpu_lse_value(&e->lse[i]) - (double)e->hit[i]);
        cpu_store_row(tensor_at(e->args->loss, e->row[i]), e->args->loss->dtype, &loss, 1);
    }
    return true;
}

void linear_ce_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                            const struct linear_ce_args *args)
{
    const struct tensor *loss = args->loss;
    const float none = 0.0f;
    const int64_t T = cpu_rows(args->x), most = T < MOST_ROWS ? T : MOST_ROWS;
    struct entropy *e = arena_take(scratch, sizeof *e);
    float *logits = arena_take(scratch, (size_t)(most * STRETCH) * sizeof *logits);
    if (!e || !logits) return;
    e->args = args;
    e->isa = device->isa;
    e->logits = logits;
    e->product = (struct product){.w = args->w, .x = e->x, .y = e->y, .x_type = args->x->dtype,
                                  .y_type = DTYPE_F32};
    for (int64_t t = 0; t < T;) {
        int64_t rows = 0;
        for (; t < T && rows < most; t++) {
            if (args->targets[t] < 0) {
                cpu_store_row(tensor_at(loss, t), loss->dtype, &none, 1);
                continue;
            }
            GDN_CHECK(args->targets[t] < args->vocab, "target %d", args->targets[t]);
            e->row[rows] = t;
            e->x[rows++] = cpu_row(args->x, t);
        }
        e->product.rows = rows;
        if (!entropy_block(run, device, scratch, e)) return;
    }
}
