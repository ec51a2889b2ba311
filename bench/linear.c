/* gdn-bench-linear: times y = x W^T for every instruction set, one thread and two.
 *
 * Weights take turns, so that no cache holds them. Beside the products of many rows stands the rate of
 * multiply-adds in registers (of tiles, where there are any), beside those of few rows a plain read of
 * the same weights by the same threads; both are measured in turn with the work. Quantised weights are
 * those of fast mode. `of it` is the share
 * of that roof; the bars are those of bf16 on one thread of an AMX Xeon, in us, or for few rows as a
 * share.
 *
 *     gdn-bench-linear [part of a row's first four columns [seconds a row]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "kernels/cpu/tile.h"
#include "tensor/device.h"
#include "tensor/quant.h"

struct work {
    const char *name;
    int M, K, N, copies;
    enum dtype x, w, y;
    double must, goal; /* us, or of few rows the share of the roof; 0: nothing is asked */
    bool small;        /* pages of 4 KB, as those of a mapped file */
};
enum { FEW = 16 };

static const struct work works[] = {
    {"512 up", 512, 1024, 3072, 4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 2386, 2013, false},
    {"512 down", 512, 3584, 1024, 4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 3268, 2684, false},
    {"512 up f32", 512, 1024, 3072, 4, DTYPE_F32, DTYPE_BF16, DTYPE_F32, 0, 0, false},
    {"512 up f32 w", 512, 1024, 3072, 4, DTYPE_F32, DTYPE_F32, DTYPE_F32, 0, 0, false},
    {"128 up", 128, 1024, 3072, 4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, false},
    {"64 up", 64, 1024, 3072, 4, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, false},
    {"32 up", 32, 1024, 3072, 16, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, false},
    {"1 wide", 1, 1024, 7168, 210, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 90, 97, false},
    {"1 deep", 1, 3584, 1024, 420, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 90, 97, false},
    {"1 wide f32", 1, 1024, 7168, 210, DTYPE_F32, DTYPE_BF16, DTYPE_F32, 0, 0, false},
    {"512 up 4k", 512, 1024, 3072, 64, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, true},
    {"1 small f32", 1, 192, 1024, 24, DTYPE_F32, DTYPE_BF16, DTYPE_F32, 0, 0, false},
    {"2 small f32", 2, 192, 1024, 24, DTYPE_F32, DTYPE_BF16, DTYPE_F32, 0, 0, false},
    {"4 small f32", 4, 192, 1024, 24, DTYPE_F32, DTYPE_BF16, DTYPE_F32, 0, 0, false},
    {"1 wide 4k", 1, 1024, 7168, 210, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, true},
    {"1 deep 4k", 1, 3584, 1024, 420, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, true},
    {"4 wide", 4, 1024, 7168, 105, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, false},
    {"16 wide", 16, 1024, 7168, 105, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 0, 0, false},
    {"512 up q8", 512, 1024, 3072, 4, DTYPE_BF16, DTYPE_Q8, DTYPE_BF16, 0, 0, false},
    {"512 up q4", 512, 1024, 3072, 4, DTYPE_BF16, DTYPE_Q4, DTYPE_BF16, 0, 0, false},
    {"1 wide q8", 1, 1024, 7168, 210, DTYPE_BF16, DTYPE_Q8, DTYPE_BF16, 0, 0, false},
    {"1 wide q4", 1, 1024, 7168, 210, DTYPE_BF16, DTYPE_Q4, DTYPE_BF16, 0, 0, false},
    {"1 deep q4", 1, 3584, 1024, 420, DTYPE_BF16, DTYPE_Q4, DTYPE_BF16, 0, 0, false},
    {"4 wide q8", 4, 1024, 7168, 105, DTYPE_BF16, DTYPE_Q8, DTYPE_BF16, 0, 0, false},
    {"15 wide q8", 15, 1024, 7168, 105, DTYPE_BF16, DTYPE_Q8, DTYPE_BF16, 0, 0, false},
};

struct stage {
    const struct work *w;
    struct device *device;
    struct arena data, scratch;
    struct tensor x, y, *weight; /* [copies] */
    int turn;
};

/* ---- tensors -------------------------------------------------------------------------------- */

static size_t matrix_bytes(enum dtype dtype, int64_t rows, int64_t width)
{
    const int64_t row = dtype_quantised(dtype) ? quant_row_bytes(dtype, width)
                                               : width * (int64_t)dtype_size(dtype);
    return (size_t)(rows * row);
}

