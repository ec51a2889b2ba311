/* state.c: gdn/state.h: however rows reach a slot, what comes out is the same in bits. */
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

static struct layer_size size_of(int i)
{
    const struct gdn_state_layer *l = &layers[i];
    const size_t q = (size_t)(l->Hk * l->Dk), v = (size_t)(l->Hv * l->Dv);
    return (struct layer_size){.C = 2 * q + v, .q = q, .v = v, .beta = (size_t)l->Hv,
                               .g = (size_t)(l->Hv * (l->channel_gate ? l->Dk : 1))};
}

struct bench {
    gdn_state *state;
    enum gdn_type compute;
    struct gdn_error err;
    float want[T][LAYERS][WIDE]; /* outputs of the stream, token by token */
};

/* Element i of the c-th input of a token: what a program's projections would give. */
static float input(int stream, int layer, int token, int c, size_t i)
{
    struct rng rng = {.seed = (uint64_t)(((stream * 8 + layer) * 1000 + token) * 8 + c),
                      .counter = i};
    return (float)rng_normal(&rng);
}

static void store(const struct bench *b, void *to, size_t at, float x)
{
    dtype_store(to, b->compute == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32, (int64_t)at, (double)x);
}

static float load(const struct bench *b, const void *from, size_t at)
{
    return (float)dtype_load(from, b->compute == GDN_BF16 ? DTYPE_BF16 : DTYPE_F32, (int64_t)at);
}

static void bench_open(struct bench *b, enum gdn_type compute, enum gdn_type anchors)
{
    memset(b, 0, sizeof *b);
    b->compute = compute;
    const struct gdn_state_options o = {.layers = layers, .count = LAYERS, .slots = SLOTS,
                                        .context = 1000, .speculate = true, .compute = compute,
                                        .state = anchors, .threads = 1};
    if (gdn_state_open(&o, &b->state, &b->err) != GDN_OK) fail_msg("%s", b->err.text);
}

/* One piece of a pass: rows of a stream from token `from` on. */
struct part {
    int32_t slot;
    int stream, from, n;
};

/* A whole pass; outputs of the convolution (its q's first element scaled in) and of delta land in
 * out[row][layer]. */
