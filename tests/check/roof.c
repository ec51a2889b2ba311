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

#if defined(__x86_64__)
#include <immintrin.h>
#define FOR_AVX2 __attribute__((target("avx2,fma")))
#define FOR_AVX512 __attribute__((target("avx512f")))
#endif

/* A loop of this machine's best vectors: reads n bytes, or does n rounds of multiply-adds in enough
 * chains to hide the latency of one. What it computes only keeps it from being left out. */
typedef float work(const float *at, int64_t n);
enum { CHAINS = 12, ROUNDS = 4096, GRAIN = 4096 };

static float read_plain(const float *at, int64_t n)
{
    float sum[16] = {0};
    for (int64_t i = 0; i + 16 <= n / 4; i += 16)
        for (int k = 0; k < 16; k++) sum[k] += at[i + k];
    return sum[0];
}

static float chain_plain(const float *at, int64_t n)
{
    float x[CHAINS][4] = {{at[0]}};
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < CHAINS; c++)
            for (int k = 0; k < 4; k++) x[c][k] = x[c][k] * 0.999f + 0.5f;
    float sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += x[c][0];
    return sum;
}

#if defined(__x86_64__)
FOR_AVX2 static float read_avx2(const float *at, int64_t n)
{
    __m256 sum[4] = {_mm256_setzero_ps()};
    for (int64_t i = 0; i + 32 <= n / 4; i += 32)
        for (int k = 0; k < 4; k++)
            sum[k] = _mm256_add_ps(sum[k], _mm256_loadu_ps(at + i + 8 * k));
    sum[0] = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
    return _mm256_cvtss_f32(sum[0]);
}

FOR_AVX2 static float chain_avx2(const float *at, int64_t n)
{
    const __m256 m = _mm256_set1_ps(0.999f), a = _mm256_set1_ps(at[0]);
    __m256 x[CHAINS], sum = _mm256_setzero_ps();
    for (int c = 0; c < CHAINS; c++) x[c] = a;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < CHAINS; c++) x[c] = _mm256_fmadd_ps(x[c], m, a);
    for (int c = 0; c < CHAINS; c++) sum = _mm256_add_ps(sum, x[c]);
    return _mm256_cvtss_f32(sum);
}

FOR_AVX512 static float read_avx512(const float *at, int64_t n)
{
    __m512 sum[4] = {_mm512_setzero_ps()};
    for (int64_t i = 0; i + 64 <= n / 4; i += 64)
        for (int k = 0; k < 4; k++)
            sum[k] = _mm512_add_ps(sum[k], _mm512_loadu_ps(at + i + 16 * k));
    sum[0] = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
    return _mm512_cvtss_f32(sum[0]);
}

FOR_AVX512 static float chain_avx512(const float *at, int64_t n)
{
    const __m512 m = _mm512_set1_ps(0.999f), a = _mm512_set1_ps(at[0]);
    __m512 x[CHAINS], sum = _mm512_setzero_ps();
    for (int c = 0; c < CHAINS; c++) x[c] = a;
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < CHAINS; c++) x[c] = _mm512_fmadd_ps(x[c], m, a);
    for (int c = 0; c < CHAINS; c++) sum = _mm512_add_ps(sum, x[c]);
    return _mm512_cvtss_f32(sum);
}
#endif

/* The two loops, and how many floats a vector of theirs has. */
struct best {
    work *read, *chain;
    int lanes;
};

static struct best best_loops(void)
{
#if defined(__x86_64__)
    const uint32_t flags = cpu_flags();
    if (flags & CPU_AVX512) return (struct best){read_avx512, chain_avx512, 16};
    if (flags & CPU_AVX2) return (struct best){read_avx2, chain_avx2, 8};
#endif
    return (struct best){read_plain, chain_plain, 4};
}

struct job {
    work *loop;
    const float *data;
    int rounds;
    volatile float sink[1024];
};

/* ---- reading ---------------------------------------------------------------------------- */

static void read_share(void *context, int64_t begin, int64_t end, int thread)
{
    struct job *job = context;
    for (int i = 0; i < job->rounds; i++)
        job->sink[thread & 1023] = job->loop(job->data + begin / 4, end - begin);
}

double roof_read(struct pool *pool, size_t bytes)
{
    double best = 0;
    if (bytes < GRAIN) bytes = GRAIN;
    float *data = mem_take(bytes);
    if (!data) return 0;
    memset(data, 1, bytes);
    struct job job = {.loop = best_loops().read, .data = data,
                      .rounds = 1 + (int)((1u << 22) / bytes)};
    const double begin = seconds_now();
    for (int i = 0; i < 3 || seconds_now() - begin < LONG_ENOUGH; i++) {
        const double t = seconds_now();
        pool_run(pool, (int64_t)bytes, GRAIN, read_share, &job);
        const double speed = (double)bytes * job.rounds / (seconds_now() - t);
        if (speed > best) best = speed;
    }
    mem_give(data);
    return best;
}

/* ---- multiply-adds ---------------------------------------------------------------------- */

static void chain_share(void *context, int64_t begin, int64_t end, int thread)
{
    struct job *job = context;
    for (int64_t i = begin; i < end; i++)
        job->sink[thread & 1023] = job->loop(job->data, ROUNDS);
}

double roof_flops(struct pool *pool)
{
    static const float half = 0.5f;
    const struct best loops = best_loops();
    struct job job = {.loop = loops.chain, .data = &half};
    double best = 0;
    const int64_t jobs = 8 * pool_threads(pool);
    const double begin = seconds_now(), each = 2.0 * ROUNDS * CHAINS * loops.lanes;
    for (int i = 0; i < 3 || seconds_now() - begin < LONG_ENOUGH; i++) {
        const double t = seconds_now();
        pool_run(pool, jobs, 1, chain_share, &job);
        const double speed = each * (double)jobs / (seconds_now() - t);
        if (speed > best) best = speed;
    }
    return best;
}
