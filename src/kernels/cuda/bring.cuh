/* bring.cuh: rows of numbers into shared memory, as floats. They begin to come and are waited for
 * later, so that many are on their way at once; a row is one warp's work. */
#ifndef KERNELS_CUDA_BRING_CUH
#define KERNELS_CUDA_BRING_CUH

#include "kernels/cuda/tiles.cuh"

/* All that the thread has asked for is there: for others behind a barrier. */
static __device__ inline void bring_wait(void)
{
    copies_end();
    copies_wait<0>();
}

/* n elements of an array begin to come, as they are, to `to`, whose room is that of floats. */
static __device__ inline void begin_row(float *to, const void *array, enum dtype type, int64_t at,
                                        int32_t n)
{
    const int32_t lane = (int32_t)threadIdx.x % WARP, size = type == DTYPE_F32 ? 4 : 2;
    const char *from = (const char *)array + at * size;
    if (((size_t)from | (size_t)(n * size)) % 16 == 0) {
        for (int32_t i = 16 * lane; i < n * size; i += 16 * WARP)
            copy_later(shared_address((char *)to + i), from + i, true);
    } else {
        for (int32_t i = lane; i < n * size / 2; i += WARP)
            ((uint16_t *)to)[i] = ((const uint16_t *)from)[i];
    }
}

/* The same row, by the same warp after bring_wait: as floats, rounded to `round`, with zeros from n
 * up to `all`, at most 256. */
static __device__ inline void end_row(float *to, enum dtype type, int32_t n, int32_t all,
                                      enum dtype round)
{
    enum { EACH = 256 / WARP };
    const int32_t lane = (int32_t)threadIdx.x % WARP;
    float x[EACH];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < EACH; j++)
        x[j] = lane + WARP * j < n ? rounded(round, load(to, type, lane + WARP * j)) : 0.0f;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < EACH; j++)
        if (lane + WARP * j < all) to[lane + WARP * j] = x[j];
}

#endif
