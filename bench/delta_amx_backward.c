/* gdn-bench-delta_amx_backward: times the fast backward of op_delta (AMX tiles, bf16 operands) with
 * heads of 128 x 128, dense, one gate a head, and the exact one beside it.
 *
 * Per token and value head stand the time, and the share of what tiles in registers reach (for the
 * exact one: nothing), measured between the runs: medians, since others may be using the machine.
 * One thread is timed by its own clock for the same reason. Bars: 0.9 us must be, 0.55 is the goal.
 *
 *     gdn-bench-delta_amx_backward [T [repeats]] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernels/cpu/tile.h"
#include "tensor/device.h"

enum { D = 128, MOST_REPEATS = 99, ROUNDS = 100000, TILES = 1568 };
enum { Q, K, V, G, BETA, S0, O, S1, TENSORS };

/* Products of two tiles for a chunk of 64 tokens, each 16 x 16 x 32 multiply-adds. */
static const double flops_each = TILES * 2.0 * 16 * 16 * 32 / 64;

static double seconds(int threads)
{
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *must(void *memory)
{
    if (memory) return memory;
    fputs("gdn-bench-delta_amx_backward: no memory\n", stderr);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_size);
    return x[n / 2];
}

/* Flops a second of tiles that stay in registers. */
static double tile_rate(void)
{
    const double before = seconds(1);
    tile_open();
    tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3);
    for (int i = 0; i < ROUNDS; i++) {
        tile_dp(0, 4, 6);
        tile_dp(1, 4, 7);
        tile_dp(2, 5, 6);
        tile_dp(3, 5, 7);
    }
    tile_close();
    return 4.0 * ROUNDS * 2 * 16 * 16 * 32 / (seconds(1) - before);
}

struct row {
    enum dtype type; /* of q, k, v */
    int Hk, Hv, threads;
    bool fast;
};

static void fill(struct tensor *t, struct rng *rng, int what)
{
    const int64_t n = tensor_elements(t);
    for (int64_t e = 0; e < n; e++) {
        const double z = rng_between(rng, -1.7, 1.7);
        /* q and k of about unit length, decays of 0.9 or so, beta in (0, 1) */
        const double beta = 0.3 * z * z;
        dtype_store(t->data, t->dtype, e,
                    what <= K      ? z / 11.4
                    : what == G    ? -0.1 * z * z
                    : what == BETA ? beta
                                   : z);
    }
}

static void make(struct tensor *t, struct tensor *grad, struct arena *data, const struct row *r,
                 int T)
{
    const int64_t dim[TENSORS][4] = {{T, r->Hk, D}, {T, r->Hk, D},   {T, r->Hv, D},
                                     {T, r->Hv},    {T, r->Hv},      {1, r->Hv, D, D},
                                     {T, r->Hv, D}, {1, r->Hv, D, D}};
    static const int rank[TENSORS] = {3, 3, 3, 2, 2, 4, 3, 4};
    struct rng rng = {.seed = 9};
    for (int i = 0; i < TENSORS; i++) {
        t[i] = tensor_over(NULL, i <= V ? r->type : DTYPE_F32, rank[i], dim[i]);
        grad[i] = tensor_over(NULL, DTYPE_F32, rank[i], dim[i]);
        const size_t n = (size_t)tensor_elements(&t[i]);
        t[i].data = must(arena_take(data, n * dtype_size(t[i].dtype)));
        grad[i].data = must(arena_take(data, n * sizeof(float)));
        fill(&t[i], &rng, i);
        fill(&grad[i], &rng, i);
        t[i].grad = &grad[i];
    }
}

static void time_row(const struct row *r, int T, int repeats, bool tiles)
{
    struct arena data, scratch;
    struct gdn_error err = {0};
    struct tensor t[TENSORS], grad[TENSORS];
    double time[MOST_REPEATS], roof[MOST_REPEATS];
    const int32_t start[] = {0, T}, pos[] = {0};
    const struct rows rows = {.B = 1, .T = T, .start = start, .pos = pos};
    if (!arena_open(&data, (size_t)2 << 30) || !arena_open(&scratch, (size_t)1 << 30)) must(NULL);
    struct device *device = must(device_open("cpu", r->threads, ~0u, &err));
    make(t, grad, &data, r, T);
    const struct delta_args args = {.q = &t[Q],
                                    .k = &t[K],
                                    .v = &t[V],
                                    .g = &t[G],
                                    .beta = &t[BETA],
                                    .S0 = &t[S0],
                                    .o = &t[O],
                                    .S1 = &t[S1],
                                    .rows = &rows,
                                    .fast = r->fast};
    for (int n = -1; n < repeats; n++) { /* the first only touches the memory */
        const double before = seconds(r->threads);
        device->backward[OP_DELTA](device, &scratch, &args);
        arena_reset(&scratch);
        if (n >= 0) time[n] = (seconds(r->threads) - before) / T / r->Hv;
        if (n >= 0) roof[n] = r->fast && tiles ? tile_rate() : 0;
    }
    const double spent = median(time, repeats), best = median(roof, repeats) * r->threads;
    printf("%-6s %-5s %3d %3d %7d  %6.3f  %6.3f", r->fast ? "fast" : "exact", dtype_name(r->type),
           r->Hk, r->Hv, r->threads, spent * 1e6, time[0] * 1e6);
    if (best > 0) printf("  %7.2f %5.0f%%", best * 1e-12, 100 * flops_each / spent / best);
    printf("\n");
    device_close(device);
    arena_close(&data);
    arena_close(&scratch);
}

int main(int argc, char **argv)
{
    static const struct row list[] = {{DTYPE_BF16, 4, 4, 1, true}, {DTYPE_BF16, 2, 4, 1, true},
                                      {DTYPE_F32, 4, 4, 1, true},  {DTYPE_F32, 2, 4, 1, true},
                                      {DTYPE_BF16, 4, 4, 2, true}, {DTYPE_BF16, 4, 4, 1, false},
                                      {DTYPE_F32, 4, 4, 1, false}};
    const int T = argc > 1 ? atoi(argv[1]) : 4096, repeats = argc > 2 ? atoi(argv[2]) : 9;
    const bool tiles = (cpu_flags() & CPU_AMX) != 0;
    if (T < 1 || repeats < 1 || repeats > MOST_REPEATS) {
        fputs("gdn-bench-delta_amx_backward [T [repeats]]\n", stderr);
        return 2;
    }
    if (!tiles) puts("this machine has no AMX: its fast backward is the exact one");
    printf("us per token and value head, T = %d, median and best of %d; roof: tiles in registers\n",
           T, repeats);
    printf("%-6s %-5s %3s %3s %7s  %6s  %6s  %7s %6s\n", "form", "type", "Hk", "Hv", "threads",
           "us", "best", "TFLOP/s", "share");
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].threads <= cpu_count()) time_row(&list[i], T, repeats, tiles);
    return 0;
}
