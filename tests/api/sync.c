/* sync.c: a session that is given whole lists: what is computed of each, counted; stopped, failed,
 * without memory; and chats by the marks of their template. */
#include "open.h"

#include "api/handles.h"

enum { MOST = 500, VOCAB = 96 };

static void make_ids(int32_t *ids, int32_t n, int32_t seed)
{
    for (int32_t i = 0; i < n; i++) ids[i] = (seed + 31 * i + i * i / 7) % VOCAB;
}

static gdn_model *open_for_lists(int sessions, int64_t budget)
{
    struct gdn_options o = small_options();
    o.context = MOST;
    o.sessions = sessions;
    o.prefix_bytes = budget;
    return open_with(TINY, &o);
}

static gdn_model *oracle; /* keeps nothing */

static int open_oracle(void **state)
{
    (void)state;
    oracle = open_for_lists(1, 0);
    return 0;
}

static int close_oracle(void **state)
{
    (void)state;
    gdn_model_close(oracle);
    return 0;
}

/* The session holds the list, and its distribution and logits are those of a fresh one, in bits. */
static void is_fresh(gdn_session *s, const int32_t *ids, int32_t n)
{
    static float mine[VOCAB], fresh[VOCAB];
    gdn_session *never = open_session(oracle);
    assert_int_equal(gdn_session_position(s), n);
    assert_memory_equal(gdn_session_tokens(s), ids, sizeof *ids * (size_t)n);
    accepted(gdn_session_feed(never, ids, (size_t)n, &err));
    assert_true(s->ready);
    assert_int_equal(s->best_count, never->best_count);
    assert_memory_equal(s->best_ids, never->best_ids, sizeof s->best_ids);
    assert_memory_equal(s->best_values, never->best_values, sizeof s->best_values);
    assert_memory_equal(&s->best_lse, &never->best_lse, sizeof s->best_lse);
    accepted(gdn_session_logits(never, fresh, &err));
    accepted(gdn_session_logits(s, mine, &err));
    assert_memory_equal(mine, fresh, sizeof mine);
    gdn_session_free(never);
}

static struct gdn_synced sync_to(gdn_session *s, const int32_t *ids, int32_t n,
                                 const struct gdn_sync_options *options)
{
    struct gdn_synced done;
    accepted(gdn_session_sync(s, ids, (size_t)n, options, &done, &err));
    assert_false(done.stopped);
    assert_int_equal(done.reused + done.computed, n);
    assert_true(done.agreed >= done.reused);
    is_fresh(s, ids, n);
    return done;
}

