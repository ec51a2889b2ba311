/* embed.c: y[t] = table[ids[t]]. Truth: kernels/ref/embed.c. */
#include "kernels/cpu/cpu.h"

enum { CHUNK = 1024 };

static void embed_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct embed_args *a = context;
    const struct tensor *table = a->table;
    int64_t D = tensor_width(table), part;
    enum dtype from = table->dtype, to = a->y->dtype;
    float chunk[CHUNK];
    (void)thread;
    for (int64_t t = begin; t < end; t++) {
        const char *source = cpu_row(table, a->ids[t]);
        char *y = cpu_row(a->y, t);
        if (from == to) {
            memcpy(y, source, (size_t)D * dtype_size(to));
            continue;
        }
        for (int64_t i = 0; i < D; i += part) {
            part = D - i < CHUNK ? D - i : CHUNK;
            if (dtype_quantised(from))
                quant_load_f32(chunk, source, from, D, i, part);
            else
                cpu_load_row(chunk, source + i * (int64_t)dtype_size(from), from, part);
            cpu_store_row(y + i * (int64_t)dtype_size(to), to, chunk, part);
        }
    }
}

void cpu_embed_forward(struct device *device, struct arena *scratch, const void *args)
{
    struct embed_args a = *(const struct embed_args *)args;
    (void)scratch;
    pool_run(device->pool, cpu_rows(a.y), cpu_grain(tensor_width(a.y)), embed_rows, &a);
}
