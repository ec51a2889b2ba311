/* rows.cu: what has one formula an element: embed, glu, join, gate, rope. Truth: kernels/ref.
 *
 * A block takes a row and 1024 of its columns. */
#include "kernels/cuda/gate.cuh"
#include "kernels/cuda/linear.cuh"
#include "kernels/cuda/prompt.cuh"

enum { THREADS = 256, COLUMNS = 4 * THREADS };

static dim3 row_grid(int64_t rows, int64_t width)
{
    return dim3((unsigned)rows, blocks_for(width, COLUMNS));
}

/* Columns of this thread, one after another. */
#define EACH_COLUMN(i, width)                                                                 \
    for (int64_t i = (int64_t)blockIdx.y * COLUMNS + threadIdx.x;                             \
         i < (width) && i < ((int64_t)blockIdx.y + 1) * COLUMNS; i += THREADS)

/* y[t] = table[ids[t]] */
static __global__ void embed(struct view table, struct view y, const int32_t *ids)
{
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.x, from = ids[t] * table.stride[0], to = t * y.stride[0];
    EACH_COLUMN(i, y.dim[1]) put(y, to + i, get(table, from + i));
}

void cuda_embed(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct embed_args *a = (const struct embed_args *)args;
    if (dtype_quantised(a->table->dtype)) {
        embed_coded(device, a);
        return;
    }
    launch_early(device, embed, row_grid(a->y->dim[0], a->y->dim[1]), THREADS, 0, view_of(a->table),
           view_of(a->y), a->ids);
}

/* y = act(a) b */
static __global__ void glu(struct view a, struct view b, struct view y, enum act act)
{
    let_next_start();
    wait_for_input();
    const int64_t from = view_row(a, blockIdx.x), by = view_row(b, blockIdx.x);
    const int64_t to = view_row(y, blockIdx.x);
    EACH_COLUMN(i, y.dim[y.rank - 1]) put(y, to + i, act_of(act, get(a, from + i)) * get(b, by + i));
}

void cuda_glu(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct glu_args *a = (const struct glu_args *)args;
    if (glu_prompt(device, a)) return;
    launch_early(device, glu, row_grid(view_rows(a->y), tensor_width(a->y)), THREADS, 0, view_of(a->a),
           view_of(a->b), view_of(a->y), a->act);
}

/* y = a + sigmoid(s) b; without s: a + b */
static __global__ void join(struct view a, struct view b, struct view s, struct view y)
{
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.x;
    const float part = s.data ? sigmoid(get(s, t * s.stride[0])) : 1.0f;
    EACH_COLUMN(i, y.dim[1])
        put(y, t * y.stride[0] + i,
            fmaf(part, get(b, t * b.stride[0] + i), get(a, t * a.stride[0] + i)));
}

void cuda_join(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct join_args *a = (const struct join_args *)args;
    launch_early(device, join, row_grid(a->y->dim[0], a->y->dim[1]), THREADS, 0, view_of(a->a),
           view_of(a->b), view_of(a->s), view_of(a->y));
}

/* ---- gate ------------------------------------------------------------------------------------ */

/* u = a + dt_bias;  g = -e^A softplus(u), or lower_bound sigmoid(e^A u);  beta = scale sigmoid(b) */
static __global__ void gate(struct view a, struct view b, struct view A_log, struct view dt_bias,
                            struct view g, struct view beta, struct gate_constants c)
{
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.x, channels = a.dim[2];
    EACH_COLUMN(i, a.dim[1] * channels)
    {
        const int64_t h = i / channels, d = i % channels;
        const float u = get(a, view_at(a, t, h, d)) + get(dt_bias, view_at(dt_bias, h, d, 0));
        put(g, view_at(g, t, h, d), gate_decay(u, get(A_log, h), c));
        if (d == 0)
            put(beta, view_at(beta, t, h, 0), c.beta_scale * sigmoid(get(b, view_at(b, t, h, 0))));
    }
}

void cuda_gate(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct gate_args *a = (const struct gate_args *)args;
    const int64_t channels = a->a->rank == 3 ? a->a->dim[2] : 1;
    const struct gate_constants c = {(float)a->beta_scale, (float)a->lower_bound};
    launch_early(device, gate, row_grid(a->a->dim[0], a->a->dim[1] * channels), THREADS, 0,
           view_of(a->a), view_of(a->b), view_of(a->A_log), view_of(a->dt_bias), view_of(a->g),
           view_of(a->beta), c);
}

/* ---- rope ------------------------------------------------------------------------------------ */

/* The pair (i, i + rot/2) turns by position theta^(-2i/rot): the angle in double, less its whole
 * turns, for a float near 100000 knows an angle to 2^-7 only. */
static __global__ void rope(struct view x, struct view y, struct rows rows, int32_t rot,
                            double log2_theta)
{
    let_next_start();
    wait_for_input();
    const int32_t t = (int32_t)blockIdx.x, b = sequence_of(rows, t);
    const bool none = absent(rows, b);
    const double position = (double)(rows.pos[b] + t - rows.start[b]);
    const int64_t D = x.dim[2], half = rot / 2;
    EACH_COLUMN(i, x.dim[1] * D)
    {
        const int64_t h = i / D, d = i % D, to = view_at(y, t, h, d);
        if (none) {
            put(y, to, 0.0f);
        } else if (d >= rot) {
            put(y, to, get(x, view_at(x, t, h, d)));
        } else {
            const int64_t pair = d % half;
            const double turns = position * exp2(-2.0 * (double)pair / rot * log2_theta) *
                                 0.15915494309189533577;
            float s, c;
            sincospif((float)(2.0 * (turns - rint(turns))), &s, &c);
            const float low = get(x, view_at(x, t, h, pair));
            const float high = get(x, view_at(x, t, h, pair + half));
            put(y, to, d < half ? fmaf(low, c, -(high * s)) : fmaf(high, c, low * s));
        }
    }
}

void cuda_rope(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct rope_args *a = (const struct rope_args *)args;
    launch_early(device, rope, row_grid(a->x->dim[0], a->x->dim[1] * a->x->dim[2]), THREADS, 0,
           view_of(a->x), view_of(a->y), *a->rows, a->rot, log2(a->theta));
}
