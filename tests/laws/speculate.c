/* speculate.c: what is chosen with drafts is, in bits, what is chosen without: greedily and drawn,
 * with and without changed logits, alone and beside others, for one model of every family. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "stage/play.h"

enum { TOGETHER = 3, PROMPT = 40, ANSWER = 60 };

static const char *const models[] = {"q35-r2-untied", "q35-k2-f16",   "kimi-released",
                                     "olmo-released", "next-grouped", "q35moe-stacked"};
/* Sanitizers see the same code on fewer models. */
#if defined(GDN_POISON) && GDN_POISON
enum { MODELS = 2 };
#else
enum { MODELS = sizeof models / sizeof *models };
#endif

static struct gdn_error err;

static void well(enum gdn_status status)
{
    if (status != GDN_OK) fail_msg("%s", err.text);
}

/* ---- ways to choose -------------------------------------------------------------------------- */

static const struct gdn_bias biases[] = {{3, 2.5f}, {50, -1}, {51, -INFINITY}};
static const struct gdn_bias few[] = {{3, 50}, {50, 52}, {51, 50}}; /* hardly any other token */
static const int32_t bans[] = {7, 8, 60};
static const struct gdn_sampling ways[] = {
    {.size = sizeof *ways},
    {.size = sizeof *ways, .temperature = 1, .seed = 3},
    {.size = sizeof *ways, .temperature = 0.7, .top_k = 20, .top_p = 0.9, .seed = 4},
    {.size = sizeof *ways, .repetition = 1.3, .presence = 0.1, .window = 24},
    {.size = sizeof *ways, .temperature = 1, .bias = few, .bias_count = 3, .seed = 6},
    {.size = sizeof *ways, .temperature = 0.5, .frequency = 0.2, .bias = biases, .bias_count = 3,
     .banned = bans, .banned_count = 3, .seed = 5, .min_p = 0.01},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* A prompt that says things again, so that something can be looked up. */
static void prompt_of(const struct play *p, uint64_t seed, int32_t *ids)
{
    struct rng rng = {.seed = seed};
    play_ids(p, seed, ids, PROMPT);
    for (int i = 8; i < PROMPT; i++)
        if (rng_below(&rng, 8)) ids[i] = ids[i - 8];
}

/* One by one: sampled, fed, sampled .. */
static void plainly(struct play *p, const int32_t *prompt, const struct gdn_sampling *how,
                    int32_t *answer)
{
    gdn_session *s = play_session(p);
    play_feed(s, prompt, PROMPT, NULL, 0, NULL);
    for (int i = 0; i < ANSWER; i++) {
        well(gdn_session_sample(s, how, &answer[i], &err));
        well(gdn_session_feed(s, &answer[i], 1, &err));
    }
    gdn_session_free(s);
}

/* ---- the same with drafts -------------------------------------------------------------------- */

struct talk {
    gdn_session *session;
    int32_t prompt[PROMPT], want[ANSWER], got[ANSWER + GDN_TURN_TOKENS];
    int32_t said;
};

static struct gdn_turn turn_of(struct talk *t, const struct gdn_sampling *how, struct rng *rng)
{
    struct gdn_turn turn = {.session = t->session, .ids = t->prompt, .n = PROMPT, .sampling = how};
    if (t->said > 0) {
        turn.ids = t->got + t->said - 1;
        turn.n = 1;
    }
    turn.most = (int32_t)rng_below(rng, GDN_TURN_TOKENS + 1);
    return turn;
}

static void one_round(struct talk *talk, int count, const struct gdn_sampling *how, struct rng *rng)
{
    struct gdn_turn turns[TOGETHER];
    struct talk *of[TOGETHER];
    int n = 0;
    for (int i = 0; i < count; i++) {
        /* Some are absent, so that they come to be at different places. */
        if (talk[i].said >= ANSWER || (count > 1 && rng_below(rng, 4) == 0)) continue;
        of[n] = &talk[i];
        turns[n++] = turn_of(&talk[i], how, rng);
    }
    const struct mem_count before = mem_counted();
    well(gdn_next(turns, n, &err));
    assert_int_equal(mem_counted().takes, before.takes);
    for (int i = 0; i < n; i++) {
        const struct gdn_turn *t = &turns[i];
        assert_true(t->count >= 1 && t->count <= (t->most ? t->most : GDN_TURN_TOKENS));
        memcpy(of[i]->got + of[i]->said, t->id, sizeof *t->id * (size_t)t->count);
        of[i]->said += t->count;
        assert_int_equal(gdn_session_position(t->session), PROMPT + of[i]->said - 1);
    }
}

/* *stats: of all sessions. */
static void talk_together(struct play *drafting, struct talk *talk, int count,
                          const struct gdn_sampling *how, const char *what, int64_t stats[3])
{
    struct rng rng = {.seed = 9};
    for (int i = 0; i < count; i++) {
        talk[i].said = 0;
        talk[i].session = play_session(drafting);
    }
    for (bool more = true; more;) {
        one_round(talk, count, how, &rng);
        more = false;
        for (int i = 0; i < count; i++) more |= talk[i].said < ANSWER;
    }
    for (int i = 0; i < count; i++) {
        struct gdn_draft_stats s;
        for (int k = 0; k < ANSWER; k++)
            if (talk[i].got[k] != talk[i].want[k])
                fail_msg("%s: session %d of %d, token %d: found %d, need %d", what, i, count, k,
                         talk[i].got[k], talk[i].want[k]);
        assert_memory_equal(gdn_session_tokens(talk[i].session), talk[i].prompt,
                            sizeof talk[i].prompt);
        assert_memory_equal(gdn_session_tokens(talk[i].session) + PROMPT, talk[i].got,
                            sizeof *talk[i].got * (size_t)(talk[i].said - 1));
        gdn_session_drafts(talk[i].session, &s);
        stats[0] += s.turns;
        for (int d = 0; d < GDN_TURN_TOKENS - 1; d++) {
            assert_true(s.accepted[d] <= s.drafted[d]);
            stats[1] += s.drafted[d];
            stats[2] += s.accepted[d];
        }
        gdn_session_free(talk[i].session);
    }
}

static void speculation_is_plain(const char *model, struct play_options options,
                                 enum gdn_draft draft)
{
    struct play plain, drafting;
    static struct talk talk[TOGETHER];
    int64_t stats[3] = {0};
    options.threads = 1;
    play_open(&plain, model, &options);
    options.sessions = TOGETHER;
    options.draft = draft;
    options.depth = draft == GDN_DRAFT_MTP ? 4 : 15;
    play_open(&drafting, model, &options);
    for (int w = 0; w < WAYS; w++) {
        char what[80];
        snprintf(what, sizeof what, "%s, way %d", model, w);
        for (int i = 0; i < TOGETHER; i++) {
            prompt_of(&plain, 20 + (uint64_t)i, talk[i].prompt);
            plainly(&plain, talk[i].prompt, &ways[w], talk[i].want);
        }
        talk_together(&drafting, talk, 1, &ways[w], what, stats);
        talk_together(&drafting, talk, TOGETHER, &ways[w], what, stats);
    }
    /* Drafts were right, and wrong. */
    if (stats[2] < 50 || stats[1] - stats[2] < 20)
        fail_msg("%s: %lld of %lld drafts were right", model, (long long)stats[2],
                 (long long)stats[1]);
    play_close(&plain);
    play_close(&drafting);
}

static void every_family(void **state)
{
    (void)state;
    for (int m = 0; m < MODELS; m++) {
        speculation_is_plain(models[m], (struct play_options){.device = "cpu"}, GDN_DRAFT_LOOKUP);
        speculation_is_plain(models[m], (struct play_options){.device = "cpu", .compute = GDN_BF16,
                                                              .state = GDN_BF16},
                             GDN_DRAFT_LOOKUP);
    }
}

static void on_the_reference(void **state)
{
    (void)state;
    speculation_is_plain("q35-r2-untied", (struct play_options){.device = "ref"},
                         GDN_DRAFT_LOOKUP);
    if (MODELS > 2)
        speculation_is_plain("q35-r4-odd", (struct play_options){.device = "ref"}, GDN_DRAFT_MTP);
}

static void with_the_head(void **state)
{
    (void)state;
    static const char *const heads[] = {"q35-r4-odd", "q35moe-stacked", "next-plain"};
    for (int m = 0; m < 3; m++) {
        speculation_is_plain(heads[m], (struct play_options){.device = "cpu"}, GDN_DRAFT_MTP);
        speculation_is_plain(heads[m], (struct play_options){.device = "cpu", .compute = GDN_BF16,
                                                             .state = GDN_BF16},
                             GDN_DRAFT_MTP);
    }
    if (MODELS > 2) /* a trained head; too long under sanitizers */
        speculation_is_plain("models/demo", (struct play_options){.device = "cpu"}, GDN_DRAFT_MTP);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void greedy_turns(gdn_session *s, int32_t last, int32_t *answer)
{
    int32_t said = 0;
    while (said < ANSWER) {
        struct gdn_turn t = {.session = s, .ids = &last, .n = 1,
                             .most = ANSWER - said < GDN_TURN_TOKENS ? ANSWER - said : 0};
        well(gdn_next(&t, 1, &err));
        memcpy(answer + said, t.id, sizeof *answer * (size_t)t.count);
        said += t.count;
        last = answer[said - 1];
    }
}

static int64_t accepted_of(const gdn_session *s)
{
    struct gdn_draft_stats stats;
    gdn_session_drafts(s, &stats);
    return stats.accepted[0] + stats.accepted[1];
}

static gdn_session *loaded(struct play *p, const char *path)
{
    gdn_session *s;
    well(gdn_session_load(p->model, path, &s, NULL, &err));
    return s;
}

/* A file with what a draft head remembers is read by a model that has none open, and the other way
 * round, where the guesses suffer and nothing else. By a head's own file they do not suffer. */
static void files_with_and_without(void **state)
{
    (void)state;
    enum { FED = 70 };
    struct play plain, drafting;
    char with[] = "/tmp/gdn-head-XXXXXX", without[] = "/tmp/gdn-plain-XXXXXX";
    int32_t ids[FED], want[ANSWER], got[ANSWER];
    close(mkstemp(with));
    close(mkstemp(without));
    play_open(&plain, "models/demo", &(struct play_options){.sessions = 2, .threads = 1});
    play_open(&drafting, "models/demo",
              &(struct play_options){.sessions = 3, .threads = 1, .draft = GDN_DRAFT_MTP});
    play_ids(&plain, 5, ids, FED);
    gdn_session *s = play_session(&plain), *d = play_session(&drafting);
    play_feed(s, ids, FED, NULL, 0, NULL);
    play_feed(d, ids, FED, (int32_t[]){1, 20}, 2, NULL);
    well(gdn_session_save(s, without, &err));
    well(gdn_session_save(d, with, &err));
    greedy_turns(s, 9, want);
    greedy_turns(d, 9, got);
    assert_memory_equal(want, got, sizeof want);
    const int64_t right = accepted_of(d);
    assert_true(right > 10);
    gdn_session *from_with = loaded(&plain, with), *kept = loaded(&drafting, with);
    gdn_session *from_without = loaded(&drafting, without);
    greedy_turns(from_with, 9, got);
    assert_memory_equal(want, got, sizeof want);
    greedy_turns(from_without, 9, got);
    assert_memory_equal(want, got, sizeof want);
    greedy_turns(kept, 9, got);
    assert_memory_equal(want, got, sizeof want);
    assert_int_equal(accepted_of(kept), right);
    unlink(with);
    unlink(without);
    play_close(&plain);
    play_close(&drafting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family),
        cmocka_unit_test(on_the_reference), cmocka_unit_test(with_the_head),
        cmocka_unit_test(files_with_and_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