#define synced(d, reused_, from_, limit_)                                                      \
    do {                                                                                       \
        const struct gdn_synced got = (d);                                                     \
        if (got.reused != (reused_) || got.from != GDN_REUSE_##from_ ||                        \
            got.limit != GDN_LIMIT_##limit_)                                                   \
            fail_msg("%s:%d: reused %d (agreed %d) from %d, limit %d", __FILE__, __LINE__,     \
                     got.reused, got.agreed, (int)got.from, (int)got.limit);                   \
    } while (0)

/* ---- without states that were kept ----------------------------------------------------------- */

static void the_session_alone(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(1, 0);
    gdn_session *s = open_session(model);
    int32_t ids[MOST];
    make_ids(ids, MOST, 1);
    synced(sync_to(s, ids, 100, NULL), 0, NOTHING, DIFFERS);
    synced(sync_to(s, ids, 100, NULL), 100, SESSION, NONE);
    synced(sync_to(s, ids, 140, NULL), 100, SESSION, DIFFERS);
    /* 140 has 12 tokens in its log: 128 is as far back as it goes. */
    synced(sync_to(s, ids, 140, NULL), 140, SESSION, NONE);
    synced(sync_to(s, ids, 129, NULL), 128, SESSION, LAST);
    synced(sync_to(s, ids, 140, NULL), 129, SESSION, DIFFERS);
    ids[130] += 1;
    synced(sync_to(s, ids, 140, NULL), 130, SESSION, DIFFERS);
    ids[120] += 1;
    const struct gdn_synced d = sync_to(s, ids, 140, NULL);
    synced(d, 0, NOTHING, NOT_KEPT);
    assert_int_equal(d.agreed, 120);
    struct gdn_prefix_info info;
    gdn_model_prefixes(model, &info);
    assert_true(info.states == 0 && info.bytes == 0 && info.budget == 0);
    gdn_model_close(model);
}

/* ---- with them ------------------------------------------------------------------------------- */

static void kept_at_the_end_and_at_marks(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(2, 1 << 26);
    gdn_session *s = open_session(model), *t = open_session(model);
    int32_t ids[MOST], other[MOST];
    const int32_t marks[] = {50, 90};
    const struct gdn_sync_options at = {.marks = marks, .mark_count = 2};
    make_ids(ids, MOST, 1);
    make_ids(other, MOST, 2);
    synced(sync_to(s, ids, 100, &at), 0, NOTHING, DIFFERS);
    /* An answer of 60 tokens, then the question again; then another question. */
    accepted(gdn_session_feed(s, other, 60, &err));
    synced(sync_to(s, ids, 100, NULL), 100, KEPT, NONE);
    ids[95] += 1;
    synced(sync_to(s, ids, 100, NULL), 90, KEPT, NOT_KEPT);
    ids[60] += 1;
    synced(sync_to(s, ids, 110, NULL), 50, KEPT, NOT_KEPT);
    /* Another session of the model begins from them as well, and a fork and a loaded one. */
    synced(sync_to(t, ids, 120, NULL), 110, KEPT, DIFFERS);
    gdn_session_free(s);
    accepted(gdn_session_fork(t, &s, &err));
    synced(sync_to(s, ids, 130, NULL), 120, SESSION, DIFFERS);
    synced(sync_to(s, other, 130, NULL), 0, NOTHING, DIFFERS);
    synced(sync_to(s, ids, 130, NULL), 130, KEPT, NONE);
    synced(sync_to(t, other, 140, NULL), 130, KEPT, DIFFERS);
    /* An empty list is an empty session. */
    accepted(gdn_session_sync(t, ids, 0, NULL, NULL, &err));
    assert_int_equal(gdn_session_position(t), 0);
    gdn_model_close(model);
}

/* The answer that is left behind is kept too. */
static void evicted_and_back(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(1, 1 << 26);
    gdn_session *s = open_session(model);
    int32_t ids[MOST], other[MOST];
    make_ids(ids, MOST, 1);
    make_ids(other, MOST, 2);
    sync_to(s, ids, 64, NULL);
    for (int32_t i = 64; i < 150; i++) accepted(gdn_session_feed(s, ids + i, 1, &err));
    synced(sync_to(s, other, 70, NULL), 0, NOTHING, DIFFERS);
    synced(sync_to(s, ids, 150, NULL), 150, KEPT, NONE);
    accepted(gdn_session_feed(s, ids + 150, 1, &err));
    accepted(gdn_session_keep(s, &err));
    accepted(gdn_session_feed(s, ids + 151, 40, &err));
    synced(sync_to(s, ids, 151, NULL), 151, KEPT, NONE);
    gdn_model_close(model);
}

/* A budget for hardly more than one: what is kept never weighs more, and the lists come out
 * right. */
static void small_budget(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(1, 0);
    gdn_session *s = open_session(model);
    gdn_snapshot *one;
    int32_t ids[MOST];
    make_ids(ids, MOST, 1);
    accepted(gdn_session_feed(s, ids, 200, &err));
    accepted(gdn_session_snapshot(s, &one, &err));
    const int64_t bytes = gdn_snapshot_bytes(one);
    gdn_snapshot_free(one);
    gdn_model_close(model);
    for (int64_t budget = 1; budget < 4 * bytes; budget += bytes / 3) {
        model = open_for_lists(1, budget);
        s = open_session(model);
        for (int32_t i = 0; i < 12; i++) {
            struct gdn_prefix_info info;
            make_ids(ids + 20 * (i % 5), MOST - 100, i % 3);
            sync_to(s, ids, 200 + i, NULL);
            gdn_model_prefixes(model, &info);
            assert_int_equal(info.budget, budget);
            assert_true(info.bytes <= budget && (info.states > 0) == (info.bytes > 0));
        }
        gdn_model_close(model);
    }
}

/* Kept states hold pages of keys and values; a session that needs them gets them. */
static void pages_make_way(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(2, 1 << 30);
    gdn_session *s = open_session(model), *t = open_session(model);
    int32_t ids[MOST];
    for (int32_t i = 0; i < 30; i++) {
        make_ids(ids, MOST, i);
        sync_to(i % 2 ? s : t, ids, MOST, NULL);
    }
    struct gdn_prefix_info info;
    gdn_model_prefixes(model, &info);
    assert_true(info.states > 0);
    gdn_model_close(model);
}

/* To the turns of answers as well, with and without guesses of what comes. */
static void pages_make_way_for_turns(void **state)
{
    (void)state;
    static const enum gdn_draft kinds[] = {GDN_DRAFT_OFF, GDN_DRAFT_LOOKUP, GDN_DRAFT_MTP};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct gdn_options o = small_options();
        o.context = 512;
        o.draft = kinds[k];
        gdn_model *model = open_with(DEMO, &o);
        gdn_session *s = open_session(model);
        int32_t ids[MOST];
        for (int32_t i = 0; i < 12; i++) {
            make_ids(ids, MOST, i);
            accepted(gdn_session_sync(s, ids, 380 + (size_t)i, NULL, NULL, &err));
        }
        make_ids(ids, MOST, 99);
        accepted(gdn_session_sync(s, ids, 60, NULL, NULL, &err));
        const int32_t kept = model->store.live;
        struct gdn_turn turn = {.session = s, .ids = ids, .n = 1};
        while (gdn_session_position(s) < 450) {
            accepted(gdn_next(&turn, 1, &err));
            ids[0] = turn.id[turn.count - 1];
        }
        /* It had to. */
        assert_true(model->store.live < kept);
        gdn_model_close(model);
    }
}

