/* experts.cu: the products of a mixture of experts. Truth: kernels/ref/experts.c.
 *
 * Which experts a row goes to stands in device memory, and so does the table of where each expert's
 * weights lie: made once when the weights are placed, or (a single call) in scratch. bf16 rows at experts
 * of one type go to experts_coded.cu; here a warp makes one element, in f32, and a row's sum is made in
 * the order of its choices. */
#include "kernels/cuda/coded.cuh"
#include "kernels/cuda/experts.cuh"

enum { WARPS = 8 };

static struct matrix matrix_of(const struct linear *w, int64_t row)
{
    const struct linear_part *part = linear_part_of(w, row);
    const struct tensor *t = part->w;
    const int64_t stride = t->stride[t->rank - 2];
    return {(const char *)t->data + (part->from + row - part->row) * stride *
                                        (int64_t)dtype_size(t->dtype),
            stride, t->dtype};
}

static struct expert expert_of(const struct linear *gate_up, const struct linear *down)
{
    return {matrix_of(gate_up, 0), matrix_of(gate_up, gate_up->N / 2), matrix_of(down, 0)};
}

/* The table into device memory at `to`, a few experts at a time. */
static void write_table(struct device *device, const struct experts *e, struct expert *to)
{
    enum { SOME = 32 };
    struct expert some[SOME];
    for (int32_t first = 0; first < e->count; first += SOME) {
        const int32_t n = e->count - first < SOME ? e->count - first : SOME;
        for (int32_t i = 0; i < n; i++) {
            some[i] = expert_of(&e->gate_up[first + i], &e->down[first + i]);
        }
        device->upload(device, to + first, some, (size_t)n * sizeof *some);
    }
}

void *cuda_experts_place(struct device *device, const struct experts *experts)
{
    struct expert *table =
        (struct expert *)device->take(device, (size_t)experts->count * sizeof *table);
    if (table) write_table(device, experts, table);
    return table;
}

static __device__ inline size_t row_at(const struct matrix &m, int64_t row)
{
    return (size_t)(row * m.stride) * (is_coded(m.dtype) ? 1 : bytes_of(m.dtype));
}

static __device__ inline struct four values_of(const char *row, enum dtype t, int64_t k, int64_t K)
{
    struct four f;
    for (int e = 0; e < 4; e++)
        f.at[e] = k + e < K ? value_of((const uint8_t *)row, t, K, k + e) : 0.0f;
    return f;
}

/* W[row] . x, element k in lane k/4 mod 32. */
static __device__ inline float dot(const struct matrix &w, int64_t row, const void *x,
                                   enum dtype type, int64_t K)
{
    const char *from = (const char *)w.data + row_at(w, row);
    float sum = 0.0f;
    for (int64_t k = 4 * (threadIdx.x % WARP); k < K; k += 4 * WARP) {
        const struct four a = is_coded(w.dtype) ? values_of(from, w.dtype, k, K)
                                                       : load_four(from, w.dtype, k, K);
        const struct four b = load_four(x, type, k, K);
#pragma unroll
        for (int e = 0; e < 4; e++) sum = fmaf(a.at[e], b.at[e], sum);
    }
    return warp_sum(sum);
}

/* h[t, j, i] = silu(G x_t) (U x_t) of the expert that row t chose as its j-th */
static __global__ void enter(const struct expert *table, const int32_t *ids, struct view x,
                             int64_t best, int64_t I, float *h)
{
    let_next_start();
    wait_for_input();
    const int64_t visit = blockIdx.x, i = (int64_t)blockIdx.y * WARPS + threadIdx.x / WARP;
    const struct expert &e = table[ids[visit]];
    if (i >= I) return;
    const char *row = (const char *)x.data +
                      visit / best * x.stride[0] * (int64_t)bytes_of(x.dtype);
    const float gate = dot(e.gate, i, row, x.dtype, x.dim[1]);
    const float up = dot(e.up, i, row, x.dtype, x.dim[1]);
    if (threadIdx.x % WARP == 0) h[visit * I + i] = act_of(ACT_SILU, gate) * up;
}

/* y[t, k] = sum_j weight[t, j] (D h[t, j])[k], j ascending */
static __global__ void leave(const struct expert *table, const int32_t *ids, struct view weight,
                             int64_t best, int64_t I, const float *h, struct view y)
{
    let_next_start();
    wait_for_input();
    const int64_t t = blockIdx.x, k = (int64_t)blockIdx.y * WARPS + threadIdx.x / WARP;
    float sum = 0.0f;
    if (k >= y.dim[1]) return;
    for (int64_t j = 0; j < best; j++) {
        const int64_t visit = t * best + j;
        sum = fmaf(get(weight, t * weight.stride[0] + j),
                   dot(table[ids[visit]].down, k, h + visit * I, DTYPE_F32, I), sum);
    }
    if (threadIdx.x % WARP == 0) put(y, t * y.stride[0] + k, sum);
}

/* NULL: scratch is full. */
static const struct expert *table_of(struct device *device, struct arena *scratch,
                                     const struct experts *experts)
{
    if (experts->placed) return (const struct expert *)experts->placed;
    struct expert *table =
        (struct expert *)arena_take(scratch, (size_t)experts->count * sizeof *table);
    if (table) write_table(device, experts, table);
    return table;
}

/* The type of all weights of all experts, rows of G and U as far apart; DTYPE_COUNT: they differ. */
static enum dtype common_type(const struct experts *e)
{
    const enum dtype type = e->down->part[0].w->dtype;
    for (int32_t i = 0; i < e->count; i++) {
        const struct expert x = expert_of(&e->gate_up[i], &e->down[i]);
        if (x.gate.dtype != type || x.up.dtype != type || x.down.dtype != type ||
            x.gate.stride != x.up.stride)
            return DTYPE_COUNT;
    }
    return type;
}

void cuda_experts(struct device *device, struct arena *scratch, const void *args)
{
    const struct experts_args *a = (const struct experts_args *)args;
    const int64_t T = a->x->dim[0], best = a->weight->dim[1], I = a->experts->gate_up->N / 2;
    const struct expert *table = table_of(device, scratch, a->experts);
    if (!table) return;
    const struct experts_call call = {table, a->ids, view_of(a->x), view_of(a->weight),
                                      view_of(a->y), best, I};
    if (a->x->dtype == DTYPE_BF16 &&
        experts_coded(device, scratch, common_type(a->experts), &call))
        return;
    float *h = (float *)arena_take(scratch, (size_t)(T * best * I) * sizeof *h);
    if (!h) return;
    const float *made = h;
    launch_early(device, enter, dim3((unsigned)(T * best), blocks_for(I, WARPS)), WARPS * WARP, 0,
                 table, a->ids, call.x, best, I, h);
    launch_early(device, leave, dim3((unsigned)T, blocks_for(a->y->dim[1], WARPS)), WARPS * WARP,
                 0, table, a->ids, call.weight, best, I, made, call.y);
}
