/* sequence.c: in exact mode a row's bits are a function of the tokens before it, and of nothing
 * else. Every law compares whole rows of logits in bits, on whole models: Qwen3.5 dense in all its
 * shapes, or, with the argument "families", one model of every other family. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "stage/play.h"

enum { LISTED = 4, T = 150 };
static const char *const dense[LISTED] = {"q35-r1-tied", "q35-r2-untied", "q35-r4-odd",
                                          "q35-k2-f16"};
static const char *const families[LISTED] = {"kimi-released", "olmo-released", "next-grouped",
                                             "q35moe-stacked"};
static const char *const *models = dense;
/* Sanitizers see the same code on fewer models. */
#if defined(GDN_POISON) && GDN_POISON
enum { MODELS = 2 };
#else
enum { MODELS = LISTED };
#endif

/* What the laws must hold for: each compute and state type, the reference in double, and quantised
 * weights. */
static const struct play_options kinds[] = {
    {.device = "cpu", .compute = GDN_F32, .state = GDN_F32},
    {.device = "cpu", .compute = GDN_BF16, .state = GDN_F32},
    {.device = "cpu", .compute = GDN_F32, .state = GDN_BF16},
    {.device = "cpu", .compute = GDN_BF16, .state = GDN_BF16},
    {.device = "ref", .compute = GDN_F32, .state = GDN_F32},
    {.device = "cpu", .compute = GDN_F32, .state = GDN_F32, .quant = GDN_QUANT_Q8},
    {.device = "cpu", .compute = GDN_BF16, .state = GDN_F32, .quant = GDN_QUANT_Q4},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

struct stage {
    struct play play;
    struct record whole; /* T rows in one call */
    int32_t ids[T];
};

static void stage_open(struct stage *st, const char *model, struct play_options options)
{
    play_open(&st->play, model, &options);
    play_ids(&st->play, 1, st->ids, T);
    record_open(&st->whole, &st->play, T);
    gdn_session *s = play_session(&st->play);
    play_feed(s, st->ids, T, NULL, 0, &st->whole);
    gdn_session_free(s);
}

static void stage_close(struct stage *st)
{
    record_close(&st->whole);
    play_close(&st->play);
}

static void every_kind(void (*law)(const char *model, struct play_options options))
{
    for (size_t m = 0; m < MODELS; m++)
        for (size_t k = 0; k < KINDS; k++) law(models[m], kinds[k]);
}

/* ---- cuts ------------------------------------------------------------------------------------ */

static void cut_like(struct stage *st, const int32_t *cuts, size_t n, const char *what)
{
    struct record r;
    record_open(&r, &st->play, T);
    gdn_session *s = play_session(&st->play);
    play_feed(s, st->ids, T, cuts, n, &r);
    same_rows(&st->whole, 0, &r, 0, T, what);
    gdn_session_free(s);
    record_close(&r);
}

static void cuts_of(const char *model, struct play_options options)
{
    struct stage st;
    stage_open(&st, model, options);
    cut_like(&st, (int32_t[]){1}, 1, "token by token");
    cut_like(&st, (int32_t[]){1, 5, 16}, 3, "1, 5, 16, 16, ...");
    cut_like(&st, (int32_t[]){15, 1, 17, 3}, 4, "15, 1, 17, 3, 3, ...");
    struct rng rng = {.seed = 7};
    const int partitions = strcmp(options.device, "ref") == 0 ? 2 : 12;
    for (int i = 0; i < partitions; i++) {
        int32_t cuts[T];
        for (size_t j = 0; j < T; j++) cuts[j] = 1 + (int32_t)rng_below(&rng, 20);
        cut_like(&st, cuts, T, "a random partition");
    }
    if (strcmp(options.device, "cpu") == 0 && options.compute == GDN_F32)
        for (int32_t at = 1; at < T; at += 7)
            cut_like(&st, (int32_t[]){at, T}, 2, "a cut in two");
    stage_close(&st);
}

static void any_cut(void **state)
{
    (void)state;
    every_kind(cuts_of);
}

/* ---- batches and threads --------------------------------------------------------------------- */

struct batch_record {
    struct record of[3];
};

static void keep_fed_row(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    (void)row;
    struct record *r = &((struct batch_record *)context)->of[feed];
    assert_true(r->rows < r->room);
    memcpy(r->at + r->rows++ * (size_t)vocab, logits, sizeof(float) * (size_t)vocab);
}

/* Three sequences of different lengths and positions, cut differently, one of them st->ids. */
static void batch_of(const char *model, struct play_options options)
{
    struct stage st;
    options.sessions = 3;
    stage_open(&st, model, options);
    struct batch_record r;
    gdn_session *s[3];
    int32_t other[2][T];
    for (int i = 0; i < 3; i++) {
        s[i] = play_session(&st.play);
        record_open(&r.of[i], &st.play, T);
    }
    play_ids(&st.play, 2, other[0], T);
    play_ids(&st.play, 3, other[1], T);
    const int32_t *ids[3] = {other[0], st.ids, other[1]};
    size_t at[3] = {0}, piece[3] = {1, 7, 33};
    struct gdn_error err = {0};
    const struct gdn_sink sink = {.context = &r, .logits = keep_fed_row};
    while (at[1] < T) {
        struct gdn_feed feeds[3];
        for (int i = 0; i < 3; i++) {
            const size_t n = T - at[i] < piece[i] ? T - at[i] : piece[i];
            feeds[i] = (struct gdn_feed){.session = s[i], .ids = ids[i] + at[i], .n = n};
            at[i] += n;
        }
        if (gdn_step(feeds, 3, &sink, &err) != GDN_OK) fail_msg("%s", err.text);
    }
    same_rows(&st.whole, 0, &r.of[1], 0, T, "a row of a batch");
    for (int i = 0; i < 3; i++) record_close(&r.of[i]);
    stage_close(&st);
}

static void batch_is_alone(void **state)
{
    (void)state;
    every_kind(batch_of);
}

static void any_threads(void **state)
{
    (void)state;
    for (size_t m = 0; m < MODELS; m++) {
        struct stage one, more;
        struct play_options options = {.device = "cpu", .threads = 1};
        stage_open(&one, models[m], options);
        for (options.threads = 2; options.threads <= 3; options.threads++) {
            stage_open(&more, models[m], options);
            same_rows(&one.whole, 0, &more.whole, 0, T, "more threads");
            stage_close(&more);
        }
        stage_close(&one);
    }
}

/* ---- rewind, fork, drafts -------------------------------------------------------------------- */

static void rewind_of(const char *model, struct play_options options)
{
    struct stage st;
    stage_open(&st, model, options);
    int32_t wrong[16];
    play_ids(&st.play, 9, wrong, 16);
    struct gdn_error err = {0};
    for (int32_t at = 5; at < 70; at += 6) {
        struct record r;
        record_open(&r, &st.play, 2 * T);
        gdn_session *s = play_session(&st.play);
        play_feed(s, st.ids, (size_t)at, NULL, 0, &r);
        play_feed(s, wrong, (size_t)(at % 16), NULL, 0, &r);
        const int32_t length = gdn_session_rewindable(s);
        /* Take back the wrong tokens, or as much as the log holds. */
        const int32_t back = length < at % 16 + 3 ? length : at % 16 + 3;
        const int32_t p = gdn_session_position(s) - back;
        if (gdn_session_rewind(s, back, &err) != GDN_OK) fail_msg("%s", err.text);
        assert_int_equal(gdn_session_position(s), p);
        if (p <= at) {
            r.rows = 0;
            play_feed(s, st.ids + p, 40, (int32_t[]){3, 1}, 2, &r);
            same_rows(&st.whole, (size_t)p, &r, 0, 40, "after a rewind");
        }
        gdn_session_free(s);
        record_close(&r);
    }
    stage_close(&st);
}

static void rewound_never_happened(void **state)
{
    (void)state;
    every_kind(rewind_of);
}

static void fork_of(const char *model, struct play_options options)
{
    struct stage st;
    options.sessions = 2;
    stage_open(&st, model, options);
    int32_t other[T];
    play_ids(&st.play, 4, other, T);
    struct gdn_error err = {0};
    for (int32_t at = 1; at < 140; at += 27) {
        struct record a, b;
        record_open(&a, &st.play, T);
        record_open(&b, &st.play, T);
        gdn_session *s = play_session(&st.play), *fork;
        play_feed(s, st.ids, (size_t)at, NULL, 0, &a);
        if (gdn_session_fork(s, &fork, &err) != GDN_OK) fail_msg("%s", err.text);
        /* The two go different ways, in turn: neither may see the other's pages or logs. */
        play_feed(fork, other, 5, NULL, 0, &b);
        play_feed(s, st.ids + at, (size_t)(T - at), (int32_t[]){4}, 1, &a);
        same_rows(&st.whole, 0, &a, 0, T, "the forked session");
        gdn_session_free(s);
        /* The fork is what a session with that past is. */
        s = play_session(&st.play);
        struct record c;
        record_open(&c, &st.play, T);
        play_feed(s, st.ids, (size_t)at, NULL, 0, &c);
        c.rows = 0;
        play_feed(s, other, 5, NULL, 0, &c);
        same_rows(&c, 0, &b, 0, 5, "the fork");
        record_close(&a);
        record_close(&b);
        record_close(&c);
        gdn_session_free(fork);
        gdn_session_free(s);
    }
    stage_close(&st);
}

static void fork_is_two(void **state)
{
    (void)state;
    every_kind(fork_of);
}

/* Rounds of verify and commit with every length of draft and of what is kept; what is not kept was
 * wrong on purpose. Each row that was verified with a right past is a row of the whole. */
static void drafts_of(const char *model, struct play_options options)
{
    struct stage st;
    options.speculate = true;
    stage_open(&st, model, options);
    struct rng rng = {.seed = 11};
    for (int round = 0; round < 6; round++) {
        struct record r;
        record_open(&r, &st.play, 16 * T);
        gdn_session *s = play_session(&st.play);
        int32_t p = 1 + (int32_t)rng_below(&rng, 20);
        play_feed(s, st.ids, (size_t)p, NULL, 0, &r);
        while (p < T - 16) {
            int32_t draft[16];
            const int32_t n = 1 + (int32_t)rng_below(&rng, 16);
            const int32_t keep = (int32_t)rng_below(&rng, (uint64_t)n + 1);
            play_ids(&st.play, rng_u64(&rng), draft, 16);
            memcpy(draft, st.ids + p, sizeof *draft * (size_t)keep);
            r.rows = 0;
            play_draft(s, draft, (size_t)n, keep, &r);
            same_rows(&st.whole, (size_t)p, &r, 0, (size_t)keep, "a verified row");
            p += keep;
            assert_int_equal(gdn_session_position(s), p);
            if (rng_below(&rng, 3) == 0) {
                r.rows = 0;
                play_feed(s, st.ids + p, 1, NULL, 0, &r);
                same_rows(&st.whole, (size_t)p, &r, 0, 1, "a plain row between drafts");
                p++;
            }
        }
        r.rows = 0;
        play_feed(s, st.ids + p, (size_t)(T - p), NULL, 0, &r);
        same_rows(&st.whole, (size_t)p, &r, 0, (size_t)(T - p), "after the drafts");
        gdn_session_free(s);
        record_close(&r);
    }
    stage_close(&st);
}

static void drafts_are_plain(void **state)
{
    (void)state;
    every_kind(drafts_of);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void steps_take_no_memory(void **state)
{
    (void)state;
    struct play play;
    int32_t ids[T];
    play_open(&play, models[1], &(struct play_options){.sessions = 2});
    play_ids(&play, 1, ids, T);
    gdn_session *s = play_session(&play);
    const struct mem_count before = mem_counted();
    play_feed(s, ids, T, (int32_t[]){1, 40, 3}, 3, NULL);
    const struct mem_count after = mem_counted();
    assert_int_equal(after.takes, before.takes);
    assert_int_equal(after.guarded_takes, 0);
    play_close(&play);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "families") == 0) models = families;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut),
        cmocka_unit_test(batch_is_alone),
        cmocka_unit_test(any_threads),
        cmocka_unit_test(rewound_never_happened),
        cmocka_unit_test(fork_is_two),
        cmocka_unit_test(drafts_are_plain),
        cmocka_unit_test(steps_take_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
