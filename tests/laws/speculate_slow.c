/* speculate_slow.c: what is drawn with drafts is drawn as often as the model says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "stage/play.h"

static struct gdn_error err;

static void well(enum gdn_status status)
{
    if (status != GDN_OK) fail_msg("%s", err.text);
}

struct row {
    double p[512]; /* probabilities, at temperature 1 */
    int32_t vocab;
    struct gdn_bias bias; /* on one of the logits */
};

static void take_row(void *context, int feed, size_t row, const float *logits, int32_t vocab)
{
    struct row *r = context;
    (void)feed, (void)row;
    double sum = 0;
    r->vocab = vocab;
    for (int32_t i = 0; i < vocab; i++) {
        r->p[i] = exp((double)logits[i] + (i == r->bias.id ? (double)r->bias.add : 0));
        sum += r->p[i];
    }
    for (int32_t i = 0; i < vocab; i++) r->p[i] /= sum;
}

static void row_behind(gdn_session *s, const int32_t *ids, size_t n, struct row *row)
{
    const struct gdn_sink sink = {.context = row, .logits = take_row};
    const struct gdn_feed feed = {.session = s, .ids = ids, .n = n, .last_only = true};
    well(gdn_step(&feed, 1, &sink, &err));
}

/* Of `draws` counted tokens; a thousandth of all such sums lie beyond `limit`: for that many
 * degrees of freedom k about k (1 - 2/9k + 3.09 sqrt(2/9k))^3. */
static double chi_square(const struct row *row, const int64_t *count, int64_t draws, double *limit)
{
    double chi = 0;
    for (int32_t i = 0; i < row->vocab; i++) {
        const double want = row->p[i] * (double)draws, off = (double)count[i] - want;
        chi += off * off / want;
    }
    const double k = row->vocab - 1, a = 2 / (9 * k);
    *limit = k * pow(1 - a + 3.09 * sqrt(a), 3);
    return chi;
}

/* Two tokens stood before and d came behind them, so d is the draft; a bias makes it likely. The
 * first token that is chosen, and the second where the draft was right, are drawn 10^5 times or
 * more: as often as the model says, the second behind d. */
static void drawn_as_often(void **state)
{
    (void)state;
    enum { DRAWS = 100000, TEXT = 6, D = 40 };
    static const int32_t text[TEXT] = {5, 9, D, 31, 5, 9};
    static struct row first = {.bias = {D, 6}}, second = {.bias = {D, 6}};
    static int64_t count[2][512], draws[2];
    struct play play;
    play_open(&play, "q35-r1-tied", &(struct play_options){.draft = GDN_DRAFT_LOOKUP, .depth = 1,
                                                           .threads = 1});
    gdn_session *s = play_session(&play);
    row_behind(s, text, TEXT, &first);
    row_behind(s, &text[2], 1, &second);
    if (!(first.p[D] > 0.3 && first.p[D] < 0.9)) fail_msg("the draft has %g", first.p[D]);
    well(gdn_session_rewind(s, 2, &err));
    struct gdn_sampling how = {.size = sizeof how, .temperature = 1, .bias = &first.bias,
                               .bias_count = 1};
    for (; draws[1] < DRAWS && how.seed < 5 * DRAWS; how.seed++) {
        struct gdn_turn turn = {.session = s, .ids = &text[TEXT - 1], .n = 1, .sampling = &how};
        well(gdn_next(&turn, 1, &err));
        assert_true(turn.count == 1 || (turn.count == 2 && turn.id[0] == D));
        for (int i = 0; i < turn.count; i++) {
            count[i][turn.id[i]]++;
            draws[i]++;
        }
        well(gdn_session_rewind(s, turn.count, &err));
    }
    assert_true(draws[1] == DRAWS);
    double limit;
    for (int i = 0; i < 2; i++) {
        const double chi = chi_square(i ? &second : &first, count[i], draws[i], &limit);
        if (!(chi < limit))
            fail_msg("token %d of %lld draws: chi-square %g, need less than %g", i,
                     (long long)draws[i], chi, limit);
    }
    /* And it would notice: the second tokens are not drawn as the first are. */
    assert_true(chi_square(&first, count[1], draws[1], &limit) > 10 * limit);
    play_close(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drawn_as_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
