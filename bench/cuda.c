/* gdn-bench-cuda: times single ops of the device "cuda" as recordings that are played again and
 * again: no host between the calls, inputs and states in turn from more memory than the L2 holds.
 *
 * Decode: sequences stand at random places in their blocks of 16; a recording goes through 16 tokens
 * of each, so that every sequence folds once. Verify: drafts behind a log of 1 to 16. The time is
 * that of one call: the median of many rounds. peer: the best of those measured on one H200
 * (recurrences and convolutions that users would pick, a copy of 8 GiB for the floor).
 *
 *     gdn-bench-cuda [part of a row's name] */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "bench.h"
#include "tensor/device.h"

enum { DELTA, CONV, LINEAR };
enum { Q, K, V, G, BETA, O, TENSORS };
enum { ROUNDS = 21, HEADS_K = 16, HEADS_V = 32, WIDTH = 128, TAPS = 4, MOST_SETS = 256 };
static const double IN_TURN = 4.5e8; /* bytes of all sets together */

struct want {
    double peer, floor, must, goal;
};

struct work {
    const char *name;
    int op, B, rows; /* rows of each sequence */
    bool half, channel, draft; /* half: bf16 anchors */
    struct want want;
};

static const struct work works[] = {
    {"decode f32 B=256", DELTA, 256, 1, .want = {302, 135, 185, 155}},
    {"decode f32 B=128", DELTA, 128, 1, .want = {155, 68, 95, 80}},
    {"decode f32 B=32", DELTA, 32, 1, .want = {43, 17, 27, 22}},
    {"decode f32 B=1", DELTA, 1, 1, .want = {3.6, 1, 3.5, 3.0}},
    {"decode bf16 B=256", DELTA, 256, 1, .half = true, .want = {169, 73, 120, 92}},
    {"decode bf16 B=32", DELTA, 32, 1, .half = true, .want = {23, 9, 17, 13}},
    {"decode KDA f32 B=256", DELTA, 256, 1, .channel = true, .want = {299, 146, 200, 170}},
    {"decode KDA f32 B=32", DELTA, 32, 1, .channel = true, .want = {41, 18, 29, 24}},
    {"verify 4 f32 B=32", DELTA, 32, 4, .draft = true, .want = {71, 17, 40, 28}},
    {"verify 8 f32 B=32", DELTA, 32, 8, .draft = true, .want = {106, 17, 48, 33}},
    {"verify 16 f32 B=32", DELTA, 32, 16, .draft = true, .want = {180, 17, 65, 45}},
    {"conv 8192 B=256", CONV, 256, 1, .want = {21.6, 10, 18, 18}},
    {"linear 4096 M=1", LINEAR, 1, 1, .want = {12.6, 7.8, 0, 0}},
    {"linear 4096 M=8", LINEAR, 8, 1, .want = {13.3, 7.8, 0, 0}},
    {"linear 4096 M=64", LINEAR, 64, 1, .want = {12.3, 8.0, 0, 0}},
};

/* ---- what a call works on -------------------------------------------------------------------- */

/* One of several, so that none is found in a cache. */
struct set {
    struct tensor t[TENSORS]; /* conv, linear: x in Q, w in K, y in O */
    struct delta_slots delta;
    struct conv_slots conv;
    struct linear_part part;
    struct linear linear;
};

struct stage {
    const struct work *w;
    struct device *device;
    struct arena memory, scratch;
    struct set set[MOST_SETS];
    int sets, calls; /* calls: in a recording */
    int32_t *start, *slot, *base, *pos; /* pos [16][B]; base [sets][B] */
    void *recording;
};

static void *take(struct stage *s, size_t bytes)
{
    return bench_must(arena_take(&s->memory, bytes));
}

/* Numbers about 0, of the size that each is in a model. */
static void fill(struct stage *s, struct tensor *t, double size, bool negative)
{
    static double pool[4099];
    const int64_t n = tensor_elements(t);
    const size_t bytes = (size_t)n * dtype_size(t->dtype);
    char *host = bench_must(s->device->stage(s->device, bytes));
    struct rng rng = {.seed = 3};
    for (int i = 0; i < 4099; i++) pool[i] = size * rng_normal(&rng);
    for (int64_t e = 0; e < n; e++) {
        const double x = pool[e % 4099];
        dtype_store(host, t->dtype, e, negative ? -fabs(x) : x);
    }
    t->data = take(s, bytes);
    s->device->upload(s->device, t->data, host, bytes);
    s->device->finish(s->device);
    s->device->unstage(s->device, host);
}