/* ---- stopped, failed, refused ---------------------------------------------------------------- */

struct patience {
    int left;
    int32_t done, all;
};

static bool while_patient(void *context, int32_t done, int32_t all)
{
    struct patience *p = context;
    assert_true(done >= p->done && done < all);
    p->done = done;
    p->all = all;
    return p->left-- > 0;
}

static void stopped_keeps_what_it_has(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(1, 1 << 26);
    gdn_session *s = open_session(model);
    struct patience p = {.left = 0};
    struct gdn_sync_options o = {.go_on = while_patient, .context = &p};
    struct gdn_synced d;
    int32_t ids[MOST], other[MOST];
    make_ids(ids, MOST, 1);
    make_ids(other, MOST, 2);
    accepted(gdn_session_sync(s, ids, 450, &o, &d, &err));
    assert_true(d.stopped && d.reused == 0 && d.computed == 0 && p.all == 450);
    assert_int_equal(gdn_session_position(s), 0);
    p = (struct patience){.left = 1};
    accepted(gdn_session_sync(s, ids, 450, &o, &d, &err));
    assert_true(d.stopped && d.computed == p.done && p.done == STORE_NEAR);
    is_fresh(s, ids, d.computed);
    /* Others come between. */
    synced(sync_to(s, other, 30, NULL), 0, NOTHING, DIFFERS);
    synced(sync_to(s, ids, 450, NULL), STORE_NEAR, KEPT, DIFFERS);
    /* Only what is there. */
    p = (struct patience){.left = 0};
    accepted(gdn_session_sync(s, other, 40, &o, &d, &err));
    assert_true(d.stopped && d.reused == 30 && d.computed == 0 && gdn_session_position(s) == 30);
    gdn_model_close(model);
}

/* A pass that runs out of scratch memory ends the session's use; the next sync takes up a kept
 * state. */
static void usable_again(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(1, 1 << 26);
    gdn_session *s = open_session(model);
    struct gdn_synced d;
    int32_t ids[MOST];
    make_ids(ids, MOST, 1);
    sync_to(s, ids, 100, NULL);
    const size_t room = model->engine.data.size;
    model->engine.data.size = 64;
    refused(MEMORY, "scratch", gdn_session_sync(s, ids, 200, NULL, &d, &err));
    assert_true(d.reused == 100 && d.computed == 0);
    model->engine.data.size = room;
    refused(USAGE, "not usable", gdn_session_feed(s, ids, 1, &err));
    synced(sync_to(s, ids, 200, NULL), 100, KEPT, DIFFERS);
    gdn_model_close(model);
}

