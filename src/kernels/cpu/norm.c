/* norm.c: the norms over the last axis. With r = 1 / sqrt(mean x^2 + eps):
 *   norm        y = x r w, or x r (1 + w)
 *   add_norm    x1 = x + d as it is stored, y the norm of that
 *   gated_norm  y = x r w act(z)
 *   l2norm      y = scale x / sqrt(sum x^2 + eps)
 * A row is worked on in f32 and rounded once. Truth: kernels/ref/norm.c. */
#include "kernels/cpu/cpu.h"

/* What the four have in common; d, z, x1 and w stay NULL where an op has none. */
struct norm_job {
    const struct tensor *x, *d, *z;
    struct tensor *x1, *y;
    const float *w; /* [D], with the 1 of a centred weight added */
    struct cpu_work_rows work; /* [2 D]: the row, and d or z */
    int64_t D;
    float eps, scale;
    enum act act;
};

static void normalise(const struct norm_job *job, float *row)
{
    const float *w = job->w;
    float r = 1.0f / sqrtf(cpu_dot(row, row, job->D) / (float)job->D + job->eps);
    for (int64_t i = 0; i < job->D; i++) row[i] = row[i] * r * w[i];
}

static void norm_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct norm_job *job = context;
    float *row = job->work.data + thread * job->work.stride, *other = row + job->D;
    for (int64_t t = begin; t < end; t++) {
        cpu_load_row(row, cpu_row(job->x, t), job->x->dtype, job->D);
        if (job->d) {
            cpu_load_row(other, cpu_row(job->d, t), job->d->dtype, job->D);
            for (int64_t i = 0; i < job->D; i++) row[i] += other[i];
            /* The norm sees what later layers will see: the sum after its rounding. */
            void *sum = cpu_row(job->x1, t);
            cpu_store_row(sum, job->x1->dtype, row, job->D);
            cpu_load_row(row, sum, job->x1->dtype, job->D);
        }
        normalise(job, row);
        cpu_store_row(cpu_row(job->y, t), job->y->dtype, row, job->D);
    }
}

static void gated_norm_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct norm_job *job = context;
    float *row = job->work.data + thread * job->work.stride, *z = row + job->D;
    for (int64_t t = begin; t < end; t++) {
        cpu_load_row(row, cpu_row(job->x, t), job->x->dtype, job->D);
        cpu_load_row(z, cpu_row(job->z, t), job->z->dtype, job->D);
        normalise(job, row);
        if (job->act == ACT_SILU)
            for (int64_t i = 0; i < job->D; i++) row[i] *= cpu_silu(z[i]);
        else
            for (int64_t i = 0; i < job->D; i++) row[i] *= cpu_sigmoid(z[i]);
        cpu_store_row(cpu_row(job->y, t), job->y->dtype, row, job->D);
    }
}

static void l2norm_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct norm_job *job = context;
    float *row = job->work.data + thread * job->work.stride;
    for (int64_t t = begin; t < end; t++) {
        cpu_load_row(row, cpu_row(job->x, t), job->x->dtype, job->D);
        float r = 1.0f / sqrtf(cpu_dot(row, row, job->D) + job->eps);
        for (int64_t i = 0; i < job->D; i++) row[i] = job->scale * row[i] * r;
        cpu_store_row(cpu_row(job->y, t), job->y->dtype, row, job->D);
    }
}

/* Fills in D, w and the working rows, and runs; `w` NULL: the op has no weight. */
static void run(struct device *device, struct arena *scratch, struct norm_job *job,
                const struct tensor *w, bool centred, pool_work *rows)
{
    job->D = tensor_width(job->x);
    job->work = cpu_take_rows(device, scratch, 2 * job->D);
    if (!job->work.data) return;
    if (w) {
        float *weight = arena_take(scratch, (size_t)job->D * sizeof *weight);
        if (!weight) return;
        cpu_load_row(weight, w->data, w->dtype, job->D);
        for (int64_t i = 0; centred && i < job->D; i++) weight[i] += 1.0f;
        job->w = weight;
    }
    pool_run(device->pool, cpu_rows(job->x), cpu_grain(job->D), rows, job);
}

void cpu_norm_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct norm_args *a = args;
    struct norm_job job = {.x = a->x, .y = a->y, .eps = (float)a->eps};
    run(device, scratch, &job, a->w, a->centred, norm_rows);
}

void cpu_add_norm_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct add_norm_args *a = args;
    struct norm_job job = {.x = a->x, .d = a->d, .x1 = a->x1, .y = a->y, .eps = (float)a->eps};
    run(device, scratch, &job, a->w, a->centred, norm_rows);
}

void cpu_gated_norm_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct gated_norm_args *a = args;
    struct norm_job job = {.x = a->x, .z = a->z, .y = a->y, .eps = (float)a->eps, .act = a->act};
    run(device, scratch, &job, a->w, false, gated_norm_rows);
}

void cpu_l2norm_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct l2norm_args *a = args;
    struct norm_job job = {
        .x = a->x, .y = a->y, .eps = (float)a->eps, .scale = (float)a->scale};
    run(device, scratch, &job, NULL, false, l2norm_rows);
}