static void pass(struct bench *b, const struct part *part, int parts, bool draft,
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

static void make_want(struct bench *b)
{
    const int32_t slot = gdn_state_slot_take(b->state);
    for (int t = 0; t < T; t++)
        pass(b, &(struct part){slot, 1, t, 1}, 1, false, &b->want[t]);
    gdn_state_slot_give(b->state, slot);
}

/* The slot holds the first tokens of stream 1; the rest of it comes out as it should. */
static void goes_on(struct bench *b, int32_t slot)
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

static void each(void (*law)(struct bench *b))
{
    static struct bench b;
    for (int k = 0; k < 4; k++) {
        const struct mem_count before = mem_counted();
        bench_open(&b, k & 1 ? GDN_BF16 : GDN_F32, k & 2 ? GDN_BF16 : GDN_F32);
        make_want(&b);
        law(&b);
        gdn_state_close(b.state);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
}

static void cuts_and_batches(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    int32_t slot[3];
    for (int i = 0; i < 3; i++) slot[i] = gdn_state_slot_take(b->state);
    assert_int_equal(gdn_state_slot_take(b->state), -1);
    pass(b, &(struct part){slot[0], 1, 0, T}, 1, false, out);
    assert_memory_equal(out, b->want, sizeof out);
    /* Between two others, in the middle of their own. */
    pass(b, (struct part[]){{slot[2], 3, 0, 7}, {slot[1], 1, 0, 30}}, 2, false, out);
    assert_memory_equal(out[7], b->want[0], sizeof *out * 30);
    pass(b, (struct part[]){{slot[2], 3, 7, 1}, {slot[1], 1, 30, 5}}, 2, false, out);
    assert_memory_equal(out[1], b->want[30], sizeof *out * 5);
    goes_on(b, slot[1]);
}

static void drafts_and_rewinds(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    const int32_t slot = gdn_state_slot_take(b->state);
    int at = 0;
    for (int n = 0; at < T - 32; n++) {
        const int rows = 1 + n * 5 % 16, keep = n * 3 % (rows + 2);
        pass(b, &(struct part){slot, 1, at, rows}, 1, true, out);
        assert_memory_equal(out, b->want[at], sizeof *out * (size_t)rows);
        assert_int_equal(gdn_state_position(b->state, slot), at);
        assert_int_equal(gdn_state_commit(b->state, slot, keep), keep > rows ? rows : keep);
        at += keep > rows ? rows : keep;
        if (n % 4 == 3) {
            const int back = gdn_state_rewindable(b->state, slot) / 2;
            assert_int_equal(gdn_state_rewind(b->state, slot, back, &b->err), GDN_OK);
            at -= back;
        }
        assert_int_equal(gdn_state_position(b->state, slot), at);
    }
    goes_on(b, slot);
}

static void forks_and_snapshots(struct bench *b)
{
    for (int at = 1; at < 60; at += 13) {
        int32_t slot = gdn_state_slot_take(b->state), fork;
        gdn_state_copy *copy;
        pass(b, &(struct part){slot, 1, 0, at}, 1, false, NULL);
        fork = gdn_state_fork(b->state, slot);
        assert_int_equal(gdn_state_snapshot(b->state, slot, &copy, &b->err), GDN_OK);
        assert_true(gdn_state_copy_bytes(copy) > 0);
        pass(b, &(struct part){slot, 7, at, 20}, 1, false, NULL);
        goes_on(b, fork);
        assert_int_equal(gdn_state_restore(b->state, &slot, copy, at + 1, &b->err), GDN_ERR_USAGE);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(gdn_state_restore(b->state, &slot, copy, at, &b->err), GDN_OK);
            goes_on(b, slot);
        }
        gdn_state_copy_free(copy);
        gdn_state_slot_give(b->state, slot);
        gdn_state_slot_give(b->state, fork);
    }
}

static void files(struct bench *b)
{
    static const unsigned char mine[32] = {1}, other[32] = {2};
    char path[] = "/tmp/gdn-state-XXXXXX";
    close(mkstemp(path));
    int32_t slot = gdn_state_slot_take(b->state), loaded;
    bool converted = true;
    assert_int_equal(gdn_state_save(b->state, slot, mine, path, &b->err), GDN_ERR_USAGE);
    pass(b, &(struct part){slot, 1, 0, 37}, 1, false, NULL);
    assert_int_equal(gdn_state_save(b->state, slot, mine, path, &b->err), GDN_OK);
    assert_int_equal(gdn_state_load(b->state, path, other, &loaded, NULL, &b->err), GDN_ERR_INPUT);
    assert_int_equal(gdn_state_load(b->state, path, mine, &loaded, &converted, &b->err), GDN_OK);
    assert_false(converted);
    goes_on(b, loaded);
    unlink(path);
}

/* A dense state taken to another slot goes on near the one it came from: the log is then in S. */
static void dense(struct bench *b)
{
    static float out[T][LAYERS][WIDE];
    enum { AT = 41 };
    const int32_t slot = gdn_state_slot_take(b->state), other = gdn_state_slot_take(b->state);
    pass(b, &(struct part){slot, 1, 0, AT}, 1, false, NULL);
    assert_int_equal(gdn_state_place(b->state, other, AT, &b->err), GDN_OK);
    for (int l = 0; l < LAYERS; l++) {
        const struct layer_size s = size_of(l);
        double S[4 * 24 * 16 + 640], again[4 * 24 * 16 + 640];
        float x[3 * WIDE];
        const int history = layers[l].taps - 1;
        for (int r = 0; r < history; r++)
            for (size_t i = 0; i < s.C; i++)
                x[(size_t)r * s.C + i] = input(1, l, AT - history + r, 0, i);
        assert_int_equal(gdn_state_export(b->state, slot, l, S, &b->err), GDN_OK);
        assert_int_equal(gdn_state_import(b->state, other, l, S, x, &b->err), GDN_OK);
        assert_int_equal(gdn_state_export(b->state, other, l, again, &b->err), GDN_OK);
        for (size_t i = 0; i < (size_t)layers[l].Dk * s.v; i++)
            assert_true(fabs(S[i] - again[i]) <= 4e-3 * (1 + fabs(S[i])));
    }
    assert_int_equal(gdn_state_position(b->state, other), AT);
    assert_int_equal(gdn_state_rewindable(b->state, other), 0);
    pass(b, &(struct part){other, 1, AT, T - AT}, 1, false, out);
    double worst = 0;
    for (int t = 0; t < T - AT; t++)
        for (int l = 0; l < LAYERS; l++)
            for (size_t i = 0; i < size_of(l).v; i++)
                worst = fmax(worst, fabs((double)(out[t][l][i] - b->want[AT + t][l][i])) /
                                        (1 + fabs((double)b->want[AT + t][l][i])));
    assert_true(worst < 0.05);
    assert_int_equal(gdn_state_place(b->state, other, 3, &b->err), GDN_ERR_USAGE);
    double S[4 * 24 * 16];
    assert_int_equal(gdn_state_import(b->state, other, 0, S, NULL, &b->err), GDN_ERR_USAGE);
}

static void refusals(struct bench *b)
{
    const int32_t slot = gdn_state_slot_take(b->state);
    float x[WIDE] = {0};
    struct gdn_state_piece piece[] = {{slot, 1}, {slot, 1}};
    assert_int_equal(gdn_state_delta(b->state, 0, x, x, x, x, x, x, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_begin(b->state, piece, 2, false, &b->err), GDN_ERR_USAGE);
    piece[0].slot = 2;
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    piece[0] = (struct gdn_state_piece){slot, 17};
    assert_int_equal(gdn_state_begin(b->state, piece, 1, true, &b->err), GDN_ERR_USAGE);
    piece[0].rows = 513;
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    /* A pass without all of its layers: one row is as if it had not come. */
    pass(b, &(struct part){slot, 1, 0, 20}, 1, false, NULL);
    piece[0].rows = 1;
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_OK);
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_rewind(b->state, slot, 1, &b->err), GDN_ERR_USAGE);
    assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
    goes_on(b, slot);
    assert_int_equal(gdn_state_begin(b->state, &(struct gdn_state_piece){slot, 2}, 1, false,
                                     &b->err), GDN_OK);
    assert_int_equal(gdn_state_end(b->state, &b->err), GDN_ERR_USAGE);
    b->err = (struct gdn_error){0};
    assert_int_equal(gdn_state_begin(b->state, piece, 1, false, &b->err), GDN_ERR_USAGE);
    assert_non_null(strstr(b->err.text, "half-way"));
    gdn_state_slot_give(b->state, slot);
    gdn_state_slot_give(b->state, slot);
}

