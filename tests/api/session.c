/* session.c: the life of sessions: how many, in turn, forked, taken back, verified, sampled. */
#include "open.h"

#include <math.h>

#include "api/handles.h"

static const struct gdn_sampling greedy = {.size = sizeof greedy};
static const int32_t text[40] = {5,  17, 90, 3,  3,  41, 8,  77, 60, 12, 25, 31, 9,  1,
                                 0,  95, 50, 51, 52, 20, 66, 67, 2,  80, 81, 7,  14, 22,
                                 33, 44, 55, 11, 70, 71, 72, 6,  4,  10, 13, 19};

static void feed(gdn_session *s, const int32_t *ids, size_t n)
{
    accepted(gdn_session_feed(s, ids, n, &err));
}

static int32_t best(gdn_session *s)
{
    int32_t id = -1;
    accepted(gdn_session_sample(s, &greedy, &id, &err));
    return id;
}

/* Feeds what it samples, n times. */
static void generate(gdn_session *s, int32_t *out, int n)
{
    for (int i = 0; i < n; i++) {
        out[i] = best(s);
        feed(s, &out[i], 1);
    }
}

/* ---- how many -------------------------------------------------------------------------------- */

static void no_more_than_asked_for(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(2, false);
    gdn_session *a = open_session(model), *b = open_session(model), *c = a;
    refused(MEMORY, "all 2 sessions are in use", gdn_session_new(model, &c, &err));
    assert_null(c);
    c = a;
    refused(MEMORY, "all 2 sessions are in use", gdn_session_fork(a, &c, &err));
    assert_null(c);
    feed(a, text, 3);
    gdn_session_free(b);
    b = open_session(model);
    assert_int_equal(gdn_session_position(a), 3);
    assert_int_equal(gdn_session_position(b), 0);
    gdn_session_free(a);
    gdn_session_free(a); /* once more is nothing */
    gdn_session_free(NULL);
    accepted(gdn_session_fork(b, &a, &err));
    gdn_model_close(model); /* and its sessions with it */
}

/* What stands in place of a session is told, not followed. */
static void not_a_session(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(1, true);
    gdn_session *s = open_session(model), *fork;
    int32_t id;
    gdn_session_free(s);
    for (int i = 0; i < 2; i++, s = NULL) {
        assert_int_equal(gdn_session_position(s), 0);
        assert_int_equal(gdn_session_rewindable(s), 0);
        assert_int_equal(gdn_session_commit(s, 3), 0);
        assert_null(gdn_session_tokens(s));
        refused(USAGE, "not open", gdn_session_feed(s, text, 1, &err));
        refused(USAGE, "not open", gdn_session_draft(s, text, 1, NULL, &err));
        refused(USAGE, "not open", gdn_session_rewind(s, 0, &err));
        refused(USAGE, "not open", gdn_session_fork(s, &fork, &err));
        refused(USAGE, "not open", gdn_session_sample(s, &greedy, &id, &err));
    }
    gdn_model_close(model);
}

static void two_in_turn(void **state)
{
    (void)state;
    int32_t alone[2][20], turn[2][20];
    gdn_model *model = open_tiny(2, false);
    for (int i = 0; i < 2; i++) {
        gdn_session *s = open_session(model);
        feed(s, text + 9 * i, 9);
        generate(s, alone[i], 20);
        gdn_session_free(s);
    }
    gdn_session *s[2] = {open_session(model), open_session(model)};
    for (int i = 0; i < 9; i++)
        for (int k = 0; k < 2; k++) feed(s[k], text + 9 * k + i, 1);
    for (int i = 0; i < 20; i++)
        for (int k = 0; k < 2; k++) generate(s[k], &turn[k][i], 1);
    assert_memory_equal(alone, turn, sizeof alone);
    assert_memory_not_equal(alone[0], alone[1], sizeof alone[0]);
    gdn_model_close(model);
}

