/* gdn-bench-delta_amx_backward: times the fast backward of op_delta (AMX tiles, bf16 operands) with
 * heads of 128 x 128, dense, one gate a head, and the exact one beside it.
 *
 * Per token and value head stand the time (median and best) and the time at the roof measured in
 * turn with it: as many tile products as the form makes, on tiles that stay in registers; of the
 * exact form multiply-adds. must, goal: what is asked of one thread on an AMX Xeon.
 *
 *     gdn-bench-delta_amx_backward [part of a row's first six columns [seconds a row]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "tensor/device.h"
#include "tiles.h"

enum { D = 128, TILES = 1568 };
enum { Q, K, V, G, BETA, S0, O, S1, TENSORS };

/* Products of two tiles for a chunk of 64 tokens; the exact form's multiply-adds. */
static const double fast_flops = TILES * (double)TILE_FLOPS / 64;
static const double exact_flops = 8.75 * 2 * D * D + (5 + 4.9) * 2 * 16 * D;

struct work {
    enum dtype type; /* of q, k, v */
    int Hk, Hv, T, threads;
    bool fast;
    struct bench_want want;
};

#define FAST .fast = true, .want = {0, 0, 0.9, 0.55}
static const struct work works[] = {
    {DTYPE_BF16, 4, 4, 4096, 1, FAST}, {DTYPE_BF16, 2, 4, 4096, 1, FAST},
    {DTYPE_F32, 4, 4, 4096, 1, FAST},  {DTYPE_F32, 2, 4, 4096, 1, FAST},
    {DTYPE_BF16, 4, 4, 512, 1, FAST},  {DTYPE_BF16, 4, 4, 4096, 2, .fast = true},
    {DTYPE_BF16, 4, 4, 4096, 1, .want = {0, 0, 2.8, 2.4}},
    {DTYPE_F32, 4, 4, 4096, 1, .want = {0, 0, 2.8, 2.4}},
};

/* ---- a call ---------------------------------------------------------------------------------- */

struct call {
    const struct work *w;
    struct device *device;
    struct arena data, scratch;
    struct tensor t[TENSORS], grad[TENSORS];
    int32_t start[2], pos[1];
    struct rows rows;
    struct delta_args args;
};

static void fill(struct tensor *t, struct rng *rng, int what)
{
    const int64_t n = tensor_elements(t);
    for (int64_t e = 0; e < n; e++) {
        const double z = rng_between(rng, -1.7, 1.7);
        /* q and k of about unit length, decays of 0.9 or so, beta in (0, 1) */
        const double x = what <= K ? z / 11.4 : what == G ? -0.1 * z * z : z;
        dtype_store(t->data, t->dtype, e, what == BETA ? 0.3 * z * z : x);
    }
}

static void make_tensors(struct call *c)
{
    const struct work *w = c->w;
    const int64_t T = w->T, Hk = w->Hk, Hv = w->Hv;
    const int64_t dim[TENSORS][4] = {{T, Hk, D}, {T, Hk, D},    {T, Hv, D}, {T, Hv},
                                     {T, Hv},    {1, Hv, D, D}, {T, Hv, D}, {1, Hv, D, D}};
    static const int rank[TENSORS] = {3, 3, 3, 2, 2, 4, 3, 4};
    struct rng rng = {.seed = 9};
    for (int i = 0; i < TENSORS; i++) {
        struct tensor *t = &c->t[i], *grad = &c->grad[i];
        *t = tensor_over(NULL, i <= V ? w->type : DTYPE_F32, rank[i], dim[i]);
        *grad = tensor_over(NULL, DTYPE_F32, rank[i], dim[i]);
        const size_t n = (size_t)tensor_elements(t);
        t->data = bench_must(arena_take(&c->data, n * dtype_size(t->dtype)));
        grad->data = bench_must(arena_take(&c->data, n * sizeof(float)));
        fill(t, &rng, i);
        fill(grad, &rng, i);
        t->grad = grad;
    }
}

static void call_open(struct call *c, const struct work *w)
{
    struct gdn_error err = {0};
    *c = (struct call){.w = w, .start = {0, w->T}};
    c->device = bench_must(device_open("cpu", w->threads, ~0u, &err));
    bench_check(arena_open(&c->data, (size_t)2 << 30) && arena_open(&c->scratch, (size_t)1 << 30),
                "no memory");
    make_tensors(c);
    c->rows = (struct rows){.B = 1, .T = w->T, .start = c->start, .pos = c->pos};
    struct tensor *t = c->t;
    c->args = (struct delta_args){.q = &t[Q], .k = &t[K], .v = &t[V], .g = &t[G],
                                  .beta = &t[BETA], .S0 = &t[S0], .o = &t[O], .S1 = &t[S1],
                                  .rows = &c->rows, .fast = w->fast};
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
    c->device->backward[OP_DELTA](c->device, &c->scratch, &c->args);
    arena_reset(&c->scratch);
}

static void run_roof(void *context)
{
    const struct call *c = context;
    run_tiles(c->device->pool, c->w->threads);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void time_work(const struct work *w, const char *part, double limit)
{
    static struct call c;
    char name[64];
    snprintf(name, sizeof name, "%-5s %-4s %2d %2d %4d %d", w->fast ? "fast" : "exact",
             dtype_name(w->type), w->Hk, w->Hv, w->T, w->threads);
    if (w->threads > cpu_count() || !strstr(name, part)) return;
    call_open(&c, w);
    struct bench_roof roof = {.isa = &bench_isas[BENCH_ISAS - 1]};
    if (w->fast)
        roof = (struct bench_roof){.work = run_roof,
                                   .amount = (double)TILE_FLOPS * TILE_PRODUCTS * w->threads};
    const struct bench_time t = bench_run(run_call, &c, w->threads, roof, limit);
    bench_print_row(name, t, (double)w->T * w->Hv, w->fast ? fast_flops : exact_flops, &w->want);
    call_close(&c);
}

int main(int argc, char **argv)
{
    const double limit = argc > 2 ? atof(argv[2]) : 0.5;
    const uint32_t needs = CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX;
    if (argc > 3 || (argc > 1 && argv[1][0] == '-') || limit <= 0) {
        fputs("gdn-bench-delta_amx_backward [part of a row's first six columns [seconds a row]]\n",
              stderr);
        return 2;
    }
    if ((cpu_flags() & needs) != needs) {
        puts("gdn-bench-delta_amx_backward: this processor has no AMX: nothing to time");
        return 0;
    }
    printf("us per token and value head, 128 x 128; roof: G flop/s\n");
    bench_print_head("form  type Hk Hv    T n");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        time_work(&works[i], argc > 1 ? argv[1] : "", limit);
    return 0;
}
