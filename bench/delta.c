/* gdn-bench-delta: times the forms of the gated delta rule that are exact, on the slots of
 * src/state, f32, for every instruction set: decode, a block of 16, a verify across an edge, a
 * prompt. Beside decode stands a kernel that keeps no log and writes its state after every token.
 *
 * Per token and value head stand the time (median and best) and the time at the roof measured in
 * turn with it: multiply-adds in registers, or for decode reading as many bytes as all states have.
 * ggml, ik: the peers on an AMX Xeon; must, goal: what is asked of AVX-512 or AVX2 there.
 *
 *     gdn-bench-delta [part of a row's first four columns [seconds a row]] */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "state/state.h"

enum { LAYERS = 18, HEADS = 16, PROMPT = 4096, IN_PLACE = -1 };
enum { Q, K, V, G, BETA, O, TENSORS };

/* A round of work is `calls` passes of `rows` tokens each through all layers. */
struct work {
    const char *name;
    int layers, heads, rows, calls, at; /* at: what is fed before, token by token */
    int Dk, Dv, isa; /* isa: an index, or IN_PLACE */
    int threads;
    bool draft;
    struct bench_want one, channel; /* with one gate a head, with one a channel */
};

enum { PORTABLE, AVX2, AVX512 };
static const struct work works[] = {
    {"decode", LAYERS, HEADS, 1, BLOCK, 0, 128, 128, AVX512, .threads = 1,
     .one = {8.4, 7.1, 3.2, 2.9}, .channel = {8.4, 7.1, 3.5, 3.1}},
    {"decode in place", LAYERS, HEADS, 1, BLOCK, 0, 128, 128, IN_PLACE, .threads = 1},
    {"decode", LAYERS, HEADS, 1, BLOCK, 0, 128, 128, AVX512, .threads = 2},
    {"decode", LAYERS, HEADS, 1, BLOCK, 0, 128, 128, AVX2, .threads = 1},
    {"decode 64x64", LAYERS, HEADS, 1, BLOCK, 0, 64, 64, AVX512, .threads = 1},
    {"decode 96x192", LAYERS, HEADS, 1, BLOCK, 0, 96, 192, AVX512, .threads = 1},
    {"verify 4", LAYERS, HEADS, 4, 1, 14, 128, 128, AVX512, .threads = 1, .draft = true},
    {"block hot", 1, 1, BLOCK, 64, 0, 128, 128, AVX512, .threads = 1,
     .one = {3.5, 2.4, 0.85, 0.70}, .channel = {3.5, 2.4, 1.0, 0.85}},
    {"block hot", 1, 1, BLOCK, 64, 0, 128, 128, AVX2, .threads = 1},
    {"prompt", 1, HEADS, PROMPT, 1, 0, 128, 128, AVX512, .threads = 1,
     .one = {3.8, 2.3, 0.85, 0.66}, .channel = {3.8, 2.3, 1.1, 0.90}},
    {"prompt, 1 head", 1, 1, PROMPT, 1, 0, 128, 128, AVX512, .threads = 1},
    {"prompt", 1, HEADS, PROMPT, 1, 0, 128, 128, AVX512, .threads = 2},
    {"prompt", 1, HEADS, PROMPT, 1, 0, 128, 128, AVX2, .threads = 1,
     .one = {3.8, 2.3, 2.3, 1.6}, .channel = {3.8, 2.3, 2.3, 1.6}},
    {"prompt", 1, HEADS, PROMPT, 1, 0, 128, 128, PORTABLE, .threads = 1},
    {"prompt 64x64", 1, HEADS, PROMPT, 1, 0, 64, 64, AVX512, .threads = 1},
    {"prompt 96x192", 1, HEADS, PROMPT, 1, 0, 96, 192, AVX512, .threads = 1},
};

/* ---- a pass --------------------------------------------------------------------------------- */

struct stage {
    const struct work *w;
    bool channel;
    struct device *device;
    struct state state;
    struct arena data, scratch;
    struct tensor t[TENSORS];
    struct rows rows;
    int32_t start[2], pos[1], slot[1];
};

