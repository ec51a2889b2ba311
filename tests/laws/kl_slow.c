/* kl_slow.c: what bf16 anchors cost: KL(f32 || bf16) of the demo model's next-token distributions
 * on text it was not trained on, in windows of 512 tokens, and beside it what a state that is
 * rounded to bf16 after every token costs. The figures of docs/numerics.md are what this prints. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/handles.h"
#include "base/memory.h"
#include "stage/play.h"

enum { WINDOW = 512, WINDOWS = 12, TEXT = 1500522, SHORT = 96 };

struct gate {
    struct play exact, anchors, tokens; /* f32; bf16 anchors; bf16 after each token */
    struct record rows[3];
    int32_t ids[WINDOWS][WINDOW];
};

struct figure {
    double mean, max;
    int64_t rows, same; /* same: the most likely token is */
};

/* Windows from all over the books. */
static void read_windows(struct gate *g)
{
    struct gdn_error err = {0};
    char *text = mem_take(TEXT + 1);
    FILE *pipe = popen("xz -dc " GDN_SOURCE_DIR "/tests/data/valid.txt.xz", "r");
    assert_true(text && pipe);
    assert_int_equal(fread(text, 1, TEXT, pipe), TEXT);
    pclose(pipe);
    for (int w = 0; w < WINDOWS; w++) {
        int32_t ids[4 * WINDOW];
        size_t n = sizeof ids / sizeof *ids, from = (size_t)(TEXT / WINDOWS * w);
        while (text[from] != '\n') from++;
        while (text[from] == '\n') from++;
        assert_int_equal(gdn_tokenize(g->exact.model, text + from, 4 * WINDOW, 0, ids, &n, &err),
                         GDN_OK);
        assert_in_range(n, WINDOW, sizeof ids / sizeof *ids);
        memcpy(g->ids[w], ids, sizeof g->ids[w]);
    }
    mem_give(text);
}

static void open_all(struct gate *g)
{
    const struct play_options f32 = {.context = WINDOW};
    const struct play_options bf16 = {.context = WINDOW, .state = GDN_BF16};
    play_open(&g->exact, "models/demo", &f32);
    play_open(&g->anchors, "models/demo", &bf16);
    play_open(&g->tokens, "models/demo", &f32);
    for (int i = 0; i < 3; i++) record_open(&g->rows[i], &g->exact, WINDOW);
    read_windows(g);
}

static void close_all(struct gate *g)
{
    for (int i = 0; i < 3; i++) record_close(&g->rows[i]);
    play_close(&g->exact);
    play_close(&g->anchors);
    play_close(&g->tokens);
}

/* An in-place bf16 state: S is written after each token, so it is rounded after each token. The log
 * is folded into the anchor in double and the anchor goes to bf16 and back. */
static void round_state(gdn_session *s)
{
    struct state *st = &s->model->engine.state;
    struct gdn_error err = {0};
    const int32_t position = st->slot[s->slot].position;
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_shape *l = &st->layer[i].shape;
        if (l->kind != LAYER_DELTA) continue;
        double *S = mem_take_array((size_t)l->Hv * (size_t)l->Dv * (size_t)l->Dk, sizeof *S);
        state_export(st, s->slot, i, S);
        st->device->anchor_pack(&st->layer[i].delta, s->slot, S);
        st->layer[i].delta.base[s->slot] = position;
        mem_give(S);
    }
    struct state_change change;
    assert_int_equal(state_ensure(st, DTYPE_F32, DTYPE_BF16, &change, &err), GDN_OK);
    assert_int_equal(state_ensure(st, DTYPE_F32, DTYPE_F32, &change, &err), GDN_OK);
}

static void feed_rounded(struct gate *g, const int32_t *ids, struct record *r)
{
    gdn_session *s = play_session(&g->tokens);
    for (int t = 0; t < WINDOW; t++) {
        play_feed(s, ids + t, 1, NULL, 0, r);
        round_state(s);
    }
    gdn_session_free(s);
}

static double log_sum(const float *x, int32_t n)
{
    double most = (double)x[0], sum = 0;
    for (int32_t i = 1; i < n; i++) most = fmax(most, (double)x[i]);
    for (int32_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    return most + log(sum);
}

static int32_t likeliest(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static void add_rows(struct figure *f, const struct record *p, const struct record *q, int rows)
{
    for (int t = 0; t < rows; t++) {
        const float *a = p->at + (size_t)t * (size_t)p->vocab;
        const float *b = q->at + (size_t)t * (size_t)p->vocab;
        const double la = log_sum(a, p->vocab), lb = log_sum(b, p->vocab);
        double kl = 0;
        for (int32_t i = 0; i < p->vocab; i++)
            kl += exp((double)a[i] - la) * ((double)a[i] - la - ((double)b[i] - lb));
        f->mean += kl;
        f->max = fmax(f->max, kl);
        f->same += likeliest(a, p->vocab) == likeliest(b, p->vocab);
        f->rows++;
    }
}

static void print(const char *what, struct figure *f)
{
    f->mean /= (double)f->rows;
    printf("%-28s %5lld rows: mean %.3g, max %.3g, same first token %.2f %%\n", what,
           (long long)f->rows, f->mean, f->max, 100 * (double)f->same / (double)f->rows);
}

static void bf16_anchors_are_near(void **state)
{
    (void)state;
    static struct gate g;
    struct figure anchors = {0}, tokens = {0}, first = {0};
    open_all(&g);
    for (int w = 0; w < WINDOWS; w++) {
        for (int i = 0; i < 3; i++) g.rows[i].rows = 0;
        gdn_session *a = play_session(&g.exact), *b = play_session(&g.anchors);
        play_feed(a, g.ids[w], WINDOW, NULL, 0, &g.rows[0]);
        play_feed(b, g.ids[w], WINDOW, NULL, 0, &g.rows[1]);
        feed_rounded(&g, g.ids[w], &g.rows[2]);
        gdn_session_free(a);
        gdn_session_free(b);
        add_rows(&anchors, &g.rows[0], &g.rows[1], WINDOW);
        add_rows(&tokens, &g.rows[0], &g.rows[2], WINDOW);
        if (w == 0) add_rows(&first, &g.rows[0], &g.rows[1], SHORT);
    }
    print("bf16 anchors", &anchors);
    print("bf16 after every token", &tokens);
    print("bf16 anchors, first window", &first);
    close_all(&g);
    assert_true(anchors.rows >= 4000);
    assert_true(anchors.mean <= 0.002);
    assert_true(anchors.mean < tokens.mean);
    /* The founding gate, S1-12. */
    assert_true(first.mean <= 0.01 && first.same >= 95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_anchors_are_near)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
