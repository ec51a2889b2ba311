/* conv.cu: the short causal convolution over every channel, then SiLU. Truth: kernels/ref/conv.c.
 *
 * Few rows a sequence: a thread takes 4 channels and walks down sequences with their taps in
 * registers; a row enters the ring when it has been used. Many rows: a thread takes a row and a
 * channel, and rows enter the ring by a second kernel, after all have read: in a long call they take
 * the places of rows that others still need. What lies before the call's rows comes from the ring,
 * or dense from tail_in. Either way an output is one chain over its inputs. */
#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/prompt.cuh"

enum { THREADS = 256, FEW = 16, TAPS = 4, WALKS = 128 };

/* ---- few rows a sequence --------------------------------------------------------------------- */

/* Input i of sequence b in channels c..c+3, of which n there are. */
static __device__ float4 inputs(const struct conv_call &a, int32_t b, int64_t i, int64_t c, int32_t n)
{
    const float4 none = {0.0f, 0.0f, 0.0f, 0.0f};
    if (i >= 0) {
        const float4 x =
            load_four(a.x.data, a.x.dtype, (a.rows.start[b] + i) * a.x.stride[0] + c, n);
        if (!a.slots.x) return x;
        return float4{rounded(a.slots.dtype, x.x), rounded(a.slots.dtype, x.y),
                      rounded(a.slots.dtype, x.z), rounded(a.slots.dtype, x.w)};
    }
    if (!a.slots.x)
        return a.tail_in.data
                   ? load_four(a.tail_in.data, a.tail_in.dtype,
                               view_at(a.tail_in, b, a.w.dim[1] - 1 + i, c), n)
                   : none;
    const int64_t position = a.rows.pos[b] + i;
    if (position < 0) return none;
    return load_four(a.slots.x, a.slots.dtype, ring_at(a.slots, a.rows.slot[b], position, c), n);
}

static __device__ inline float tap(const float4 &w, int64_t j)
{
    return j == 0 ? w.x : j == 1 ? w.y : j == 2 ? w.z : w.w;
}

static __device__ inline void put_four(void *to, enum dtype type, int64_t at, const float4 &x,
                                       int32_t n)
{
    const float e[4] = {x.x, x.y, x.z, x.w};
    if (n >= 4)
        store_four(to, type, at, x);
    else
        for (int32_t i = 0; i < n; i++) store(to, type, at + i, e[i]);
}

/* pre = sum_j w[c, j] x[t-(W-1)+j, c], j ascending;  y = silu(pre), or pre */
static __global__ void walk(struct conv_call a)
{
    const int64_t c = 4 * ((int64_t)blockIdx.x * THREADS + threadIdx.x), W = a.w.dim[1];
    const int32_t n = a.x.dim[1] - c < 4 ? (int32_t)(a.x.dim[1] - c) : 4;
    float4 w[4];
    if (n <= 0) return;
    for (int e = 0; e < 4; e++)
        w[e] = load_four(a.w.data, a.w.dtype, (c + e) * a.w.stride[0], e < n ? (int32_t)W : 0);
    for (int32_t b = (int32_t)blockIdx.y; b < a.rows.B; b += (int32_t)gridDim.y) {
        const int64_t first = a.rows.start[b], rows = a.rows.start[b + 1] - first;
        const bool none = absent(a.rows, b);
        for (int64_t i = 0; i < rows; i++) {
            float4 sum = {0.0f, 0.0f, 0.0f, 0.0f}, x = sum;
#pragma unroll
            for (int64_t j = 0; j < TAPS; j++) {
                if (none || j >= W) continue;
                x = inputs(a, b, i - (W - 1) + j, c, n);
                sum.x = fmaf(tap(w[0], j), x.x, sum.x), sum.y = fmaf(tap(w[1], j), x.y, sum.y);
                sum.z = fmaf(tap(w[2], j), x.z, sum.z), sum.w = fmaf(tap(w[3], j), x.w, sum.w);
            }
            if (!none && a.slots.x)
                put_four(a.slots.x, a.slots.dtype,
                         ring_at(a.slots, a.rows.slot[b], a.rows.pos[b] + i, c), x, n);
            if (!a.plain)
                sum = float4{act_of(ACT_SILU, sum.x), act_of(ACT_SILU, sum.y),
                             act_of(ACT_SILU, sum.z), act_of(ACT_SILU, sum.w)};
            put_four(a.y.data, a.y.dtype, (first + i) * a.y.stride[0] + c, sum, n);
        }
    }
}