/* ---- sampling -------------------------------------------------------------------------------- */

static void sampling(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(2, false);
    gdn_session *s = open_session(model), *t = open_session(model);
    struct gdn_sampling warm = {.size = sizeof warm, .temperature = 1.5, .seed = 7};
    int32_t a, b, differ = 0;
    refused(USAGE, "feed a token first", gdn_session_sample(s, &greedy, &a, &err));
    feed(s, text, 0);
    refused(USAGE, "feed a token first", gdn_session_sample(s, &greedy, &a, &err));
    for (int i = 0; i < 30; i++) {
        feed(s, text + i, 1);
        feed(t, text + i, 1);
        warm.seed = 7;
        accepted(gdn_session_sample(s, &warm, &a, &err));
        accepted(gdn_session_sample(t, &warm, &b, &err));
        assert_int_equal(a, b); /* same seed, same position, same distribution */
        accepted(gdn_session_sample(s, &warm, &b, &err));
        assert_int_equal(a, b); /* and asking again is no change */
        assert_in_range(a, 0, 95);
        warm.seed = 8;
        accepted(gdn_session_sample(s, &warm, &b, &err));
        differ += a != b;
        warm.top_k = 1;
        accepted(gdn_session_sample(s, &warm, &b, &err));
        assert_int_equal(b, best(s));
        warm.top_k = 0;
    }
    assert_in_range(differ, 10, 30);
    gdn_model_close(model);
}

/* The numbers that a sink gets, and the sampler's best, speak of the same row. */
struct sunk {
    int32_t best;
    int rows, hidden, losses;
    size_t first, last;
    double loss, want; /* of the last row but one */
    int32_t next, width;
};

static void sink_logits(void *context, int at, size_t row, const float *logits, int32_t vocab)
{
    struct sunk *s = context;
    double sum = 0;
    assert_int_equal(at, 0);
    if (s->rows++ == 0) s->first = row;
    s->last = row;
    s->best = 0;
    for (int32_t i = 0; i < vocab; i++) {
        if (logits[i] > logits[s->best]) s->best = i;
        sum += exp((double)logits[i]);
    }
    if (s->next >= 0) s->want = log(sum) - (double)logits[s->next];
    s->next = -1;
}

static void sink_hidden(void *context, int at, size_t row, int32_t index, const float *x,
                        int32_t width)
{
    struct sunk *s = context;
    assert_int_equal(at, 0);
    assert_true(row < 6 && index >= 0 && index <= 3 && isfinite(x[0]) && isfinite(x[width - 1]));
    s->width = width;
    s->hidden++;
}

static void sink_loss(void *context, int at, size_t row, double nats)
{
    struct sunk *s = context;
    assert_int_equal(at, 0);
    assert_int_equal(row, s->losses++);
    s->loss = nats;
}

static void sinks(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(1, false);
    gdn_session *s = open_session(model);
    struct sunk sunk = {.next = -1};
    const struct gdn_sink all = {&sunk, sink_logits, sink_hidden, sink_loss};
    struct gdn_feed piece = {.session = s, .ids = text, .n = 6, .first = 4};
    sunk.next = text[5];
    accepted(gdn_step(&piece, 1, &all, &err));
    assert_int_equal(sunk.rows, 2);
    assert_int_equal(sunk.first, 4);
    assert_int_equal(sunk.last, 5);
    assert_int_equal(sunk.hidden, 6 * 4); /* embedding, two layers, after the norm */
    assert_int_equal(sunk.width, 34);
    assert_int_equal(sunk.losses, 5);
    assert_true(fabs(sunk.loss - sunk.want) < 1e-4);
    assert_int_equal(sunk.best, best(s));
    sunk = (struct sunk){.next = -1};
    piece.last_only = true;
    accepted(gdn_step(&piece, 1, &all, &err));
    assert_int_equal(sunk.rows, 1);
    assert_int_equal(sunk.last, 5);
    sunk = (struct sunk){.next = -1};
    piece.last_only = false;
    piece.first = 1000; /* beyond the end: none */
    accepted(gdn_step(&piece, 1, &all, &err));
    assert_int_equal(sunk.rows, 0);
    assert_int_equal(gdn_session_position(s), 18);
    gdn_model_close(model);
}

