/* draw.cu: random weights where they are used. Truth: tensor/draw.c, whose bits these are. */
#include "kernels/cuda/launch.cuh"

enum { THREADS = 256, EACH = 4 };

static __device__ inline uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A thread makes the four values of a number of the stream, and of those that follow by the grid. */
static __global__ void draw(uint16_t *to, struct draw d, int64_t n)
{
    const uint64_t step = 0x9e3779b97f4a7c15u, seed = mix(d.seed + step);
    const int64_t all = (n + EACH - 1) / EACH, grid = (int64_t)gridDim.x * THREADS;
    const float wide = d.high - d.low;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < all; i += grid) {
        uint64_t bits = mix(seed + (d.before + (uint64_t)i + 1) * step);
        uint16_t value[EACH];
        for (int e = 0; e < EACH; e++, bits >>= 16)
            value[e] = bf16_of(d.low + wide * (float)(bits & 0xffffu) * 0x1p-16f);
        if (EACH * (i + 1) <= n)
            *(uint2 *)(to + EACH * i) = uint2{(uint32_t)value[0] | (uint32_t)value[1] << 16,
                                              (uint32_t)value[2] | (uint32_t)value[3] << 16};
        else
            for (int64_t k = EACH * i; k < n; k++) to[k] = value[k - EACH * i];
    }
}

void cuda_draw(struct device *device, void *to, const struct draw *d, int64_t n)
{
    enum { BLOCKS = 2048 };
    const unsigned blocks = blocks_for(n, EACH * THREADS);
    launch(device, draw, dim3(blocks < BLOCKS ? blocks : BLOCKS), THREADS, 0, (uint16_t *)to, *d,
           n);
}
