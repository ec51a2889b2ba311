/* turn.c: turns of sessions: what they refuse, what they choose and say of it, how they fail. That
 * drafts change nothing is a law (tests/laws/speculate.c). */
#include "open.h"

#include <math.h>

#include "api/handles.h"
#include "base/memory.h"

static const struct gdn_sampling greedy = {.size = sizeof greedy};
static const int32_t text[12] = {5, 17, 90, 3, 3, 41, 8, 77, 60, 12, 25, 31};

static gdn_model *open_drafting(const char *path, int sessions)
{
    struct gdn_options o = small_options();
    o.sessions = sessions;
    o.draft = GDN_DRAFT_LOOKUP;
    return open_with(path, &o);
}

static struct gdn_turn turn_of(gdn_session *s, const int32_t *ids, size_t n)
{
    return (struct gdn_turn){.session = s, .ids = ids, .n = n, .sampling = &greedy, .most = 1};
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void refused_settings(gdn_session *s)
{
    const struct gdn_bias out = {96, 1}, nan = {1, NAN}, up = {1, INFINITY};
    const int32_t banned[] = {5, -1};
    struct gdn_turn t = turn_of(s, text, 1);
    struct gdn_sampling how = greedy;
    t.sampling = &how;
    how.size = 3;
    refused(USAGE, "sampling.size: found 3", gdn_next(&t, 1, &err));
#define REFUSED(part, ...)                                                                     \
    how = (struct gdn_sampling){.size = sizeof how, __VA_ARGS__};                              \
    refused(USAGE, part, gdn_next(&t, 1, &err));                                               \
    assert_int_equal(t.count, 0)
    REFUSED("sampling.temperature: found -1", .temperature = -1);
    REFUSED("sampling.temperature: found nan", .temperature = NAN);
    REFUSED("sampling.top_p: found -0.5", .top_p = -0.5);
    REFUSED("sampling.min_p: found inf", .min_p = INFINITY);
    REFUSED("sampling.repetition: found -2", .repetition = -2);
    REFUSED("sampling.presence: found inf", .presence = INFINITY);
    REFUSED("sampling.frequency: found nan", .frequency = NAN);
    REFUSED("sampling.bias[0]: found id 96", .bias = &out, .bias_count = 1);
    REFUSED("need an id from 0 to 95", .bias = &nan, .bias_count = 1);
    REFUSED("found id 1 and inf", .bias = &up, .bias_count = 1);
    REFUSED("sampling.banned[1]: found id -1, need 0 to 95", .banned = banned, .banned_count = 2);
#undef REFUSED
}

static void refused_turns(void **state)
{
    (void)state;
    gdn_model *model = open_drafting(TINY, 2), *other = open_drafting(TINY, 1);
    gdn_session *s = open_session(model), *never = open_session(model);
    struct gdn_turn t = turn_of(s, text, 3);
    refused_settings(s);
    accepted(gdn_next(&t, 0, &err));
    accepted(gdn_next(&t, 1, &err));
    t.n = 0;
    refused(USAGE, "a turn of 0 tokens", gdn_next(&t, 1, &err));
    t.n = (size_t)INT32_MAX + 1;
    refused(USAGE, "a turn of 2147483648 tokens", gdn_next(&t, 1, &err));
    t.n = 298;
    refused(USAGE, "would have 301 tokens, its context holds 300", gdn_next(&t, 1, &err));
    t = turn_of(s, (int32_t[]){96}, 1);
    refused(USAGE, "found id 96", gdn_next(&t, 1, &err));
    t = turn_of(s, text, 1);
    t.most = 18;
    refused(USAGE, "at most 18 tokens", gdn_next(&t, 1, &err));
    t.most = -1;
    refused(USAGE, "at most -1 tokens", gdn_next(&t, 1, &err));
    struct gdn_logprob room[17];
    t = turn_of(s, text, 1);
    t.logprobs = room;
    t.top = 257;
    refused(USAGE, "the 257 most likely", gdn_next(&t, 1, &err));
    struct gdn_turn two[2] = {turn_of(s, text, 1), turn_of(s, text, 1)};
    refused(USAGE, "twice", gdn_next(two, 2, &err));
    two[1].session = open_session(other);
    refused(USAGE, "of one model", gdn_next(two, 2, &err));
    two[1].session = NULL;
    refused(USAGE, "not open", gdn_next(two, 2, &err));
    refused(USAGE, "1025 sessions", gdn_next(two, 1025, &err));
    /* Nothing of it has changed anything. */
    struct gdn_turn a = turn_of(never, text, 3), b = turn_of(s, text + 3, 1);
    accepted(gdn_next(&a, 1, &err));
    a = turn_of(never, text + 3, 1);
    accepted(gdn_next(&a, 1, &err));
    accepted(gdn_next(&b, 1, &err));
    assert_int_equal(a.id[0], b.id[0]);
    assert_int_equal(gdn_session_position(s), 4);
    gdn_model_close(model);
    gdn_model_close(other);
}

static void refused_options(void **state)
{
    (void)state;
    struct gdn_options o = small_options();
    gdn_model *model;
    o.draft = (enum gdn_draft)9;
    refused(USAGE, "options.draft: found 9", gdn_model_open(TINY, &o, &model, &err));
    o.draft = GDN_DRAFT_LOOKUP;
    o.draft_depth = 16;
    refused(USAGE, "options.draft_depth: found 16, need 0 to 15",
            gdn_model_open(TINY, &o, &model, &err));
}

/* ---- what is chosen, and what is said of it -------------------------------------------------- */

struct row {
    float logits[4096];
    int32_t vocab;
};

static void take_row(void *context, int feed, size_t at, const float *logits, int32_t vocab)
{
    struct row *r = context;
    (void)feed, (void)at;
    r->vocab = vocab;
    memcpy(r->logits, logits, sizeof *logits * (size_t)vocab);
}

static double log_softmax(const struct row *r, int32_t id)
{
    double sum = 0;
    for (int32_t i = 0; i < r->vocab; i++) sum += exp((double)r->logits[i] - (double)r->logits[id]);
    return -log(sum);
}

static int32_t least_likely(const struct row *r)
{
    int32_t least = 0;
    for (int32_t i = 1; i < r->vocab; i++)
        if (r->logits[i] < r->logits[least]) least = i;
    return least;
}

static void logprobs_are_the_rows(void **state)
{
    (void)state;
    enum { TOP = 5 };
    static struct row row;
    gdn_model *model = open_with("models/demo", NULL);
    gdn_session *s = open_session(model);
    struct gdn_logprob said[GDN_TURN_TOKENS][1 + TOP], kept[300];
    const struct gdn_sink sink = {.context = &row, .logits = take_row};
    assert_int_equal(gdn_session_logprobs(s, kept, 5), 0);
    accepted(gdn_step(&(struct gdn_feed){.session = s, .ids = text, .n = 12, .last_only = true}, 1,
                      &sink, &err));
    /* The least likely of all 4,096, far outside the best 256, is made to win, the best banned. */
    const int32_t least = least_likely(&row);
    assert_int_equal(gdn_session_logprobs(s, kept, 300), 256);
    struct gdn_sampling how = greedy;
    how.bias = &(struct gdn_bias){least, 1000};
    how.bias_count = 1;
    for (int round = 0; round < 2; round++) {
        int32_t id;
        how.banned = &least;
        how.banned_count = (size_t)round;
        accepted(gdn_session_sample(s, &how, &id, &err));
        assert_int_equal(id, round ? kept[0].id : least);
        accepted(gdn_session_rewind(s, 1, &err));
        struct gdn_turn t = turn_of(s, text + 11, 1);
        t.sampling = &how;
        t.logprobs = said[0];
        t.top = TOP;
        accepted(gdn_next(&t, 1, &err));
        assert_int_equal(t.id[0], id);
        assert_int_equal(said[0][0].id, id);
        assert_true(fabs(said[0][0].logprob - log_softmax(&row, id)) < 1e-4);
        for (int i = 0; i < TOP; i++) {
            assert_int_equal(said[0][1 + i].id, kept[i].id);
            assert_memory_equal(&said[0][1 + i].logprob, &kept[i].logprob, sizeof kept[i].logprob);
            assert_true(fabs(kept[i].logprob - log_softmax(&row, kept[i].id)) < 1e-4);
        }
    }
    gdn_model_close(model);
}

static void bans_leave_the_rest(void **state)
{
    (void)state;
    gdn_model *model = open_drafting(TINY, 2);
    gdn_session *s = open_session(model), *never = open_session(model);
    int32_t banned[96];
    for (int32_t i = 0; i < 96; i++) banned[i] = i;
    struct gdn_sampling how = {.size = sizeof how, .temperature = 1, .banned = banned + 1,
                               .banned_count = 95};
    struct gdn_turn t = turn_of(s, text, 2);
    t.sampling = &how;
    for (uint64_t seed = 0; seed < 20; seed++) {
        how.seed = seed;
        accepted(gdn_next(&t, 1, &err));
        assert_int_equal(t.id[0], 0);
    }
    how.banned = banned;
    how.banned_count = 96;
    refused(USAGE, "every token is banned", gdn_next(&t, 1, &err));
    assert_int_equal(t.count, 0);
    assert_int_equal(gdn_session_position(s), 42);
    /* The tokens were fed, and the session goes on. */
    t = turn_of(s, text, 1);
    accepted(gdn_next(&t, 1, &err));
    accepted(gdn_session_feed(never, gdn_session_tokens(s), 43, &err));
    int32_t id;
    accepted(gdn_session_sample(never, &greedy, &id, &err));
    assert_int_equal(t.id[0], id);
    gdn_model_close(model);
}

/* A turn ends with a stop token, which is chosen but not fed; also one that had been drafted. */
/* Whatever changes logits, sampling is what a turn chooses; and the token fed last runs again only
 * where a token beyond the best that are kept could matter. */
static void sampled_as_in_a_turn(void **state)
{
    (void)state;
    static const struct gdn_bias raise = {4000, 3}, lower = {5, -2};
    static const struct {
        struct gdn_sampling how;
        bool again;
    } all[] = {
        {{.size = sizeof greedy, .presence = 2}, false},
        {{.size = sizeof greedy, .repetition = 1.5, .frequency = 1, .window = 9}, false},
        {{.size = sizeof greedy, .temperature = 1, .top_k = 20, .repetition = 1.2}, false},
        {{.size = sizeof greedy, .temperature = 1, .presence = 50}, true},
        {{.size = sizeof greedy, .bias = &lower, .bias_count = 1}, false},
        {{.size = sizeof greedy, .bias = &raise, .bias_count = 1}, true},
        {{.size = sizeof greedy, .repetition = 0.5}, true},
    };
    gdn_model *model = open_with(DEMO, &(struct gdn_options){
        .size = sizeof(struct gdn_options), .threads = 1, .context = 300, .sessions = 2});
    struct gdn_op_time times[64];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        gdn_session *s = open_session(model), *turned = open_session(model);
        struct gdn_turn t = turn_of(turned, text, 12);
        int32_t id;
        t.sampling = &all[i].how;
        accepted(gdn_next(&t, 1, &err));
        accepted(gdn_session_feed(s, text, 12, &err));
        gdn_model_profile(model, times, 64);
        accepted(gdn_session_sample(s, &all[i].how, &id, &err));
        int64_t calls = 0;
        for (int k = gdn_model_profile(model, times, 64); k > 0; k--) calls += times[k - 1].calls;
        if (id != t.id[0] || (calls > 0) != all[i].again)
            fail_msg("settings %zu: found token %d after %lld calls, need %d", i, id,
                     (long long)calls, t.id[0]);
        gdn_session_free(s);
        gdn_session_free(turned);
    }
    gdn_model_close(model);
}