static void make_tensors(struct stage *s)
{
    const struct work *w = s->w;
    const int64_t T = w->rows, H = w->heads;
    const int64_t dim[TENSORS][3] = {{T, H, w->Dk}, {T, H, w->Dk}, {T, H, w->Dv},
                                     {T, H, w->Dk}, {T, H},        {T, H, w->Dv}};
    struct rng rng = {.seed = 9};
    double pool[4096];
    for (int i = 0; i < 4096; i++) pool[i] = rng_normal(&rng);
    for (int i = 0; i < TENSORS; i++) {
        const int rank = i == BETA || (i == G && !s->channel) ? 2 : 3;
        s->t[i] = tensor_over(NULL, DTYPE_F32, rank, dim[i]);
        const int64_t n = tensor_elements(&s->t[i]);
        float *x = s->t[i].data = bench_must(arena_take(&s->data, (size_t)n * sizeof *x));
        for (int64_t e = 0; e < n; e++) {
            const double z = pool[(e * 7 + e / 4096) % 4096];
            /* q and k of about unit length, decays of 0.9 or so, beta in (0, 1] */
            x[e] = (float)(i <= K ? z / sqrt(w->Dk) : i == G ? -0.1 * z * z : z);
            if (i == BETA) x[e] = x[e] * x[e] < 5 ? 0.2f * x[e] * x[e] : 1;
        }
    }
}

static void stage_open(struct stage *s, const struct work *w, bool channel)
{
    struct layer_shape shape[LAYERS];
    struct gdn_error err = {0};
    *s = (struct stage){.w = w, .channel = channel};
    for (int i = 0; i < w->layers; i++)
        shape[i] = (struct layer_shape){.kind = LAYER_DELTA, .Hk = w->heads, .Hv = w->heads,
                                        .Dk = w->Dk, .Dv = w->Dv, .taps = 4,
                                        .channel_gate = channel};
    const struct state_options o = {.slots = 1, .entries = 2 * BLOCK, .context = PAGE,
                                    .compute = DTYPE_F32, .anchor = DTYPE_F32};
    const uint32_t mask = w->isa == IN_PLACE ? 0 : bench_isas[w->isa].mask;
    s->device = bench_must(device_open("cpu", w->threads, mask, &err));
    bench_check(arena_open(&s->data, (size_t)1 << 31) && arena_open(&s->scratch, 1 << 28) &&
                    state_open(&s->state, s->device, shape, w->layers, &o, &err) == GDN_OK,
                "no memory");
    make_tensors(s);
    s->slot[0] = state_slot_take(&s->state);
    s->rows = (struct rows){.B = 1, .start = s->start, .pos = s->pos, .slot = s->slot};
}

static void stage_close(struct stage *s)
{
    state_close(&s->state);
    device_close(s->device);
    arena_close(&s->data);
    arena_close(&s->scratch);
}

static void pass(struct stage *s, int rows, bool draft)
{
    struct tensor *t = s->t;
    s->start[1] = s->rows.T = rows;
    s->rows.draft = draft;
    for (int i = 0; i < s->w->layers; i++) {
        const struct delta_args args = {.q = t + Q, .k = t + K, .v = t + V, .g = t + G,
                                        .beta = t + BETA, .o = t + O, .rows = &s->rows,
                                        .slots = &s->state.layer[i].delta};
        s->device->forward[OP_DELTA](s->device, &s->scratch, &args);
        arena_reset(&s->scratch);
    }
    if (!draft) s->pos[0] += rows;
}

static void round_of_passes(void *context)
{
    struct stage *s = context;
    for (int i = 0; i < s->w->calls; i++) pass(s, s->w->rows, s->w->draft);
}

/* ---- the rival of decode: no log ------------------------------------------------------------ */

#define AVX512_CODE static inline __attribute__((target("avx512f"), always_inline))
enum { WIDE = 16, PAIR = 2 * STRIP / WIDE }; /* two strips at once stay in the nearest cache */

/* r = S k and S q, two strips of S. */
AVX512_CODE void read_pair(const float *S, int64_t strip, int Dk, const float *k, const float *q,
                           __m512 *r, __m512 *o)
{
    for (int v = 0; v < PAIR; v++) r[v] = o[v] = _mm512_setzero_ps();
    for (int d = 0; d < Dk; d++)
        for (int v = 0; v < PAIR; v++) {
            const __m512 at = _mm512_loadu_ps(S + v / 2 * strip + d * STRIP + v % 2 * WIDE);
            r[v] = _mm512_fmadd_ps(at, _mm512_set1_ps(k[d]), r[v]);
            o[v] = _mm512_fmadd_ps(at, _mm512_set1_ps(q[d]), o[v]);
        }
}

/* S = decay S + k u. */
AVX512_CODE void write_pair(float *S, int64_t strip, int Dk, const float *k, float decay,
                            const __m512 *u)
{
    for (int d = 0; d < Dk; d++)
        for (int v = 0; v < PAIR; v++) {
            float *at = S + v / 2 * strip + d * STRIP + v % 2 * WIDE;
            const __m512 kept = _mm512_mul_ps(_mm512_set1_ps(decay), _mm512_loadu_ps(at));
            _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_set1_ps(k[d]), u[v], kept));
        }
}