/* The same where conv_in_fours holds. */
static __global__ void __launch_bounds__(THREADS) walk_fours(const __grid_constant__ struct conv_call a)
{
    const int64_t c = 4 * ((int64_t)blockIdx.x * THREADS + threadIdx.x);
    let_next_start();
    const bool there = c < a.slots.C;
    struct conv_taps taps;
    if (there) taps = conv_taps_of(a, c);
    wait_for_input();
    for (int32_t b = (int32_t)blockIdx.y; there && b < a.rows.B; b += (int32_t)gridDim.y) {
        const int32_t first = a.rows.start[b], rows = a.rows.start[b + 1] - first;
        const int32_t slot = a.rows.slot[b], pos = a.rows.pos[b];
        for (int32_t i = 0; i < rows; i++) {
            float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
            uint2 x;
            if (slot >= 0) {
                sum = conv_four(a, taps, b, i, c, &x);
                *(uint2 *)((uint16_t *)a.slots.x + ring_at(a.slots, slot, pos + i, c)) = x;
            }
            store_four(a.y.data, a.y.dtype, (first + i) * a.y.stride[0] + c, sum);
        }
    }
}

/* ---- many rows ------------------------------------------------------------------------------- */

static __global__ void conv(struct conv_call a)
{
    const int64_t t = blockIdx.x, c = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    const int32_t b = sequence_of(a.rows, (int32_t)t);
    if (c >= a.x.dim[1]) return;
    put(a.y, t * a.y.stride[0] + c,
        absent(a.rows, b) ? 0.0f : conv_output(a, b, t - a.rows.start[b], c));
}

/* The last rows of each sequence enter the ring. */
static __global__ void keep(struct conv_call a)
{
    const int64_t t = blockIdx.x, c = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    const int32_t b = sequence_of(a.rows, (int32_t)t);
    const int64_t i = t - a.rows.start[b], n = a.rows.start[b + 1] - a.rows.start[b];
    if (c < a.x.dim[1] && !absent(a.rows, b) && n - i <= a.slots.ring) conv_keep(a, b, i, c);
}

/* ---- the call -------------------------------------------------------------------------------- */

/* tail_out[b, j] = input n - (W-1) + j; it may be tail_in: a thread has read what it writes. */
static __global__ void tails(struct conv_call a)
{
    const int32_t b = (int32_t)blockIdx.x;
    const int64_t c = (int64_t)blockIdx.y * THREADS + threadIdx.x, W = a.w.dim[1];
    const int64_t n = absent(a.rows, b) ? 0 : a.rows.start[b + 1] - a.rows.start[b];
    if (c >= a.x.dim[1]) return;
    for (int64_t j = 0; j < W - 1; j++)
        put(a.tail_out, view_at(a.tail_out, b, j, c), conv_input(a, b, n - (W - 1) + j, c));
}

void cuda_conv(struct device *device, struct arena *scratch, const void *args)
{
    (void)scratch;
    const struct conv_args *a = (const struct conv_args *)args;
    struct conv_call call = {view_of(a->x), view_of(a->w), view_of(a->tail_in), view_of(a->y),
                             view_of(a->tail_out), *a->rows, {}, a->plain};
    GDN_CHECK(!a->slots || (a->rows->slot && !a->tail_in && !a->tail_out),
              "conv: slots stand for the tails");
    if (a->slots) call.slots = *a->slots;
    const int32_t B = a->rows->B;
    const unsigned columns = blocks_for(a->x->dim[1], THREADS);
    const dim3 rows((unsigned)a->x->dim[0], columns);
    if (a->x->dim[0] <= (int64_t)FEW * B && a->w->dim[1] <= TAPS) {
        const dim3 walks(blocks_for(a->x->dim[1], 4 * THREADS), (unsigned)(B < WALKS ? B : WALKS));
        if (conv_in_fours(call))
            launch_early(device, walk_fours, walks, THREADS, 0, call);
        else
            launch(device, walk, walks, THREADS, 0, call);
    } else if (!conv_prompt(device, a)) {
        launch(device, conv, rows, THREADS, 0, call);
        if (a->slots) launch(device, keep, rows, THREADS, 0, call);
    }
    if (a->tail_out) launch(device, tails, dim3((unsigned)B, columns), THREADS, 0, call);
}
