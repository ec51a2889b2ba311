#include "base/roof.h"

#include <immintrin.h>
#include <string.h>

#include "base/cpu.h"

/* ---- multiply-adds --------------------------------------------------------------------------- */

#define FOR(isa) __attribute__((target(isa), noinline))
enum { CHAINS = 12, TURNS = 100000 };

#define MULTIPLY_ADDS(type, lanes, set, fma)                     \
    volatile float near_one = 0.999f, sink = 0;                  \
    type x[CHAINS], m = set(near_one), a = set(near_one);        \
    for (int c = 0; c < CHAINS; c++) x[c] = m;                   \
    for (int i = 0; i < TURNS; i++)                              \
        for (int c = 0; c < CHAINS; c++) x[c] = fma(x[c], m, a); \
    for (int c = 0; c < CHAINS; c++) sink = sink + x[c][0];      \
    return 2.0 * lanes * CHAINS * TURNS

typedef float quad __attribute__((vector_size(16)));
static inline quad quad_set(float x) { return (quad){x, x, x, x}; }
static inline quad quad_fma(quad x, quad m, quad a) { return x * m + a; }

static FOR("sse2") double adds_portable(void) { MULTIPLY_ADDS(quad, 4, quad_set, quad_fma); }
static FOR("avx2,fma") double adds_avx2(void)
{
    MULTIPLY_ADDS(__m256, 8, _mm256_set1_ps, _mm256_fmadd_ps);
}
static FOR("avx512f") double adds_avx512(void)
{
    MULTIPLY_ADDS(__m512, 16, _mm512_set1_ps, _mm512_fmadd_ps);
}

/* Products of bf16 tiles of zeros: zeros take as long. */
static double adds_tiles(void)
{
    enum { FLOPS = 16 * 16 * 32 * 2 };
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 6; i++) config.row_bytes[i] = 64, config.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0\n\t"
                     "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\t"
                     "tilezero %%tmm3\n\ttilezero %%tmm4\n\ttilezero %%tmm5"
                     : : "m"(config) : "memory");
    for (int i = 0; i < TURNS; i++)
        __asm__ volatile("tdpbf16ps %tmm5, %tmm4, %tmm0\n\ttdpbf16ps %tmm5, %tmm4, %tmm1\n\t"
                         "tdpbf16ps %tmm5, %tmm4, %tmm2\n\ttdpbf16ps %tmm5, %tmm4, %tmm3");
    __asm__ volatile("tilerelease");
    return 4.0 * FLOPS * TURNS;
}

const struct roof roofs[ROOFS] = {{"portable", 0, adds_portable},
                                  {"avx2", CPU_AVX2, adds_avx2},
                                  {"avx512", CPU_AVX512, adds_avx512},
                                  {"amx", CPU_AMX, adds_tiles}};

const struct roof *roof_of(uint32_t flags)
{
    int best = ROOF_PORTABLE;
    for (int i = 0; i < ROOFS; i++)
        if ((flags & roofs[i].needs) == roofs[i].needs) best = i;
    return &roofs[best];
}

/* ---- reading --------------------------------------------------------------------------------- */

void roof_read(const float *x, size_t n)
{
    static volatile float sink;
    quad sum[16] = {{0}};
    const size_t part = n / 4;
    for (size_t i = 0; i + 16 <= part; i += 16)
        for (int s = 0; s < 4; s++) {
            /* Further ahead than the processor looks by itself. */
            __builtin_prefetch(x + (size_t)s * part + i + 512);
            for (int v = 0; v < 4; v++) {
                quad at;
                memcpy(&at, x + (size_t)s * part + i + 4 * (size_t)v, sizeof at);
                sum[4 * s + v] += at;
            }
        }
    for (int c = 1; c < 16; c++) sum[0] += sum[c];
    sink = sink + sum[0][0];
}
