/* kl_slow.c: what bf16 anchors cost: KL(f32 || bf16) of the demo model's next-token distributions
 * on text it was not trained on, in windows of 512 tokens; and beside it what a state costs that is
 * rounded to bf16 after every token, and inputs of the convolution that are kept in bf16. The
 * figures of docs/numerics.md are what this prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/handles.h"
#include "base/memory.h"
#include "stage/books.h"
#include "stage/kl.h"
#include "stage/play.h"

enum { PLAYS = 4, WINDOW = BOOKS_WINDOW, WINDOWS = BOOKS_WINDOWS, SHORT = 96 };

struct gate {
    /* f32; bf16 anchors; bf16 after each token; bf16 inputs of the convolutions */
    struct play exact, anchors, tokens, inputs;
    struct record rows[PLAYS];
    int32_t ids[WINDOWS][WINDOW];
};

static void open_all(struct gate *g)
{
    const struct play_options f32 = {.context = WINDOW};
    const struct play_options bf16 = {.context = WINDOW, .state = GDN_BF16};
    play_open(&g->exact, "models/demo", &f32);
    play_open(&g->anchors, "models/demo", &bf16);
    play_open(&g->tokens, "models/demo", &f32);
    play_open(&g->inputs, "models/demo", &f32);
    for (int i = 0; i < PLAYS; i++) record_open(&g->rows[i], &g->exact, WINDOW);
    books_read(g->exact.model, g->ids);
}

static void close_all(struct gate *g)
{
    for (int i = 0; i < PLAYS; i++) record_close(&g->rows[i]);
    play_close(&g->exact);
    play_close(&g->anchors);
    play_close(&g->tokens);
    play_close(&g->inputs);
}

/* To these types and back: what is stored is rounded. */
static void through(struct state *st, enum dtype inputs, enum dtype anchors)
{
    struct state_change change;
    struct gdn_error err = {0};
    assert_int_equal(state_ensure(st, inputs, anchors, &change, &err), GDN_OK);
    assert_int_equal(state_ensure(st, DTYPE_F32, DTYPE_F32, &change, &err), GDN_OK);
}

/* An in-place bf16 state: S is written after each token, so it is rounded after each token. The log
 * is folded into the anchor in double and the anchor goes to bf16 and back. */
static void round_state(struct state *st, int32_t slot)
{
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_shape *l = &st->layer[i].shape;
        if (l->kind != LAYER_DELTA) continue;
        double *S = mem_take_array((size_t)l->Hv * (size_t)l->Dv * (size_t)l->Dk, sizeof *S);
        state_export(st, slot, i, S);
        st->device->anchor_pack(&st->layer[i].delta, slot, S);
        st->layer[i].delta.base[slot] = st->slot[slot].position;
        mem_give(S);
    }
    through(st, DTYPE_F32, DTYPE_BF16);
}

static void round_inputs(struct state *st, int32_t slot)
{
    (void)slot;
    through(st, DTYPE_BF16, DTYPE_F32);
}

/* In one piece, or token by token with something done after each. */
static void feed(struct play *play, const int32_t *ids, struct record *r,
                 void (*after)(struct state *st, int32_t slot))
{
    gdn_session *s = play_session(play);
    r->rows = 0;
    if (!after) play_feed(s, ids, WINDOW, NULL, 0, r);
    for (int t = 0; after && t < WINDOW; t++) {
        play_feed(s, ids + t, 1, NULL, 0, r);
        after(&s->model->engine.state, s->slot);
    }
    gdn_session_free(s);
}

static void add_rows(struct kl *k, const struct record *p, const struct record *q, size_t rows)
{
    const size_t width = (size_t)p->vocab;
    for (size_t t = 0; t < rows; t++) kl_add(k, p->at + t * width, q->at + t * width, p->vocab);
}

static void print(const char *what, const struct kl *k)
{
    printf("%-30s %5lld rows: mean %.3g, max %.3g, same first token %.2f %%\n", what,
           (long long)k->rows, kl_mean(k), k->max, 100 * (double)k->same / (double)k->rows);
}

static void bf16_anchors_are_near(void **state)
{
    (void)state;
    static struct gate g;
    struct kl anchors = {0}, tokens = {0}, inputs = {0}, first = {0};
    open_all(&g);
    for (int w = 0; w < WINDOWS; w++) {
        feed(&g.exact, g.ids[w], &g.rows[0], NULL);
        feed(&g.anchors, g.ids[w], &g.rows[1], NULL);
        feed(&g.tokens, g.ids[w], &g.rows[2], round_state);
        feed(&g.inputs, g.ids[w], &g.rows[3], round_inputs);
        add_rows(&anchors, &g.rows[0], &g.rows[1], WINDOW);
        add_rows(&tokens, &g.rows[0], &g.rows[2], WINDOW);
        add_rows(&inputs, &g.rows[0], &g.rows[3], WINDOW);
        if (w == 0) add_rows(&first, &g.rows[0], &g.rows[1], SHORT);
    }
    print("bf16 anchors", &anchors);
    print("bf16 state after every token", &tokens);
    print("bf16 inputs of convolutions", &inputs);
    print("bf16 anchors, first window", &first);
    close_all(&g);
    assert_true(anchors.rows >= 4000);
    assert_true(kl_mean(&anchors) <= 0.002 && kl_mean(&inputs) <= 0.002);
    assert_true(kl_mean(&anchors) < kl_mean(&tokens));
    /* The founding gate, S1-12. */
    assert_true(kl_mean(&first) <= 0.01 && first.same >= 95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_anchors_are_near)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
