/* embed_backward.c: dtable[id] += the sum of dy[t] over the rows t with this id, made in double in
 * the order of the rows. Threads own columns. Truth: kernels/ref/embed.c. */
#include "kernels/cpu/cpu.h"

enum { COLUMNS = 64 };

struct embed_job {
    const struct embed_args *args;
    const int32_t *first, *next; /* [V], [T]: the rows of an id as a list; -1 ends it */
};

static void add_id(const struct embed_job *job, int32_t id, int64_t begin, int64_t n)
{
    const struct tensor *dy = job->args->y->grad;
    float *to = (float *)cpu_row(job->args->table->grad, id) + begin;
    double sum[COLUMNS] = {0};
    int32_t t = job->first[id];
    if (job->next[t] < 0) { /* one row: the same without the detour */
        const float *from = (const float *)cpu_row(dy, t) + begin;
        for (int64_t i = 0; i < n; i++) to[i] += from[i];
        return;
    }
    for (; t >= 0; t = job->next[t]) {
        const float *from = (const float *)cpu_row(dy, t) + begin;
        for (int64_t i = 0; i < n; i++) sum[i] += (double)from[i];
    }
    for (int64_t i = 0; i < n; i++) to[i] += (float)sum[i];
}

static void add_columns(void *context, int64_t begin, int64_t end, int thread)
{
    const struct embed_job *job = context;
    const int64_t T = cpu_rows(job->args->y);
    (void)thread;
    for (int64_t t = 0; t < T; t++) {
        const int32_t id = job->args->ids[t];
        if (job->first[id] != t) continue; /* its list was done at its first row */
        for (int64_t i = begin; i < end; i += COLUMNS)
            add_id(job, id, i, end - i < COLUMNS ? end - i : COLUMNS);
    }
}

void cpu_embed_backward(struct device *device, struct arena *scratch, const void *args)
{
    const struct embed_args *a = args;
    const int64_t T = cpu_rows(a->y), V = a->table->dim[0];
    if (!a->y->grad || !a->table->grad) return;
    int32_t *first = arena_take(scratch, (size_t)V * sizeof *first);
    int32_t *next = arena_take(scratch, (size_t)(T + 1) * sizeof *next);
    if (!first || !next) return;
    memset(first, 0xff, (size_t)V * sizeof *first);
    for (int64_t t = T - 1; t >= 0; t--) {
        GDN_CHECK(a->ids[t] >= 0 && a->ids[t] < V, "id %d of %lld", a->ids[t], (long long)V);
        next[t] = first[a->ids[t]];
        first[a->ids[t]] = (int32_t)t;
    }
    struct embed_job job = {a, first, next};
    pool_run(device->pool, tensor_width(a->table), COLUMNS, add_columns, &job);
}
