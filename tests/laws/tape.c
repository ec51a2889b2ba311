/* tape.c: a tape changes nothing, recomputing changes nothing, and the gradient of a whole model is
 * the gradient. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "stage/play.h"
#include "stage/tiny.h"

static const char *const models[] = {"q35-r1-tied", "q35-r2-untied", "q35-r4-odd", "q35-k2-f16"};
/* Sanitizers see the same code on fewer models. */
#if defined(GDN_POISON) && GDN_POISON
enum { MODELS = 2 };
#else
enum { MODELS = sizeof models / sizeof *models };
#endif

/* Three ragged sequences (lengths 37, 1, 70), some rows not counted. */
static void ragged(struct tiny_batch *b, int32_t vocab)
{
    static const int32_t start[] = {0, 37, 38, 108};
    struct rng rng = {.seed = 5};
    b->B = 3;
    memcpy(b->start, start, sizeof start);
    for (int32_t i = 0; i < start[3]; i++) {
        b->ids[i] = (int32_t)rng_below(&rng, (uint64_t)vocab);
        b->targets[i] = i % 7 == 3 ? -1 : (int32_t)rng_below(&rng, (uint64_t)vocab);
    }
}

/* ---- tape on = off --------------------------------------------------------------------------- */

static void add_loss(void *context, int feed, size_t row, double nats)
{
    (void)feed;
    (void)row;
    *(double *)context += nats;
}

/* The engine on slots, in bf16 weights where they are mapped, against a taped pass on f32 copies
 * from an empty dense state: the same bits in every loss, so the same sum. */
static void tape_is_engine(void **state)
{
    (void)state;
    for (size_t m = 0; m < MODELS; m++) {
        struct play play;
        struct tiny t;
        struct gdn_error err = {0};
        int32_t ids[141];
        play_open(&play, models[m], &(struct play_options){.device = "cpu"});
        play_ids(&play, 3, ids, 141);
        double sum = 0;
        const struct gdn_sink sink = {.context = &sum, .loss = add_loss};
        const struct gdn_feed feed = {.session = play_session(&play), .ids = ids, .n = 141};
        if (gdn_step(&feed, 1, &sink, &err) != GDN_OK) fail_msg("%s", err.text);
        struct tiny_batch batch = {.B = 1, .start = {0, 140}};
        memcpy(batch.ids, ids, sizeof *ids * 140);
        memcpy(batch.targets, ids + 1, sizeof *ids * 140);
        tiny_open(&t, models[m], "cpu", 2, DTYPE_F32, true);
        const double on = tiny_loss(&t, &batch, false), off = tiny_loss(&t, &batch, true);
        assert_true(on == off);
        assert_true(on == sum / 140);
        tiny_close(&t);
        play_close(&play);
    }
}

/* ---- recompute = none ------------------------------------------------------------------------ */

static void *copy_gradients(const struct tiny *t)
{
    const size_t size = dtype_size(t->params.list[0].gradient.dtype);
    char *copy = mem_take_array((size_t)t->params.n, size);
    assert_non_null(copy);
    char *at = copy;
    for (int32_t i = 0; i < t->params.count; i++) {
        const size_t bytes = (size_t)t->params.list[i].n * size;
        memcpy(at, t->params.list[i].gradient.data, bytes);
        at += bytes;
    }
    return copy;
}

static void recompute_is_none(void **state)
{
    (void)state;
    for (size_t m = 0; m < MODELS; m++) {
        struct tiny t;
        struct tiny_batch batch;
        tiny_open(&t, models[m], "cpu", 2, DTYPE_F32, true);
        ragged(&batch, t.config.vocab);
        params_clear(&t.params);
        const double plain = tiny_loss(&t, &batch, false);
        const size_t plain_peak = t.data.high;
        float *a = copy_gradients(&t);
        params_clear(&t.params);
        t.data.high = 0;
        t.gradient.recompute = true;
        assert_true(plain == tiny_loss(&t, &batch, false));
        float *b = copy_gradients(&t);
        assert_memory_equal(a, b, sizeof(float) * (size_t)t.params.n);
        print_message("%s: tape %zu kB, recomputed %zu kB\n", models[m], plain_peak / 1000,
                      t.data.high / 1000);
        assert_true(t.data.high < plain_peak);
        mem_give(a);
        mem_give(b);
        tiny_close(&t);
    }
}

