/* cuda_drafts.c: guessing ahead on a GPU: what is chosen is what is chosen without; a session takes
 * its draft head along to the processor and back. Skipped, and said to be, without a GPU. */
#include <math.h>

#include "speculate.h"

#include "api/handles.h"

#ifdef GDN_CUDA_EMULATED
enum { HEADS = 1, KINDS = 1 };
#else
enum { HEADS = 3, KINDS = 2 };
#endif
static const char *const heads[] = {"q35-r4-odd", "q35moe-stacked", "next-plain"};
static const struct play_options kinds[] = {
    {.device = "cuda"}, {.device = "cuda", .compute = GDN_BF16, .state = GDN_BF16}};

static void speculation(void **state)
{
    (void)state;
    for (int m = 0; m < HEADS; m++)
        for (int k = 0; k < KINDS; k++) {
            speculation_is_plain(heads[m], kinds[k], GDN_DRAFT_MTP);
            if (m == 0) speculation_is_plain(heads[m], kinds[k], GDN_DRAFT_LOOKUP);
        }
    if (HEADS > 1) /* a trained head */
        speculation_is_plain("models/demo", kinds[0], GDN_DRAFT_MTP);
}

/* ---- between processor and GPU --------------------------------------------------------------- */

enum { CHAIN = 3, LEG = 45, MOST = 256 };

struct told {
    int32_t likeliest[CHAIN];
    float logits[CHAIN][MOST];
};

static int32_t tell(void *context, int guess, int32_t at, const struct best *best)
{
    struct told *t = context;
    const struct ranking *r = &best->model;
    (void)guess;
    for (int32_t i = 0; i < r->n; i++) t->logits[at][r->ids[i]] = r->values[i];
    t->likeliest[at] = r->ids[0];
    return r->ids[0];
}

static struct told told_of(gdn_session *s)
{
    struct told told = {0};
    int32_t out[CHAIN];
    struct guess guess = {.slot = s->slot, .id = 7, .most = CHAIN, .out = out};
    const struct guess_ask ask = {.context = &told, .choose = tell, .best = ENGINE_BEST};
    well(engine_guess(&s->model->engine, &guess, 1, &ask, &err));
    assert_int_equal(guess.n, CHAIN);
    return told;
}

/* All logits of all guesses, by the bar of the goldens for f32 on either device. */
static void near_told(const struct told *want, gdn_session *s, const char *what)
{
    const struct told got = told_of(s);
    double worst = 0;
    for (int i = 0; i < CHAIN * MOST; i++) {
        const double d = fabs((double)want->logits[i / MOST][i % MOST] -
                              (double)got.logits[i / MOST][i % MOST]);
        if (!(d <= worst)) worst = d;
    }
    if (!(worst <= 2e-4)) fail_msg("%s: guesses differ by %g", what, worst);
}

/* Three legs, of which the second is abroad; each leg in pieces that leave the head behind or take
 * it along. */
static void travel(const char *model, const char *home, const char *abroad)
{
    static const int32_t cuts[] = {1, 20, 1, 1, 5, 1, 1, 1};
    struct play at[2];
    const struct play_options options[2] = {{.device = home, .sessions = 2, .draft = GDN_DRAFT_MTP},
                                            {.device = abroad, .sessions = 2,
                                             .draft = GDN_DRAFT_MTP}};
    char folder[] = "/tmp/gdn-heads-XXXXXX", path[64];
    int32_t ids[3 * LEG];
    struct told want[3];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/session.gdn", folder);
    for (int i = 0; i < 2; i++) play_open(&at[i], model, &options[i]);
    assert_true(at[0].vocab <= MOST);
    play_ids(&at[0], 8, ids, 3 * LEG);
    gdn_session *s = play_session(&at[0]);
    for (int leg = 0; leg < 3; leg++) {
        play_feed(s, ids + leg * LEG, LEG, NULL, 0, NULL);
        want[leg] = told_of(s);
    }
    gdn_session_free(s);
    s = play_session(&at[0]);
    for (int leg = 0; leg < 3; leg++) {
        play_feed(s, ids + leg * LEG, LEG, cuts, sizeof cuts / sizeof *cuts, NULL);
        if (leg == 2) break;
        gdn_session *fork;
        well(gdn_session_fork(s, &fork, &err));
        near_told(&want[leg], fork, leg ? abroad : home);
        gdn_session_free(fork);
        well(gdn_session_save(s, path, &err)); /* the head catches up here */
        gdn_session_free(s);
        well(gdn_session_load(at[1 - leg].model, path, &s, NULL, &err));
        near_told(&want[leg], s, "loaded");
    }
    near_told(&want[2], s, "back home");
    gdn_session_free(s);
    unlink(path);
    rmdir(folder);
    for (int i = 0; i < 2; i++) play_close(&at[i]);
}

static void heads_travel(void **state)
{
    (void)state;
    for (int m = 0; m < HEADS; m++) {
        travel(heads[m], "cpu", "cuda");
        travel(heads[m], "cuda", "cpu");
    }
}

int main(void)
{
    enum { SKIPPED = 77 };
    if (!play_has("cuda")) return SKIPPED;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speculation),
        cmocka_unit_test(heads_travel),
    };
    return cmocka_run_group_tests_name("cuda, drafts", tests, NULL, NULL);
}
