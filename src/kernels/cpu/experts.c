/* experts.c: the products of a mixture of experts, and back. Truth: kernels/ref/experts.c.
 *
 * Forward, each expert that was chosen is a product of one list (linear.h). A row's sum is made in the
 * order of its choices, whatever order the experts ran in, so its results wait, one for each choice,
 * until all experts are through. Backward goes expert by expert through the device's own linear and
 * glu, which have the same bits. */
#include "kernels/cpu/quant.h"

/* A visit: row t at its j-th choice. */
struct visits {
    const struct experts_args *a;
    struct device *device;
    struct arena *scratch;
    int64_t K, I, best, most; /* most: visits of one expert */
    int64_t *first;           /* [E + 1] of each expert in order */
    int64_t *order;           /* [T best] t * best + j */
    float *x, *gate_up, *h, *z; /* [most][K, 2I, I, K] */
};

static bool sort_visits(struct visits *v)
{
    const int64_t E = v->a->experts->count, n = v->a->x->dim[0] * v->best;
    v->first = arena_take_zeroed(v->scratch, (size_t)(E + 2) * sizeof *v->first);
    v->order = arena_take(v->scratch, (size_t)n * sizeof *v->order);
    if (!v->first || !v->order) return false;
    for (int64_t i = 0; i < n; i++) v->first[v->a->ids[i] + 2]++;
    for (int64_t e = 0; e < E; e++) {
        if (v->first[e + 2] > v->most) v->most = v->first[e + 2];
        v->first[e + 2] += v->first[e + 1];
    }
    for (int64_t i = 0; i < n; i++) v->order[v->first[v->a->ids[i] + 1]++] = i;
    return true;
}

static float *take(struct visits *v, int64_t n)
{
    return arena_take(v->scratch, (size_t)n * sizeof(float));
}

static bool open_visits(struct visits *v, struct device *device, struct arena *scratch,
                        const struct experts_args *a)
{
    *v = (struct visits){.a = a, .device = device, .scratch = scratch, .K = a->x->dim[1],
                         .I = a->experts->gate_up->N / 2, .best = a->weight->dim[1]};
    return sort_visits(v);
}

/* Room for the rows of one expert after another. */
static bool open_expert(struct visits *v)
{
    v->x = take(v, v->most * v->K);
    v->gate_up = take(v, v->most * 2 * v->I);
    v->h = take(v, v->most * v->I);
    v->z = take(v, v->most * v->K);
    return v->x && v->gate_up && v->h && v->z;
}

static struct tensor matrix(float *data, int64_t rows, int64_t width)
{
    return tensor_over(data, DTYPE_F32, 2, (int64_t[]){rows, width});
}

/* Columns from.. of a matrix. */
static struct tensor columns(const struct tensor *of, int64_t from, int64_t n)
{
    struct tensor t = *of;
    t.data = tensor_at(of, from);
    t.dim[1] = n;
    return t;
}

static void call(struct visits *v, op_kernel *const *table, enum op op, const void *args)
{
    const size_t mark = arena_mark(v->scratch);
    table[op](v->device, v->scratch, args);
    arena_release(v->scratch, mark);
}

/* The tensors of one expert's visits; gradients are attached on the way back. */
struct expert {
    const int64_t *visit;
    int64_t rows;
    struct tensor x, gate_up, gate, up, h, z;
    struct linear_args in, out;
    struct glu_args glu;
};

