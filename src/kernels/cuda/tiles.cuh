/* tiles.cuh: products of small matrices by a warp, and copies to shared memory that are awaited
 * later: the instructions, each behind one function (tests/emulate has its own).
 *
 * mma m16n8k16: d[16 x 8] += a[16 x 16] b[16 x 8], bf16 operands, f32 sums. With g = lane / 4 and
 * q = lane % 4 a lane holds
 *
 *     d   (g, 2q) (g, 2q+1) (g+8, 2q) (g+8, 2q+1)
 *     a   pairs of columns 2q: (g, ..) (g+8, ..), columns 8 + 2q: (g, ..) (g+8, ..)
 *     b   pairs of rows 2q, then 8 + 2q, of column g
 *
 * so what a lane holds of two d side by side is, rounded and packed, its part of an a. */
#ifndef KERNELS_CUDA_TILES_CUH
#define KERNELS_CUDA_TILES_CUH

#include "kernels/cuda/launch.cuh"

/* An address in shared memory. */
#ifndef EMULATED_TILES
typedef uint32_t shared_at;
static __device__ inline shared_at shared_address(const void *p)
{
    return (shared_at)__cvta_generic_to_shared(p);
}

static __device__ inline void tile_multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four matrices of 8 x 8: lanes 8i.. give where the rows of matrix i are, 16 bytes each, and a lane
 * gets the pair 2q of row g of every one; turned: rows 2q and 2q+1 of column g. */
static __device__ inline void tile_load(uint32_t (&r)[4], shared_at row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

static __device__ inline void tile_load_turned(uint32_t (&r)[4], shared_at row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/* 16 bytes on their way to shared memory, or zeros when there are none. */
static __device__ inline void copy_later(shared_at to, const void *from, bool there)
{
    const int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/* Four bytes. */
static __device__ inline void copy_four(shared_at to, const void *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

/* The same as copy_later, kept in the L1 cache for other blocks of the multiprocessor. */
static __device__ inline void copy_common(shared_at to, const void *from, bool there)
{
    const int bytes = there ? 16 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/* What was asked for since the last time is one group; copies_wait: until at most N groups of this
 * thread are still on their way. */
static __device__ inline void copies_end(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> static __device__ inline void copies_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- gates and long copies: compute capability 9.0 and later ---- */

/* A gate in shared memory, 8 bytes, opens when so many have arrived and all expected bytes are there,
 * and then is about its next phase: gate_wait names the parity of the one it waits for. */
static __device__ inline void gate_make(shared_at gate, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(gate), "r"(arrivals) : "memory");
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
static __device__ inline void gate_arrive(shared_at gate)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(gate) : "memory");
}

/* Arrives, and so many bytes more are to come. */
static __device__ inline void gate_expect(shared_at gate, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(gate), "r"(bytes)
                 : "memory");
}

static __device__ inline void gate_wait(shared_at gate, int phase)
{
    uint32_t open;
    do {
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
                     "selp.u32 %0, 1, 0, p;}"
                     : "=r"(open)
                     : "r"(gate), "r"(phase)
                     : "memory");
    } while (!open);
}

/* Bytes, a multiple of 16, on their way to shared memory: the gate hears of them. */
static __device__ inline void copy_long(shared_at to, const void *from, int bytes, shared_at gate)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(gate)
                 : "memory");
}

#else
static __device__ inline void gate_expect(shared_at, int) {}
static __device__ inline void gate_wait(shared_at, int) {}
static __device__ inline void copy_long(shared_at, const void *, int, shared_at) {}
#endif

/* Rounded to nearest, x below y. */
static __device__ inline uint32_t bf16_pair(float x, float y)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
    return pair;
}
#endif

/* Of a ring of 1, 2 or MOST_STAGES stages, each a group of copies, the oldest is there. */
enum { MOST_STAGES = 4 };
static __device__ inline void wait_stage(int stages)
{
    if (stages == 1)
        copies_wait<0>();
    else if (stages == 2)
        copies_wait<1>();
    else
        copies_wait<MOST_STAGES - 1>();
}

static __device__ inline float low_value(uint32_t pair) { return __uint_as_float(pair << 16); }
static __device__ inline float high_value(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

/* Two floats as three pairs of bf16 that add up to them: 8 bits each, cut off. */
static __device__ inline void split_pair(float x, float y, uint32_t (&part)[3])
{
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const uint32_t low = __float_as_uint(x), high = __float_as_uint(y) & 0xffff0000u;
        part[i] = low >> 16 | high;
        x -= __uint_as_float(low & 0xffff0000u);
        y -= __uint_as_float(high);
    }
}

#endif
