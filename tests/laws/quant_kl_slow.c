/* quant_kl_slow.c: what quantised weights cost: KL(bf16 || other) of the demo model's next-token
 * distributions on text it was not trained on, in windows of 512 tokens, and the perplexity of
 * each. "Fast" is fed token by token, so that every product is one of int8. The figures of
 * docs/kernels/quant.md are what this prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "stage/books.h"
#include "stage/kl.h"
#include "stage/play.h"

enum { WINDOW = BOOKS_WINDOW, WINDOWS = BOOKS_WINDOWS, PLAYS = 5 };

static const struct {
    const char *name;
    struct play_options options;
} kinds[PLAYS] = {
    {"bf16", {.context = WINDOW}},
    {"q8", {.context = WINDOW, .quant = GDN_QUANT_Q8}},
    {"q8, fast", {.context = WINDOW, .quant = GDN_QUANT_Q8, .fast = true}},
    {"q4", {.context = WINDOW, .quant = GDN_QUANT_Q4}},
    {"q4, fast", {.context = WINDOW, .quant = GDN_QUANT_Q4, .fast = true}},
};

struct table {
    struct play play[PLAYS];
    struct record rows[PLAYS];
    struct kl kl[PLAYS];
    double nats[PLAYS];
    int32_t ids[WINDOWS][WINDOW];
};

static void play_window(struct table *t, int p, const int32_t *ids)
{
    gdn_session *s = play_session(&t->play[p]);
    struct record *r = &t->rows[p];
    const size_t width = (size_t)r->vocab;
    r->rows = 0;
    play_feed(s, ids, WINDOW, (int32_t[]){1}, kinds[p].options.fast, r);
    gdn_session_free(s);
    for (size_t i = 0; i < WINDOW; i++) {
        kl_add(&t->kl[p], t->rows[0].at + i * width, r->at + i * width, r->vocab);
        if (i + 1 < WINDOW)
            t->nats[p] += kl_log_sum(r->at + i * width, r->vocab) -
                          (double)r->at[i * width + (size_t)ids[i + 1]];
    }
}

static void quantised_is_near(void **state)
{
    (void)state;
    static struct table t;
    for (int p = 0; p < PLAYS; p++) {
        play_open(&t.play[p], "models/demo", &kinds[p].options);
        record_open(&t.rows[p], &t.play[p], WINDOW);
    }
    books_read(t.play[0].model, t.ids);
    for (int w = 0; w < WINDOWS; w++)
        for (int p = 0; p < PLAYS; p++) play_window(&t, p, t.ids[w]);
    for (int p = 0; p < PLAYS; p++) {
        const struct kl *k = &t.kl[p];
        printf("%-10s %5lld rows: perplexity %.3f, KL mean %.2e, max %.2e, same first token "
               "%.2f %%\n", kinds[p].name, (long long)k->rows,
               exp(t.nats[p] / (WINDOWS * (WINDOW - 1))),
               kl_mean(k), k->max, 100 * (double)k->same / (double)k->rows);
        record_close(&t.rows[p]);
        play_close(&t.play[p]);
    }
    assert_true(kl_mean(&t.kl[0]) == 0);
    assert_true(kl_mean(&t.kl[1]) <= 1e-3 && kl_mean(&t.kl[2]) <= 2e-3);
    assert_true(kl_mean(&t.kl[3]) <= 5e-2 && kl_mean(&t.kl[4]) <= 5e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantised_is_near)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
