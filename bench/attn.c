/* gdn-bench-attn: times attention over pages, in bf16 and f32, for every instruction set: prompts
 * and single tokens after a long past, with grouped heads and with latent keys.
 *
 * Per round stand the time (median and best) and the time at the roof measured in turn with it:
 * multiply-adds in registers, on AMX tile products, of what the tokens see; for a few tokens
 * reading their past. must, goal: what is asked of one thread on an AMX Xeon.
 *
 *     gdn-bench-attn [part of a row's first five columns [seconds a row]] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "tensor/device.h"

static const struct bench_isa tiles = {&roofs[ROOF_TILES], ~0u};
enum { Q, K, V, O, TENSORS, MOST_LAYERS = 6 };

struct work {
    const char *name;
    int T, at; /* tokens of the call, and before it */
    int Hq, Hkv, D, Dv;
    enum dtype dtype;
    int threads, layers; /* layers, each with pages of its own: one call each is a round */
    bool latent;
    struct bench_want want; /* ms, of AMX */
};

#define PROMPT(T, dtype, threads) \
    "prompt " #T, T, 0, 8, 2, 256, 256, dtype, threads, 1, .latent = false
#define TOKEN(at, dtype, threads) \
    "token at " #at, 1, at, 8, 2, 256, 256, dtype, threads, 6, .latent = false
static const struct work works[] = {
    {PROMPT(2048, DTYPE_BF16, 1), .want = {0, 0, 40, 25}},
    {PROMPT(512, DTYPE_BF16, 1)},
    {PROMPT(2048, DTYPE_BF16, 2)},
    {PROMPT(2048, DTYPE_F32, 1)},
    {"512 at 1536", 512, 1536, 8, 2, 256, 256, DTYPE_BF16, 1, 1, .latent = false},
    {"prompt, D 128", 2048, 0, 16, 8, 128, 128, DTYPE_BF16, 1, 1, .latent = false},
    {"prompt, D 64", 2048, 0, 16, 16, 64, 64, DTYPE_BF16, 1, 1, .latent = false},
    {"prompt, latent", 512, 0, 32, 1, 576, 512, DTYPE_BF16, 1, 1, .latent = true},
    {"token, past in L2", 1, 448, 8, 2, 256, 256, DTYPE_BF16, 1, 1, .latent = false},
    {TOKEN(4096, DTYPE_BF16, 1)},
    {TOKEN(4096, DTYPE_BF16, 2)},
    {TOKEN(4096, DTYPE_F32, 1)},
    {TOKEN(32768, DTYPE_BF16, 2)},
    {"verify 8 at 4096", 8, 4096, 8, 2, 256, 256, DTYPE_BF16, 1, 6, .latent = false},
    {"token, latent", 1, 4096, 32, 1, 576, 512, DTYPE_BF16, 1, 6, .latent = true},
};

/* ---- a call ------------------------------------------------------------------------------------- */

struct call {
    const struct work *w;
    struct device *device;
    struct arena data, scratch;
    struct tensor t[TENSORS];
    int32_t start[2], pos[1], slot[1], *table;
    struct rows rows;
    struct kv_pages pages[MOST_LAYERS];
};

static void *make_numbers(struct call *c, int64_t n, int seed)
{
    const enum dtype dtype = c->w->dtype;
    void *to = bench_must(arena_take(&c->data, (size_t)n * dtype_size(dtype)));
    struct rng rng = {.seed = (uint64_t)seed};
    float pool[4099]; /* a prime: no row is like the one before */
    for (int e = 0; e < 4099; e++) pool[e] = (float)rng_normal(&rng);
    for (int64_t e = 0; e < n; e++)
        if (dtype == DTYPE_BF16)
            ((uint16_t *)to)[e] = f32_to_bf16(pool[e % 4099]);
        else
            ((float *)to)[e] = pool[e % 4099];
    return to;
}

static int64_t pages_of(const struct work *w) { return (w->at + w->T + PAGE - 1) / PAGE; }

static void make_pages(struct call *c, struct kv_pages *p, int seed)
{
    const struct work *w = c->w;
    const int64_t rows = pages_of(w) * PAGE * w->Hkv;
    *p = (struct kv_pages){.pages = (int32_t)pages_of(w), .Hkv = w->Hkv, .D = w->D, .Dv = w->Dv,
                           .dtype = w->dtype, .table = c->table,
                           .row_pages = (int32_t)pages_of(w)};
    p->k = make_numbers(c, rows * w->D, seed);
    if (!w->latent) p->v = make_numbers(c, rows * w->Dv, seed + 1);
}

