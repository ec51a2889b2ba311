/* join.c: y = a + sigmoid(s) b. Truth: kernels/ref/join.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/math.h"

struct job {
    const struct join_args *j;
    struct cpu_work_rows work; /* [2 D] */
};

static float share(const struct join_args *j, int64_t t)
{
    float s;
    if (!j->s) return 1.0f;
    cpu_load_row(&s, cpu_row(j->s, t), j->s->dtype, 1);
    return 1.0f / (1.0f + cpu_expf(-s));
}

static void join_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct join_args *j = job->j;
    const int64_t D = j->a->dim[1];
    float *a = job->work.data + thread * job->work.stride, *b = a + D;
    for (int64_t t = begin; t < end; t++) {
        const float part = share(j, t);
        cpu_load_row(a, cpu_row(j->a, t), j->a->dtype, D);
        cpu_load_row(b, cpu_row(j->b, t), j->b->dtype, D);
        for (int64_t i = 0; i < D; i++) a[i] = a[i] + part * b[i];
        cpu_store_row(cpu_row(j->y, t), j->y->dtype, a, D);
    }
}

static void join_rows_backward(void *context, int64_t begin, int64_t end, int thread)
{
    const struct job *job = context;
    const struct join_args *j = job->j;
    const int64_t D = j->a->dim[1];
    float *b = job->work.data + thread * job->work.stride;
    for (int64_t t = begin; t < end; t++) {
        const float part = share(j, t), *dy = cpu_row(j->y->grad, t);
        float *da = j->a->grad ? cpu_row(j->a->grad, t) : NULL;
        float *db = j->b->grad ? cpu_row(j->b->grad, t) : NULL;
        for (int64_t i = 0; da && i < D; i++) da[i] += dy[i];
        for (int64_t i = 0; db && i < D; i++) db[i] += part * dy[i];
        if (!j->s || !j->s->grad) continue;
        cpu_load_row(b, cpu_row(j->b, t), j->b->dtype, D);
        *(float *)cpu_row(j->s->grad, t) += cpu_dot(dy, b, D) * part * (1.0f - part);
    }
}

static void run(struct device *device, struct arena *scratch, const struct join_args *j,
                pool_work *rows)
{
    const int64_t D = j->a->dim[1];
    struct job job = {.j = j, .work = cpu_take_rows(device, scratch, 2 * D)};
    if (job.work.data) pool_run(device->pool, j->a->dim[0], cpu_grain(D), rows, &job);
}

void cpu_join_forward(struct device *device, struct arena *scratch, const void *args)
{
    run(device, scratch, args, join_rows);
}

void cpu_join_backward(struct device *device, struct arena *scratch, const void *args)
{
    const struct join_args *j = args;
    if (j->y->grad) run(device, scratch, j, join_rows_backward);
}
