/* state_lab.h: a gdn_state of two layers, and a stream of made-up tokens through it. */
#ifndef TESTS_API_STATE_LAB_H
#define TESTS_API_STATE_LAB_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "gdn/state.h"
#include "tensor/dtype.h"

static const struct gdn_state_layer layers[] = {
    {.Hk = 2, .Hv = 4, .Dk = 16, .Dv = 24, .taps = 4},
    {.Hk = 1, .Hv = 2, .Dk = 8, .Dv = 40, .taps = 3, .channel_gate = true},
};
enum { LAYERS = 2, T = 90, WIDE = 256, SLOTS = 3 };

struct layer_size {
    size_t C, q, v, g, beta;
};

static inline struct layer_size size_of(int i)
{
    const struct gdn_state_layer *l = &layers[i];
    const size_t q = (size_t)(l->Hk * l->Dk), v = (size_t)(l->Hv * l->Dv);
    return (struct layer_size){.C = 2 * q + v, .q = q, .v = v, .beta = (size_t)l->Hv,
                               .g = (size_t)(l->Hv * (l->channel_gate ? l->Dk : 1))};
}

struct bench {
    gdn_state *state;
    enum gdn_type compute, anchors;
    bool ref; /* anchors are f64, whatever was asked */
    struct gdn_error err;
    float want[T][LAYERS][WIDE]; /* outputs of the stream, token by token */
};

enum { NOT_FINITE = 66 }; /* a stream of NaN */

/* Element i of the c-th input of a token: what a program's projections would give. */
static inline float input(int stream, int layer, int token, int c, size_t i)
{
    if (stream == NOT_FINITE) return NAN;
    struct rng rng = {.seed = (uint64_t)(((stream * 8 + layer) * 1000 + token) * 8 + c),
                      .counter = i};
    return (float)rng_normal(&rng);
}

static inline void store(const struct bench *b, void *to, size_t at, float x)
{
    dtype_store(to, b->compute == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32, (int64_t)at, (double)x);
}

static inline float load(const struct bench *b, const void *from, size_t at)
{
    return (float)dtype_load(from, b->compute == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32, (int64_t)at);
}

static inline void bench_open(struct bench *b, const char *device, enum gdn_type compute,
                              enum gdn_type anchors)
{
    memset(b, 0, sizeof *b);
    b->compute = compute;
    b->anchors = anchors;
    b->ref = strcmp(device, "ref") == 0;
    const struct gdn_state_options o = {.layers = layers, .count = LAYERS, .slots = SLOTS,
                                        .context = 1000, .speculate = true, .compute = compute,
                                        .state = anchors, .device = device,
                                        .threads = 1};
    if (gdn_state_open(&o, &b->state, &b->err) != GDN_OK) fail_msg("%s", b->err.text);
}

/* One piece of a pass: rows of a stream from token `from` on. */
struct part {
    int32_t slot;
    int stream, from, n;
};

/* A whole pass; outputs of the convolution (its q's first element scaled in) and of delta land in
 * out[row][layer]. */
static inline void pass(struct bench *b, const struct part *part, int parts, bool draft,
                 float (*out)[LAYERS][WIDE])
{
    struct gdn_state_piece piece[SLOTS];
    static float w[1024], g[T * 64], beta[T * 8];
    static double x[T * WIDE], y[T * WIDE], q[T * 64], k[T * 64], v[T * WIDE], o[T * WIDE];
    for (int i = 0; i < parts; i++)
        piece[i] = (struct gdn_state_piece){part[i].slot, part[i].n};
    if (gdn_state_begin(b->state, piece, parts, draft, &b->err) != GDN_OK)
        fail_msg("%s", b->err.text);
    for (int l = 0; l < LAYERS; l++) {
        const struct layer_size s = size_of(l);
        const size_t Dk = (size_t)layers[l].Dk;
        size_t row = 0;
        for (size_t i = 0; i < s.C * (size_t)layers[l].taps; i++) w[i] = input(99, l, 0, 0, i) / 2;
        for (int p = 0; p < parts; p++)
            for (int t = part[p].from; t < part[p].from + part[p].n; t++, row++) {
                const int stream = part[p].stream;
                for (size_t i = 0; i < s.C; i++)
                    store(b, x, row * s.C + i, input(stream, l, t, 0, i));
                for (size_t i = 0; i < s.q; i++) {
                    store(b, q, row * s.q + i, input(stream, l, t, 1, i));
                    store(b, k, row * s.q + i, input(stream, l, t, 2, i) / sqrtf((float)Dk));
                }
                for (size_t i = 0; i < s.g; i++)
                    g[row * s.g + i] = -0.2f * fabsf(input(stream, l, t, 3, i));
                for (size_t i = 0; i < s.beta; i++)
                    beta[row * s.beta + i] = 0.5f + 0.1f * tanhf(input(stream, l, t, 4, i));
            }
        if (gdn_state_conv(b->state, l, x, w, y, &b->err) != GDN_OK) fail_msg("%s", b->err.text);
        /* v is what the convolution made of it. */
        for (size_t r = 0; r < row; r++)
            for (size_t i = 0; i < s.v; i++) store(b, v, r * s.v + i, load(b, y, r * s.C + i));
        if (gdn_state_delta(b->state, l, q, k, v, g, beta, o, &b->err) != GDN_OK)
            fail_msg("%s", b->err.text);
        for (size_t r = 0; r < row && out; r++)
            for (size_t i = 0; i < s.v; i++) out[r][l][i] = load(b, o, r * s.v + i);
    }
    if (gdn_state_end(b->state, &b->err) != GDN_OK) fail_msg("%s", b->err.text);
}

static inline void make_want(struct bench *b)
{
    const int32_t slot = gdn_state_slot_take(b->state);
    for (int t = 0; t < T; t++)
        pass(b, &(struct part){slot, 1, t, 1}, 1, false, &b->want[t]);
    gdn_state_slot_give(b->state, slot);
}

/* The slot holds the first tokens of stream 1; the rest of it comes out as it should. */
static inline void goes_on(struct bench *b, int32_t slot)
{
    static float out[T][LAYERS][WIDE];
    const int at = gdn_state_position(b->state, slot);
    for (int t = at, n; t < T; t += n) {
        n = (t - at) % 3 == 1 ? 19 : 1;
        if (n > T - t) n = T - t;
        pass(b, &(struct part){slot, 1, t, n}, 1, false, out + t);
    }
    assert_memory_equal(out[at], b->want[at], sizeof *out * (size_t)(T - at));
}

/* On the cpu with every pair of types; then on the reference. */
static inline void each(void (*law)(struct bench *b))
{
    static struct bench b;
    for (int k = 0; k < 5; k++) {
        const struct mem_count before = mem_counted();
        bench_open(&b, k < 4 ? "cpu" : "ref", k & 1 ? GDN_BF16 : GDN_F32,
                   k & 2 ? GDN_BF16 : GDN_F32);
        make_want(&b);
        law(&b);
        gdn_state_close(b.state);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
}

#define LAW(name) \
    static void test_##name(void **state) \
    { \
        (void)state; \
        each(name); \
    }

#endif