static void run_expert(struct visits *v, int64_t e, struct expert *x)
{
    const int64_t begin = e ? v->first[e] : 0, rows = v->first[e + 1] - begin;
    *x = (struct expert){.visit = v->order + begin, .rows = rows, .x = matrix(v->x, rows, v->K),
                         .gate_up = matrix(v->gate_up, rows, 2 * v->I),
                         .h = matrix(v->h, rows, v->I), .z = matrix(v->z, rows, v->K)};
    if (rows == 0) return;
    x->gate = columns(&x->gate_up, 0, v->I);
    x->up = columns(&x->gate_up, v->I, v->I);
    x->in = (struct linear_args){.x = &x->x, .y = &x->gate_up, .w = &v->a->experts->gate_up[e]};
    x->glu = (struct glu_args){&x->gate, &x->up, &x->h, ACT_SILU};
    x->out = (struct linear_args){.x = &x->h, .y = &x->z, .w = &v->a->experts->down[e]};
    for (int64_t r = 0; r < rows; r++)
        cpu_load_row(v->x + r * v->K, cpu_row(v->a->x, x->visit[r] / v->best), v->a->x->dtype,
                     v->K);
    call(v, v->device->forward, OP_LINEAR, &x->in);
    call(v, v->device->forward, OP_GLU, &x->glu);
    call(v, v->device->forward, OP_LINEAR, &x->out);
}

static float weight_of(const struct visits *v, int64_t visit)
{
    const struct tensor *w = v->a->weight;
    return *(const float *)tensor_at(w, visit / v->best * w->stride[0] + visit % v->best);
}

struct sums {
    const struct visits *v;
    const float *all; /* [T best][K] */
    struct cpu_work_rows work;
};

static void sum_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const struct sums *s = context;
    const struct visits *v = s->v;
    float *sum = s->work.data + thread * s->work.stride;
    for (int64_t t = begin; t < end; t++) {
        memset(sum, 0, (size_t)v->K * sizeof *sum);
        for (int64_t i = t * v->best; i < (t + 1) * v->best; i++) {
            const float w = weight_of(v, i), *z = s->all + i * v->K;
            for (int64_t k = 0; k < v->K; k++) sum[k] = sum[k] + w * z[k];
        }
        cpu_store_row(cpu_row(v->a->y, t), v->a->y->dtype, sum, v->K);
    }
}

/* ---- forward ------------------------------------------------------------------------------------ */

/* All experts at once: one product for each that was chosen, its rows where they lie. */
static int64_t list_products(const struct visits *v, struct product *list, const struct linear *w,
                             const struct product *rows)
{
    int64_t count = 0;
    for (int64_t e = 0; e < v->a->experts->count; e++) {
        const int64_t begin = e ? v->first[e] : 0, visits = v->first[e + 1] - begin;
        if (visits == 0) continue;
        list[count] = *rows;
        list[count].w = &w[e];
        list[count].rows = visits;
        list[count].columns = w[e].N;
        list[count].x = rows->x + begin;
        list[count++].y = rows->y + begin;
    }
    return count;
}

static bool run_list(product_kernel *run, struct visits *v, const struct product *list,
                     int64_t count)
{
    return v->a->fast ? quant_products(run, v->device, v->scratch, list, count)
                      : run(v->device, v->scratch, list, count);
}

/* Rows in the order of their experts; what each makes of them, in the order of visits again. */
static bool run_experts(product_kernel *run, struct visits *v, float *all)
{
    const int64_t n = v->a->x->dim[0] * v->best, I = v->I;
    const int64_t some = v->a->experts->count < n ? v->a->experts->count : n;
    struct product *list = arena_take(v->scratch, (size_t)some * sizeof *list);
    const void **x = arena_take(v->scratch, (size_t)n * sizeof *x);
    void **y = arena_take(v->scratch, (size_t)n * sizeof *y);
    float *gate_up = take(v, n * 2 * I), *h = take(v, n * I);
    if (!list || !x || !y || !gate_up || !h) return false;
    for (int64_t i = 0; i < n; i++)
        x[i] = cpu_row(v->a->x, v->order[i] / v->best), y[i] = gate_up + i * 2 * I;
    struct product rows = {.x = x, .y = y, .x_type = v->a->x->dtype, .y_type = DTYPE_F32};
    int64_t count = list_products(v, list, v->a->experts->gate_up, &rows);
    if (!run_list(run, v, list, count)) return false;

    struct tensor both = matrix(gate_up, n, 2 * I), to = matrix(h, n, I);
    struct tensor gate = columns(&both, 0, I), up = columns(&both, I, I);
    call(v, v->device->forward, OP_GLU, &(struct glu_args){&gate, &up, &to, ACT_SILU});

    for (int64_t i = 0; i < n; i++) x[i] = h + i * I, y[i] = all + v->order[i] * v->K;
    rows.x_type = DTYPE_F32;
    count = list_products(v, list, v->a->experts->down, &rows);
    return run_list(run, v, list, count);
}