static void refusals(void **state)
{
    (void)state;
    gdn_model *model = open_for_lists(1, 1 << 26);
    gdn_session *s = open_session(model);
    int32_t ids[MOST + 1];
    make_ids(ids, MOST + 1, 1);
    sync_to(s, ids, 20, NULL);
    refused(USAGE, "a list of 501 tokens, the context holds 500",
            gdn_session_sync(s, ids, MOST + 1, NULL, NULL, &err));
    ids[7] = VOCAB;
    refused(USAGE, "token 7: found id 96, need 0 to 95",
            gdn_session_sync(s, ids, 20, NULL, NULL, &err));
    ids[7] = -1;
    refused(USAGE, "token 7: found id -1", gdn_session_sync(s, ids, 20, NULL, NULL, &err));
    make_ids(ids, MOST, 1);
    const int32_t odd[] = {-5, 0, 20, 21, INT32_MAX, 7, 7};
    const struct gdn_sync_options o = {.marks = odd, .mark_count = 7};
    synced(sync_to(s, ids, 20, &o), 20, SESSION, NONE);
    gdn_session_free(s);
    refused(USAGE, "not open", gdn_session_sync(s, ids, 20, NULL, NULL, &err));
    refused(USAGE, "not open", gdn_session_keep(s, &err));
    refused(USAGE, "not open", gdn_session_sync(NULL, ids, 20, NULL, NULL, &err));
    gdn_model_close(model);
    struct gdn_options bad = small_options();
    bad.prefix_bytes = -1;
    refused(USAGE, "options.prefix_bytes: found -1", gdn_model_open(TINY, &bad, &model, &err));
}

/* ---- chats ----------------------------------------------------------------------------------- */

struct talk {
    gdn_model *model;
    gdn_session *session;
    struct gdn_message message[8];
    size_t count;
    enum gdn_think think;
    int32_t ids[2000], n; /* of the last rendering */
};

static void render(struct talk *t)
{
    size_t n = sizeof t->ids / sizeof *t->ids;
    const struct gdn_chat_options o = {.answer = true, .think = t->think};
    accepted(gdn_chat(t->model, t->message, t->count, &o, t->ids, &n, &err));
    t->n = (int32_t)n;
}

static struct gdn_synced say(struct talk *t, const char *question)
{
    struct gdn_synced d;
    t->message[t->count++] = (struct gdn_message){"user", question};
    render(t);
    accepted(gdn_session_sync(t->session, t->ids, (size_t)t->n, NULL, &d, &err));
    assert_int_equal(d.reused + d.computed, t->n);
    return d;
}

/* Text as it would be sampled; the end token is not fed. */
static void answer(struct talk *t, const char *text)
{
    int32_t ids[400];
    size_t n = 400;
    accepted(gdn_tokenize(t->model, text, strlen(text), GDN_CONTROL, ids, &n, &err));
    accepted(gdn_session_feed(t->session, ids, n, &err));
}

static void talk_open(struct talk *t, enum gdn_think think)
{
    struct gdn_options o = gdn_options_default();
    o.threads = 1;
    o.context = 2000;
    *t = (struct talk){.model = open_with(DEMO, &o), .think = think};
    t->session = open_session(t->model);
}

/* New tokens of a turn: those behind what both renderings share. */
static int32_t new_tokens(const struct talk *t, const int32_t *before, int32_t n)
{
    int32_t i = 0;
    while (i < n && before[i] == t->ids[i]) i++;
    return t->n - i;
}

static const char story[] =
    "The fox ran over the hill and down to the brook, where the old heron stood on one leg and "
    "looked at the water. Good morning, said the fox. Is it? said the heron, and did not move.";

