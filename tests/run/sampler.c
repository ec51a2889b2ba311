/* sampler.c: which tokens may be chosen, and how often each is. */
#include "run/sampler.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

enum { N = 5 };

/* Probabilities 1/2, 1/4, 1/8, 1/16, 1/16. */
static const int32_t ids[N] = {40, 7, 99, 3, 12};
static float values[N];

static int set_values(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) values[i] = (float)(3.0 - (double)(i < 4 ? i : 3) * log(2.0));
    return 0;
}

/* One bit for each of the first N tokens that is chosen at some of 1000 positions: what has one
 * chance in 16 is missed by all of them less than once in 10^28 seeds. */
static unsigned chosen(struct gdn_sampling s)
{
    unsigned set = 0;
    for (int64_t position = 0; position < 1000; position++) {
        const int32_t id = sampler_choose(&s, N, ids, values, position);
        int i = 0;
        while (i < N && ids[i] != id) i++;
        assert_true(i < N);
        set |= 1u << i;
    }
    return set;
}

static void cold_is_the_best(void **state)
{
    (void)state;
    assert_int_equal(chosen((struct gdn_sampling){.temperature = 0}), 1);
    assert_int_equal(chosen((struct gdn_sampling){.temperature = -1, .top_k = 4, .top_p = 0.9}), 1);
    assert_int_equal(chosen((struct gdn_sampling){.temperature = 1e-300}), 1);
    assert_int_equal(chosen((struct gdn_sampling){.temperature = 5e-324}), 1);
    for (int u = 0; u < 10; u++)
        assert_int_equal(
            sampler_choose(&(struct gdn_sampling){.temperature = 2}, 1, ids, values, u), 40);
}

