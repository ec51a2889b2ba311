/* cuda.c: what must hold on a GPU, on whole models: a row of decode or verify has the same bits
 * whoever shares its batch and however drafts were cut; sessions move between processor and GPU;
 * memory that is refused leaves everything usable. Skipped, and said to be, without a GPU. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/handles.h"
#include "base/rng.h"
#include "stage/play.h"

enum { T = 140, CROWD = 6 };
static const char *const models[] = {"q35-r2-untied", "kimi-released", "olmo-released",
                                     "next-grouped", "q35moe-stacked"};
/* Kernels on the host are a thousand times slower: fewer models and tokens there. */
#ifdef GDN_CUDA_EMULATED
enum { MODELS = 2, STEPS = 6, DRAFTED = 60 };
#else
enum { MODELS = sizeof models / sizeof *models, STEPS = 40, DRAFTED = T };
#endif
static const struct play_options kinds[] = {
    {.device = "cuda", .compute = GDN_F32, .state = GDN_F32, .speculate = true},
    {.device = "cuda", .compute = GDN_BF16, .state = GDN_F32, .speculate = true},
    {.device = "cuda", .compute = GDN_BF16, .state = GDN_BF16, .speculate = true},
    {.device = "cuda", .compute = GDN_BF16, .quant = GDN_QUANT_Q8, .speculate = true},
    {.device = "cuda", .compute = GDN_BF16, .quant = GDN_QUANT_Q4, .speculate = true},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void must(enum gdn_status status, const struct gdn_error *err)
{
    if (status != GDN_OK) fail_msg("%s", err->text);
}

static void every_kind(void (*law)(const char *model, struct play_options options))
{
    for (size_t m = 0; m < MODELS; m++)
        for (size_t k = 0; k < KINDS; k++) law(models[m], kinds[k]);
}

/* ---- decode ---------------------------------------------------------------------------------- */

/* Where sequence i of the crowd has its prompt's end: around edges of blocks and pages. */
static const int32_t prompt_of[CROWD] = {1, 15, 16, 31, 64, 77};

struct crowd {
    struct record of[CROWD];
    int who[CROWD]; /* the sequence of each feed of the step */
};

static void keep_fed_row(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    (void)row;
    struct crowd *c = context;
    struct record *r = &c->of[c->who[feed]];
    assert_true(r->rows < r->room);
    memcpy(r->at + r->rows++ * (size_t)vocab, logits, sizeof(float) * (size_t)vocab);
}

/* One more token for each of n sequences, as one batch. */
static void crowd_step(struct crowd *c, gdn_session *const *s, int32_t (*ids)[T], int n)
{
    struct gdn_error err = {0};
    struct gdn_feed feeds[CROWD];
    for (int i = 0; i < n; i++) {
        const int w = c->who[i];
        feeds[i] = (struct gdn_feed){.session = s[w], .ids = ids[w] + gdn_session_position(s[w]),
                                     .n = 1};
    }
    const struct gdn_sink sink = {.context = c, .logits = keep_fed_row};
    must(gdn_step(feeds, n, &sink, &err), &err);
}

static void decode_of(const char *model, struct play_options options)
{
    struct play play;
    options.sessions = CROWD;
    play_open(&play, model, &options);
    struct rng rng = {.seed = 11};
    struct crowd alone = {0}, together = {0};
    gdn_session *s[CROWD];
    int32_t ids[CROWD][T];
    for (int i = 0; i < CROWD; i++) {
        play_ids(&play, 20 + (uint64_t)i, ids[i], T);
        record_open(&alone.of[i], &play, T);
        record_open(&together.of[i], &play, T);
        s[i] = play_session(&play);
        play_feed(s[i], ids[i], (size_t)prompt_of[i], NULL, 0, NULL);
        alone.who[0] = i;
        for (int t = 0; t < STEPS; t++) crowd_step(&alone, s, ids, 1);
        gdn_session_free(s[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        s[i] = play_session(&play);
        play_feed(s[i], ids[i], (size_t)prompt_of[i], NULL, 0, NULL);
    }
    for (int steps = 0; steps < 2 * STEPS; steps++) { /* some of them, in any order */
        int n = 0;
        for (int i = 0; i < CROWD; i++)
            if (together.of[i].rows < STEPS && rng_below(&rng, 4) > 0) together.who[n++] = i;
        for (int i = n - 1; i > 0; i--) {
            const int j = (int)rng_below(&rng, (uint64_t)i + 1), who = together.who[i];
            together.who[i] = together.who[j];
            together.who[j] = who;
        }
        if (n > 0) crowd_step(&together, s, ids, n);
    }
    for (int i = 0; i < CROWD; i++) {
        assert_true(together.of[i].rows > STEPS / 2);
        same_rows(&alone.of[i], 0, &together.of[i], 0, together.of[i].rows, "one of a crowd");
        record_close(&alone.of[i]);
        record_close(&together.of[i]);
    }
    play_close(&play);
}

static void decode_is_alone(void **state)
{
    (void)state;
    every_kind(decode_of);
}

/* Verified in drafts of any length, of which any part is kept, against token by token. */
static void drafts_of(const char *model, struct play_options options)
{
    enum { FROM = 9 };
    struct play play;
    play_open(&play, model, &options);
    struct rng rng = {.seed = 5};
    int32_t ids[T];
    struct record plain, drafted;
    play_ids(&play, 3, ids, T);
    record_open(&plain, &play, T);
    record_open(&drafted, &play, 16);
    gdn_session *s = play_session(&play);
    play_feed(s, ids, FROM, NULL, 0, NULL);
    play_feed(s, ids + FROM, DRAFTED - FROM, (int32_t[]){1}, 1, &plain);
    gdn_session_free(s);
    s = play_session(&play);
    play_feed(s, ids, FROM, NULL, 0, NULL);
    for (int32_t at = FROM; at < DRAFTED - 16; at = gdn_session_position(s)) {
        const size_t n = 1 + rng_below(&rng, 16);
        drafted.rows = 0;
        play_draft(s, ids + at, n, (int32_t)rng_below(&rng, n + 1), &drafted);
        same_rows(&plain, (size_t)(at - FROM), &drafted, 0, n, "a drafted row");
    }
    record_close(&plain);
    record_close(&drafted);
    play_close(&play);
}

static void any_draft(void **state)
{
    (void)state;
    every_kind(drafts_of);
}

/* ---- between processor and GPU --------------------------------------------------------------- */

/* The bar of the goldens, which both devices keep from the official code in f32. */
static void near_rows(const struct record *want, size_t from, const struct record *got,
                      const char *what)
{
    const double limit = 2e-4;
    const size_t v = (size_t)want->vocab;
    double worst = 0;
    assert_true(got->rows > 0);
    for (size_t i = 0; i < got->rows * v; i++) {
        const double d = fabs((double)want->at[from * v + i] - (double)got->at[i]);
        if (!(d <= worst)) worst = d;
    }
    if (!(worst <= limit)) fail_msg("%s: rows from %zu on differ by %g", what, from, worst);
}

/* The first third on one device, the second on the other, the last on the first one again. */
static void travel(const char *model, enum gdn_quant quant, const char *home, const char *abroad)
{
    enum { LEG = T / 3 };
    struct gdn_error err = {0};
    char folder[] = "/tmp/gdn-travel-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/session.gdn", folder);
    struct play at[2];
    const struct play_options options[2] = {{.device = home, .quant = quant},
                                            {.device = abroad, .quant = quant}};
    int32_t ids[T];
    struct record whole, leg;
    for (int i = 0; i < 2; i++) play_open(&at[i], model, &options[i]);
    play_ids(&at[0], 8, ids, T);
    record_open(&whole, &at[0], T);
    record_open(&leg, &at[0], T);
    gdn_session *s = play_session(&at[0]);
    play_feed(s, ids, T, NULL, 0, &whole);
    gdn_session_free(s);
    s = play_session(&at[0]);
    play_feed(s, ids, LEG, NULL, 0, NULL);
    for (int i = 1; i <= 2; i++) {
        must(gdn_session_save(s, path, &err), &err);
        gdn_session_free(s);
        must(gdn_session_load(at[i % 2].model, path, &s, NULL, &err), &err);
        assert_int_equal(gdn_session_position(s), i * LEG);
        leg.rows = 0;
        play_feed(s, ids + (size_t)i * LEG, LEG, (int32_t[]){1, 20}, 2, &leg);
        near_rows(&whole, (size_t)i * LEG, &leg, i == 1 ? abroad : home);
    }
    gdn_session_free(s);
    unlink(path);
    rmdir(folder);
    record_close(&whole);
    record_close(&leg);
    for (int i = 0; i < 2; i++) play_close(&at[i]);
}

static void sessions_travel(void **state)
{
    (void)state;
    for (size_t m = 0; m < MODELS; m++) {
        travel(models[m], GDN_QUANT_NONE, "cpu", "cuda");
        travel(models[m], GDN_QUANT_NONE, "cuda", "cpu");
        travel(models[m], GDN_QUANT_Q8, "cpu", "cuda");
        travel(models[m], GDN_QUANT_Q4, "cuda", "cpu");
    }
}

/* ---- no memory ------------------------------------------------------------------------------- */

static void same_tokens(const struct play_options *options, const struct record *want,
                        const int32_t *ids)
{
    struct play play;
    struct record r;
    play_open(&play, models[0], options);
    record_open(&r, &play, T);
    gdn_session *s = play_session(&play);
    play_feed(s, ids, T, NULL, 0, &r);
    same_rows(want, 0, &r, 0, T, "after memory was short");
    record_close(&r);
    play_close(&play);
}

/* Somebody else has the GPU's memory: a hundred refusals, all with numbers, then all is well. */
static void memory_of_others(void **state)
{
    (void)state;
    const struct play_options options = {.device = "cuda"};
    struct gdn_error err = {0};
    struct play play;
    struct record want;
    int32_t ids[T];
    play_open(&play, models[0], &options);
    play_ids(&play, 1, ids, T);
    record_open(&want, &play, T);
    gdn_session *s = play_session(&play);
    play_feed(s, ids, T, NULL, 0, &want);
    struct device *other = device_open("cuda", 1, ~0u, &err);
    assert_non_null(other);
    void *block[64];
    int blocks = 0;
    for (size_t bytes = other->room(other); bytes >= 1 << 20 && blocks < 64;) {
        block[blocks] = other->take(other, bytes);
        if (block[blocks])
            blocks++;
        else
            bytes /= 2;
    }
    for (int i = 0; i < 100; i++) {
        struct gdn_options o = gdn_options_default();
        gdn_model *m;
        gdn_session *none = NULL;
        o.device = "cuda";
        o.sessions = 64;
        error_clear(&err);
        enum gdn_status status =
            gdn_model_open(GDN_SOURCE_DIR "/models/demo", &o, &m, &err);
        if (status == GDN_OK) status = gdn_session_new(m, &none, &err);
        assert_int_equal(status, GDN_ERR_MEMORY);
        assert_true(strstr(err.text, "the weights need") || strstr(err.text, "the GPU has"));
        gdn_model_close(m);
    }
    for (int i = 0; i < blocks; i++) other->give(other, block[i]);
    assert_int_equal(other->status, GDN_OK);
    device_close(other);
    want.rows = T; /* the session that was there goes on */
    struct record more;
    record_open(&more, &play, T);
    play_feed(s, ids, T, NULL, 0, &more);
    record_close(&more);
    play_close(&play);
    same_tokens(&options, &want, ids);
    record_close(&want);
}

static int takes_left;
static void *(*real_take)(struct device *, size_t);
static void *(*real_stage)(struct device *, size_t);
static bool (*real_arena)(struct device *, struct arena *, size_t);

static void *short_take(struct device *d, size_t n)
{
    return takes_left-- > 0 ? real_take(d, n) : NULL;
}
static void *short_stage(struct device *d, size_t n)
{
    return takes_left-- > 0 ? real_stage(d, n) : NULL;
}
static bool short_arena(struct device *d, struct arena *a, size_t n)
{
    return takes_left-- > 0 && real_arena(d, a, n);
}

/* Every place where a first session, or a snapshot, takes memory of the device, refused once. */
static void every_take(void **state)
{
    (void)state;
    const struct play_options options = {.device = "cuda", .sessions = 2};
    struct gdn_error err = {0};
    struct play play;
    struct record want, got;
    int32_t ids[T];
    play_open(&play, models[0], &options);
    play_ids(&play, 1, ids, T);
    record_open(&want, &play, T);
    record_open(&got, &play, T);
    struct device *d = play.model->device;
    real_take = d->take, real_stage = d->stage, real_arena = d->arena_open;
    d->take = short_take, d->stage = short_stage, d->arena_open = short_arena;
    gdn_session *s = NULL;
    gdn_snapshot *snapshot = NULL;
    int refused = 0;
    for (enum gdn_status status = GDN_ERR_MEMORY; status != GDN_OK; refused += status != GDN_OK) {
        takes_left = refused;
        error_clear(&err);
        status = gdn_session_new(play.model, &s, &err);
        assert_true(status == GDN_OK || (status == GDN_ERR_MEMORY && err.text[0] && !s));
    }
    assert_true(refused > 10);
    takes_left = 1 << 30;
    play_feed(s, ids, T, NULL, 0, &want);
    for (int more = 0, done = 0; !done; more++) {
        takes_left = more;
        error_clear(&err);
        const enum gdn_status status = gdn_session_snapshot(s, &snapshot, &err);
        assert_true(status == GDN_OK || (status == GDN_ERR_MEMORY && err.text[0]));
        done = status == GDN_OK;
    }
    takes_left = 1 << 30;
    assert_int_equal(d->status, GDN_OK);
    gdn_snapshot_free(snapshot);
    gdn_session_free(s);
    s = play_session(&play);
    play_feed(s, ids, T, NULL, 0, &got);
    same_rows(&want, 0, &got, 0, T, "after memory was short");
    record_close(&want);
    record_close(&got);
    play_close(&play);
}

/* Recordings are in the memory plan: decode at many batch sizes takes no more than it says. */
static void recordings_fit(void **state)
{
    (void)state;
    struct play play;
    const struct play_options options = {.device = "cuda", .sessions = CROWD};
    play_open(&play, models[0], &options);
    struct crowd c = {0};
    gdn_session *s[CROWD];
    int32_t ids[CROWD][T];
    for (int i = 0; i < CROWD; i++) {
        play_ids(&play, (uint64_t)i, ids[i], T);
        record_open(&c.of[i], &play, T);
        s[i] = play_session(&play);
        c.who[i] = i;
    }
    struct device *d = play.model->device;
    crowd_step(&c, s, ids, 1);
    const size_t before = d->room(d);
    for (int n = 1; n <= CROWD; n++)
        for (int i = 0; i < 3; i++) crowd_step(&c, s, ids, n);
    const size_t after = d->room(d), taken = before > after ? before - after : 0;
    print_message("%d recordings: %zu bytes\n", CROWD, taken);
    assert_true(taken <= CROWD * d->recording_bytes);
    for (int i = 0; i < CROWD; i++) record_close(&c.of[i]);
    play_close(&play);
}

/* ---- for compute-sanitizer ------------------------------------------------------------------ */

struct seen {
    int64_t rows, odd; /* odd: not finite */
};

static void look(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    (void)feed, (void)row;
    struct seen *seen = context;
    seen->rows++;
    for (int32_t i = 0; i < vocab; i++) seen->odd += !isfinite(logits[i]);
}

/* Three sequences of 1, 65 and 257 rows in one call, then decode, recorded as well, and drafts. */
static void small_of(const char *model, struct play_options options)
{
    static const size_t rows[3] = {1, 65, 257};
    struct gdn_error err = {0};
    struct gdn_feed feed[3];
    struct seen seen = {0};
    const struct gdn_sink sink = {.context = &seen, .logits = look};
    struct play play;
    int32_t ids[300];
    options.sessions = 3;
    play_open(&play, model, &options);
    play_ids(&play, 4, ids, 300);
    for (int i = 0; i < 3; i++)
        feed[i] = (struct gdn_feed){.session = play_session(&play), .ids = ids, .n = rows[i]};
    must(gdn_step(feed, 3, &sink, &err), &err);
    for (int i = 0; i < 3; i++) feed[i].n = 1, feed[i].ids = ids + 280 + i;
    for (int step = 0; step < 3; step++) must(gdn_step(feed, 3, &sink, &err), &err);
    must(gdn_session_draft(feed[1].session, ids, 16, &sink, &err), &err);
    gdn_session_commit(feed[1].session, 5);
    must(gdn_session_draft(feed[1].session, ids, 4, &sink, &err), &err);
    assert_int_equal(seen.rows, 1 + 65 + 257 + 3 * 3 + 16 + 4);
    assert_int_equal(seen.odd, 0);
    play_close(&play);
}

static void small(void **state)
{
    (void)state;
    every_kind(small_of);
}

/* "small" alone is what runs under compute-sanitizer, which is a hundred times slower. Without a
 * GPU the program is skipped as a whole, so that ctest counts it. */
int main(int argc, char **argv)
{
    enum { SKIPPED = 77 };
    if (!play_has("cuda")) return SKIPPED;
    const struct CMUnitTest sanitized[] = {cmocka_unit_test(small)};
    if (argc > 1 && strcmp(argv[1], "small") == 0)
        return cmocka_run_group_tests_name("cuda, small", sanitized, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_is_alone),  cmocka_unit_test(any_draft),
        cmocka_unit_test(sessions_travel),  cmocka_unit_test(memory_of_others),
        cmocka_unit_test(every_take),       cmocka_unit_test(recordings_fit),
        cmocka_unit_test(small),
    };
    return cmocka_run_group_tests_name("cuda", tests, NULL, NULL);
}
