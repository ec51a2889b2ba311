/* delta_append.cuh: how the rows of a call enter the log: k, G summed from the block's edge, and base.
 *
 * Entries that no block of the call reads are written as soon as they are known (delta_block.cuh).
 * When a sequence folds, entry 0 and on are taken by new rows, while others may still read what was
 * there: then the block that is the last of its sequence to be done writes k and G and moves base.
 *
 * The inputs of the convolution, with MIX, go the same two ways into their ring.
 *
 *     plain    entries  m + i - gone, what falls below 0 is in the anchor
 *     draft    entries  m + i, up to 31; G begins anew at entry 16 */
#ifndef KERNELS_CUDA_DELTA_APPEND_CUH
#define KERNELS_CUDA_DELTA_APPEND_CUH

#include "kernels/cuda/delta_rows.cuh"

/* No block reads what this call appends. */
static __device__ inline bool appends_at_once(const struct delta_run &r)
{
    return r.overdue == 0 && r.gone == 0;
}

template <bool MIX>
static __device__ void append_keys(const struct delta_call &a, const struct delta_run &r, int32_t b,
                                   float *room)
{
    const int32_t lane = (int32_t)threadIdx.x % WARP, warp = (int32_t)threadIdx.x / WARP;
    for (int64_t i = threadIdx.x; r.overdue && i < (int64_t)a.Hk * a.Dk; i += blockDim.x)
        for (int32_t e = 0; e < r.m; e++)
            store(a.slots.k, a.slots.k_type, delta_k_at(a, r.slot, e, 0) + i,
                  load(a.slots.k, a.slots.k_type, delta_k_at(a, r.slot, BLOCK + e, 0) + i));
    __syncthreads();
    const int32_t from = r.gone > r.m ? r.gone - r.m : 0;
    float *key = room + warp * channels_of(a.Dk);
    for (int32_t i = warp; i < (r.n - from) * a.Hk; i += (int32_t)blockDim.x / WARP) {
        const int32_t t = from + i / a.Hk, kh = i % a.Hk;
        begin_key<MIX>(a, r.first + t, kh, key);
        bring_wait();
        end_key<MIX>(a, b, r.first + t, kh, key, channels_of(a.Dk));
        __syncwarp();
        for (int32_t d = lane; d < a.Dk; d += WARP)
            store(a.slots.k, a.slots.k_type, delta_k_at(a, r.slot, r.m + t - r.gone, kh) + d, key[d]);
        __syncwarp();
    }
}

template <bool MIX>
static __device__ void append_gates(const struct delta_call &a, const struct delta_run &r)
{
    float *log = (float *)a.slots.G;
    for (int64_t i = threadIdx.x; i < (int64_t)a.Hv * a.gates; i += blockDim.x) {
        for (int32_t e = 0; r.overdue && e < r.m; e++)
            log[delta_G_at(a, r.slot, e, 0) + i] = log[delta_G_at(a, r.slot, BLOCK + e, 0) + i];
        const int32_t from = r.gone > r.m ? r.gone - r.m : 0;
        const int32_t begin = r.m + from - r.gone; /* entry of the first row that stays */
        float G = begin > 0 && from < r.n ? log[delta_G_at(a, r.slot, begin - 1, 0) + i] : 0.0f;
        for (int32_t t = from; t < r.n; t++) {
            const int32_t e = r.m + t - r.gone;
            if (e % BLOCK == 0) G = 0.0f;
            G += row_decay<MIX>(a, r.first + t, i / a.gates, i % a.gates);
            log[delta_G_at(a, r.slot, e, 0) + i] = G;
        }
    }
}

/* Channels first..first+n-1 of the rows from..n-1 enter the ring. */
static __device__ void keep_inputs(const struct delta_call &a, const struct delta_run &r, int32_t b,
                                   int64_t first, int32_t n)
{
    const int32_t ring = a.mix.conv.slots.ring, from = r.n > ring ? r.n - ring : 0;
    for (int32_t i = from; i < r.n; i++)
        for (int32_t c = (int32_t)threadIdx.x; c < n; c += (int32_t)blockDim.x)
            conv_keep(a.mix.conv, b, i, first + c);
}

/* A block is done with its part of sequence b; `blocks` of them there are. `room`: shared memory that
 * nobody uses any more, a key for each warp. */
template <bool MIX>
static __device__ void append_last(const struct delta_call &a, const struct delta_run &r, int32_t b,
                                   unsigned blocks, float *room)
{
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(a.arrivals + b, 1u) == blocks - 1;
    }
    __syncthreads();
    if (!last) return;
    append_keys<MIX>(a, r, b, room);
    append_gates<MIX>(a, r);
    __syncthreads();
    if (MIX) keep_inputs(a, r, b, 0, (int32_t)a.mix.conv.x.dim[1]);
    if (threadIdx.x == 0) {
        a.slots.base[r.slot] = r.base + r.overdue + r.gone;
        a.arrivals[b] = 0;
    }
}

#endif