/* Sets that differ from their neighbours by one token, on both sides of each limit. */
static void sets_are_exact(void **state)
{
    (void)state;
    static const struct {
        struct gdn_sampling s;
        unsigned set;
    } cases[] = {
        {{.temperature = 1}, 31},
        {{.temperature = 1, .top_k = 0}, 31},
        {{.temperature = 1, .top_k = -3}, 31},
        {{.temperature = 1, .top_k = 1}, 1},
        {{.temperature = 1, .top_k = 3}, 7},
        {{.temperature = 1, .top_k = 5}, 31},
        {{.temperature = 1, .top_k = 1000}, 31},
        {{.temperature = 1, .top_p = 1e-9}, 1},
        {{.temperature = 1, .top_p = 0.49}, 1},
        {{.temperature = 1, .top_p = 0.51}, 3},
        {{.temperature = 1, .top_p = 0.74}, 3},
        {{.temperature = 1, .top_p = 0.76}, 7},
        {{.temperature = 1, .top_p = 0.93}, 15},
        {{.temperature = 1, .top_p = 0.94}, 31},
        {{.temperature = 1, .top_p = 1}, 31},
        {{.temperature = 1, .top_p = 7}, 31},
        {{.temperature = 1, .top_p = -1}, 31},
        {{.temperature = 1, .min_p = 0.51}, 1},
        {{.temperature = 1, .min_p = 0.49}, 3},
        {{.temperature = 1, .min_p = 0.26}, 3},
        {{.temperature = 1, .min_p = 0.24}, 7},
        {{.temperature = 1, .min_p = 0.1}, 31},
        {{.temperature = 1, .min_p = 1}, 1},
        {{.temperature = 1, .min_p = 2}, 1},
        /* top_p counts what top_k has left: 4/7 and 6/7. */
        {{.temperature = 1, .top_k = 3, .top_p = 0.57}, 1},
        {{.temperature = 1, .top_k = 3, .top_p = 0.58}, 3},
        {{.temperature = 1, .top_k = 3, .top_p = 0.86}, 7},
        /* Both come after the temperature: at 2 the weights are 1, .71, .5, .35, .35. */
        {{.temperature = 2, .min_p = 0.49}, 7},
        {{.temperature = 2, .min_p = 0.51}, 3},
        {{.temperature = 2, .top_p = 0.34}, 1},
        {{.temperature = 2, .top_p = 0.35}, 3},
        {{.temperature = 1, .top_p = 0.76, .min_p = 0.49}, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (chosen(cases[i].s) != cases[i].set)
            fail_msg("case %zu: found set %u, need %u", i, chosen(cases[i].s), cases[i].set);
}

/* ---- how often ------------------------------------------------------------------------------- */

static double chi_square(struct gdn_sampling s, const double *weight, int kept, uint64_t seed)
{
    enum { DRAWS = 100000 };
    int32_t count[N] = {0};
    double sum = 0, chi = 0;
    s.seed = seed;
    for (int64_t position = 0; position < DRAWS; position++) {
        const int32_t id = sampler_choose(&s, N, ids, values, position);
        for (int i = 0; i < N; i++) count[i] += ids[i] == id;
    }
    for (int i = 0; i < kept; i++) sum += weight[i];
    for (int i = 0; i < N; i++) {
        const double want = i < kept ? DRAWS * weight[i] / sum : 0;
        if (i >= kept)
            assert_int_equal(count[i], 0);
        else
            chi += (count[i] - want) * (count[i] - want) / want;
    }
    return chi;
}

/* One time in a thousand chance alone goes beyond these limits; with these seeds it does not. */
static void drawn_by_weight(void **state)
{
    (void)state;
    static const double beyond[] = {0, 10.83, 13.82, 16.27, 18.47}; /* by degrees of freedom */
    static const double plain[N] = {8, 4, 2, 1, 1};
    double warm[N];
    for (int i = 0; i < N; i++) warm[i] = sqrt(plain[i]);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const struct gdn_sampling all = {.temperature = 1}, hot = {.temperature = 2},
                                  three = {.temperature = 1, .top_k = 3},
                                  share = {.temperature = 1, .top_p = 0.7},
                                  likely = {.temperature = 2, .min_p = 0.4};
        assert_true(chi_square(all, plain, 5, seed) < beyond[4]);
        assert_true(chi_square(hot, warm, 5, seed) < beyond[4]);
        assert_true(chi_square(three, plain, 3, seed) < beyond[2]);
        assert_true(chi_square(share, plain, 2, seed) < beyond[1]);
        assert_true(chi_square(likely, warm, 3, seed) < beyond[2]);
    }
    /* And the test would notice: the same draws are not those of other weights. */
    assert_true(chi_square((struct gdn_sampling){.temperature = 1.1}, plain, 5, 1) > beyond[4]);
}

static void same_seed_same_token(void **state)
{
    (void)state;
    struct gdn_sampling s = {.temperature = 0.8, .top_p = 0.95, .seed = 5};
    int differ = 0;
    for (int64_t position = 0; position < 200; position++) {
        s.seed = 5;
        const int32_t one = sampler_choose(&s, N, ids, values, position);
        assert_int_equal(one, sampler_choose(&s, N, ids, values, position));
        s.seed = 6;
        differ += one != sampler_choose(&s, N, ids, values, position);
    }
    assert_in_range(differ, 50, 190);
}

/* Two distributions of 8 tokens drawn from at the same position. Independent draws agree with
 * chance sum p q; these with sum_i 1 / sum_j max(p_j / p_i, q_j / q_i), and neither notices. */
static void similar_rows_draw_alike(void **state)
{
    (void)state;
    enum { M = 8, DRAWS = 100000 };
    static const int32_t names[M] = {8, 6, 7, 5, 3, 0, 9, 1};
    float p[M], q[M];
    double sum_p = 0, sum_q = 0, alike = 0, apart = 0;
    for (int i = 0; i < M; i++) {
        p[i] = -0.5f * (float)i;
        q[i] = p[i] + (i % 3 == 1 ? 0.4f : 0.0f);
        sum_p += exp((double)p[i]);
        sum_q += exp((double)q[i]);
    }
    for (int i = 0; i < M; i++) {
        double below = 0;
        for (int j = 0; j < M; j++)
            below += fmax(exp((double)(p[j] - p[i])), exp((double)(q[j] - q[i])));
        alike += 1 / below;
        apart += exp((double)p[i]) / sum_p * exp((double)q[i]) / sum_q;
    }
    /* The sampler wants its tokens best first; names go with them. */
    int32_t name_q[M];
    float sorted[M];
    for (int i = 0; i < M; i++) {
        int at = i;
        for (; at > 0 && sorted[at - 1] < q[i]; at--) {
            sorted[at] = sorted[at - 1];
            name_q[at] = name_q[at - 1];
        }
        sorted[at] = q[i];
        name_q[at] = names[i];
    }
    const struct gdn_sampling s = {.temperature = 1, .seed = 11};
    int same = 0;
    for (int64_t position = 0; position < DRAWS; position++)
        same += sampler_choose(&s, M, names, p, position) ==
                sampler_choose(&s, M, name_q, sorted, position);
    /* Within five standard deviations of what is exact, which is far from what is independent. */
    const double deviation = sqrt(alike * (1 - alike) / DRAWS);
    assert_true(fabs(same / (double)DRAWS - alike) < 5 * deviation);
    assert_true(alike - apart > 100 * deviation);
}

/* ---- what changes logits --------------------------------------------------------------------- */

enum { VOCAB = 6 };
static const float plain[VOCAB] = {2, -2, 0, 1, 4, -1};

static void adjusted(struct gdn_sampling s, const int32_t *tokens, int32_t n, const float *want)
{
    float row[VOCAB];
    int32_t counts[VOCAB] = {0};
    memcpy(row, plain, sizeof row);
    sampler_adjust(&s, tokens, n, VOCAB, row, counts);
    for (int i = 0; i < VOCAB; i++) {
        if (row[i] < want[i] || row[i] > want[i])
            fail_msg("token %d: found %g, need %g", i, (double)row[i], (double)want[i]);
        assert_int_equal(counts[i], 0);
    }
}

static void penalties_by_hand(void **state)
{
    (void)state;
    static const int32_t said[] = {4, 0, 1, 0, 9, 0, 5}; /* 9 is no token that can be chosen */
    enum { SAID = 7 };
    adjusted((struct gdn_sampling){.temperature = 1}, said, SAID, plain);
    adjusted((struct gdn_sampling){.repetition = 1}, said, SAID, plain);
    adjusted((struct gdn_sampling){.repetition = 2}, said, SAID, (float[]){1, -4, 0, 1, 2, -2});
    adjusted((struct gdn_sampling){.repetition = 0.5}, said, SAID,
             (float[]){4, -1, 0, 1, 8, -0.5f});
    adjusted((struct gdn_sampling){.presence = 0.5}, said, SAID,
             (float[]){1.5f, -2.5f, 0, 1, 3.5f, -1.5f});
    adjusted((struct gdn_sampling){.frequency = 0.5}, said, SAID,
             (float[]){0.5f, -2.5f, 0, 1, 3.5f, -1.5f});
    adjusted((struct gdn_sampling){.frequency = -1, .presence = 1}, said, SAID,
             (float[]){4, -2, 0, 1, 4, -1});
    /* The window counts back from the end. */
    adjusted((struct gdn_sampling){.frequency = 1, .window = 4}, said, SAID,
             (float[]){0, -2, 0, 1, 4, -2});
    adjusted((struct gdn_sampling){.presence = 1, .window = 1}, said, SAID,
             (float[]){2, -2, 0, 1, 4, -2});
    adjusted((struct gdn_sampling){.presence = 1, .window = 100}, said, SAID,
             (float[]){1, -3, 0, 1, 3, -2});
    adjusted((struct gdn_sampling){.repetition = 2, .presence = 1}, said, 0, plain);
    /* All together, in the order that is told. */
    adjusted((struct gdn_sampling){.repetition = 2, .presence = 0.25, .frequency = 0.5,
                                   .bias = (struct gdn_bias[]){{0, 3}, {2, -1}, {0, 1}},
                                   .bias_count = 3, .banned = (int32_t[]){3}, .banned_count = 1},
             said, SAID, (float[]){3.25f, -4.75f, -1, -INFINITY, 1.25f, -2.75f});
}

static void only_what_is_asked_for(void **state)
{
    (void)state;
    const struct gdn_bias bias = {0, 1};
    const int32_t ban = 1;
    const struct gdn_sampling none = {.temperature = 1, .top_k = 3, .window = 9};
    assert_false(sampler_adjusts(&none));
    assert_false(sampler_adjusts(&(struct gdn_sampling){.repetition = 1}));
    assert_true(sampler_adjusts(&(struct gdn_sampling){.repetition = 1.1}));
    assert_true(sampler_adjusts(&(struct gdn_sampling){.presence = -1}));
    assert_true(sampler_adjusts(&(struct gdn_sampling){.frequency = 1}));
    assert_true(sampler_adjusts(&(struct gdn_sampling){.bias = &bias, .bias_count = 1}));
    assert_true(sampler_adjusts(&(struct gdn_sampling){.banned = &ban, .banned_count = 1}));
}

/* ---- from the best of a row alone ------------------------------------------------------------ */

enum { WIDE = 900, SAID = 40 };

struct ranked {
    float value;
    int32_t id;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->value > y->value ? -1 : x->value < y->value ? 1 : x->id - y->id;
}

static void rank(const float *row, struct ranked *out)
{
    for (int32_t i = 0; i < WIDE; i++) out[i] = (struct ranked){row[i], i};
    qsort(out, WIDE, sizeof *out, by_rank);
}

static double one_of(struct rng *rng, const double *list, uint64_t n)
{
    return list[rng_below(rng, n)];
}

/* What is said to be certain is what the whole row gives, in bits and in order; and it is more than
 * nothing wherever tokens are only made less likely. */
static void certain_is_certain(void **state)
{
    (void)state;
    static const double repetition[] = {0, 1, 1.2, 3, 0.8}, off[] = {0, 0.5, 4, -1};
    static int32_t counts[WIDE];
    static float row[WIDE];
    static struct ranked before[WIDE], after[WIDE];
    struct rng rng = {.seed = 8};
    int64_t certain = 0, asked = 0;
    for (int round = 0; round < 3000; round++) {
        struct gdn_bias bias[3];
        int32_t said[SAID], ban[2];
        /* Steps of a quarter: many are equal. */
        for (int i = 0; i < WIDE; i++) row[i] = 0.25f * (float)(int)(12 * rng_normal(&rng));
        rank(row, before);
        struct sampler_best best = {.n = 1 + (int32_t)rng_below(&rng, SAMPLER_BEST)};
        for (int i = 0; i < SAID; i++)
            said[i] = rng_below(&rng, 2) ? before[rng_below(&rng, 60)].id
                                         : (int32_t)rng_below(&rng, WIDE + 20);
        for (int i = 0; i < 3; i++)
            bias[i] = (struct gdn_bias){before[rng_below(&rng, 500)].id,
                                        rng_below(&rng, 3) ? -1.5f : 2};
        for (int i = 0; i < 2; i++) ban[i] = before[rng_below(&rng, 20)].id;
        const struct gdn_sampling s = {.repetition = one_of(&rng, repetition, 5),
                                       .presence = one_of(&rng, off, 4),
                                       .frequency = one_of(&rng, off, 4),
                                       .window = (int32_t)rng_below(&rng, 3) * 15, .bias = bias,
                                       .bias_count = rng_below(&rng, 4), .banned = ban,
                                       .banned_count = rng_below(&rng, 3)};
        for (int32_t i = 0; i < best.n; i++) {
            best.ids[i] = before[i].id;
            best.values[i] = before[i].value;
        }
        const int32_t sure = sampler_adjust_best(&s, said, SAID, WIDE, &best, counts);
        sampler_adjust(&s, said, SAID, WIDE, row, counts);
        rank(row, after);
        assert_in_range(sure, 0, best.n);
        for (int32_t i = 0; i < sure; i++)
            if (best.ids[i] != after[i].id || memcmp(&best.values[i], &after[i].value, 4) != 0)
                fail_msg("round %d, place %d of %d: found %d, need %d", round, i, sure,
                         best.ids[i], after[i].id);
        for (int i = 0; i < WIDE; i++) assert_int_equal(counts[i], 0);
        const bool lessens = s.repetition > 1 && s.presence >= 0 && s.frequency >= 0;
        if (!lessens || s.bias_count > 0 || best.n < 100) continue;
        asked++;
        certain += sure > 0;
    }
    assert_true(asked > 50 && certain > asked / 10 * 9);
}

/* ---- hostile numbers ------------------------------------------------------------------------- */

static void anything_is_survived(void **state)
{
    (void)state;
    static const double odd[] = {0, -0.0, 1, -1, 5e-324, DBL_MAX, -DBL_MAX, INFINITY, -INFINITY,
                                 NAN, 0.5};
    static const float logits[] = {0, 1, -1, FLT_MAX, -FLT_MAX, INFINITY, -INFINITY, NAN, 1e-45f};
    enum { MANY = 300, ODD = sizeof odd / sizeof *odd, LOGITS = sizeof logits / sizeof *logits };
    int32_t many[MANY];
    float at[MANY];
    struct rng rng = {.seed = 3};
    for (int i = 0; i < MANY; i++) many[i] = 1000 + i;
    for (int round = 0; round < 20000; round++) {
        const int32_t n = 1 + (int32_t)rng_below(&rng, MANY);
        const struct gdn_sampling s = {.temperature = odd[rng_below(&rng, ODD)],
                                   .top_k = (int32_t)rng_below(&rng, 400) - 50,
                                   .top_p = odd[rng_below(&rng, ODD)],
                                   .min_p = odd[rng_below(&rng, ODD)]};
        for (int32_t i = 0; i < n; i++) at[i] = logits[rng_below(&rng, LOGITS)];
        const int32_t id = sampler_choose(&s, n, many, at, round);
        assert_in_range(id, 1000, 1000 + (n < 256 ? n : 256) - 1);
    }
}

/* Where there are no weights to draw by, the best is taken: not the last of the list. */
static void no_weights(void **state)
{
    (void)state;
    static const float all[][3] = {{INFINITY, 2, 1},
                                   {NAN, NAN, NAN},
                                   {-INFINITY, -INFINITY, -INFINITY},
                                   {INFINITY, INFINITY, 0}};
    const struct gdn_sampling s = {.temperature = 1};
    for (size_t i = 0; i < 4; i++) {
        for (int64_t at = 0; at < 100; at++)
            assert_int_equal(sampler_choose(&s, 3, ids, all[i], at), 40);
    }
    /* What is impossible is never drawn, NaN included: op_top reports it as -inf. */
    static const float holes[3] = {1, -INFINITY, NAN};
    for (int u = 0; u < 100; u++)
        assert_int_equal(sampler_choose(&s, 3, ids, holes, u), 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold_is_the_best),     cmocka_unit_test(sets_are_exact),
        cmocka_unit_test(drawn_by_weight),      cmocka_unit_test(same_seed_same_token),
        cmocka_unit_test(similar_rows_draw_alike), cmocka_unit_test(penalties_by_hand),
        cmocka_unit_test(only_what_is_asked_for), cmocka_unit_test(certain_is_certain),
        cmocka_unit_test(anything_is_survived), cmocka_unit_test(no_weights),
    };
    return cmocka_run_group_tests(tests, set_values, NULL);
}