/* ---- fork and rewind ------------------------------------------------------------------------- */

static void fork_goes_on(void **state)
{
    (void)state;
    int32_t one[10], other[10];
    gdn_model *model = open_tiny(2, false);
    gdn_session *s = open_session(model), *fork;
    feed(s, text, 21);
    accepted(gdn_session_fork(s, &fork, &err));
    assert_int_equal(gdn_session_position(fork), 21);
    assert_int_equal(best(fork), best(s)); /* without a token of its own */
    generate(s, one, 10);
    generate(fork, other, 10);
    assert_memory_equal(one, other, sizeof one);
    gdn_session_free(s);
    feed(fork, text, 5);
    assert_int_equal(gdn_session_position(fork), 36);
    gdn_model_close(model);
}

static void rewind_has_limits(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(2, false);
    gdn_session *s = open_session(model), *never = open_session(model);
    int32_t id;
    assert_int_equal(gdn_session_rewindable(s), 0);
    accepted(gdn_session_rewind(s, 0, &err));
    refused(USAGE, "found 1 tokens, the log holds 0", gdn_session_rewind(s, 1, &err));
    for (int n = 1; n <= 40; n++) {
        feed(s, text + n - 1, 1);
        assert_int_equal(gdn_session_rewindable(s), 1 + (n - 1) % 16); /* one is always possible */
    }
    refused(USAGE, "found 9 tokens, the log holds 8", gdn_session_rewind(s, 9, &err));
    refused(USAGE, "found -1 tokens", gdn_session_rewind(s, -1, &err));
    assert_int_equal(gdn_session_position(s), 40);
    const int32_t kept = best(s); /* refusals and a rewind of nothing keep the distribution */
    accepted(gdn_session_rewind(s, 0, &err));
    assert_int_equal(best(s), kept);
    accepted(gdn_session_rewind(s, 5, &err));
    assert_int_equal(gdn_session_position(s), 35);
    assert_int_equal(gdn_session_rewindable(s), 3);
    refused(USAGE, "feed a token first", gdn_session_sample(s, &greedy, &id, &err));
    feed(s, text + 7, 2);
    feed(never, text, 35);
    feed(never, text + 7, 2);
    int32_t a[8], b[8];
    generate(s, a, 8);
    generate(never, b, 8);
    assert_memory_equal(a, b, sizeof a);
    gdn_model_close(model);
}

/* The tokens are what is part of the sequence now, however it came about. */
static void tokens(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(2, true);
    gdn_session *s = open_session(model), *fork;
    feed(s, text, 12);
    accepted(gdn_session_draft(s, text + 30, 5, NULL, &err));
    assert_int_equal(gdn_session_commit(s, 3), 3);
    feed(s, text + 20, 1);
    accepted(gdn_session_rewind(s, 2, &err));
    accepted(gdn_session_fork(s, &fork, &err));
    feed(s, text + 1, 2);
    feed(fork, text + 5, 2);
    int32_t want[16];
    memcpy(want, text, 12 * sizeof *want);
    memcpy(want + 12, text + 30, 2 * sizeof *want);
    for (int i = 0; i < 2; i++, s = fork) {
        assert_int_equal(gdn_session_position(s), 16);
        memcpy(want + 14, text + (i ? 5 : 1), 2 * sizeof *want);
        assert_memory_equal(gdn_session_tokens(s), want, sizeof want);
    }
    gdn_model_close(model);
}

/* ---- drafts ---------------------------------------------------------------------------------- */

