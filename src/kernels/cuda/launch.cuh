/* launch.cuh: what the kernel files share: launches, numbers of any type, tensors as kernels see
 * them, rows and their sequences, sums over a warp.
 *
 * Every sum has one order, which depends on widths only and never on how many rows came: that is
 * what keeps a row's bits. Lanes meet in one tree (warp_sum), warps in rising order. */
#ifndef KERNELS_CUDA_LAUNCH_CUH
#define KERNELS_CUDA_LAUNCH_CUH

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define _Noreturn [[noreturn]]
extern "C" {
#include "base/check.h"
#include "kernels/cuda/cuda.h"
}

enum { WARP = 32 };

/* ---- launches -------------------------------------------------------------------------------- */

cudaStream_t cuda_stream(struct device *device);
/* At least n counters in device memory, 0 between launches: who counts up sets back. */
unsigned *cuda_arrivals(struct device *device, int64_t n);
/* Can a kernel of this GPU begin before the one in front of it has ended. */
bool cuda_overlaps(struct device *device);
/* Its multiprocessors. */
int32_t cuda_processors(struct device *device);
/* Bytes of shared memory that a block may ask for. */
size_t cuda_shared(struct device *device);
/* cuBLASLt (linear_lt.cu), found when it is first asked for; NULL: not on this machine. */
struct lt *cuda_lt(struct device *device);
struct lt *lt_open(void);
void lt_close(struct lt *lt);
/* Notes a failure of the runtime: the first one is the device's status. */
bool cuda_good(struct device *device, cudaError_t error, const char *what);

/* Shared memory whose size the launch says. */
#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(name) extern __shared__ float name[]
#endif

enum { SHARED_FREE = 48 << 10 }; /* more than this a kernel must ask for */

template <typename... P, typename... A>
static void launch_as(struct device *device, bool early, void (*kernel)(P...), dim3 grid,
                      unsigned threads, size_t shared, A... args)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || device->status != GDN_OK) return;
    if (shared > SHARED_FREE &&
        !cuda_good(device, cudaFuncSetAttribute((const void *)kernel,
                                                cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                (int)shared), "shared memory"))
        return;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = cuda_stream(device);
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    if (early && cuda_overlaps(device)) config.attrs = &overlap, config.numAttrs = 1;
    cuda_good(device, cudaLaunchKernelEx(&config, kernel, P(args)...), "launch");
}

/* Begins when the kernel in front of it has ended. */
template <typename... P, typename... A>
static void launch(struct device *device, void (*kernel)(P...), dim3 grid, unsigned threads,
                   size_t shared, A... args)
{
    launch_as(device, false, kernel, grid, threads, shared, args...);
}

/* Begins as soon as all blocks of the kernel in front of it have called let_next_start, or are gone.
 * Every block of such a kernel calls wait_for_input: before it only what no kernel writes (weights) may be
 * read, and nothing written. After it all that was launched earlier has ended. */
template <typename... P, typename... A>
static void launch_early(struct device *device, void (*kernel)(P...), dim3 grid, unsigned threads,
                         size_t shared, A... args)
{
    launch_as(device, true, kernel, grid, threads, shared, args...);
}