static void make_delta(struct stage *s, struct set *set, int number)
{
    const struct work *w = s->w;
    const int64_t T = (int64_t)w->B * w->rows, Hk = w->channel ? HEADS_V : HEADS_K, Hv = HEADS_V;
    const int64_t dim[TENSORS][3] = {{T, Hk, WIDTH}, {T, Hk, WIDTH}, {T, Hv, WIDTH},
                                     {T, Hv, WIDTH}, {T, Hv},        {T, Hv, WIDTH}};
    const double size[TENSORS] = {0.09, 0.09, 1, 0.1, 0.5, 1};
    for (int i = 0; i < TENSORS; i++) {
        const bool gate = i == G || i == BETA;
        const int rank = i == BETA || (i == G && !w->channel) ? 2 : 3;
        set->t[i] = tensor_over(NULL, gate ? DTYPE_F32 : DTYPE_BF16, rank, dim[i]);
        fill(s, &set->t[i], size[i], i == G);
    }
    struct delta_slots *d = &set->delta;
    *d = (struct delta_slots){.slots = w->B, .entries = w->draft ? 2 * BLOCK : BLOCK,
                              .Hk = (int32_t)Hk, .Hv = HEADS_V, .Dk = WIDTH, .Dv = WIDTH,
                              .channel_gate = w->channel, .k_type = DTYPE_BF16,
                              .wide_type = DTYPE_F32,
                              .anchor_type = w->half ? DTYPE_BF16 : DTYPE_F32};
    d->anchor_elements = s->device->anchor_elements(HEADS_V, WIDTH, WIDTH);
    const size_t entries = (size_t)w->B * (size_t)d->entries;
    d->anchor = take(s, (size_t)w->B * (size_t)d->anchor_elements * dtype_size(d->anchor_type));
    d->k = take(s, entries * (size_t)Hk * WIDTH * dtype_size(d->k_type));
    d->u = take(s, entries * HEADS_V * WIDTH * sizeof(float));
    d->G = take(s, entries * HEADS_V * (w->channel ? WIDTH : 1) * sizeof(float));
    d->base = s->base + number * w->B;
}

static void make_conv(struct stage *s, struct set *set)
{
    enum { C = 8192, RING = TAPS - 1 + BLOCK };
    set->t[Q] = tensor_over(NULL, DTYPE_BF16, 2, (int64_t[]){s->w->B, C});
    set->t[K] = tensor_over(NULL, DTYPE_F32, 2, (int64_t[]){C, TAPS});
    set->t[O] = tensor_over(NULL, DTYPE_BF16, 2, (int64_t[]){s->w->B, C});
    fill(s, &set->t[Q], 1, false), fill(s, &set->t[K], 1, false), fill(s, &set->t[O], 1, false);
    set->conv = (struct conv_slots){.slots = s->w->B, .ring = RING, .C = C, .dtype = DTYPE_BF16};
    set->conv.x = take(s, (size_t)s->w->B * RING * C * dtype_size(DTYPE_BF16));
}

static void make_linear(struct stage *s, struct set *set)
{
    enum { N = 4096 };
    set->t[Q] = tensor_over(NULL, DTYPE_BF16, 2, (int64_t[]){s->w->B, N});
    set->t[K] = tensor_over(NULL, DTYPE_BF16, 2, (int64_t[]){N, N});
    set->t[O] = tensor_over(NULL, DTYPE_BF16, 2, (int64_t[]){s->w->B, N});
    fill(s, &set->t[Q], 1, false), fill(s, &set->t[K], 0.01, false), fill(s, &set->t[O], 1, false);
    set->part = (struct linear_part){.w = &set->t[K], .rows = N};
    set->linear = (struct linear){.N = N, .K = N, .parts = 1, .part = &set->part};
}

/* ---- a recording ----------------------------------------------------------------------------- */

static void call(struct stage *s, struct set *set, int step)
{
    struct tensor *t = set->t;
    struct rows rows = {.B = s->w->B, .T = s->w->B * s->w->rows, .start = s->start,
                        .pos = s->pos + step * s->w->B, .slot = s->slot, .draft = s->w->draft};
    const struct delta_args delta = {.q = t + Q, .k = t + K, .v = t + V, .g = t + G,
                                     .beta = t + BETA, .o = t + O, .rows = &rows,
                                     .slots = &set->delta};
    const struct conv_args conv = {.x = t + Q, .w = t + K, .y = t + O, .rows = &rows,
                                   .slots = &set->conv};
    const struct linear_args linear = {.x = t + Q, .y = t + O, .w = &set->linear};
    const struct {
        enum op op;
        const void *args;
    } of[] = {[DELTA] = {OP_DELTA, &delta}, [CONV] = {OP_CONV, &conv},
              [LINEAR] = {OP_LINEAR, &linear}};
    s->device->forward[of[s->w->op].op](s->device, &s->scratch, of[s->w->op].args);
    arena_reset(&s->scratch);
    s->calls++;
}

