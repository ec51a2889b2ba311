/* sync.c: a session that was given a whole list is one that was fed it: random programs of lists
 * that share beginnings, answers, drafts, rewinds, forks, stops and small budgets over several
 * sessions; after each operation the next row of logits is compared in bits with an empty
 * session's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "stage/play.h"

enum { SESSIONS = 3, LISTS = 6, MOST = 420 };
#if defined(GDN_POISON) && GDN_POISON
enum { OPERATIONS = 25 };
#else
enum { OPERATIONS = 120 };
#endif

struct program {
    struct play play, oracle;
    struct rng rng;
    gdn_session *session[SESSIONS];
    int32_t list[LISTS][MOST], n[LISTS];
    struct record row, want;
    int64_t reused, presented;
    struct gdn_error err;
};

static int32_t below(struct program *p, int32_t n)
{
    return (int32_t)rng_below(&p->rng, (uint64_t)n);
}

static void must(struct program *p, enum gdn_status status)
{
    if (status != GDN_OK) fail_msg("%s", p->err.text);
}

/* One more token, in both worlds. The session's own list is what it says it holds. */
static void goes_on(struct program *p, gdn_session *s, const char *what)
{
    const int32_t n = gdn_session_position(s), id = below(p, p->play.vocab);
    gdn_session *fresh = play_session(&p->oracle);
    if (n > 0) play_feed(fresh, gdn_session_tokens(s), (size_t)n, NULL, 0, NULL);
    p->row.rows = p->want.rows = 0;
    play_feed(s, &id, 1, NULL, 0, &p->row);
    play_feed(fresh, &id, 1, NULL, 0, &p->want);
    same_rows(&p->want, 0, &p->row, 0, 1, what);
    gdn_session_free(fresh);
}

/* A list takes up another one up to some token, or all of what a session holds. */
static void change_list(struct program *p, int i)
{
    const gdn_session *s = p->session[below(p, SESSIONS)];
    const int from = below(p, LISTS);
    int32_t kept = 0;
    if (below(p, 3) == 0) {
        kept = gdn_session_position(s);
        memcpy(p->list[i], gdn_session_tokens(s), sizeof(int32_t) * (size_t)kept);
    } else {
        kept = below(p, p->n[from] + 1);
        memmove(p->list[i], p->list[from], sizeof(int32_t) * (size_t)kept);
    }
    if (kept > MOST - 60) kept = MOST - 60;
    p->n[i] = kept + below(p, 60);
    for (int32_t k = kept; k < p->n[i]; k++) p->list[i][k] = below(p, p->play.vocab);
}

static bool flip(void *context, int32_t done, int32_t all)
{
    struct program *p = context;
    assert_true(done < all);
    return below(p, 3) > 0;
}

static void sync_one(struct program *p, gdn_session *s, bool stops)
{
    const int i = below(p, LISTS);
    struct gdn_synced d;
    const int32_t marks[] = {below(p, MOST), below(p, MOST)};
    const struct gdn_sync_options o = {.marks = marks, .mark_count = (size_t)below(p, 3),
                                       .go_on = stops ? flip : NULL, .context = p};
    if (below(p, 4)) change_list(p, i);
    must(p, gdn_session_sync(s, p->list[i], (size_t)p->n[i], &o, &d, &p->err));
    const int32_t now = gdn_session_position(s);
    assert_true(stops || !d.stopped);
    assert_int_equal(d.stopped, now < p->n[i]);
    assert_int_equal(d.reused + d.computed, now);
    assert_true(d.agreed >= d.reused && (now == 0 || d.computed + d.agreed > 0));
    assert_memory_equal(gdn_session_tokens(s), p->list[i], sizeof(int32_t) * (size_t)now);
    int32_t id;
    const struct gdn_sampling greedy = {.size = sizeof greedy};
    if (!d.stopped && now > 0) must(p, gdn_session_sample(s, &greedy, &id, &p->err));
    p->reused += d.reused;
    p->presented += p->n[i];
}

/* A few turns of an answer, which may have been guessed ahead. */
static void takes_turns(struct program *p, gdn_session *s)
{
    int32_t id = below(p, p->play.vocab);
    struct gdn_turn turn = {.session = s, .ids = &id, .n = 1, .most = 4};
    for (int i = below(p, 3); i > 0; i--) {
        must(p, gdn_next(&turn, 1, &p->err));
        id = turn.id[turn.count - 1];
    }
}