static void drafts(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(1, true);
    gdn_session *s = open_session(model);
    int32_t id;
    feed(s, text, 20);
    const int32_t before = best(s);
    refused(USAGE, "17 tokens: need at most 16", gdn_session_draft(s, text, 17, NULL, &err));
    accepted(gdn_session_draft(s, text, 6, NULL, &err));
    assert_int_equal(gdn_session_position(s), 20);
    assert_int_equal(best(s), before); /* nothing has become part of the sequence */
    assert_int_equal(gdn_session_commit(s, 0), 0);
    assert_int_equal(gdn_session_commit(s, 6), 0); /* decided is decided */
    assert_int_equal(best(s), before);
    accepted(gdn_session_draft(s, text, 6, NULL, &err));
    assert_int_equal(gdn_session_commit(s, -2), 0);
    accepted(gdn_session_draft(s, text, 6, NULL, &err));
    assert_int_equal(gdn_session_commit(s, 100), 6);
    assert_int_equal(gdn_session_position(s), 26);
    refused(USAGE, "feed a token first", gdn_session_sample(s, &greedy, &id, &err));
    assert_true(gdn_session_rewindable(s) >= 6);
    feed(s, text, 1);
    assert_int_equal(gdn_session_commit(s, 1), 0);
    gdn_model_close(model);
    model = open_tiny(1, false);
    s = open_session(model);
    refused(USAGE, "opened to speculate", gdn_session_draft(s, text, 1, NULL, &err));
    gdn_model_close(model);
}

/* ---- the end --------------------------------------------------------------------------------- */

static bool zero(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    while (bytes > 0 && p[bytes - 1] == 0) bytes--;
    return bytes == 0;
}

/* Of a session that is gone neither tokens nor their distribution, states, keys or values are left,
 * those included that were taken back or put aside. */
static void nothing_is_left(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(1, true);
    gdn_session *s = open_session(model);
    gdn_snapshot *snapshot;
    feed(s, text, 20);
    accepted(gdn_session_snapshot(s, &snapshot, &err));
    feed(s, text + 20, 20);
    accepted(gdn_session_draft(s, text, 9, NULL, &err));
    assert_int_equal(gdn_session_commit(s, 5), 5);
    accepted(gdn_session_rewind(s, 7, &err));
    accepted(gdn_session_restore(s, snapshot, &err));
    gdn_snapshot_free(snapshot);
    gdn_session_free(s);
    const struct state *st = &model->engine.state;
    assert_true(zero(model->tokens, sizeof(int32_t) * (size_t)model->engine.context));
    assert_true(zero(s->best_values, sizeof s->best_values) && zero(s->draft, sizeof s->draft));
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_state *l = &st->layer[i];
        const size_t n = (size_t)(st->slots * st->entries);
        const size_t kv = (size_t)(l->kv.pages * PAGE * l->kv.Hkv * l->kv.D);
        if (l->shape.kind == LAYER_ATTN)
            assert_true(zero(l->kv.k, 4 * kv) && zero(l->kv.v, 4 * kv));
        else
            assert_true(zero(l->delta.anchor, 4 * (size_t)(st->slots * l->delta.anchor_elements)) &&
                        zero(l->delta.k, 4 * n * (size_t)(l->delta.Hk * l->delta.Dk)) &&
                        zero(l->delta.u, 4 * n * (size_t)(l->delta.Hv * l->delta.Dv)) &&
                        zero(l->conv.x, 4 * (size_t)(st->slots * l->conv.ring * l->conv.C)));
    }
    gdn_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_more_than_asked_for), cmocka_unit_test(not_a_session),
        cmocka_unit_test(two_in_turn),            cmocka_unit_test(sampling),
        cmocka_unit_test(sinks),                  cmocka_unit_test(fork_goes_on),
        cmocka_unit_test(rewind_has_limits),      cmocka_unit_test(tokens),
        cmocka_unit_test(drafts),                 cmocka_unit_test(nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
