/* norm_backward_tmpl.h: the gradients of the norms (norm_tmpl.h), in the words of a vector
 * vocabulary. With e_i the gradient of x_i r, c = w or 1 + w:
 *   dx_i = r (e_i - x_i r^2/n sum_j e_j x_j);
 *   norm, add_norm  e = dy c,         dw = sum over rows of dy x r;  add_norm: dx1 joins, dd = dx
 *   gated_norm      e = dy w act(z),  dw = sum dy x r act(z),  dz = dy x r w act'(z)
 *   l2norm          e = dy, with 1/(sum x^2 + eps) for r^2/n; a row of zeros has none
 * Truth: kernels/ref/norm.c. */
#include "kernels/cpu/row_tmpl.h"

/* Tensors that stand for gradients may be NULL; what an op has not is NULL. */
struct norm_back_job {
    const struct tensor *x, *z, *dy, *dx1; /* dx1: what reaches x directly */
    const struct tensor *dx, *dd, *dz;
    const float *w; /* [D] */
    float one, eps, scale;
    enum act act;
    enum dtype all;
    int64_t D, rows;
    float *dw;                 /* [blocks][D]; NULL: not wanted */
    struct cpu_work_rows work; /* [2 D] */
};

/* ---- the two sums of a row ---------------------------------------------------------------------- */

/* Element k goes to lane k mod 32. */
enum { BACK_PARTS = 32 / VL };
struct norm_sums {
    vf squares[BACK_PARTS], dot[BACK_PARTS];
};

static inline void sums_begin(struct norm_sums *s)
{
    for (int v = 0; v < BACK_PARTS; v++) s->squares[v] = s->dot[v] = vf_zero();
}

VF_INLINE void sums_add(struct norm_sums *s, int v, vf x, vf e)
{
    s->squares[v] = vf_fma(x, x, s->squares[v]);
    s->dot[v] = vf_fma(e, x, s->dot[v]);
}

VF_INLINE float sums_end(const vf *part)
{
    struct vf16 sum;
    for (int v = 0; v < VF16; v++) sum.part[v] = vf_add(part[v], part[VF16 + v]);
    return sum16(&sum);
}

/* ---- norm, add_norm, l2norm --------------------------------------------------------------------- */

/* The rows that a row of the call touches; NULL where there is none. */
struct norm_back_row {
    const void *x;
    const float *dy, *dx1;
    float *dx, *dd, *dw;
};

/* e of norm: dy times the weight; dy itself without one. */
VF_INLINE vf norm_e(const struct norm_back_job *job, const float *dy, int64_t i, int64_t left)
{
    const vf d = row_get(DTYPE_F32, dy, i, left);
    if (!job->w) return d;
    return vf_mul(d, vf_add(row_get(DTYPE_F32, job->w, i, left), vf_set1(job->one)));
}

VF_INLINE void norm_back_sums(const struct norm_back_job *job, enum dtype x_type,
                              const struct norm_back_row *at, struct norm_sums *s)
{
    const int64_t D = job->D;
    int64_t i = 0;
    sums_begin(s);
    for (; i + 32 <= D; i += 32)
        VF_UNROLL for (int v = 0; v < BACK_PARTS; v++)
            sums_add(s, v, row_get(x_type, at->x, i + v * VL, VL),
                     norm_e(job, at->dy, i + v * VL, VL));
    for (int v = 0; i < D; v++, i += VL)
        sums_add(s, v, row_get(x_type, at->x, i, D - i), norm_e(job, at->dy, i, D - i));
}

/* dx += f (e - k x) and what came directly; dw += dy x r. */
VF_INLINE void norm_back_step(const struct norm_back_job *job, enum dtype x_type,
                              const struct norm_back_row *at, float f, float k, int64_t i,
                              int64_t left)
{
    const vf x = row_get(x_type, at->x, i, left);
    const vf kx = vf_mul(vf_set1(k), x);
    vf dx = vf_mul(vf_set1(f), vf_sub(norm_e(job, at->dy, i, left), kx));
    if (at->dx1) dx = vf_add(dx, row_get(DTYPE_F32, at->dx1, i, left));
    row_add(at->dx, i, left, dx);
    row_add(at->dd, i, left, dx);
    if (!at->dw) return;
    const vf normed = vf_mul(x, vf_set1(f));
    row_add(at->dw, i, left, vf_mul(row_get(DTYPE_F32, at->dy, i, left), normed));
}

/* A row that only hands on what came directly. */
static void norm_pass_on(const struct norm_back_job *job, const struct norm_back_row *at)
{
    for (int64_t i = 0; at->dx1 && i < job->D; i++) {
        if (at->dx) at->dx[i] += at->dx1[i];
        if (at->dd) at->dd[i] += at->dx1[i];
    }
}

