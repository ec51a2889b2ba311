/* failure.c: a call that is refused or fails leaves every session it named as it was, or unusable
 * and saying so. */
#include "open.h"

#include "api/handles.h"

static const struct gdn_sampling greedy = {.size = sizeof greedy};

static int32_t best(gdn_session *s)
{
    int32_t id = -1;
    accepted(gdn_session_sample(s, &greedy, &id, &err));
    return id;
}

static void feed(gdn_session *s, int32_t first, size_t n)
{
    int32_t ids[400];
    for (size_t i = 0; i < n; i++) ids[i] = (first + 7 * (int32_t)i) % 96;
    accepted(gdn_session_feed(s, ids, n, &err));
}

/* s goes on like `never`, which nothing has happened to. */
static void goes_on(gdn_session *s, gdn_session *never)
{
    assert_int_equal(gdn_session_position(s), gdn_session_position(never));
    for (int i = 0; i < 12; i++) {
        const int32_t id = best(s);
        assert_int_equal(id, best(never));
        feed(s, id, 1);
        feed(never, id, 1);
    }
}

static void refused_feeds(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(3, true), *foreign = open_tiny(1, false);
    gdn_session *s = open_session(model), *t = open_session(model), *never = open_session(model);
    gdn_session *other = open_session(foreign);
    int32_t ids[400] = {0};
    feed(s, 3, 20);
    feed(t, 5, 20);
    feed(never, 3, 20);
    const int32_t s_best = best(s), t_best = best(t);
    const struct gdn_feed a = {.session = s, .ids = ids, .n = 1}, b = {.session = t, .ids = ids,
                                                                       .n = 1};
    ids[4] = 96;
    refused(USAGE, "token 4: found id 96, need 0 to 95", gdn_session_feed(s, ids, 5, &err));
    ids[4] = INT32_MIN;
    refused(USAGE, "found id -2147483648", gdn_session_feed(s, ids, 5, &err));
    refused(USAGE, "found id -2147483648", gdn_session_draft(s, ids, 5, NULL, &err));
    ids[4] = 0;
    refused(USAGE, "would have 301 tokens, its context holds 300",
            gdn_session_feed(s, ids, 281, &err));
    refused(USAGE, "piece of 4294967296 tokens", gdn_session_feed(s, ids, (size_t)1 << 32, &err));
    refused(USAGE, "twice", gdn_step((struct gdn_feed[]){a, b, a}, 3, NULL, &err));
    struct gdn_feed far = b;
    far.n = 300;
    refused(USAGE, "would have 320", gdn_step((struct gdn_feed[]){a, far}, 2, NULL, &err));
    far.session = other;
    refused(USAGE, "of one model", gdn_step((struct gdn_feed[]){a, far}, 2, NULL, &err));
    far.session = NULL;
    refused(USAGE, "not open", gdn_step((struct gdn_feed[]){a, far}, 2, NULL, &err));
    refused(USAGE, "a batch of 1025 sessions", gdn_step(&a, 1025, NULL, &err));
    accepted(gdn_step(&a, 0, NULL, &err));
    accepted(gdn_step(&a, -1, NULL, &err));
    assert_int_equal(best(s), s_best);
    assert_int_equal(best(t), t_best);
    assert_int_equal(gdn_session_position(t), 20);
    goes_on(s, never);
    gdn_model_close(foreign);
    gdn_model_close(model);
}

/* A step that runs out of scratch: a session of one token is as before, its distribution included;
 * a longer piece is lost, and only freeing it is left. */
static void failed_step(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(3, true);
    gdn_session *s = open_session(model), *t = open_session(model), *never = open_session(model);
    const int32_t ids[5] = {1, 2, 3, 4, 5};
    gdn_session *fork;
    int32_t id;
    feed(s, 3, 20);
    feed(t, 5, 20);
    feed(never, 3, 20);
    const struct gdn_feed feeds[2] = {{.session = s, .ids = ids, .n = 1},
                                      {.session = t, .ids = ids, .n = 5}};
    const size_t whole = model->engine.data.size;
    model->engine.data.size = 20000;
    refused(MEMORY, "scratch", gdn_step(feeds, 2, NULL, &err));
    refused(MEMORY, "scratch", gdn_session_draft(s, ids, 5, NULL, &err));
    model->engine.data.size = 4000;
    refused(MEMORY, "scratch", gdn_session_feed(s, ids, 1, &err));
    model->engine.data.size = whole;
    assert_int_equal(gdn_session_commit(s, 5), 0);
    goes_on(s, never);
    static const char lost[] = "not usable: an earlier step of it failed half-way";
    refused(USAGE, lost, gdn_session_feed(t, ids, 1, &err));
    refused(USAGE, lost, gdn_step(feeds, 2, NULL, &err));
    refused(USAGE, lost, gdn_session_draft(t, ids, 1, NULL, &err));
    refused(USAGE, lost, gdn_session_rewind(t, 1, &err));
    refused(USAGE, lost, gdn_session_fork(t, &fork, &err));
    refused(USAGE, lost, gdn_session_sample(t, &greedy, &id, &err));
    assert_int_equal(gdn_session_rewindable(t), 0);
    assert_int_equal(gdn_session_commit(t, 1), 0);
    goes_on(s, never);
    gdn_session_free(t);
    gdn_session_free(never);
    t = open_session(model);
    never = open_session(model);
    feed(t, 9, 5);
    feed(never, 9, 5);
    goes_on(t, never);
    gdn_model_close(model);
}

/* Scratch is gone as soon as the second pass shows its first row: row 3 of the third piece. */
static void starve(void *context, int piece, size_t row, int32_t index, const float *x,
                   int32_t width)
{
    (void)index, (void)x, (void)width;
    if (piece == 2 && row == 3) ((struct gdn_model *)context)->engine.data.size = 0;
}

/* Passes of 8 rows, of which the second fails. The token of the first is taken back, and that its
 * distribution is written over is said; the piece that came through stays; the third is lost. */
static void failed_second_pass(void **state)
{
    (void)state;
    struct gdn_options o = small_options();
    o.sessions = 5;
    gdn_model *model = open_with(TINY, &o);
    model->engine_options.max_rows = 8;
    gdn_session *s[5];
    const int32_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    int32_t id;
    for (int i = 0; i < 5; i++) {
        s[i] = open_session(model);
        feed(s[i], 3, 16);
    }
    const struct gdn_feed feeds[3] = {{.session = s[0], .ids = ids, .n = 1},
                                      {.session = s[1], .ids = ids, .n = 4},
                                      {.session = s[2], .ids = ids, .n = 9}};
    const struct gdn_sink sink = {.context = model, .hidden = starve};
    const size_t whole = model->engine.data.size;
    refused(MEMORY, "scratch", gdn_step(feeds, 3, &sink, &err));
    model->engine.data.size = whole;
    assert_int_equal(gdn_session_position(s[0]), 16);
    refused(USAGE, "feed a token first", gdn_session_sample(s[0], &greedy, &id, &err));
    feed(s[0], 50, 1);
    feed(s[3], 50, 1);
    goes_on(s[0], s[3]);
    accepted(gdn_session_feed(s[4], ids, 4, &err));
    assert_int_equal(gdn_session_position(s[1]), 20);
    assert_memory_equal(gdn_session_tokens(s[1]), gdn_session_tokens(s[4]), 20 * sizeof(int32_t));
    goes_on(s[1], s[4]);
    refused(USAGE, "not usable", gdn_session_sample(s[2], &greedy, &id, &err));
    gdn_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_feeds),
        cmocka_unit_test(failed_step),
        cmocka_unit_test(failed_second_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