static void stops(void **state)
{
    (void)state;
    gdn_model *model = open_drafting(TINY, 1);
    gdn_session *s = open_session(model);
    const struct gdn_bias biases[] = {{3, 60}, {4, 60}};
    const struct gdn_sampling how = {.size = sizeof how, .frequency = 1, .bias = biases,
                                     .bias_count = 2};
    /* Only 3 and 4 can come, in turns: they are looked up. */
    int32_t said = 9, stop = 4;
    bool drafted = false;
    for (int round = 0; round < 60; round++) {
        const int32_t before = gdn_session_position(s);
        struct gdn_turn t = {.session = s, .ids = &said, .n = 1, .sampling = &how, .stop = &stop,
                             .stop_count = 1};
        accepted(gdn_next(&t, 1, &err));
        for (int i = 0; i < t.count; i++)
            assert_int_equal(t.id[i] == stop, i + 1 == t.count && t.stopped);
        assert_int_equal(gdn_session_position(s), before + t.count);
        drafted |= t.stopped && t.count > 1;
        said = t.id[t.count - 1];
    }
    assert_true(drafted);
    gdn_model_close(model);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void failed_turn(void **state)
{
    (void)state;
    gdn_model *model = open_drafting(TINY, 2);
    gdn_session *s = open_session(model), *never = open_session(model);
    const int32_t circle[] = {1, 2, 3, 1, 2, 3, 1, 2};
    struct gdn_turn t = turn_of(s, circle, 8), n = turn_of(never, circle, 8);
    accepted(gdn_next(&t, 1, &err));
    accepted(gdn_next(&n, 1, &err));
    const size_t whole = model->engine.data.size;
    model->engine.data.size = 20000;
    t = turn_of(s, &circle[2], 1);
    t.most = 0;
    refused(MEMORY, "scratch", gdn_next(&t, 1, &err));
    assert_int_equal(t.count, 0);
    assert_int_equal(gdn_session_position(s), 8);
    model->engine.data.size = whole;
    n = turn_of(never, &circle[2], 1);
    n.most = 0;
    accepted(gdn_next(&t, 1, &err));
    accepted(gdn_next(&n, 1, &err));
    assert_int_equal(t.count, n.count);
    assert_memory_equal(t.id, n.id, sizeof *t.id * (size_t)t.count);
    gdn_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_turns), cmocka_unit_test(refused_options),
        cmocka_unit_test(logprobs_are_the_rows), cmocka_unit_test(bans_leave_the_rest),
        cmocka_unit_test(stops), cmocka_unit_test(sampled_as_in_a_turn),
        cmocka_unit_test(failed_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