static struct tensor matrix(struct arena *arena, enum dtype dtype, int64_t rows, int64_t width)
{
    struct tensor t = tensor_over(NULL, dtype, 2, (int64_t[]){rows, width});
    t.data = bench_must(arena_take(arena, matrix_bytes(dtype, rows, width)));
    return t;
}

static void fill(const struct tensor *t)
{
    enum { WIDEST = 4096 };
    struct rng rng = {.seed = 7};
    const int64_t n = tensor_elements(t), width = tensor_width(t);
    float row[WIDEST];
    for (int64_t i = 0; dtype_quantised(t->dtype) && i < t->dim[0]; i++) {
        for (int64_t k = 0; k < width && k < WIDEST; k++) row[k] = (float)rng_normal(&rng);
        quant_store(tensor_at(t, i * t->stride[0]), t->dtype, row, width);
    }
    if (dtype_quantised(t->dtype)) return;
    for (int64_t i = 0; i < n; i++) {
        const float x = (float)rng_normal(&rng);
        if (t->dtype == DTYPE_F32)
            ((float *)t->data)[i] = x;
        else
            ((uint16_t *)t->data)[i] = f32_to_bf16(x);
    }
}

static void stage_open(struct stage *s, const struct work *w, uint32_t mask, int threads)
{
    const size_t each = matrix_bytes(w->w, w->N, w->K);
    *s = (struct stage){.w = w, .device = bench_must(device_open("cpu", threads, mask, NULL))};
    bench_check(arena_open(&s->data, (size_t)w->copies * (each + 64) + ((size_t)1 << 26)) &&
                    arena_open(&s->scratch, (size_t)1 << 28), "no memory");
    if (w->small) madvise(s->data.base, s->data.size, MADV_NOHUGEPAGE);
    s->x = matrix(&s->data, w->x, w->M, w->K);
    s->y = matrix(&s->data, w->y, w->M, w->N);
    s->weight = bench_must(arena_take(&s->data, (size_t)w->copies * sizeof *s->weight));
    fill(&s->x);
    for (int i = 0; i < w->copies; i++) {
        s->weight[i] = matrix(&s->data, w->w, w->N, w->K);
        if (i == 0)
            fill(&s->weight[0]);
        else
            memcpy(s->weight[i].data, s->weight[0].data, each);
    }
}

static void stage_close(struct stage *s)
{
    arena_close(&s->data);
    arena_close(&s->scratch);
    device_close(s->device);
}

/* ---- the work and its roofs ----------------------------------------------------------------- */

static void multiply(struct stage *s)
{
    struct linear_part part = {.w = &s->weight[s->turn], .rows = s->w->N};
    const struct linear w = {.N = s->w->N, .K = s->w->K, .parts = 1, .part = &part};
    const struct linear_args a = {.x = &s->x, .y = &s->y, .w = &w,
                                  .fast = dtype_quantised(s->w->w)};
    s->device->forward[OP_LINEAR](s->device, &s->scratch, &a);
    arena_reset(&s->scratch);
    s->turn = (s->turn + 1) % s->w->copies;
}

/* Few rows: all weights. Many: one. */
static void round_of_work(void *context)
{
    struct stage *s = context;
    const int calls = s->w->M > FEW ? 1 : s->w->copies;
    for (int i = 0; i < calls; i++) multiply(s);
}

/* Four streams for each thread, what lies ahead asked for. */
static void read_share(void *context, int64_t begin, int64_t end, int thread)
{
    typedef float quad __attribute__((vector_size(16)));
    enum { STREAMS = 4, LINE = 64, AHEAD = 1024 };
    static volatile float sink;
    const char *at = context;
    const int64_t part = (end - begin) / STREAMS / LINE * LINE;
    quad sum[STREAMS][4] = {0};
    (void)thread;
    for (int64_t i = 0; i < part; i += LINE)
        for (int s = 0; s < STREAMS; s++) {
            const char *line = at + begin + s * part + i;
            __builtin_prefetch(line + AHEAD);
            for (int v = 0; v < 4; v++) {
                quad q;
                memcpy(&q, line + 16 * v, sizeof q);
                sum[s][v] += q;
            }
        }
    float all = 0;
    for (int s = 0; s < STREAMS; s++)
        for (int v = 0; v < 4; v++) all += sum[s][v][0] + sum[s][v][3];
    sink = sink + all;
}