#ifndef EMULATED
static __device__ inline void wait_for_input(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ inline void let_next_start(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
#else
static inline void wait_for_input(void) {}
static inline void let_next_start(void) {}
#endif

static inline unsigned blocks_for(int64_t n, int64_t each) { return (unsigned)((n + each - 1) / each); }

/* ---- numbers --------------------------------------------------------------------------------- */

static __device__ inline float bf16_value(uint16_t h) { return __uint_as_float((uint32_t)h << 16); }

/* To nearest, ties to even; a NaN stays a NaN. */
static __device__ inline uint16_t bf16_of(float x)
{
    const uint32_t u = __float_as_uint(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

static __device__ inline float load(const void *array, enum dtype t, int64_t i)
{
    if (t == DTYPE_F32) return ((const float *)array)[i];
    const uint16_t h = ((const uint16_t *)array)[i];
    return t == DTYPE_BF16 ? bf16_value(h) : __half2float(__ushort_as_half(h));
}

static __device__ inline void store(void *array, enum dtype t, int64_t i, float x)
{
    if (t == DTYPE_F32)
        ((float *)array)[i] = x;
    else
        ((uint16_t *)array)[i] =
            t == DTYPE_BF16 ? bf16_of(x) : __half_as_ushort(__float2half_rn(x));
}

/* Elements i..i+3 of an array that has n more; what is not there is 0. */
static __device__ inline float4 load_four(const void *array, enum dtype t, int64_t i, int32_t n)
{
    const char *at = (const char *)array + i * (t == DTYPE_F32 ? 4 : 2);
    if (n >= 4 && t == DTYPE_F32 && (size_t)at % 16 == 0) return *(const float4 *)at;
    if (n >= 4 && t == DTYPE_BF16 && (size_t)at % 8 == 0) {
        const uint2 x = *(const uint2 *)at;
        return float4{__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u),
                      __uint_as_float(x.y << 16), __uint_as_float(x.y & 0xffff0000u)};
    }
    return float4{n > 0 ? load(array, t, i) : 0.0f, n > 1 ? load(array, t, i + 1) : 0.0f,
                  n > 2 ? load(array, t, i + 2) : 0.0f, n > 3 ? load(array, t, i + 3) : 0.0f};
}

static __device__ inline void store_four(void *array, enum dtype t, int64_t i, const float4 &x)
{
    char *at = (char *)array + i * (t == DTYPE_F32 ? 4 : 2);
    if (t == DTYPE_F32 && (size_t)at % 16 == 0) {
        *(float4 *)at = x;
    } else if (t == DTYPE_BF16 && (size_t)at % 8 == 0) {
        *(uint2 *)at = uint2{(uint32_t)bf16_of(x.x) | (uint32_t)bf16_of(x.y) << 16,
                             (uint32_t)bf16_of(x.z) | (uint32_t)bf16_of(x.w) << 16};
    } else {
        store(array, t, i, x.x), store(array, t, i + 1, x.y);
        store(array, t, i + 2, x.z), store(array, t, i + 3, x.w);
    }
}

/* What is left of x after it was stored. */
static __device__ inline float rounded(enum dtype t, float x)
{
    if (t == DTYPE_F32) return x;
    return t == DTYPE_BF16 ? bf16_value(bf16_of(x)) : __half2float(__float2half_rn(x));
}

static __device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
static __device__ inline float act_of(enum act act, float x)
{
    return act == ACT_SILU ? x * sigmoid(x) : sigmoid(x);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* By value: axes that a tensor has not are of length 1 and stride 0. */
struct view {
    void *data;
    enum dtype dtype;
    int rank;
    int64_t dim[TENSOR_RANK], stride[TENSOR_RANK];
};

static inline struct view view_of(const struct tensor *t)
{
    struct view v = {};
    for (int i = 0; i < TENSOR_RANK; i++) v.dim[i] = 1;
    if (!t) return v;
    v.data = t->data;
    v.dtype = t->dtype;
    v.rank = t->rank;
    for (int i = 0; i < t->rank; i++) v.dim[i] = t->dim[i], v.stride[i] = t->stride[i];
    return v;
}

/* How many rows everything before the last axis makes. */
static inline int64_t view_rows(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t->rank; i++) n *= t->dim[i];
    return n;
}

static __device__ inline int64_t view_at(const struct view &v, int64_t i, int64_t j, int64_t k)
{
    return i * v.stride[0] + j * v.stride[1] + k * v.stride[2];
}

static __device__ inline int64_t view_row(const struct view &v, int64_t row)
{
    int64_t offset = 0;
    for (int i = v.rank - 2; i >= 0; i--) {
        offset += row % v.dim[i] * v.stride[i];
        row /= v.dim[i];
    }
    return offset;
}

static __device__ inline float get(const struct view &v, int64_t offset)
{
    return load(v.data, v.dtype, offset);
}

static __device__ inline void put(const struct view &v, int64_t offset, float x)
{
    store(v.data, v.dtype, offset, x);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The sequence of row t: runs may be empty, and one row each is the common case. */
static __device__ inline int32_t sequence_of(const struct rows &rows, int32_t t)
{
    if (t < rows.B && rows.start[t] == t && rows.start[t + 1] == t + 1) return t;
    int32_t low = 0, high = rows.B - 1;
    while (low < high) {
        const int32_t mid = (low + high + 1) / 2;
        if (rows.start[mid] <= t)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

static __device__ inline bool absent(const struct rows &rows, int32_t b)
{
    return rows.slot && rows.slot[b] < 0;
}

/* ---- sums ------------------------------------------------------------------------------------ */

static __device__ inline float warp_sum(float x)
{
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

static __device__ inline float warp_max(float x)
{
    for (int step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
    return x;
}

/* Over a block of at most 1024 threads; everyone gets it. `room` [32] shared. */
static __device__ inline float block_sum(float x, float *room)
{
    const int warps = (int)(blockDim.x + WARP - 1) / WARP;
    x = warp_sum(x);
    if (warps == 1) return x;
    __syncthreads();
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = room[0];
    for (int i = 1; i < warps; i++) sum += room[i];
    return sum;
}

#endif