static __attribute__((target("avx512f"))) void head_in_place(const struct stage *s, int h, float *S)
{
    const int Dk = s->w->Dk, Dv = s->w->Dv;
    const float *k = (const float *)s->t[K].data + h * Dk;
    const float *q = (const float *)s->t[Q].data + h * Dk;
    const float *v = (const float *)s->t[V].data + h * Dv;
    const float beta = ((const float *)s->t[BETA].data)[h];
    const float decay = expf(((const float *)s->t[G].data)[h]);
    float *o = (float *)s->t[O].data + h * Dv, kq = 0;
    for (int d = 0; d < Dk; d++) kq += k[d] * q[d];
    for (int c = 0; c < Dv; c += 2 * STRIP, S += 2 * STRIP * Dk) {
        __m512 u[PAIR], out[PAIR];
        read_pair(S, STRIP * Dk, Dk, k, q, u, out);
        for (int i = 0; i < PAIR; i++) {
            const __m512 at_v = _mm512_loadu_ps(v + c + i * WIDE);
            u[i] = _mm512_mul_ps(_mm512_set1_ps(beta),
                                 _mm512_fnmadd_ps(_mm512_set1_ps(decay), u[i], at_v));
            out[i] = _mm512_mul_ps(_mm512_set1_ps(decay), out[i]);
            _mm512_storeu_ps(o + c + i * WIDE, _mm512_fmadd_ps(_mm512_set1_ps(kq), u[i], out[i]));
        }
        write_pair(S, STRIP * Dk, Dk, k, decay, u);
    }
}

static void round_in_place(void *context)
{
    struct stage *s = context;
    for (int i = 0; i < s->w->calls; i++)
        for (int layer = 0; layer < s->w->layers; layer++) {
            float *anchor = delta_anchor(&s->state.layer[layer].delta, s->slot[0]);
            for (int h = 0; h < s->w->heads; h++)
                head_in_place(s, h, anchor + (int64_t)h * s->w->Dk * s->w->Dv);
        }
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Per token and head: three products with the state, pairs of a block (half of 16 x 16, with k and
 * with q), and as many columns of the log. */
static double flops_of(const struct work *w)
{
    return 6.0 * w->Dk * w->Dv + 2.0 * BLOCK * (w->Dk + w->Dv);
}

/* A state once for all rows of a call. */
static double bytes_of(const struct work *w) { return 4.0 * w->Dk * w->Dv / w->rows; }

static void time_work(const struct work *w, bool channel, const char *part, double limit)
{
    static struct stage s;
    char name[64];
    const bool in_place = w->isa == IN_PLACE, compute = w->rows >= BLOCK;
    const struct bench_isa *isa = &bench_isas[in_place ? AVX512 : w->isa];
    snprintf(name, sizeof name, "%-16s %-8s %-8s %d", w->name, channel ? "channel" : "head",
             isa->roof->name, w->threads);
    if (!bench_has(isa) || w->threads > cpu_count() || (in_place && channel)) return;
    if (!strstr(name, part)) return;
    stage_open(&s, w, channel);
    while (s.pos[0] < w->at) pass(&s, 1, false);
    const struct bench_roof roof = {.isa = compute ? isa : NULL,
                                    .bytes = compute ? 0 : (size_t)(w->layers * w->heads * 4) *
                                                               (size_t)(w->Dk * w->Dv)};
    const struct bench_time t = bench_run(in_place ? round_in_place : round_of_passes, &s,
                                          w->threads, roof, limit);
    bench_print_row(name, t, (double)w->calls * w->layers * w->heads * w->rows,
                    compute ? flops_of(w) : bytes_of(w), channel ? &w->channel : &w->one);
    stage_close(&s);
}

int main(int argc, char **argv)
{
    const double limit = argc > 2 ? atof(argv[2]) : 0.6;
    if (argc > 3 || (argc > 1 && argv[1][0] == '-') || limit <= 0) {
        fputs("gdn-bench-delta [part of a row's first four columns [seconds a row]]\n", stderr);
        return 2;
    }
    printf("us per token and value head; roof: G flop/s, or GB/s of reading for decode\n");
    bench_print_head("work             gate     isa      n");
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        for (int channel = 0; channel < 2; channel++)
            time_work(&works[i], channel, argc > 1 ? argv[1] : "", limit);
    return 0;
}