static size_t weight_bytes(const struct work *w)
{
    return matrix_bytes(w->w, w->N, w->K);
}

static void round_of_reads(void *context)
{
    struct stage *s = context;
    for (int i = 0; i < s->w->copies; i++)
        pool_run(s->device->pool, (int64_t)weight_bytes(s->w), 4096, read_share, s->weight[i].data);
}

enum { TILE_ROUNDS = 4000, TILE_FLOPS = 2 * 16 * 16 * 32 };

static void tile_share(void *context, int64_t begin, int64_t end, int thread)
{
    (void)context, (void)thread, (void)begin, (void)end;
    tile_open();
    tile_zero(0), tile_zero(1), tile_zero(2), tile_zero(3);
    tile_zero(4), tile_zero(5), tile_zero(6);
    for (int i = 0; i < TILE_ROUNDS; i++)
        tile_dp(0, 4, 6), tile_dp(1, 4, 6), tile_dp(2, 5, 6), tile_dp(3, 5, 6);
    tile_close();
}

static void round_of_tiles(void *context)
{
    const struct stage *s = context;
    pool_run(s->device->pool, pool_threads(s->device->pool), 1, tile_share, NULL);
}

/* ---- rows ----------------------------------------------------------------------------------- */

struct isa {
    const char *name;
    uint32_t needs, mask;
    const struct bench_isa *adds; /* NULL: tiles */
};

static void time_work(const struct work *w, const struct isa *isa, int threads, const char *part,
                      double limit)
{
    static struct stage s;
    char name[64];
    snprintf(name, sizeof name, "%-12s %5dx%-5d %-8s %d", w->name, w->K, w->N, isa->name, threads);
    if ((cpu_flags() & isa->needs) != isa->needs || threads > cpu_count() || !strstr(name, part))
        return;
    stage_open(&s, w, isa->mask, threads);
    const bool few = w->M <= FEW;
    const double flops = 2.0 * w->M * w->K * w->N, bytes = (double)weight_bytes(w) * w->copies;
    struct bench_roof roof = {.isa = isa->adds};
    if (few)
        roof = (struct bench_roof){.work = round_of_reads, .amount = bytes};
    else if (!isa->adds)
        roof = (struct bench_roof){.work = round_of_tiles,
                                   .amount = 4.0 * TILE_ROUNDS * TILE_FLOPS * threads};
    const struct bench_time t = bench_run(round_of_work, &s, threads, roof, limit);
    const double calls = few ? w->copies : 1, rate = (few ? bytes : flops) / t.median;
    printf("%s %9.1f %9.1f %8.1f %8.1f %4.0f%%", name, 1e6 * t.median / calls, 1e6 * t.best / calls,
           1e-9 * rate, 1e-9 * t.roof, 100 * rate / t.roof);
    const bool asked = !isa->adds && threads == 1 && w->must > 0;
    if (!asked)
        printf("\n");
    else {
        const double found = few ? -100 * rate / t.roof : 1e6 * t.median, sign = few ? -1 : 1;
        printf(" %5.0f %5.0f  %s\n", w->must, w->goal,
               found <= sign * w->goal ? "goal" : found <= sign * w->must ? "met" : "MISSED");
    }
    fflush(stdout);
    stage_close(&s);
}

int main(int argc, char **argv)
{
    const double limit = argc > 2 ? atof(argv[2]) : 0.6;
    const struct isa isas[] = {
        {"portable", 0, 0, &bench_isas[0]},
        {"avx2", CPU_AVX2, CPU_AVX2, &bench_isas[1]},
        {"avx512", CPU_AVX512, ~(uint32_t)CPU_AMX, &bench_isas[2]},
        {"amx", CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX, ~(uint32_t)0, NULL}};
    if (argc > 3 || (argc > 1 && argv[1][0] == '-') || limit <= 0) {
        fputs("gdn-bench-linear [part of a row's first four columns [seconds a row]]\n", stderr);
        return 2;
    }
    printf("G: flop/s of many rows, bytes/s of %d and fewer\n", FEW);
    printf("%-12s %5sx%-5s %-8s n %9s %9s %8s %8s of it  must  goal\n", "rows", "K", "N", "isa", "us",
           "best", "G", "roof");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        for (size_t j = 0; j < sizeof isas / sizeof *isas; j++)
            for (int threads = 1; threads <= 2; threads++)
                time_work(&works[i], &isas[j], threads, argc > 1 ? argv[1] : "", limit);
    return 0;
}
