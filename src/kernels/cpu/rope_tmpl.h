/* rope_tmpl.h: rotary positions and their gradient, in the words of a vector vocabulary. With c, s
 * of the angle p theta^(-2i/rot), for i < rot/2:
 *   y[i] = x[i] c - x[i + rot/2] s,  y[i + rot/2] = x[i + rot/2] c + x[i] s; the rest is copied.
 * Backwards dy turns the other way. Angles are made in double, here and nowhere else. Rows of an
 * absent sequence give 0.
 * Truth: kernels/ref/rope.c. */
#include "kernels/cpu/row_tmpl.h"

struct rope_job {
    const struct rope_args *args;
    const double *frequency;   /* [rot/2] */
    struct cpu_work_rows work; /* [rot]: cos, then sin */
    enum dtype all;
};

/* cos and sin within 2e-10 for |x| < 2^20: x = n pi/2 + r, |r| <= pi/4, where pi/2 is split so that
 * n * its first part is exact; Taylor beyond what a float shows. Plain C that vectorises. */
static inline void rope_turn_of(double x, float *cosine, float *sine)
{
    const double shifted = x * 0.63661977236758134 + 6755399441055744.0;
    const double n = shifted - 6755399441055744.0;
    const double r = x - n * 1.57079632673412561417 - n * 6.07710050650619224932e-11, z = r * r;
    const double s = r + r * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 +
                     z * (1.0 / 362880 + z * (-1.0 / 39916800)))));
    const double c = 1.0 + z * (-1.0 / 2 + z * (1.0 / 24 + z * (-1.0 / 720 +
                     z * (1.0 / 40320 + z * (-1.0 / 3628800)))));
    uint64_t quarter;
    memcpy(&quarter, &shifted, sizeof quarter);
    const float a = (float)(quarter & 1 ? s : c), b = (float)(quarter & 1 ? c : s);
    *cosine = (quarter + 1) & 2 ? -a : a;
    *sine = quarter & 2 ? -b : b;
}

static void rope_angles(const struct rope_job *job, double position, float *cosine, float *sine)
{
    const int64_t half = job->args->rot / 2;
    for (int64_t i = 0; i < half; i++)
        rope_turn_of(position * job->frequency[i], cosine + i, sine + i);
}

VF_INLINE void rope_step(enum dtype x_type, enum dtype y_type, const void *x, void *y,
                         const float *cosine, const float *sine, int64_t half, int64_t i,
                         int64_t left)
{
    const vf a = row_get(x_type, x, i, left), b = row_get(x_type, x, half + i, left);
    const vf c = row_get(DTYPE_F32, cosine, i, left), s = row_get(DTYPE_F32, sine, i, left);
    row_put(y_type, y, i, left, vf_sub(vf_mul(a, c), vf_mul(b, s)));
    row_put(y_type, y, half + i, left, vf_fma(a, s, vf_mul(b, c)));
}

VF_INLINE void rope_row(const struct rope_job *job, enum dtype all, const float *cosine,
                        const float *sine, const struct row_place *place)
{
    const struct rope_args *a = job->args;
    const enum dtype x_type = row_type(all, a->x), y_type = row_type(all, a->y);
    const int64_t half = a->rot / 2, D = tensor_width(a->x);
    const void *x = row_at(a->x, place);
    void *y = row_at(a->y, place);
    int64_t i = 0;
    for (; i + VL <= half; i += VL) rope_step(x_type, y_type, x, y, cosine, sine, half, i, VL);
    if (i < half) rope_step(x_type, y_type, x, y, cosine, sine, half, i, half - i);
    for (i = a->rot; i + VL <= D; i += VL) row_put(y_type, y, i, VL, row_get(x_type, x, i, VL));
    if (i < D) row_put(y_type, y, i, D - i, row_get(x_type, x, i, D - i));
}

static void rope_heads(const struct rope_job *job, struct row_place place, const float *cosine,
                       const float *sine)
{
    for (; place.h < place.H; place.h++) {
        if (job->all == DTYPE_F32)
            rope_row(job, DTYPE_F32, cosine, sine, &place);
        else if (job->all == DTYPE_BF16)
            rope_row(job, DTYPE_BF16, cosine, sine, &place);
        else
            rope_row(job, DTYPE_COUNT, cosine, sine, &place);
    }
}