void experts_forward_with(product_kernel *run, struct device *device, struct arena *scratch,
                          const struct experts_args *args)
{
    const int64_t T = args->x->dim[0];
    struct visits v;
    if (!open_visits(&v, device, scratch, args)) return;
    float *all = take(&v, T * v.best * v.K);
    struct sums sums = {&v, all, cpu_take_rows(device, scratch, v.K)};
    if (!all || !sums.work.data || !run_experts(run, &v, all)) return;
    pool_run(device->pool, T, cpu_grain(v.K), sum_rows, &sums);
}

/* ---- backward ----------------------------------------------------------------------------------- */

/* Gradients of a visit's rows. */
struct back {
    float *dx, *dgate_up, *dh, *dz; /* [most][..], as in struct visits */
};

/* dz = weight dy, and the gradient of the weight. */
static void enter_back(struct visits *v, const struct expert *x, const struct back *b)
{
    const struct tensor *dweight = v->a->weight->grad;
    for (int64_t r = 0; r < x->rows; r++) {
        const int64_t t = x->visit[r] / v->best, j = x->visit[r] % v->best;
        const float *dy = cpu_row(v->a->y->grad, t), w = weight_of(v, x->visit[r]);
        for (int64_t k = 0; k < v->K; k++) b->dz[r * v->K + k] = w * dy[k];
        if (dweight)
            *(float *)tensor_at(dweight, t * dweight->stride[0] + j) +=
                cpu_dot(dy, v->z + r * v->K, v->K);
    }
}

static void run_back(struct visits *v, struct expert *x, const struct back *b)
{
    struct tensor dx = matrix(b->dx, x->rows, v->K), dz = matrix(b->dz, x->rows, v->K);
    struct tensor dgate_up = matrix(b->dgate_up, x->rows, 2 * v->I);
    struct tensor dh = matrix(b->dh, x->rows, v->I);
    struct tensor dgate = columns(&dgate_up, 0, v->I), dup = columns(&dgate_up, v->I, v->I);
    memset(b->dx, 0, (size_t)(x->rows * v->K) * sizeof *b->dx);
    memset(b->dgate_up, 0, (size_t)(x->rows * 2 * v->I) * sizeof *b->dgate_up);
    memset(b->dh, 0, (size_t)(x->rows * v->I) * sizeof *b->dh);
    x->x.grad = &dx, x->z.grad = &dz, x->h.grad = &dh;
    x->gate_up.grad = &dgate_up, x->gate.grad = &dgate, x->up.grad = &dup;
    enter_back(v, x, b);
    call(v, v->device->backward, OP_LINEAR, &x->out);
    call(v, v->device->backward, OP_GLU, &x->glu);
    call(v, v->device->backward, OP_LINEAR, &x->in);
}

/* Experts ascending: a row's gradient is summed in the order of their numbers. */
void cpu_experts_backward(struct device *device, struct arena *scratch, const void *args)
{
    const struct experts_args *a = args;
    struct visits v;
    struct expert x;
    if (!a->y->grad || !open_visits(&v, device, scratch, a) || !open_expert(&v)) return;
    const struct back b = {take(&v, v.most * v.K), take(&v, v.most * 2 * v.I),
                           take(&v, v.most * v.I), take(&v, v.most * v.K)};
    if (!b.dx || !b.dgate_up || !b.dh || !b.dz) return;
    for (int64_t e = 0; e < a->experts->count; e++) {
        run_expert(&v, e, &x);
        if (x.rows == 0) continue;
        run_back(&v, &x, &b);
        for (int64_t r = 0; a->x->grad && r < x.rows; r++) {
            float *to = cpu_row(a->x->grad, x.visit[r] / v.best);
            for (int64_t k = 0; k < v.K; k++) to[k] += b.dx[r * v.K + k];
        }
    }
}
