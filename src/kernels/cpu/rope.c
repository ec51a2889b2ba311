/* rope.c: rotary positions. With c, s of the angle p theta^(-2i/rot), for i < rot/2:
 *   y[i] = x[i] c - x[i + rot/2] s,  y[i + rot/2] = x[i + rot/2] c + x[i] s; the rest is copied.
 * Angles in double through libm: they are made here and nowhere else. Rows of an absent sequence
 * give 0. Truth: kernels/ref/rope.c. */
#include "kernels/cpu/cpu.h"

struct rope_job {
    const struct rope_args *args;
    const double *frequency;   /* [rot/2] */
    struct cpu_work_rows work; /* [D + rot]: a head, then cos and sin */
    int64_t H, D;
};

static void turn(float *x, const float *cosine, const float *sine, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

static void rope_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct rope_job *job = context;
    const struct rope_args *a = job->args;
    const struct rows *rows = a->rows;
    int64_t half = a->rot / 2;
    float *head = job->work.data + thread * job->work.stride;
    float *cosine = head + job->D, *sine = cosine + half;
    int32_t b = 0;
    for (int64_t t = begin; t < end; t++) {
        while (rows->start[b + 1] <= t) b++;
        bool absent = rows->slot && rows->slot[b] < 0;
        double position = (double)rows->pos[b] + (double)(t - rows->start[b]);
        for (int64_t i = 0; !absent && i < half; i++) {
            double angle = position * job->frequency[i];
            cosine[i] = (float)cos(angle);
            sine[i] = (float)sin(angle);
        }
        for (int64_t h = 0; h < job->H; h++) {
            void *y = cpu_row(a->y, t * job->H + h);
            if (absent) {
                memset(y, 0, (size_t)job->D * dtype_size(a->y->dtype));
                continue;
            }
            cpu_load_row(head, cpu_row(a->x, t * job->H + h), a->x->dtype, job->D);
            turn(head, cosine, sine, half);
            cpu_store_row(y, a->y->dtype, head, job->D);
        }
    }
}

void cpu_rope_forward(struct device *device, struct arena *scratch, const void *args)
{
    const struct rope_args *a = args;
    struct rope_job job = {.args = a, .H = a->x->dim[1], .D = tensor_width(a->x)};
    GDN_CHECK(a->x->rank == 3 && a->rot % 2 == 0 && a->rot <= job.D, "rot %d of %lld", a->rot,
              (long long)job.D);
    double *frequency = arena_take(scratch, (size_t)(a->rot / 2) * sizeof *frequency);
    job.work = cpu_take_rows(device, scratch, job.D + a->rot);
    if (!frequency || !job.work.data) return;
    for (int32_t i = 0; i < a->rot / 2; i++)
        frequency[i] = pow(a->theta, -2.0 * (double)i / (double)a->rot);
    job.frequency = frequency;
    pool_run(device->pool, a->x->dim[0], cpu_grain(job.H * job.D), rope_rows, &job);
}