static bool row_is_zero(enum dtype type, const void *row, int64_t n)
{
    const char *bytes = row;
    const int64_t size = (int64_t)dtype_size(type);
    for (int64_t i = 0; i < n; i++) {
        float x;
        cpu_load_row(&x, bytes + i * size, type, 1);
        if (x != 0.0f) return false;
    }
    return true;
}

VF_INLINE void norm_back_row(const struct norm_back_job *job, enum dtype x_type,
                             const struct norm_back_row *at)
{
    struct norm_sums s;
    norm_back_sums(job, x_type, at, &s);
    const float squares = sums_end(s.squares), dot = sums_end(s.dot), D = (float)job->D;
    /* Squares of tiny numbers vanish: the row itself tells whether it is one of zeros. */
    if (!job->w && squares == 0.0f && row_is_zero(x_type, at->x, job->D)) return;
    const float r = 1.0f / sqrtf(job->w ? squares / D + job->eps : squares + job->eps);
    const float k = job->w ? r * r * dot / D : r * r * dot, f = job->w ? r : job->scale * r;
    int64_t i = 0;
    for (; i + VL <= job->D; i += VL) norm_back_step(job, x_type, at, f, k, i, VL);
    if (i < job->D) norm_back_step(job, x_type, at, f, k, i, job->D - i);
}

static void norm_back_block(const struct norm_back_job *job, int64_t block)
{
    const int64_t begin = block * CPU_SUM_ROWS, D = job->D;
    const int64_t end = begin + CPU_SUM_ROWS < job->rows ? begin + CPU_SUM_ROWS : job->rows;
    struct norm_back_row at = {.dw = job->dw ? job->dw + block * D : NULL};
    struct row_place place = row_place(job->x, begin);
    if (at.dw) memset(at.dw, 0, (size_t)D * sizeof *at.dw);
    for (int64_t row = begin; row < end; row++, row_next(&place)) {
        at.x = row_at(job->x, &place);
        at.dy = row_of(job->dy, &place);
        at.dx1 = row_of(job->dx1, &place);
        at.dx = row_of(job->dx, &place);
        at.dd = row_of(job->dd, &place);
        if (!at.dy)
            norm_pass_on(job, &at);
        else if (job->x->dtype == DTYPE_F32)
            norm_back_row(job, DTYPE_F32, &at);
        else if (job->x->dtype == DTYPE_BF16)
            norm_back_row(job, DTYPE_BF16, &at);
        else
            norm_back_row(job, job->x->dtype, &at);
    }
}

static void norm_back_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    for (int64_t block = begin; block < end; block++) norm_back_block(context, block);
}

/* ---- gated_norm --------------------------------------------------------------------------------- */

struct gated_back_row {
    const void *x, *z;
    const float *dy;
    float *dx, *dz, *dw;
    float *gate, *slope; /* [D] dy act(z), dy act'(z) */
};

VF_INLINE void gated_back_sum(const struct norm_back_job *job, enum dtype all, enum act act,
                              const struct gated_back_row *at, struct norm_sums *s, int v,
                              int64_t i, int64_t left)
{
    const vf d = row_get(DTYPE_F32, at->dy, i, left);
    vf slope, gate = vf_act_slope(act, row_get(row_type(all, job->z), at->z, i, left), &slope);
    gate = vf_mul(d, gate);
    row_put(DTYPE_F32, at->gate, i, left, gate);
    row_put(DTYPE_F32, at->slope, i, left, vf_mul(d, slope));
    sums_add(s, v, row_get(row_type(all, job->x), at->x, i, left),
             vf_mul(gate, row_get(DTYPE_F32, job->w, i, left)));
}

VF_INLINE void gated_back_step(const struct norm_back_job *job, enum dtype all,
                               const struct gated_back_row *at, float r, float k, int64_t i,
                               int64_t left)
{
    const vf x = row_get(row_type(all, job->x), at->x, i, left);
    const vf w = row_get(DTYPE_F32, job->w, i, left), normed = vf_mul(x, vf_set1(r));
    const vf gate = row_get(DTYPE_F32, at->gate, i, left);
    const vf slope = row_get(DTYPE_F32, at->slope, i, left);
    const vf e = vf_sub(vf_mul(gate, w), vf_mul(vf_set1(k), x));
    row_add(at->dx, i, left, vf_mul(vf_set1(r), e));
    row_add(at->dz, i, left, vf_mul(vf_mul(slope, normed), w));
    row_add(at->dw, i, left, vf_mul(gate, normed));
}

VF_INLINE void gated_back_row(const struct norm_back_job *job, enum dtype all, enum act act,
                              const struct gated_back_row *at)
{
    const int64_t D = job->D;
    struct norm_sums s;
    int64_t i = 0;
    sums_begin(&s);
    for (; i + 32 <= D; i += 32)
        VF_UNROLL for (int v = 0; v < BACK_PARTS; v++)
            gated_back_sum(job, all, act, at, &s, v, i + v * VL, VL);
    for (int v = 0; i < D; v++, i += VL) gated_back_sum(job, all, act, at, &s, v, i, D - i);
    const float r = 1.0f / sqrtf(sums_end(s.squares) / (float)D + job->eps);
    const float k = r * r * sums_end(s.dot) / (float)D;
    for (i = 0; i + VL <= D; i += VL) gated_back_step(job, all, at, r, k, i, VL);
    if (i < D) gated_back_step(job, all, at, r, k, i, D - i);
}