static void record(struct stage *s)
{
    const int steps = s->w->op == DELTA && !s->w->draft ? BLOCK : 1;
    s->device->record(s->device);
    for (int step = 0; step < steps; step++)
        for (int i = 0; i < s->sets; i++) call(s, &s->set[i], step);
    s->device->clear(s->device, s->base, sizeof *s->base * (size_t)(s->sets * s->w->B));
    s->recording = bench_must(s->device->record_end(s->device));
}

/* Sequence b has rows b rows.. and slot b; at step 0 its log holds 1 to 16 entries. */
static void place_rows(struct stage *s)
{
    const size_t B = (size_t)s->w->B, n = (B + 1) + B + BLOCK * B;
    int32_t *host = bench_must(s->device->stage(s->device, n * sizeof *host));
    struct rng rng = {.seed = 4};
    s->start = take(s, n * sizeof *s->start);
    s->slot = s->start + B + 1, s->pos = s->slot + B;
    for (size_t b = 0; b <= B; b++) host[b] = (int32_t)b * s->w->rows;
    for (size_t b = 0; b < B; b++) {
        const int32_t begin = 1 + (int32_t)rng_below(&rng, BLOCK);
        host[B + 1 + b] = (int32_t)b;
        for (int32_t i = 0; i < BLOCK; i++) host[2 * B + 1 + (size_t)i * B + b] = begin + i;
    }
    s->device->upload(s->device, s->start, host, n * sizeof *host);
    s->device->finish(s->device);
    s->device->unstage(s->device, host);
}

static double set_bytes(const struct work *w)
{
    if (w->op == LINEAR) return 4096.0 * 4096 * 2;
    if (w->op == CONV) return w->B * 8192.0 * 2 * (TAPS - 1 + BLOCK);
    return w->B * (double)HEADS_V * WIDTH * WIDTH * (w->half ? 2 : 4);
}

static void stage_open(struct stage *s, const struct work *w, struct device *device)
{
    const double sets = ceil(IN_TURN / set_bytes(w));
    const size_t bytes = (size_t)6 << 30;
    *s = (struct stage){.w = w, .device = device};
    s->sets = sets < 3 ? 3 : sets > MOST_SETS ? MOST_SETS : (int)sets;
    bench_check(device->arena_open(device, &s->memory, bytes) &&
                    device->arena_open(device, &s->scratch, 64 << 20), "no memory");
    device->clear(device, s->memory.base, bytes);
    s->base = take(s, sizeof *s->base * (size_t)(s->sets * w->B));
    place_rows(s);
    for (int i = 0; i < s->sets; i++) {
        if (w->op == DELTA) make_delta(s, &s->set[i], i);
        if (w->op == CONV) make_conv(s, &s->set[i]);
        if (w->op == LINEAR) make_linear(s, &s->set[i]);
    }
    record(s);
}

static void stage_close(struct stage *s)
{
    s->device->forget(s->device, s->recording);
    s->device->arena_close(s->device, &s->memory);
    s->device->arena_close(s->device, &s->scratch);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Microseconds of a call, from `plays` recordings in a row. */
static double time_of(struct stage *s, int plays)
{
    const double before = bench_seconds(2);
    for (int i = 0; i < plays; i++) s->device->play(s->device, s->recording);
    s->device->finish(s->device);
    return 1e6 * (bench_seconds(2) - before) / plays / s->calls;
}

static void time_work(const struct work *w, struct device *device)
{
    static struct stage s;
    double us[ROUNDS];
    stage_open(&s, w, device);
    time_of(&s, 2);
    const int plays = 1 + (int)(5000 / (time_of(&s, 1) * s.calls));
    for (int i = 0; i < ROUNDS; i++) us[i] = time_of(&s, plays);
    const double median = bench_median(us, ROUNDS);
    bench_check(device->status == GDN_OK, "the device failed");
    printf("%-21s %8.2f %8.2f %8.2f", w->name, median, us[0], us[ROUNDS - 1]);
    printf(" %7.1f %6.1f %6.1f %6.1f", w->want.peer, w->want.floor, w->want.must, w->want.goal);
    printf("  %s\n", w->want.must <= 0 ? "" : median <= w->want.goal ? "goal"
                                       : median <= w->want.must ? "must" : "");
    fflush(stdout);
    stage_close(&s);
}

int main(int argc, char **argv)
{
    struct gdn_error err = {0};
    if (argc > 2 || (argc > 1 && argv[1][0] == '-')) {
        fputs("gdn-bench-cuda [part of a row's name]\n", stderr);
        return 2;
    }
    struct device *device = device_open("cuda", 1, 0, &err);
    bench_check(device != NULL, err.text);
    printf("us of a call; heads %d/%d of %d\n", HEADS_K, HEADS_V, WIDTH);
    printf("%-21s %8s %8s %8s %7s %6s %6s %6s\n", "work", "median", "least", "most", "peer",
           "floor", "must", "goal");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        if (argc < 2 || strstr(works[i].name, argv[1])) time_work(&works[i], device);
    device_close(device);
    return 0;
}
