/* bench.c: clocks, rounds and roofs. */
#include "bench.h"

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

/* ---- roofs ----------------------------------------------------------------------------------- */

const struct bench_isa bench_isas[BENCH_ISAS] = {{&roofs[ROOF_PORTABLE], 0},
                                                 {&roofs[ROOF_AVX2], CPU_AVX2},
                                                 {&roofs[ROOF_AVX512], ~(uint32_t)CPU_AMX}};

bool bench_has(const struct bench_isa *isa) { return (cpu_flags() & isa->roof->needs) == isa->roof->needs; }

/* ---- rounds --------------------------------------------------------------------------------- */

enum { MOST_ROUNDS = 501, FEWEST = 5 };
static const double LONG_ENOUGH = 2e-5; /* seconds that a clock can tell */

/* Seconds of one, of `batch`. */
static double seconds_of(bench_work *work, void *context, int threads, int batch)
{
    const double before = bench_seconds(threads);
    for (int i = 0; i < batch; i++) work(context);
    return (bench_seconds(threads) - before) / batch;
}

static int batch_of(bench_work *work, void *context, int threads)
{
    work(context);
    const double one = seconds_of(work, context, threads, 1);
    return one < LONG_ENOUGH ? 1 + (int)(LONG_ENOUGH / (one + 1e-8)) : 1;
}

/* Amount a second of one thread. */
static double multiply_add_rate(const struct bench_isa *isa)
{
    const double before = bench_seconds(1), amount = isa->roof->multiply_adds();
    return amount / (bench_seconds(1) - before);
}

static double read_rate(const float *memory, size_t bytes)
{
    enum { READS = 3 };
    /* What was read last round may have been pushed out by the work: once for nothing. */
    roof_read(memory, bytes / sizeof *memory);
    const double before = bench_seconds(1);
    for (int i = 0; i < READS; i++) roof_read(memory, bytes / sizeof *memory);
    return (double)bytes * READS / (bench_seconds(1) - before);
}

struct bench_time bench_run(bench_work *work, void *context, int threads, struct bench_roof roof,
                            double limit)
{
    double time[MOST_ROUNDS], rate[MOST_ROUNDS];
    float *memory = roof.bytes ? bench_must(mem_take(roof.bytes)) : NULL;
    if (memory) memset(memory, 0, roof.bytes);
    struct bench_time t = {0};
    const double begin = bench_seconds(2);
    const int batch = batch_of(work, context, threads);
    const int roof_batch = roof.work ? batch_of(roof.work, context, threads) : 1;
    for (int n = 0; n < FEWEST || (n < MOST_ROUNDS && bench_seconds(2) - begin < limit); n++) {
        time[n] = seconds_of(work, context, threads, batch);
        if (roof.work)
            rate[n] = roof.amount / seconds_of(roof.work, context, threads, roof_batch);
        else
            rate[n] = threads * (memory ? read_rate(memory, roof.bytes)
                                        : multiply_add_rate(roof.isa));
        t.rounds = n + 1;
    }
    mem_give(memory);
    t.median = bench_median(time, t.rounds);
    t.roof = bench_median(rate, t.rounds);
    t.best = time[0];
    return t;
}

void bench_print_head(const char *columns)
{
    printf("%s %7s %7s %7s %6s %5s" BENCH_WANT "\n", columns, "median", "best", "roof", "us", "");
}

void bench_print_row(const char *name, struct bench_time t, double units, double amount,
                     const struct bench_want *want)
{
    const double each = 1e6 / units, at_roof = 1e6 * amount / t.roof;
    printf("%s %7.3f %7.3f %7.1f %6.3f %4.0f%%", name, t.median * each, t.best * each,
           1e-9 * t.roof, at_roof, 100 * at_roof / (t.median * each));
    bench_print_want(want, t.median * each);
    fflush(stdout);
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
