#include "roof.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "base/memory.h"

static const double LONG_ENOUGH = 0.03; /* seconds a measurement lasts */

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Lanes of one accumulator and how many of them: enough chains to hide the latency of one. */
enum { LANES = 16, CHAINS = 12, ROUNDS = 4096, GRAIN = 4096 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));

#if defined(__x86_64__)
#define FOR_AVX2 __attribute__((target("avx2,fma")))
#define FOR_AVX512 __attribute__((target("avx512f,fma")))
#endif
#define INLINE static inline __attribute__((always_inline))

/* ---- reading ----------------------------------------------------------------------------------------- */

struct reading {
    const unsigned char *data;
    int rounds;
    volatile float sink[1024];
};

INLINE float sum_bytes(const unsigned char *at, int64_t bytes)
{
    lanes sum[4] = {{0}}, x[4];
    for (int64_t i = 0; i + (int64_t)sizeof x <= bytes; i += (int64_t)sizeof x) {
        memcpy(x, at + i, sizeof x);
        for (int k = 0; k < 4; k++) sum[k] += x[k];
    }
    return sum[0][0] + sum[1][0] + sum[2][0] + sum[3][0];
}

static float sum_plain(const unsigned char *at, int64_t bytes) { return sum_bytes(at, bytes); }
#if defined(__x86_64__)
FOR_AVX2 static float sum_avx2(const unsigned char *at, int64_t n) { return sum_bytes(at, n); }
FOR_AVX512 static float sum_avx512(const unsigned char *at, int64_t n) { return sum_bytes(at, n); }
#endif

static float sum_best(const unsigned char *at, int64_t bytes)
{
#if defined(__x86_64__)
    if (cpu_flags() & CPU_AVX512) return sum_avx512(at, bytes);
    if (cpu_flags() & CPU_AVX2) return sum_avx2(at, bytes);
#endif
    return sum_plain(at, bytes);
}

static void read_share(void *context, int64_t begin, int64_t end, int thread)
{
    struct reading *r = context;
    for (int i = 0; i < r->rounds; i++)
        r->sink[thread & 1023] = sum_best(r->data + begin, end - begin);
}

double roof_read(struct pool *pool, size_t bytes)
{
    double best = 0;
    if (bytes < GRAIN) bytes = GRAIN;
    unsigned char *data = mem_take(bytes);
    if (!data) return 0;
    memset(data, 1, bytes);
    struct reading r = {.data = data, .rounds = 1 + (int)((1u << 20) / bytes)};
    const double begin = seconds_now();
    for (int i = 0; i < 3 || seconds_now() - begin < LONG_ENOUGH; i++) {
        const double t = seconds_now();
        pool_run(pool, (int64_t)bytes, GRAIN, read_share, &r);
        const double speed = (double)bytes * r.rounds / (seconds_now() - t);
        if (speed > best) best = speed;
    }
    mem_give(data);
    return best;
}

/* ---- multiply-adds ------------------------------------------------------------------------------------ */

INLINE float chains_fused(void)
{
    float x[CHAINS][LANES];
    for (int c = 0; c < CHAINS; c++)
        for (int l = 0; l < LANES; l++) x[c][l] = (float)(c + l);
    for (int i = 0; i < ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++)
            for (int l = 0; l < LANES; l++) x[c][l] = __builtin_fmaf(x[c][l], 0.999f, 0.5f);
    float sum = 0;
    for (int c = 0; c < CHAINS; c++)
        for (int l = 0; l < LANES; l++) sum += x[c][l];
    return sum;
}

static float chains_plain(void)
{
    lanes x[CHAINS];
    for (int c = 0; c < CHAINS; c++)
        for (int l = 0; l < LANES; l++) x[c][l] = (float)(c + l);
    for (int i = 0; i < ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++) x[c] = x[c] * 0.999f + 0.5f;
    float sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += x[c][0];
    return sum;
}
#if defined(__x86_64__)
FOR_AVX2 static float chains_avx2(void) { return chains_fused(); }
FOR_AVX512 static float chains_avx512(void) { return chains_fused(); }
#endif

static void chain_share(void *context, int64_t begin, int64_t end, int thread)
{
    struct reading *r = context;
    for (int64_t i = begin; i < end; i++) {
#if defined(__x86_64__)
        if (cpu_flags() & CPU_AVX512)
            r->sink[thread & 1023] = chains_avx512();
        else if (cpu_flags() & CPU_AVX2)
            r->sink[thread & 1023] = chains_avx2();
        else
#endif
            r->sink[thread & 1023] = chains_plain();
    }
}

double roof_flops(struct pool *pool)
{
    struct reading r = {0};
    double best = 0;
    const int64_t jobs = 8 * pool_threads(pool);
    const double begin = seconds_now(), each = 2.0 * ROUNDS * CHAINS * LANES;
    for (int i = 0; i < 3 || seconds_now() - begin < LONG_ENOUGH; i++) {
        const double t = seconds_now();
        pool_run(pool, jobs, 1, chain_share, &r);
        const double speed = each * (double)jobs / (seconds_now() - t);
        if (speed > best) best = speed;
    }
    return best;
}
