/* speculate.c: what is chosen with drafts is, in bits, what is chosen without: greedily and drawn,
 * with and without changed logits, alone and beside others, for one model of every family. */
#include <stdlib.h>
#include <unistd.h>

#include "speculate.h"

static const char *const models[] = {"q35-r2-untied", "q35-k2-f16",   "kimi-released",
                                     "olmo-released", "next-grouped", "q35moe-stacked"};
/* Sanitizers see the same code on fewer models. */
#if defined(GDN_POISON) && GDN_POISON
enum { MODELS = 2 };
#else
enum { MODELS = sizeof models / sizeof *models };
#endif

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