static void call_open(struct call *c, const struct work *w, uint32_t mask)
{
    const int64_t dim[TENSORS][3] = {{w->T, w->Hq, w->D}, {w->T, w->Hkv, w->D},
                                     {w->T, w->Hkv, w->Dv}, {w->T, w->Hq, w->Dv}};
    *c = (struct call){.w = w, .start = {0, w->T}, .pos = {w->at}};
    c->device = bench_must(device_open("cpu", w->threads, mask, NULL));
    bench_check(arena_open(&c->data, (size_t)1 << 30) && arena_open(&c->scratch, 1 << 28),
                "no memory");
    c->table = bench_must(arena_take(&c->data, (size_t)pages_of(w) * sizeof *c->table));
    for (int i = 0; i < pages_of(w); i++) c->table[i] = i;
    for (int i = 0; i < TENSORS; i++) {
        c->t[i] = tensor_over(NULL, w->dtype, 3, dim[i]);
        c->t[i].data = make_numbers(c, tensor_elements(&c->t[i]), i);
    }
    for (int i = 0; i < w->layers; i++) make_pages(c, &c->pages[i], TENSORS + 2 * i);
    c->rows = (struct rows){.B = 1, .T = w->T, .start = c->start, .pos = c->pos, .slot = c->slot};
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
    for (int i = 0; i < c->w->layers; i++) {
        const struct attn_args args = {.q = &c->t[Q], .k = &c->t[K], .v = &c->t[V], .o = &c->t[O],
                                       .rows = &c->rows, .pages = &c->pages[i],
                                       .scale = 1 / sqrt(c->w->D)};
        c->device->forward[OP_ATTN](c->device, &c->scratch, &args);
        arena_reset(&c->scratch);
    }
}

/* ---- bounds ------------------------------------------------------------------------------------- */

/* Both products of every query with every position it sees. */
static double flops_of(const struct work *w)
{
    const double pairs = w->T * (w->at + 0.5 * (w->T + 1.0));
    return 2 * pairs * w->layers * w->Hq * (w->D + w->Dv);
}

static double bytes_of(const struct work *w)
{
    const double width = w->D + (w->latent ? 0 : w->Dv);
    return (double)(w->at + w->T) * w->layers * w->Hkv * width * (double)dtype_size(w->dtype);
}

/* A few tokens are bound by reading their past. */
static bool reads(const struct work *w) { return w->at > 0 && w->T < BLOCK; }

/* ---- rows --------------------------------------------------------------------------------------- */

static void time_work(const struct work *w, const struct bench_isa *isa, const char *part,
                      double limit)
{
    static struct call c;
    char name[64];
    if (!bench_has(isa) || (isa == &tiles && w->dtype != DTYPE_BF16)) return;
    snprintf(name, sizeof name, "%-16s %-5s %-8s %d", w->name, dtype_name(w->dtype),
             isa->roof->name, w->threads);
    if (w->threads > cpu_count() || !strstr(name, part)) return;
    call_open(&c, w, isa->mask);
    const struct bench_roof roof = {.isa = isa, .bytes = reads(w) ? (size_t)bytes_of(w) : 0};
    const struct bench_time t = bench_run(run_call, &c, w->threads, roof, limit);
    const double at_roof = 1e3 * (reads(w) ? bytes_of(w) : flops_of(w)) / t.roof;
    printf("%s %8.3f %8.3f %7.1f %7.3f %4.0f%%", name, 1e3 * t.median, 1e3 * t.best,
           1e-9 * t.roof, at_roof, 0.1 * at_roof / t.median);
    if (isa == &tiles)
        bench_print_want(&w->want, 1e3 * t.median);
    else
        printf("\n");
    fflush(stdout);
    call_close(&c);
}

int main(int argc, char **argv)
{
    const double limit = argc > 2 ? atof(argv[2]) : 0.6;
    if (argc > 3 || (argc > 1 && argv[1][0] == '-') || limit <= 0) {
        fputs("gdn-bench-attn [part of a row's first five columns [seconds a row]]\n", stderr);
        return 2;
    }
    printf("ms a round; roof: G flop/s, or GB/s of reading for a few tokens\n");
    printf("%-16s %-5s %-8s %s %8s %8s %7s %7s %5s" BENCH_WANT "\n", "work", "type", "isa", "n",
           "median", "best", "roof", "ms", "");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        for (int isa = BENCH_ISAS; isa >= 0; isa--)
            time_work(&works[i], isa == BENCH_ISAS ? &tiles : &bench_isas[isa],
                      argc > 1 ? argv[1] : "", limit);
    return 0;
}