static void one_operation(struct program *p)
{
    const int i = below(p, SESSIONS);
    gdn_session *s = p->session[i];
    int32_t ids[16];
    const int32_t room = 512 - 20 - gdn_session_position(s), n = 1 + below(p, 16);
    for (int32_t k = 0; k < n; k++) ids[k] = below(p, p->play.vocab);
    switch (below(p, 8)) {
    case 0:
        if (room > 0) play_feed(s, ids, (size_t)n, NULL, 0, NULL);
        if (room > 0 && gdn_session_position(s) < 480) takes_turns(p, s);
        break;
    case 1:
        if (room > 0) play_draft(s, ids, (size_t)n, below(p, n + 1), NULL);
        break;
    case 2:
        must(p, gdn_session_rewind(s, below(p, gdn_session_rewindable(s) + 1), &p->err));
        break;
    case 3:
        gdn_session_free(s);
        must(p, gdn_session_fork(p->session[(i + 1) % SESSIONS], &p->session[i], &p->err));
        s = p->session[i];
        break;
    case 4: sync_one(p, s, true); break;
    default: sync_one(p, s, false); break;
    }
    char what[64];
    snprintf(what, sizeof what, "operation %llu", (unsigned long long)p->rng.counter);
    if (gdn_session_position(s) < 500) goes_on(p, s, what);
}

static void program_run(const char *model, struct play_options o, int64_t budget, uint64_t seed)
{
    static struct program p;
    p = (struct program){.rng = {.seed = seed}};
    play_open(&p.oracle, model, &(struct play_options){.device = o.device, .compute = o.compute,
                                                       .state = o.state, .threads = o.threads});
    o.sessions = SESSIONS;
    o.speculate = true;
    o.prefix_bytes = budget;
    play_open(&p.play, model, &o);
    record_open(&p.row, &p.play, 1);
    record_open(&p.want, &p.play, 1);
    for (int i = 0; i < SESSIONS; i++) p.session[i] = play_session(&p.play);
    for (int i = 0; i < OPERATIONS; i++) {
        struct gdn_prefix_info info;
        one_operation(&p);
        gdn_model_prefixes(p.play.model, &info);
        assert_true(info.bytes <= budget && info.budget == budget);
    }
    /* With room, some of what is presented is always there already. */
    if (budget > 1 << 24) assert_true(p.reused > p.presented / 10);
    record_close(&p.row);
    record_close(&p.want);
    play_close(&p.play);
    play_close(&p.oracle);
}

static void each_family(void **state)
{
    (void)state;
    static const char *const models[] = {"q35-r2-untied", "kimi-released", "olmo-released",
                                         "next-grouped", "q35moe-stacked"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        program_run(models[i], (struct play_options){.threads = 1}, 1 << 26, 10 + i);
}

static void each_type(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++)
        program_run("q35-k2-f16", (struct play_options){.compute = k & 1 ? GDN_BF16 : GDN_F32,
                                                        .state = k & 2 ? GDN_BF16 : GDN_F32},
                    1 << 26, 20 + (uint64_t)k);
}

static void each_draft(void **state)
{
    (void)state;
    static const char *const heads[] = {"q35-r4-odd", "q35moe-stacked", "next-plain"};
    for (size_t m = 0; m < sizeof heads / sizeof *heads; m++)
        for (int k = GDN_DRAFT_LOOKUP; k <= GDN_DRAFT_MTP; k++)
            program_run(heads[m], (struct play_options){.draft = (enum gdn_draft)k, .threads = 1},
                        m ? 1 << 26 : 1 << 18, 40 + 2 * (uint64_t)m + (uint64_t)k);
}

static void each_budget(void **state)
{
    (void)state;
    for (int64_t budget = 1; budget < 1 << 22; budget *= 5)
        program_run("q35-r2-untied", (struct play_options){.threads = 1}, budget,
                    30 + (uint64_t)budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_family),
        cmocka_unit_test(each_type),
        cmocka_unit_test(each_budget),
        cmocka_unit_test(each_draft),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
