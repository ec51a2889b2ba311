/* gdn-bench-delta_backward: times the backward of op_delta, dense, f32, heads of 128 x 128, with
 * one thread and two, for every instruction set.
 *
 * Per token and value head stand the time, the flops of docs/kernels/delta_backward.md and their
 * share of what multiply-adds in registers reach, measured between the runs: medians, since others
 * may be using the machine. One thread is timed by its own clock for the same reason.
 *
 *     gdn-bench-delta_backward [T [repeats]] */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "tensor/device.h"

enum { D = 128, MOST_REPEATS = 99, CHAINS = 12, ROUNDS = 200000 };
enum { Q, K, V, G, BETA, S0, O, S1, TENSORS };

static double seconds(int threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *must(void *memory)
{
    if (memory) return memory;
    fputs("gdn-bench-delta_backward: no memory\n", stderr);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_size);
    return x[n / 2];
}

/* ---- multiply-adds in registers -------------------------------------------------------------- */

#define FOR(isa) __attribute__((target(isa), noinline))

#define FMA_LOOP(type, lanes, set, fma)                              \
    volatile float near_one = 0.999f, sink = 0;                      \
    type x[CHAINS], m = set(near_one), a = set(near_one);            \
    for (int c = 0; c < CHAINS; c++) x[c] = m;                       \
    for (int i = 0; i < ROUNDS; i++)                                 \
        for (int c = 0; c < CHAINS; c++) x[c] = fma(x[c], m, a);     \
    for (int c = 0; c < CHAINS; c++) sink = sink + x[c][0];          \
    return 2.0 * lanes * CHAINS * ROUNDS

typedef float quad __attribute__((vector_size(16)));
static inline quad quad_set(float x) { return (quad){x, x, x, x}; }
static inline quad quad_fma(quad x, quad m, quad a) { return x * m + a; }

static FOR("sse2") double flops_portable(void) { FMA_LOOP(quad, 4, quad_set, quad_fma); }
static FOR("avx2,fma") double flops_avx2(void)
{
    FMA_LOOP(__m256, 8, _mm256_set1_ps, _mm256_fmadd_ps);
}
static FOR("avx512f") double flops_avx512(void)
{
    FMA_LOOP(__m512, 16, _mm512_set1_ps, _mm512_fmadd_ps);
}

static const struct way {
    const char *name;
    uint32_t needs, mask;
    double (*flops)(void);
} ways[] = {{"portable", 0, 0, flops_portable},
            {"avx2", CPU_AVX2, CPU_AVX2, flops_avx2},
            {"avx512", CPU_AVX512, ~(uint32_t)CPU_AMX, flops_avx512}};

/* ---- the call -------------------------------------------------------------------------------- */

struct call {
    struct tensor t[TENSORS], grad[TENSORS];
    int32_t start[2], pos[1];
    struct rows rows;
};

static void call_make(struct call *c, struct arena *data, int T, int Hk, int Hv, bool channel)
{
    const int64_t dim[TENSORS][4] = {{T, Hk, D}, {T, Hk, D},    {T, Hv, D}, {T, Hv, D},
                                     {T, Hv},    {1, Hv, D, D}, {T, Hv, D}, {1, Hv, D, D}};
    const int rank[TENSORS] = {3, 3, 3, channel ? 3 : 2, 2, 4, 3, 4};
    struct rng rng = {.seed = 9};
    double pool[4096];
    for (int i = 0; i < 4096; i++) pool[i] = rng_normal(&rng);
    for (int i = 0; i < TENSORS; i++) {
        c->t[i] = tensor_over(NULL, DTYPE_F32, rank[i], dim[i]);
        const int64_t n = tensor_elements(&c->t[i]);
        float *x = must(arena_take(data, (size_t)n * sizeof *x));
        float *g = must(arena_take(data, (size_t)n * sizeof *g));
        for (int64_t e = 0; e < n; e++) {
            const double z = pool[(e * 7 + e / 4096) % 4096];
            /* q and k of about unit length, decays of 0.9 or so, beta in (0, 1) */
            x[e] = (float)(i <= K ? z / 11.4 : i == G ? -0.1 * z * z : i == BETA ? 0.2 * z * z : z);
            if (i == BETA && x[e] > 1) x[e] = 1;
            g[e] = (float)z;
        }
        c->t[i].data = x;
        c->grad[i] = tensor_over(g, DTYPE_F32, rank[i], dim[i]);
        c->t[i].grad = &c->grad[i];
    }
    c->start[0] = c->pos[0] = 0;
    c->start[1] = T;
    c->rows = (struct rows){.B = 1, .T = T, .start = c->start, .pos = c->pos};
}

