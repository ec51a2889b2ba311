/* cuda_runtime.h: as much of CUDA as src/kernels/cuda uses, on the host, for machines without a GPU.
 *
 * The same kernel sources are compiled by the C++ compiler. A block's threads are fibers of one
 * thread: each runs until it waits at a barrier, a shuffle or a matrix instruction. Launches
 * alternate between rising and falling order of threads, so that a missing barrier shows as other
 * bits. Shared and device memory start as NaN. What a stream is asked for happens when it is waited for
 * and no sooner. What it cannot show: races inside a warp's step, memory models, speed. */
#ifndef EMULATE_CUDA_RUNTIME_H
#define EMULATE_CUDA_RUNTIME_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#define EMULATED
#define CUDART_VERSION 0
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__

using std::isinf;
using std::isnan;

/* ---- values ---------------------------------------------------------------------------------- */

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint2 {
    unsigned x, y;
};
struct uint4 {
    unsigned x, y, z, w;
};
struct float4 {
    float x, y, z, w;
};
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}

/* Bytes of y above those of x, by the numbers in the nibbles of `which`. */
static inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t which)
{
    const uint64_t both = (uint64_t)y << 32 | x;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) out |= (uint32_t)(both >> 8 * (which >> 4 * i & 7) & 255) << 8 * i;
    return out;
}
static inline float __uint_as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t __float_as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline void sincospif(float x, float *s, float *c)
{
    *s = (float)sin(M_PI * (double)x);
    *c = (float)cos(M_PI * (double)x);
}

/* ---- inside a kernel --------------------------------------------------------------------------- */

struct emulated_thread {
    uint3 thread, block;
    unsigned lane;
};
extern struct emulated_thread *emulated; /* the one that runs */
extern dim3 emulated_threads, emulated_grid;
#define threadIdx (emulated->thread)
#define blockIdx (emulated->block)
#define blockDim emulated_threads
#define gridDim emulated_grid

void emulated_wait(bool warp);
void *emulated_shared(void);
uint64_t *emulated_slots(void); /* [32][8] of the warp, by lane */

#define DYNAMIC_SHARED(name) float *const name = (float *)emulated_shared()
static inline void __syncthreads(void) { emulated_wait(false); }
static inline void __syncwarp(void) { emulated_wait(true); }

int __syncthreads_count(int mine);

template <typename T> static T __shfl_xor_sync(unsigned, T value, int step)
{
    uint64_t *slot = emulated_slots();
    T other;
    memcpy(slot + 8 * emulated->lane, &value, sizeof value);
    emulated_wait(true);
    memcpy(&other, slot + 8 * (emulated->lane ^ (unsigned)step), sizeof other);
    emulated_wait(true);
    return other;
}

static inline uint32_t __reduce_max_sync(unsigned lanes, uint32_t value)
{
    for (int step = 16; step > 0; step /= 2) {
        const uint32_t other = __shfl_xor_sync(lanes, value, step);
        if (other > value) value = other;
    }
    return value;
}

template <typename T> static T __shfl_sync(unsigned, T value, int lane)
{
    uint64_t *slot = emulated_slots();
    T other;
    memcpy(slot + 8 * emulated->lane, &value, sizeof value);
    emulated_wait(true);
    memcpy(&other, slot + 8 * lane, sizeof other);
    emulated_wait(true);
    return other;
}

/* A copy is not there before the wait: each thread keeps its own until then. */
#define ASYNC_EMULATED
void async_copy(void *shared, const void *from);
void async_copy_4(void *shared, const void *from);
void async_wait(void);

static inline void __threadfence(void) {}

static inline unsigned __reduce_add_sync(unsigned lanes, unsigned n)
{
    for (int step = 16; step > 0; step /= 2) n += __shfl_xor_sync(lanes, n, step);
    return n;
}

template <typename T> static T atomicAdd(T *at, T n)
{
    const T old = *at;
    *at += n;
    return old;
}

void emulated_mma(float d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                  uint32_t b1);

/* The instructions of kernels/cuda/tiles.cuh. Copies arrive when they are waited for and no sooner. */
#define EMULATED_TILES
typedef char *shared_at;
static inline shared_at shared_address(const void *p) { return (char *)p; }
static inline void tile_multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    emulated_mma(d, a[0], a[1], a[2], a[3], b0, b1);
}
void emulated_matrices(uint32_t (&r)[4], const char *row, bool turned);
static inline void tile_load(uint32_t (&r)[4], shared_at row) { emulated_matrices(r, row, false); }
static inline void tile_load_turned(uint32_t (&r)[4], shared_at row)
{
    emulated_matrices(r, row, true);
}
void copy_later(shared_at to, const void *from, bool there);
static inline void copy_common(shared_at to, const void *from, bool there)
{
    copy_later(to, from, there);
}
void copy_four(shared_at to, const void *from);
void copies_end(void);
void emulated_arrive(unsigned groups);
template <int N> static inline void copies_wait(void) { emulated_arrive(N); }
uint32_t bf16_pair(float x, float y);

/* Gates and long copies: what is asked for arrives when somebody waits for it. */
void gate_make(shared_at gate, int arrivals);
void gate_expect(shared_at gate, int bytes);
void gate_wait(shared_at gate, int phase);
void copy_long(shared_at to, const void *from, int bytes, shared_at gate);

/* ---- the runtime ----------------------------------------------------------------------------------- */

typedef enum cudaError { cudaSuccess, cudaErrorMemoryAllocation, cudaErrorInsufficientDriver } cudaError_t;
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum { cudaHostAllocDefault, cudaStreamNonBlocking, cudaStreamCaptureModeThreadLocal,
       cudaFuncAttributeMaxDynamicSharedMemorySize, cudaDevAttrComputeCapabilityMajor,
       cudaDevAttrComputeCapabilityMinor, cudaDevAttrMaxSharedMemoryPerBlockOptin,
       cudaDevAttrMultiProcessorCount, cudaLaunchAttributeProgrammaticStreamSerialization };

typedef struct {
    int id;
    struct {
        int programmaticStreamSerializationAllowed;
    } val;
} cudaLaunchAttribute;

typedef struct {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
} cudaLaunchConfig_t;

void emulated_do(const std::function<void()> &work); /* at the next wait, or noted by a capture */
void emulated_launch(dim3 grid, dim3 threads, size_t shared, const std::function<void()> &kernel);

template <typename... P, typename... A>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A... args)
{
    const dim3 grid = c->gridDim, threads = c->blockDim;
    const size_t shared = c->dynamicSmemBytes;
    emulated_do([=] { emulated_launch(grid, threads, shared, [=] { kernel(args...); }); });
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **block, size_t bytes);
cudaError_t cudaFree(void *block);
cudaError_t cudaHostAlloc(void **block, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *block);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, int mode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind)
{
    memcpy(to, from, n);
    return cudaSuccess;
}
static inline cudaError_t cudaGetLastError(void) { return cudaSuccess; }
static inline const char *cudaGetErrorString(cudaError_t) { return "an emulated error"; }
static inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = nullptr;
    return cudaSuccess;
}
static inline cudaError_t cudaFuncSetAttribute(const void *, int, int) { return cudaSuccess; }
static inline cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, int which, int)
{
    *value = which == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 227 << 10 : 9;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *all);

#endif
