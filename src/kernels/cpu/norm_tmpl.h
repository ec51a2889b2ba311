/* norm_tmpl.h: the norms over the last axis, in the words of a vector vocabulary. With
 * r = 1 / sqrt(mean x^2 + eps):
 *   norm        y = x r w, or x r (1 + w); late: x r is rounded to the type of y first
 *   add_norm    x1 = x + d as it is stored, y the norm of that
 *   gated_norm  y = x r w act(z)
 *   l2norm      y = scale x / sqrt(sum x^2 + eps)
 * A row is read for its sum and once more, from the nearest cache; rounded once. Truth:
 * kernels/ref/norm.c. */
#include "kernels/cpu/row_tmpl.h"

/* What the four have in common; what an op has not is NULL. */
struct norm_job {
    const struct tensor *x, *d, *z;
    struct tensor *x1, *y;
    const float *w; /* [D] */
    enum dtype all;
    enum act act;
    float one; /* 1 where w is centred, else 0: y = x r (w + one) */
    float eps, scale;
    bool late;
    int64_t D;
};

/* ---- one row ------------------------------------------------------------------------------------ */

VF_INLINE void add_step(const struct norm_job *job, enum dtype all, const void *x, const void *d,
                        void *sum, int64_t i, int64_t left)
{
    const vf a = row_get(row_type(all, job->x), x, i, left);
    const vf b = row_get(row_type(all, job->d), d, i, left);
    row_put(row_type(all, job->x1), sum, i, left, vf_add(a, b));
}

VF_INLINE void norm_step(const struct norm_job *job, enum dtype x_type, enum dtype y_type,
                         const void *x, void *y, float r, int64_t i, int64_t left)
{
    const vf w = vf_add(row_get(DTYPE_F32, job->w, i, left), vf_set1(job->one));
    const vf normed = vf_mul(row_get(x_type, x, i, left), vf_set1(r));
    row_put(y_type, y, i, left, vf_mul(job->late ? row_round(y_type, normed) : normed, w));
}

VF_INLINE void norm_row(const struct norm_job *job, enum dtype all, const struct row_place *place)
{
    const struct tensor *from = job->d ? job->x1 : job->x;
    const enum dtype x_type = row_type(all, from), y_type = row_type(all, job->y);
    const int64_t D = job->D;
    const void *x = row_at(from, place);
    void *y = row_at(job->y, place);
    int64_t i = 0;
    if (job->d) {
        const void *a = row_at(job->x, place), *b = row_at(job->d, place);
        void *sum = row_at(job->x1, place);
        for (; i + VL <= D; i += VL) add_step(job, all, a, b, sum, i, VL);
        if (i < D) add_step(job, all, a, b, sum, i, D - i);
    }
    /* The norm sees what later layers will see: the sum after its rounding. */
    const float r = 1.0f / sqrtf(row_squares(x_type, x, D) / (float)D + job->eps);
    for (i = 0; i + VL <= D; i += VL) norm_step(job, x_type, y_type, x, y, r, i, VL);
    if (i < D) norm_step(job, x_type, y_type, x, y, r, i, D - i);
}

VF_INLINE void gated_step(const struct norm_job *job, enum dtype all, enum act act, const void *x,
                          const void *z, void *y, float r, int64_t i, int64_t left)
{
    const vf normed = vf_mul(row_get(row_type(all, job->x), x, i, left), vf_set1(r));
    const vf weighed = vf_mul(normed, row_get(DTYPE_F32, job->w, i, left));
    const vf gate = vf_act(act, row_get(row_type(all, job->z), z, i, left));
    row_put(row_type(all, job->y), y, i, left, vf_mul(weighed, gate));
}

VF_INLINE void gated_row(const struct norm_job *job, enum dtype all, enum act act,
                         const struct row_place *place)
{
    const void *x = row_at(job->x, place), *z = row_at(job->z, place);
    void *y = row_at(job->y, place);
    const int64_t D = job->D;
    const float squares = row_squares(row_type(all, job->x), x, D);
    const float r = 1.0f / sqrtf(squares / (float)D + job->eps);
    int64_t i = 0;
    for (; i + VL <= D; i += VL) gated_step(job, all, act, x, z, y, r, i, VL);
    if (i < D) gated_step(job, all, act, x, z, y, r, i, D - i);
}

