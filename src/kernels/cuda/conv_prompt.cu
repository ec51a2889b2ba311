/* conv_prompt.cu: the short convolution of many bf16 rows on slots. Truth: kernels/ref/conv.c. The same
 * sums as in conv.cu, so bits do not tell which one made a row.
 *
 * A thread takes 8 channels of 8 rows and reads each input once: the three before it are in registers. */
#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/prompt.cuh"

enum { TAPS = 4, CHANNELS = 8, ROWS = 8, THREADS = 128 };

struct eight {
    float at[CHANNELS];
};

static __device__ inline struct eight spread(const uint4 &v)
{
    return {{__uint_as_float(v.x << 16), __uint_as_float(v.x & 0xffff0000u),
             __uint_as_float(v.y << 16), __uint_as_float(v.y & 0xffff0000u),
             __uint_as_float(v.z << 16), __uint_as_float(v.z & 0xffff0000u),
             __uint_as_float(v.w << 16), __uint_as_float(v.w & 0xffff0000u)}};
}

static __device__ inline uint4 *ring_eight(const struct conv_slots &s, int32_t slot,
                                           int32_t position, int32_t c)
{
    return (uint4 *)((uint16_t *)s.x + ring_at(s, slot, position, c));
}

/* The inputs before row i of sequence b, oldest first. */
static __device__ inline void look_back(const struct conv_call &a, int32_t b, int32_t i, int32_t c,
                                        struct eight (&before)[TAPS - 1])
{
    const uint16_t *x = (const uint16_t *)a.x.data + a.rows.start[b] * a.x.stride[0] + c;
#pragma unroll
    for (int j = 0; j < TAPS - 1; j++) {
        const int32_t at = i + j - (TAPS - 1), position = a.rows.pos[b] + at;
        if (at >= 0)
            before[j] = spread(*(const uint4 *)(x + at * a.x.stride[0]));
        else if (position >= 0)
            before[j] = spread(*ring_eight(a.slots, a.rows.slot[b], position, c));
        else
            before[j] = eight{};
    }
}

static __device__ inline float finished(float sum, bool plain)
{
    return plain ? sum : act_of(ACT_SILU, sum);
}

static __global__ void __launch_bounds__(THREADS) conv_many(struct conv_call a)
{
    const int32_t c = ((int32_t)blockIdx.x * THREADS + (int32_t)threadIdx.x) * CHANNELS;
    const int32_t first = (int32_t)blockIdx.y * ROWS;
    if (c >= a.x.dim[1]) return;
    const int32_t end = first + ROWS < a.rows.T ? first + ROWS : a.rows.T;
    struct eight w[TAPS], before[TAPS - 1];
#pragma unroll
    for (int i = 0; i < CHANNELS; i++)
#pragma unroll
        for (int j = 0; j < TAPS; j++) w[j].at[i] = get(a.w, (c + i) * a.w.stride[0] + j);
    int32_t b = sequence_of(a.rows, first);
    for (int32_t t = first; t < end; t++) {
        while (t >= a.rows.start[b + 1]) b++;
        const bool none = absent(a.rows, b);
        uint4 *to = (uint4 *)((uint16_t *)a.y.data + t * a.y.stride[0] + c);
        if (none) {
            *to = uint4{0u, 0u, 0u, 0u};
            continue;
        }
        const int32_t i = t - a.rows.start[b];
        if (t == first || i == 0) look_back(a, b, i, c, before);
        const struct eight now =
            spread(*(const uint4 *)((const uint16_t *)a.x.data + t * a.x.stride[0] + c));
        uint32_t half[CHANNELS];
#pragma unroll
        for (int e = 0; e < CHANNELS; e++) {
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < TAPS - 1; j++) sum = fmaf(w[j].at[e], before[j].at[e], sum);
            half[e] = bf16_of(finished(fmaf(w[TAPS - 1].at[e], now.at[e], sum), a.plain));
        }
        *to = uint4{half[0] | half[1] << 16, half[2] | half[3] << 16, half[4] | half[5] << 16,
                    half[6] | half[7] << 16};
#pragma unroll
        for (int j = 0; j + 1 < TAPS - 1; j++) before[j] = before[j + 1];
        before[TAPS - 2] = now;
    }
}

/* The last rows of each sequence enter the ring, when all have read it. */
static __global__ void __launch_bounds__(THREADS) keep_last(struct conv_call a)
{
    const int32_t c = ((int32_t)blockIdx.x * THREADS + (int32_t)threadIdx.x) * CHANNELS;
    const int32_t b = (int32_t)blockIdx.z, i = a.rows.start[b + 1] - a.rows.start[b] - 1 -
                                               (int32_t)blockIdx.y;
    if (c >= a.x.dim[1] || absent(a.rows, b) || i < 0) return;
    *ring_eight(a.slots, a.rows.slot[b], a.rows.pos[b] + i, c) =
        *(const uint4 *)((const uint16_t *)a.x.data + (a.rows.start[b] + i) * a.x.stride[0] + c);
}

static bool in_eights(const struct tensor *t)
{
    return t->dtype == DTYPE_BF16 && (size_t)t->data % 16 == 0 && t->stride[0] % CHANNELS == 0 &&
           t->dim[1] % CHANNELS == 0;
}

bool conv_prompt(struct device *device, const struct conv_args *a)
{
    if (!a->slots || a->x->dim[0] < 2 * PROMPT || a->w->dim[1] != TAPS || !in_eights(a->x) ||
        !in_eights(a->y) || a->slots->dtype != DTYPE_BF16 || (size_t)a->slots->x % 16 != 0)
        return false;
    struct conv_call call = {};
    call.x = view_of(a->x), call.w = view_of(a->w), call.y = view_of(a->y);
    call.rows = *a->rows, call.slots = *a->slots, call.plain = a->plain;
    const unsigned columns = blocks_for(a->x->dim[1], THREADS * CHANNELS);
    launch(device, conv_many, dim3(columns, blocks_for(a->x->dim[0], ROWS)), THREADS, 0, call);
    launch(device, keep_last, dim3(columns, (unsigned)a->slots->ring, (unsigned)a->rows->B), THREADS,
           0, call);
    return true;
}