static void gated_back_block(const struct norm_back_job *job, int64_t block, float *work)
{
    const int64_t begin = block * CPU_SUM_ROWS, D = job->D;
    const int64_t end = begin + CPU_SUM_ROWS < job->rows ? begin + CPU_SUM_ROWS : job->rows;
    struct gated_back_row at = {.gate = work, .slope = work + D};
    struct row_place place = row_place(job->x, begin);
    if (job->dw) at.dw = memset(job->dw + block * D, 0, (size_t)D * sizeof *at.dw);
    for (int64_t row = begin; row < end; row++, row_next(&place)) {
        at.x = row_at(job->x, &place);
        at.z = row_at(job->z, &place);
        at.dy = row_at(job->dy, &place);
        at.dx = row_of(job->dx, &place);
        at.dz = row_of(job->dz, &place);
        if (job->all == DTYPE_F32 && job->act == ACT_SILU)
            gated_back_row(job, DTYPE_F32, ACT_SILU, &at);
        else if (job->all == DTYPE_BF16 && job->act == ACT_SILU)
            gated_back_row(job, DTYPE_BF16, ACT_SILU, &at);
        else
            gated_back_row(job, DTYPE_COUNT, job->act, &at);
    }
}

static void gated_back_blocks(void *context, int64_t begin, int64_t end, int thread)
{
    const struct norm_back_job *job = context;
    float *work = job->work.data + thread * job->work.stride;
    for (int64_t block = begin; block < end; block++) gated_back_block(job, block, work);
}

/* ---- the ops ------------------------------------------------------------------------------------ */

/* Fills in what all have, runs the blocks and ends dw; `w` NULL: the op has none. */
static void norm_back_run(struct device *device, struct arena *scratch, struct norm_back_job *job,
                          const struct tensor *w, pool_work *blocks)
{
    const struct tensor *grad = w ? w->grad : NULL;
    job->D = tensor_width(job->x);
    job->rows = cpu_rows(job->x);
    job->all = row_common((const struct tensor *const[]){job->x, job->z}, 2);
    const int64_t count = (job->rows + CPU_SUM_ROWS - 1) / CPU_SUM_ROWS;
    if (w && !(job->w = row_vector(scratch, w))) return;
    if (job->z) job->work = cpu_take_rows(device, scratch, 2 * job->D);
    if (job->z && !job->work.data) return;
    if (grad && job->dy) {
        job->dw = arena_take(scratch, (size_t)(count * job->D) * sizeof *job->dw);
        if (!job->dw) return;
    }
    pool_run(device->pool, count, cpu_grain(CPU_SUM_ROWS * job->D), blocks, job);
    if (job->dw) cpu_add_blocks(device->pool, grad, job->dw, count, job->D);
}

void CPU_NAME(cpu_norm_backward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct norm_args *a = args;
    struct norm_back_job job = {.x = a->x, .dy = a->y->grad, .dx = a->x->grad,
                                .eps = (float)a->eps, .one = a->centred ? 1.0f : 0.0f};
    if (job.dy) norm_back_run(device, scratch, &job, a->w, norm_back_blocks);
}

void CPU_NAME(cpu_add_norm_backward)(struct device *device, struct arena *scratch,
                                     const void *args)
{
    const struct add_norm_args *a = args;
    struct norm_back_job job = {.x = a->d ? a->x1 : a->x, .dy = a->y->grad, .dx = a->x->grad,
                                .eps = (float)a->eps, .one = a->centred ? 1.0f : 0.0f};
    if (a->d) {
        job.dx1 = a->x1->grad;
        job.dd = a->d->grad;
    }
    norm_back_run(device, scratch, &job, a->w, norm_back_blocks);
}

void CPU_NAME(cpu_gated_norm_backward)(struct device *device, struct arena *scratch,
                                       const void *args)
{
    const struct gated_norm_args *a = args;
    struct norm_back_job job = {.x = a->x, .z = a->z, .dy = a->y->grad, .dx = a->x->grad,
                                .dz = a->z->grad, .eps = (float)a->eps, .act = a->act};
    if (job.dy) norm_back_run(device, scratch, &job, a->w, gated_back_blocks);
}

void CPU_NAME(cpu_l2norm_backward)(struct device *device, struct arena *scratch, const void *args)
{
    const struct l2norm_args *a = args;
    struct norm_back_job job = {.x = a->x, .dy = a->y->grad, .dx = a->x->grad,
                                .eps = (float)a->eps, .scale = (float)a->scale};
    if (job.dy && job.dx) norm_back_run(device, scratch, &job, NULL, norm_back_blocks);
}