/* Per token and value head: 9.75 products with a state, 6 with a 16 x 16 matrix, and the pairs of a
 * block: 4.9 such products, or 20 flops for each pair and channel. */
static double flops_of(bool channel)
{
    return 9.75 * 2 * D * D + 6 * 2 * 16 * D + (channel ? 7.5 * 20 * D : 4.9 * 2 * 16 * D);
}

static void time_call(const struct way *way, int threads, int T, int Hk, int Hv, bool channel,
                      int repeats)
{
    struct arena data, scratch;
    struct gdn_error err = {0};
    struct call c;
    double time[MOST_REPEATS], roof[MOST_REPEATS];
    if (!arena_open(&data, (size_t)2 << 30) || !arena_open(&scratch, (size_t)1 << 30)) must(NULL);
    struct device *device = must(device_open("cpu", threads, way->mask, &err));
    call_make(&c, &data, T, Hk, Hv, channel);
    const struct delta_args args = {.q = &c.t[Q], .k = &c.t[K], .v = &c.t[V], .g = &c.t[G],
                                    .beta = &c.t[BETA], .S0 = &c.t[S0], .o = &c.t[O],
                                    .S1 = &c.t[S1], .rows = &c.rows};
    for (int r = -1; r < repeats; r++) { /* the first only touches the memory */
        double before = seconds(threads);
        device->backward[OP_DELTA](device, &scratch, &args);
        arena_reset(&scratch);
        if (r >= 0) time[r] = seconds(threads) - before;
        before = seconds(1);
        const double flops = way->flops();
        if (r >= 0) roof[r] = flops / (seconds(1) - before);
    }
    const double best_case = median(roof, repeats) * threads, spent = median(time, repeats);
    const double each = spent / T / Hv, rate = flops_of(channel) / each;
    const double best = time[0] / T / Hv; /* median() has sorted them */
    printf("%-9s %-8s %3d %3d %6d %7d  %6.3f  %6.3f  %7.1f %7.1f %5.0f%%\n", way->name,
           channel ? "channel" : "head", Hk, Hv, T, threads, each * 1e6, best * 1e6,
           rate * 1e-9, best_case * 1e-9, 100 * rate / best_case);
    device_close(device);
    arena_close(&data);
    arena_close(&scratch);
}

int main(int argc, char **argv)
{
    const int T = argc > 1 ? atoi(argv[1]) : 4096, repeats = argc > 2 ? atoi(argv[2]) : 7;
    if (T < 1 || repeats < 1 || repeats > MOST_REPEATS) {
        fputs("gdn-bench-delta_backward [T [repeats]]\n", stderr);
        return 2;
    }
    printf("us per token and value head, median and best of %d\n", repeats);
    printf("%-9s %-8s %3s %3s %6s %7s  %6s  %6s  %7s %7s %6s\n", "isa", "gate", "Hk", "Hv", "T",
           "threads", "us", "best", "GFLOP/s", "roof", "share");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int n = 0; n < 6 && (cpu_flags() & ways[i].needs) == ways[i].needs; n++)
            if (n < 4 || cpu_count() > 1)
                time_call(&ways[i], n < 4 ? 1 : 2, T, n % 2 ? 2 : 4, 4, n / 2 % 2, repeats);
    return 0;
}