VF_INLINE void l2norm_row(const struct norm_job *job, enum dtype all,
                          const struct row_place *place)
{
    const enum dtype x_type = row_type(all, job->x), y_type = row_type(all, job->y);
    const void *x = row_at(job->x, place);
    void *y = row_at(job->y, place);
    const int64_t D = job->D;
    const vf r = vf_set1(job->scale / sqrtf(row_squares(x_type, x, D) + job->eps));
    int64_t i = 0;
    for (; i + VL <= D; i += VL) row_put(y_type, y, i, VL, vf_mul(row_get(x_type, x, i, VL), r));
    if (i < D) row_put(y_type, y, i, D - i, vf_mul(row_get(x_type, x, i, D - i), r));
}

/* ---- rows --------------------------------------------------------------------------------------- */

static void norm_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct norm_job *job = context;
    struct row_place place = row_place(job->x, begin);
    (void)thread;
    for (int64_t row = begin; row < end; row++, row_next(&place)) {
        if (job->all == DTYPE_F32)
            norm_row(job, DTYPE_F32, &place);
        else if (job->all == DTYPE_BF16)
            norm_row(job, DTYPE_BF16, &place);
        else
            norm_row(job, DTYPE_COUNT, &place);
    }
}

static void gated_norm_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct norm_job *job = context;
    struct row_place place = row_place(job->x, begin);
    (void)thread;
    for (int64_t row = begin; row < end; row++, row_next(&place)) {
        if (job->all == DTYPE_F32 && job->act == ACT_SILU)
            gated_row(job, DTYPE_F32, ACT_SILU, &place);
        else if (job->all == DTYPE_BF16 && job->act == ACT_SILU)
            gated_row(job, DTYPE_BF16, ACT_SILU, &place);
        else
            gated_row(job, DTYPE_COUNT, job->act, &place);
    }
}

static void l2norm_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct norm_job *job = context;
    struct row_place place = row_place(job->x, begin);
    (void)thread;
    for (int64_t row = begin; row < end; row++, row_next(&place)) {
        if (job->all == DTYPE_F32)
            l2norm_row(job, DTYPE_F32, &place);
        else if (job->all == DTYPE_BF16)
            l2norm_row(job, DTYPE_BF16, &place);
        else
            l2norm_row(job, DTYPE_COUNT, &place);
    }
}

/* Fills in D, the common type and the weight (NULL: the op has none), and runs. */
static void norm_run(struct device *device, struct arena *scratch, struct norm_job *job,
                     const struct tensor *w, pool_work *rows)
{
    const struct tensor *all[] = {job->x, job->d, job->z, job->d ? job->x1 : NULL, job->y};
    job->D = tensor_width(job->x);
    job->all = row_common(all, 5);
    job->w = w ? row_vector(scratch, w) : NULL;
    if (w && !job->w) return;
    pool_run(device->pool, cpu_rows(job->x), cpu_grain(job->D), rows, job);
}

void CPU_NAME(cpu_norm_forward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct norm_args *a = args;
    struct norm_job job = {.x = a->x, .y = a->y, .eps = (float)a->eps};
    job.one = a->centred ? 1.0f : 0.0f;
    job.late = a->late;
    norm_run(device, scratch, &job, a->w, norm_rows);
}

void CPU_NAME(cpu_add_norm_forward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct add_norm_args *a = args;
    struct norm_job job = {.x = a->x, .d = a->d, .x1 = a->x1, .y = a->y, .eps = (float)a->eps};
    job.one = a->centred ? 1.0f : 0.0f;
    job.late = a->late;
    norm_run(device, scratch, &job, a->w, norm_rows);
}

void CPU_NAME(cpu_gated_norm_forward)(struct device *device, struct arena *scratch,
                                      const void *args)
{
    const struct gated_norm_args *a = args;
    struct norm_job job = {.x = a->x, .z = a->z, .y = a->y, .eps = (float)a->eps, .act = a->act};
    norm_run(device, scratch, &job, a->w, gated_norm_rows);
}

void CPU_NAME(cpu_l2norm_forward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct l2norm_args *a = args;
    struct norm_job job = {
        .x = a->x, .y = a->y, .eps = (float)a->eps, .scale = (float)a->scale};
    norm_run(device, scratch, &job, NULL, l2norm_rows);
}
