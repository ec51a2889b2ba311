/* gdn-bench-delta_amx: times the chunk form of the gated delta rule, dense calls in bf16, with one
 * thread and two. Where the processor has no AMX it says so and times nothing.
 *
 * Per token and value head stand the time (median and best) and the time at the roof measured in turn
 * with it: as many tile products as the form makes, on tiles that stay in registers. must, goal: what
 * is asked of one thread on an AMX Xeon.
 *
 *     gdn-bench-delta_amx [part of a row's first four columns [seconds a row]] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "tensor/device.h"
#include "tiles.h"

enum { Q, K, V, G, BETA, O, TENSORS };

struct work {
    const char *name;
    int T, heads, Dk, Dv, threads;
    bool exact; /* the same call in AVX-512 and f32 sums */
    struct bench_want one, channel;
};

#define ASKED .one = {0, 0, 0.26, 0.15}, .channel = {0, 0, 0.45, 0.30}
static const struct work works[] = {
    {"1 head", 4096, 1, 128, 128, 1, .exact = false, ASKED},
    {"4 heads", 4096, 4, 128, 128, 1, .exact = false, ASKED},
    {"16 heads", 4096, 16, 128, 128, 1, .exact = false, ASKED},
    {"1 head, T=512", 512, 1, 128, 128, 1, .exact = false, ASKED},
    {"4 heads", 4096, 4, 128, 128, 2, .exact = false},
    {"16 heads", 4096, 16, 128, 128, 2, .exact = false},
    {"4 heads, exact", 4096, 4, 128, 128, 1, .exact = true},
    {"4 heads, 64x64", 4096, 4, 64, 64, 1, .exact = false},
    {"4 heads, 96x192", 4096, 4, 96, 192, 1, .exact = false},
};

/* ---- a call -------------------------------------------------------------------------------------- */

struct call {
    const struct work *w;
    struct device *device;
    struct arena data, scratch;
    struct tensor t[TENSORS];
    int32_t start[2], pos[1];
    struct rows rows;
    struct delta_args args;
};

static void make_tensor(struct call *c, int i, bool channel)
{
    const struct work *w = c->w;
    const int64_t T = w->T, H = w->heads;
    const int64_t dim[TENSORS][3] = {{T, H, w->Dk}, {T, H, w->Dk}, {T, H, w->Dv},
                                     {T, H, w->Dk}, {T, H},        {T, H, w->Dv}};
    const bool half = i != G && i != BETA;
    struct tensor *t = &c->t[i];
    *t = tensor_over(NULL, half ? DTYPE_BF16 : DTYPE_F32,
                     i == BETA || (i == G && !channel) ? 2 : 3, dim[i]);
    const int64_t n = tensor_elements(t);
    t->data = bench_must(arena_take(&c->data, (size_t)n * dtype_size(t->dtype)));
    struct rng rng = {.seed = (uint64_t)i};
    double pool[4099]; /* a prime: no row is like the one before */
    for (int e = 0; e < 4099; e++) pool[e] = rng_normal(&rng);
    for (int64_t e = 0; e < n; e++) {
        const double z = pool[e % 4099];
        /* q and k of about unit length, decays of 0.9 or so, beta in (0, 1] */
        const double x = i <= K ? z / sqrt(w->Dk) : i == G ? -0.1 * z * z : z;
        if (half)
            ((uint16_t *)t->data)[e] = f32_to_bf16((float)x);
        else
            ((float *)t->data)[e] = (float)(i == BETA ? fmin(1, 0.2 * x * x) : x);
    }
}

static void call_open(struct call *c, const struct work *w, bool channel)
{
    struct gdn_error err = {0};
    *c = (struct call){.w = w, .start = {0, w->T}};
    c->device = bench_must(device_open("cpu", w->threads, ~0u, &err));
    bench_check(arena_open(&c->data, (size_t)1 << 30) && arena_open(&c->scratch, 1 << 28),
                "no memory");
    for (int i = 0; i < TENSORS; i++) make_tensor(c, i, channel);
    c->rows = (struct rows){.B = 1, .T = w->T, .start = c->start, .pos = c->pos};
    c->args = (struct delta_args){.q = &c->t[Q], .k = &c->t[K], .v = &c->t[V], .g = &c->t[G],
                                  .beta = &c->t[BETA], .o = &c->t[O], .rows = &c->rows,
                                  .fast = !w->exact};
}

static void call_close(struct call *c)
{
    device_close(c->device);
    arena_close(&c->data);
    arena_close(&c->scratch);
}

static void run_call(void *context)
{
    struct call *c = context;
    c->device->forward[OP_DELTA](c->device, &c->scratch, &c->args);
    arena_reset(&c->scratch);
}

/* ---- the roof ------------------------------------------------------------------------------------ */

static void run_roof(void *context)
{
    const struct call *c = context;
    run_tiles(c->device->pool, c->w->threads);
}

/* Of a token: three products with the state; half of 64 x 64 and a block over it with k and with q;
 * per column A within the halves, P, and L between them, in steps of 32. */
static double flops_of(const struct work *w)
{
    const double grams = 2 * 10 * 256 / 64.0 * w->Dk, columns = (32 + 48 + 16) * (double)w->Dv;
    return 2 * (3.0 * w->Dk * w->Dv + grams + columns);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

static void time_work(const struct work *w, bool channel, const char *part, double limit)
{
    static struct call c;
    char name[64];
    snprintf(name, sizeof name, "%-16s %-8s %-5s %d", w->name, channel ? "channel" : "head",
             w->exact ? "exact" : "amx", w->threads);
    if (w->threads > cpu_count() || !strstr(name, part)) return;
    call_open(&c, w, channel);
    const double products = (double)TILE_PRODUCTS * w->threads;
    const struct bench_roof roof = {.work = run_roof, .amount = TILE_FLOPS * products};
    const struct bench_time t = bench_run(run_call, &c, w->threads, roof, limit);
    bench_print_row(name, t, (double)w->T * w->heads, flops_of(w),
                    channel ? &w->channel : &w->one);
    call_close(&c);
}

int main(int argc, char **argv)
{
    const double limit = argc > 2 ? atof(argv[2]) : 0.5;
    const uint32_t needs = CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX;
    if (argc > 3 || (argc > 1 && argv[1][0] == '-') || limit <= 0) {
        fputs("gdn-bench-delta_amx [part of a row's first four columns [seconds a row]]\n", stderr);
        return 2;
    }
    if ((cpu_flags() & needs) != needs) {
        puts("gdn-bench-delta_amx: this processor has no AMX: nothing to time");
        return 0;
    }
    printf("us per token and value head, T=4096; roof: G flop/s of tile products\n");
    bench_print_head("work             gate     form  n");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        for (int channel = 0; channel < 2; channel++)
            time_work(&works[i], channel, argc > 1 ? argv[1] : "", limit);
    return 0;
}