/* ---- the gradient is the gradient ------------------------------------------------------------ */

/* Along a random direction in one tensor: (L(p + h d) - L(p - h d)) / 2h in double. The third
 * derivative times h^2 is about 1e-8 here, rounding 1e-16 / h about 1e-11. */
static void central_differences(void **state)
{
    (void)state;
    for (size_t m = 0; m < MODELS; m++) {
        struct tiny t;
        struct tiny_batch batch;
        struct rng rng = {.seed = 21};
        tiny_open(&t, models[m], "ref", 1, DTYPE_F64, true);
        ragged(&batch, t.config.vocab);
        params_clear(&t.params);
        tiny_loss(&t, &batch, false);
        double worst = 0;
        for (int32_t i = 0; i < t.params.count; i++) {
            const struct param *p = &t.params.list[i];
            double *x = p->tensor->data, size = 0, expected = 0;
            const double *g = p->gradient.data;
            double *d = mem_take_array((size_t)p->n, sizeof *d);
            assert_non_null(d);
            for (int64_t j = 0; j < p->n; j++) d[j] = rng_normal(&rng), size += d[j] * d[j];
            for (int64_t j = 0; j < p->n; j++) expected += g[j] * (d[j] /= sqrt(size));
            const double h = 1e-4;
            for (int64_t j = 0; j < p->n; j++) x[j] += h * d[j];
            const double up = tiny_loss(&t, &batch, true);
            for (int64_t j = 0; j < p->n; j++) x[j] -= 2 * h * d[j];
            const double down = tiny_loss(&t, &batch, true);
            for (int64_t j = 0; j < p->n; j++) x[j] += h * d[j];
            const double found = (up - down) / (2 * h), error = fabs(found - expected);
            if (!(error <= 1e-6 * (1 + fabs(expected))))
                fail_msg("%s, %s: differences give %.9g, backward %.9g", models[m], p->name, found,
                         expected);
            if (error > worst) worst = error;
            mem_give(d);
        }
        print_message("%s: worst error of a directional derivative %.1e\n", models[m], worst);
        tiny_close(&t);
    }
}

/* A sequence's share of the gradient does not depend on who shares the batch: the gradient of the
 * batch is the sum of those of its sequences, weighted by the tokens that count. */
static void batch_adds_up(void **state)
{
    (void)state;
    struct tiny t;
    struct tiny_batch batch;
    tiny_open(&t, "q35-r2-untied", "ref", 1, DTYPE_F64, true);
    ragged(&batch, t.config.vocab);
    params_clear(&t.params);
    tiny_loss(&t, &batch, false);
    double *whole = copy_gradients(&t);
    double *sum = mem_take_array((size_t)t.params.n, sizeof *sum);
    assert_non_null(sum);
    int32_t all = 0;
    for (int32_t i = 0; i < batch.start[batch.B]; i++) all += batch.targets[i] >= 0;
    for (int32_t b = 0; b < batch.B; b++) {
        struct tiny_batch one = {.B = 1, .start = {0, batch.start[b + 1] - batch.start[b]}};
        memcpy(one.ids, batch.ids + batch.start[b], sizeof *one.ids * (size_t)one.start[1]);
        memcpy(one.targets, batch.targets + batch.start[b],
               sizeof *one.targets * (size_t)one.start[1]);
        int32_t count = 0;
        for (int32_t i = 0; i < one.start[1]; i++) count += one.targets[i] >= 0;
        params_clear(&t.params);
        tiny_loss(&t, &one, false);
        double *g = copy_gradients(&t);
        for (int64_t i = 0; i < t.params.n; i++) sum[i] += g[i] * count / all;
        mem_give(g);
    }
    for (int64_t i = 0; i < t.params.n; i++)
        if (!(fabs(sum[i] - whole[i]) <= 1e-12)) fail_msg("%g and %g", sum[i], whole[i]);
    mem_give(whole);
    mem_give(sum);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tape_is_engine),
        cmocka_unit_test(recompute_is_none),
        cmocka_unit_test(central_differences),
        cmocka_unit_test(batch_adds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
