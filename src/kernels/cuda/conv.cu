/* conv.cu: the short causal convolution over every channel, then SiLU. Truth: kernels/ref/conv.c.
 *
 * A thread takes a row and a channel. What lies before the call's rows comes from the ring, or dense
 * from tail_in. A row's input goes into the ring by a second kernel, after all have read: in a long
 * call it takes the place of a row that others still need. */
#include "kernels/cuda/launch.cuh"

enum { THREADS = 256 };

struct conv_call {
    struct view x, w, tail_in, y, tail_out;
    struct rows rows;
    struct conv_slots slots; /* x NULL: dense */
    bool plain;
};

static __device__ inline int64_t ring_at(const struct conv_slots &s, int32_t slot, int64_t position,
                                         int64_t c)
{
    return ((int64_t)slot * s.ring + position % s.ring) * s.C + c;
}

/* Input i of sequence b, counted from its first row of the call; may be negative. */
static __device__ float input(const struct conv_call &a, int32_t b, int64_t i, int64_t c)
{
    if (i >= 0) {
        const float x = get(a.x, (a.rows.start[b] + i) * a.x.stride[0] + c);
        return a.slots.x ? rounded(a.slots.dtype, x) : x;
    }
    if (a.slots.x) {
        const int64_t position = a.rows.pos[b] + i;
        if (position < 0) return 0.0f;
        return load(a.slots.x, a.slots.dtype, ring_at(a.slots, a.rows.slot[b], position, c));
    }
    if (!a.tail_in.data) return 0.0f;
    return get(a.tail_in, view_at(a.tail_in, b, a.w.dim[1] - 1 + i, c));
}

/* pre = sum_j w[c, j] x[t-(W-1)+j, c], j ascending;  y = silu(pre), or pre */
static __global__ void conv(struct conv_call a)
{
    const int64_t t = blockIdx.x, c = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    const int32_t b = sequence_of(a.rows, (int32_t)t);
    const int64_t W = a.w.dim[1], i = t - a.rows.start[b];
    if (c >= a.x.dim[1]) return;
    float sum = 0.0f;
    if (!absent(a.rows, b)) {
        for (int64_t j = 0; j < W; j++)
            sum = fmaf(get(a.w, c * a.w.stride[0] + j), input(a, b, i - (W - 1) + j, c), sum);
        if (!a.plain) sum = act_of(ACT_SILU, sum);
    }
    put(a.y, t * a.y.stride[0] + c, sum);
}

/* The last rows of each sequence enter the ring. */
static __global__ void keep(struct conv_call a)
{
    const int64_t t = blockIdx.x, c = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    const int32_t b = sequence_of(a.rows, (int32_t)t);
    const int64_t i = t - a.rows.start[b], n = a.rows.start[b + 1] - a.rows.start[b];
    if (c >= a.x.dim[1] || absent(a.rows, b) || n - i > a.slots.ring) return;
    store(a.slots.x, a.slots.dtype, ring_at(a.slots, a.rows.slot[b], a.rows.pos[b] + i, c),
          get(a.x, t * a.x.stride[0] + c));
}

/* tail_out[b, j] = input n - (W-1) + j; it may be tail_in: a thread has read what it writes. */
static __global__ void tails(struct conv_call a)
{
    const int32_t b = (int32_t)blockIdx.x;
    const int64_t c = (int64_t)blockIdx.y * THREADS + threadIdx.x, W = a.w.dim[1];
    const int64_t n = absent(a.rows, b) ? 0 : a.rows.start[b + 1] - a.rows.start[b];
    if (c >= a.x.dim[1]) return;
    for (int64_t j = 0; j < W - 1; j++)
        put(a.tail_out, view_at(a.tail_out, b, j, c), input(a, b, n - (W - 1) + j, c));
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
    const unsigned columns = blocks_for(a->x->dim[1], THREADS);
    const dim3 rows((unsigned)a->x->dim[0], columns);
    launch(device, conv, rows, THREADS, 0, call);
    if (a->slots) launch(device, keep, rows, THREADS, 0, call);
    if (a->tail_out) launch(device, tails, dim3((unsigned)a->rows->B, columns), THREADS, 0, call);
}