static void rope_tokens(void *context, int64_t begin, int64_t end, int thread)
{
    const struct rope_job *job = context;
    const struct tensor *y = job->args->y;
    const struct rows *rows = job->args->rows;
    float *cosine = job->work.data + thread * job->work.stride, *sine = cosine + job->args->rot / 2;
    int32_t b = 0;
    for (int64_t t = begin; t < end; t++) {
        struct row_place place = {t, 0, y->dim[1]};
        while (rows->start[b + 1] <= t) b++;
        if (rows->slot && rows->slot[b] < 0) {
            for (; place.h < place.H; place.h++)
                memset(row_at(y, &place), 0, (size_t)tensor_width(y) * dtype_size(y->dtype));
            continue;
        }
        rope_angles(job, (double)rows->pos[b] + (double)(t - rows->start[b]), cosine, sine);
        rope_heads(job, place, cosine, sine);
    }
}

/* ---- backward ----------------------------------------------------------------------------------- */

VF_INLINE void rope_back_step(const float *dy, float *dx, const float *cosine, const float *sine,
                              int64_t half, int64_t i, int64_t left)
{
    const vf a = row_get(DTYPE_F32, dy, i, left), b = row_get(DTYPE_F32, dy, half + i, left);
    const vf c = row_get(DTYPE_F32, cosine, i, left), s = row_get(DTYPE_F32, sine, i, left);
    row_add(dx, i, left, vf_fma(b, s, vf_mul(a, c)));
    row_add(dx, half + i, left, vf_sub(vf_mul(b, c), vf_mul(a, s)));
}

static void rope_back_head(const struct rope_args *a, const float *cosine, const float *sine,
                           const struct row_place *place)
{
    const int64_t half = a->rot / 2, D = tensor_width(a->x);
    const float *dy = row_at(a->y->grad, place);
    float *dx = row_at(a->x->grad, place);
    int64_t i = 0;
    for (; i + VL <= half; i += VL) rope_back_step(dy, dx, cosine, sine, half, i, VL);
    if (i < half) rope_back_step(dy, dx, cosine, sine, half, i, half - i);
    for (i = a->rot; i + VL <= D; i += VL) row_add(dx, i, VL, row_get(DTYPE_F32, dy, i, VL));
    if (i < D) row_add(dx, i, D - i, row_get(DTYPE_F32, dy, i, D - i));
}

static void rope_back_tokens(void *context, int64_t begin, int64_t end, int thread)
{
    const struct rope_job *job = context;
    const struct rows *rows = job->args->rows;
    float *cosine = job->work.data + thread * job->work.stride, *sine = cosine + job->args->rot / 2;
    int32_t b = 0;
    for (int64_t t = begin; t < end; t++) {
        struct row_place place = {t, 0, job->args->x->dim[1]};
        while (rows->start[b + 1] <= t) b++;
        if (rows->slot && rows->slot[b] < 0) continue;
        rope_angles(job, (double)rows->pos[b] + (double)(t - rows->start[b]), cosine, sine);
        for (; place.h < place.H; place.h++) rope_back_head(job->args, cosine, sine, &place);
    }
}

/* ---- the ops ------------------------------------------------------------------------------------ */

static void rope_run(struct device *device, struct arena *scratch, const struct rope_args *a,
                     pool_work *tokens)
{
    const int64_t D = tensor_width(a->x);
    struct rope_job job = {.args = a};
    GDN_CHECK(a->x->rank == 3 && a->rot % 2 == 0 && a->rot <= D, "rot %d of %lld", a->rot,
              (long long)D);
    double *frequency = arena_take(scratch, (size_t)(a->rot / 2) * sizeof *frequency);
    job.work = cpu_take_rows(device, scratch, a->rot);
    if (!frequency || !job.work.data) return;
    for (int32_t i = 0; i < a->rot / 2; i++)
        frequency[i] = pow(a->theta, -2.0 * (double)i / (double)a->rot);
    job.frequency = frequency;
    job.all = row_common((const struct tensor *const[]){a->x, a->y}, 2);
    pool_run(device->pool, a->x->dim[0], cpu_grain(a->x->dim[1] * D), tokens, &job);
}

void CPU_NAME(cpu_rope_forward)(struct device *device, struct arena *scratch, const void *args)
{
    rope_run(device, scratch, args, rope_tokens);
}

void CPU_NAME(cpu_rope_backward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct rope_args *a = args;
    if (a->y->grad && a->x->grad) rope_run(device, scratch, a, rope_back_tokens);
}
