/* gdn-bench-delta_backward: times the backward of op_delta, dense, f32, heads of 128 x 128, with
 * one thread and two, for every instruction set.
 *
 * Per token and value head stand the time, the flops of docs/kernels/delta_backward.md and their
 * share of what multiply-adds in registers reach, measured in turn with it.
 *
 *     gdn-bench-delta_backward [T [seconds a row]] */
#include <stdio.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "tensor/device.h"

enum { D = 128 };
enum { Q, K, V, G, BETA, S0, O, S1, TENSORS };

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
        float *x = bench_must(arena_take(data, (size_t)n * sizeof *x));
        float *g = bench_must(arena_take(data, (size_t)n * sizeof *g));
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

/* Per token and value head: 8.75 products with a state, 5 with a 16 x 16 matrix, and the pairs of a
 * block: 4.9 such products, or 20 flops for each pair and channel. */
static double flops_of(bool channel)
{
    return 8.75 * 2 * D * D + 5 * 2 * 16 * D + (channel ? 7.5 * 20 * D : 4.9 * 2 * 16 * D);
}

struct timed {
    struct device *device;
    struct arena scratch;
    struct delta_args args;
};

static void backward(void *context)
{
    struct timed *t = context;
    t->device->backward[OP_DELTA](t->device, &t->scratch, &t->args);
    arena_reset(&t->scratch);
}

/* What is asked at T = 4096, one thread, AVX-512; the peers have no backward. */
static const struct bench_want want = {0, 0, 2.8, 2.4}, nothing;

static void time_call(const struct bench_isa *isa, int threads, int T, int Hk, int Hv, bool channel,
                      double limit)
{
    struct arena data;
    struct call c;
    struct timed t = {.device = bench_must(device_open("cpu", threads, isa->mask, NULL))};
    bench_check(arena_open(&data, (size_t)2 << 30) && arena_open(&t.scratch, (size_t)1 << 30),
                "no memory");
    call_make(&c, &data, T, Hk, Hv, channel);
    t.args = (struct delta_args){.q = &c.t[Q], .k = &c.t[K], .v = &c.t[V], .g = &c.t[G],
                                 .beta = &c.t[BETA], .S0 = &c.t[S0], .o = &c.t[O],
                                 .S1 = &c.t[S1], .rows = &c.rows};
    const struct bench_time time = bench_run(backward, &t, threads,
                                             (struct bench_roof){.isa = isa}, limit);
    const double each = time.median / T / Hv, rate = flops_of(channel) / each;
    printf("%-9s %-8s %3d %3d %6d %7d  %6.3f  %6.3f  %7.1f %7.1f %5.0f%%", isa->roof->name,
           channel ? "channel" : "head", Hk, Hv, T, threads, each * 1e6,
           time.best * 1e6 / T / Hv, rate * 1e-9, time.roof * 1e-9, 100 * rate / time.roof);
    const bool asked = isa == &bench_isas[BENCH_ISAS - 1] && threads == 1 && T == 4096;
    bench_print_want(asked ? &want : &nothing, each * 1e6);
    fflush(stdout);
    device_close(t.device);
    arena_close(&data);
    arena_close(&t.scratch);
}

int main(int argc, char **argv)
{
    const int T = argc > 1 ? atoi(argv[1]) : 4096;
    const double limit = argc > 2 ? atof(argv[2]) : 1.0;
    if (T < 1 || limit <= 0) {
        fputs("gdn-bench-delta_backward [T [seconds a row]]\n", stderr);
        return 2;
    }
    printf("us per token and value head\n");
    printf("%-9s %-8s %3s %3s %6s %7s  %6s  %6s  %7s %7s %6s" BENCH_WANT "\n", "isa", "gate", "Hk",
           "Hv", "T", "threads", "median", "best", "GFLOP/s", "roof", "share");
    for (int i = 0; i < BENCH_ISAS; i++)
        for (int n = 0; n < 6 && bench_has(&bench_isas[i]); n++)
            if (n < 4 || cpu_count() > 1)
                time_call(&bench_isas[i], n < 4 ? 1 : 2, T, n % 2 ? 2 : 4, 4, n / 2 % 2, limit);
    return 0;
}