#define LAW(name) \
    static void test_##name(void **state) \
    { \
        (void)state; \
        each(name); \
    }
LAW(cuts_and_batches)
LAW(drafts_and_rewinds)
LAW(forks_and_snapshots)
LAW(files)
LAW(dense)
LAW(refusals)

static void options_are_checked(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    gdn_state *s;
    struct gdn_state_layer bad = layers[0];
    struct gdn_state_options o = {.layers = &bad, .count = 1, .slots = 1};
    bad.Hv = 3;
    assert_int_equal(gdn_state_open(&o, &s, &err), GDN_ERR_USAGE);
    bad.Hv = 4;
    o.slots = 0;
    assert_int_equal(gdn_state_open(&o, &s, NULL), GDN_ERR_USAGE);
    o.slots = 1;
    o.compute = GDN_F64;
    assert_int_equal(gdn_state_open(&o, &s, &err), GDN_ERR_USAGE);
    o.compute = GDN_F32;
    o.device = "abacus";
    assert_int_not_equal(gdn_state_open(&o, &s, &err), GDN_OK);
    assert_null(s);
    o.device = NULL;
    const struct mem_count before = mem_counted();
    for (int64_t n = 1;; n++) {
        mem_fail_after(n, false);
        const enum gdn_status status = gdn_state_open(&o, &s, &err);
        mem_fail_after(0, false);
        if (status == GDN_OK) break;
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
    const int64_t f32 = gdn_state_bytes(s);
    gdn_state_close(s);
    o.state = GDN_BF16;
    assert_int_equal(gdn_state_open(&o, &s, &err), GDN_OK);
    assert_true(gdn_state_bytes(s) < f32);
    gdn_state_close(s);
    gdn_state_close(NULL);
    assert_int_equal(mem_counted().live_blocks, before.live_blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts_and_batches),    cmocka_unit_test(test_drafts_and_rewinds),
        cmocka_unit_test(test_forks_and_snapshots), cmocka_unit_test(test_files),
        cmocka_unit_test(test_dense),               cmocka_unit_test(test_refusals),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
