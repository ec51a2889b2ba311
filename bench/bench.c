/* bench.c: clocks, rounds and roofs. */
#include "bench.h"

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "base/memory.h"

void bench_check(bool good, const char *what)
{
    if (good) return;
    fprintf(stderr, "gdn-bench: %s\n", what);
    exit(1);
}

void *bench_must(void *memory)
{
    bench_check(memory != NULL, "no memory");
    return memory;
}

double bench_seconds(int threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

/* ---- multiply-adds in registers ------------------------------------------------------------------- */

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

const struct bench_isa bench_isas[BENCH_ISAS] = {
    {"portable", 0, 0, adds_portable},
    {"avx2", CPU_AVX2, CPU_AVX2, adds_avx2},
    {"avx512", CPU_AVX512, ~(uint32_t)CPU_AMX, adds_avx512}};

bool bench_has(const struct bench_isa *isa) { return (cpu_flags() & isa->needs) == isa->needs; }

/* ---- reading -------------------------------------------------------------------------------------- */

/* Four streams side by side. */
static void read_all(const float *x, size_t n)
{
    static volatile float sink;
    quad sum[16] = {{0}};
    const size_t part = n / 4;
    for (size_t i = 0; i + 16 <= part; i += 16)
        for (int s = 0; s < 4; s++)
            for (int v = 0; v < 4; v++) {
                quad at;
                memcpy(&at, x + (size_t)s * part + i + 4 * (size_t)v, sizeof at);
                sum[4 * s + v] += at;
            }
    for (int c = 1; c < 16; c++) sum[0] += sum[c];
    sink = sink + sum[0][0];
}

/* ---- rounds --------------------------------------------------------------------------------------- */

enum { MOST_ROUNDS = 501, FEWEST = 5 };

static double roof_round(struct bench_roof roof, void *context, const float *memory, int threads)
{
    enum { READS = 3 };
    /* What was read last round may have been pushed out by the work: once for nothing. */
    if (memory) read_all(memory, roof.bytes / sizeof *memory);
    const int clock = roof.work ? threads : 1;
    const double before = bench_seconds(clock);
    double amount = roof.amount;
    if (roof.work)
        roof.work(context);
    else if (roof.isa)
        amount = roof.isa->multiply_adds() * threads;
    for (int i = 0; memory && i < READS; i++) read_all(memory, roof.bytes / sizeof *memory);
    if (memory) amount = (double)roof.bytes * READS * threads;
    return amount / (bench_seconds(clock) - before);
}

struct bench_time bench_run(bench_work *work, void *context, int threads, struct bench_roof roof,
                            double limit)
{
    double time[MOST_ROUNDS], rate[MOST_ROUNDS];
    float *memory = roof.bytes ? bench_must(mem_take(roof.bytes)) : NULL;
    if (memory) memset(memory, 0, roof.bytes);
    struct bench_time t = {0};
    const double begin = bench_seconds(2);
    work(context);
    while (t.rounds < FEWEST || (t.rounds < MOST_ROUNDS && bench_seconds(2) - begin < limit)) {
        const double before = bench_seconds(threads);
        work(context);
        time[t.rounds] = bench_seconds(threads) - before;
        rate[t.rounds++] = roof_round(roof, context, memory, threads);
    }
    mem_give(memory);
    t.median = bench_median(time, t.rounds);
    t.roof = bench_median(rate, t.rounds);
    t.best = time[0];
    return t;
}

void bench_print_want(const struct bench_want *want, double found)
{
    const double shown[] = {want->ggml, want->ik, want->must, want->goal};
    for (int i = 0; i < 4; i++)
        if (shown[i] > 0)
            printf(" %5.2f", shown[i]);
        else
            printf("     -");
    if (want->must > 0)
        printf("  %s", found <= want->goal ? "goal" : found <= want->must ? "met" : "MISSED");
    printf("\n");
}