static void second_turns(void **state)
{
    (void)state;
    struct talk t;
    int32_t before[2000];
    talk_open(&t, GDN_THINK_OFF);
    const struct gdn_synced first = say(&t, "Tell me a tale about a fox and a heron, please.");
    assert_int_equal(first.reused, 0);
    answer(&t, story);
    memcpy(before, gdn_session_tokens(t.session),
           sizeof *before * (size_t)gdn_session_position(t.session));
    const int32_t n = gdn_session_position(t.session);
    t.message[t.count++] = (struct gdn_message){"assistant", story};
    const struct gdn_synced second = say(&t, "And then?");
    /* The template may write the empty thoughts of the last turn only: then the answer is read
     * again behind the head of its message, at the worst. */
    assert_true(second.computed <= new_tokens(&t, before, n) + 16);
    /* Regenerated: nothing but the distribution is needed, and it was kept. */
    answer(&t, story);
    t.count--;
    const struct gdn_synced again = say(&t, "And then?");
    assert_int_equal(again.computed, 0);
    /* Edited: from the begin of the message that was, or a block earlier. */
    answer(&t, story);
    memcpy(before, t.ids, sizeof before);
    t.count--;
    const struct gdn_synced edited = say(&t, "Why did it not move?");
    assert_true(edited.reused > 0);
    assert_true(edited.computed <= new_tokens(&t, before, t.n) + 16);
    gdn_model_close(t.model);
}

/* The thoughts of a turn are gone in the next: everything before them is still there. */
static void thoughts_stripped(void **state)
{
    (void)state;
    struct talk t;
    talk_open(&t, GDN_THINK_ON);
    say(&t, "Tell me a tale about a fox and a heron, please. It should have an end.");
    const int32_t head = t.n;
    char thought[800];
    snprintf(thought, sizeof thought, "%s %s\n</think>\n\n%s", story, story, story);
    answer(&t, thought);
    t.message[t.count++] = (struct gdn_message){"assistant", story};
    const struct gdn_synced d = say(&t, "And then?");
    assert_true(d.reused >= head - 16 && d.reused <= head);
    assert_int_equal(d.from, GDN_REUSE_KEPT);
    gdn_model_close(t.model);
}

static void texts(void **state)
{
    (void)state;
    struct gdn_options o = small_options();
    gdn_model *model = open_with(DEMO, &o);
    static const char said[] = "<|im_start|>Gr\xc3\xbc\xc3\x9f Gott, 7 + 5!<|im_end|>";
    int32_t ids[64];
    char text[100] = {0};
    size_t n = 64, len = sizeof text;
    accepted(gdn_tokenize(model, said, strlen(said), GDN_CONTROL, ids, &n, &err));
    accepted(gdn_detokenize(model, ids, n, false, text, &len, &err));
    assert_int_equal(len, strlen(said));
    assert_memory_equal(text, said, len);
    len = 4;
    memset(text, '-', sizeof text);
    accepted(gdn_detokenize(model, ids, n, true, text, &len, &err));
    assert_int_equal(len, strlen(said) - 22);
    assert_memory_equal(text, "Gr\xc3\xbc-----", 9);
    ids[0] = -1;
    ids[1] = 1 << 30;
    accepted(gdn_detokenize(model, ids, 2, false, NULL, &len, &err));
    assert_int_equal(len, 0);
    gdn_model_close(model);
    model = open_tiny(1, false);
    refused(INPUT, "no tokenizer", gdn_detokenize(model, ids, 0, false, NULL, &len, &err));
    float logits[VOCAB];
    refused(USAGE, "feed a token first", gdn_session_logits(open_session(model), logits, &err));
    gdn_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_session_alone),  cmocka_unit_test(kept_at_the_end_and_at_marks),
        cmocka_unit_test(evicted_and_back),   cmocka_unit_test(small_budget),
        cmocka_unit_test(pages_make_way),     cmocka_unit_test(pages_make_way_for_turns),
        cmocka_unit_test(stopped_keeps_what_it_has),
        cmocka_unit_test(usable_again),       cmocka_unit_test(refusals),
        cmocka_unit_test(second_turns),       cmocka_unit_test(thoughts_stripped),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, open_oracle, close_oracle);
}
