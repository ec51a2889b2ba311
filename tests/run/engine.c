/* engine.c: what a step refuses, and that a refusal changes nothing; how a batch is cut into
 * passes. */
#include "rig.h"

static const char *const models[] = {"q35-r2-untied", "q35-r4-odd"};
enum { MODELS = 2 };

static const struct engine_options plain = {.slots = 3, .entries = 2 * BLOCK, .context = 100};

static void refused(struct rig *r, const struct piece *pieces, int count, bool draft,
                    const char *found, const char *need)
{
    struct gdn_error err = {0};
    struct seen seen;
    const struct sink sink = see(&seen);
    const enum gdn_status got = engine_step(&r->engine, pieces, count, draft, &sink, &err);
    if (got != GDN_ERR_USAGE || err.status != got || !strstr(err.text, found) ||
        !strstr(err.text, need))
        fail_msg("found %d %s, need ...%s...%s", (int)got, err.text, found, need);
    const struct seen nothing = {0};
    assert_memory_equal(&seen, &nothing, sizeof seen);
}

/* Each of these, tried at position 40 of slot 0, where the context holds 100. */
static void try_all(struct rig *r)
{
    int32_t ids[RIG_IDS];
    memcpy(ids, r->ids, sizeof ids);
    const int32_t vocab = r->config.vocab;
    char low[40];
    snprintf(low, sizeof low, "need 0 to %d", vocab - 1);
    const struct piece one = piece_of(0, ids, 1), two = piece_of(1, ids, 1);
    refused(r, (struct piece[]){one, two, one, two}, 4, false, "4 sequences", "3 slots");
    refused(r, (struct piece[]){one, two, one}, 3, false, "twice", "");
    ids[2] = -1;
    refused(r, &(struct piece){.ids = ids, .n = 3}, 1, false, "token 2: found id -1", low);
    ids[2] = vocab;
    refused(r, &(struct piece){.ids = ids, .n = 3}, 1, false, "token 2: found id ", low);
    refused(r, (struct piece[]){two, piece_of(0, ids, 3)}, 2, true, "token 2: found id ", low);
    ids[2] = 0;
    refused(r, &(struct piece){.ids = ids, .n = 17}, 1, true, "17 tokens", "at most 16");
    refused(r, &(struct piece){.ids = ids, .n = 61}, 1, false, "have 101 tokens", "holds 100");
    refused(r, (struct piece[]){two, piece_of(0, ids, 200)}, 2, false, "have 240 tokens",
            "holds 100");
    refused(r, &(struct piece){.slot = 2, .ids = ids, .n = 1}, 1, false, "not usable", "");
}

static void refusals_change_nothing(void **state)
{
    (void)state;
    for (int m = 0; m < MODELS; m++) {
        struct rig r, never;
        rig_open(&r, models[m], plain);
        rig_open(&never, models[m], plain);
        for (int i = 0; i < 2; i++)
            assert_int_equal(rig_sequence(&r, 40), rig_sequence(&never, 40));
        const struct mem_count before = mem_counted();
        try_all(&r);
        assert_int_equal(mem_counted().takes, before.takes);
        assert_int_equal(rig_position(&r, 0), 40);
        same_future(&r, 0, &never, 0, "after the refusals");
        same_future(&r, 1, &never, 1, "the other piece of refused batches");
        rig_close(&r);
        rig_close(&never);
    }
}

/* The last token that fits is taken, the next is not; the same for a draft. */
static void context_is_exact(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, models[0], plain);
    const int32_t s = rig_sequence(&r, 90);
    refused(&r, &(struct piece){.slot = s, .ids = r.ids, .n = 11}, 1, true, "have 101 tokens",
            "holds 100");
    const struct piece ten = piece_of(s, r.ids, 10);
    rig_step(&r, &ten, 1, true);
    assert_int_equal(state_commit(&r.engine.state, s, 9), 9);
    rig_feed(&r, s, r.ids, 1);
    assert_int_equal(rig_position(&r, s), 100);
    refused(&r, &(struct piece){.slot = s, .ids = r.ids, .n = 1}, 1, false, "have 101 tokens",
            "holds 100");
    refused(&r, &(struct piece){.slot = s, .ids = r.ids, .n = INT32_MAX}, 1, true, "2147483647",
            "at most 16");
    assert_int_equal(state_rewind(&r.engine.state, s, 1, &r.err), GDN_OK);
    rig_feed(&r, s, r.ids, 1);
    rig_close(&r);
}

/* Without the double log there is no room for a draft, of whatever length. */
static void draft_needs_room(void **state)
{
    (void)state;
    struct rig r, never;
    struct engine_options narrow = plain;
    narrow.entries = BLOCK;
    rig_open(&r, models[0], narrow);
    rig_open(&never, models[0], narrow);
    const int32_t s = rig_sequence(&r, 20);
    assert_int_equal(rig_sequence(&never, 20), s);
    refused(&r, &(struct piece){.slot = s, .ids = r.ids, .n = 1}, 1, true, "1 tokens",
            "a session opened to speculate");
    assert_int_equal(state_commit(&r.engine.state, s, 1), 0);
    same_future(&r, s, &never, s, "after a draft without room");
    rig_close(&r);
    rig_close(&never);
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* Three sequences at different positions get pieces of 30, 1 and 9 rows, logits from row 4, 0 and 9
 * on, in passes of `max_rows`. */
static struct seen ragged(struct rig *r, const char *model, int32_t max_rows)
{
    struct engine_options o = plain;
    o.max_rows = max_rows;
    rig_open(r, model, o);
    const int32_t s[3] = {rig_sequence(r, 3), rig_sequence(r, 17), rig_sequence(r, 0)};
    struct piece pieces[3] = {piece_of(s[0], r->ids + 3, 30), piece_of(s[1], r->ids + 17, 1),
                              piece_of(s[2], r->ids, 9)};
    pieces[0].first_logits = 4;
    pieces[2].first_logits = 9;
    pieces[2].best = BEST_NONE;
    const struct seen seen = rig_step(r, pieces, 3, false);
    static const int32_t rows[3] = {26, 1, 0}, losses[3] = {29, 0, 8}, bests[3] = {1, 1, 0};
    assert_memory_equal(seen.rows, rows, sizeof rows);
    assert_memory_equal(seen.losses, losses, sizeof losses);
    assert_memory_equal(seen.bests, bests, sizeof bests);
    assert_int_equal(seen.first[0], 4);
    assert_int_equal(rig_position(r, s[0]), 33);
    assert_int_equal(rig_position(r, s[1]), 18);
    assert_int_equal(rig_position(r, s[2]), 9);
    return seen;
}

static void any_pass_length(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 2, 7, 16, 31, 39, 40};
    for (int m = 0; m < MODELS; m++) {
        struct rig whole, cut;
        const struct seen all = ragged(&whole, models[m], 512);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            const struct seen some = ragged(&cut, models[m], lengths[i]);
            for (int p = 0; p < 3; p++) same_seen(&all, p, &some, p, "a pass that is cut");
            rig_close(&cut);
        }
        rig_close(&whole);
    }
}

/* Drafts of one batch that do not fit one pass: each is verified whole, in the next. */
static void drafts_are_not_cut(void **state)
{
    (void)state;
    static const int32_t n[3] = {5, 5, 3};
    for (int32_t max_rows = 5; max_rows <= 13; max_rows++) {
        struct engine_options o = plain;
        struct rig r, alone;
        rig_open(&alone, models[0], o);
        o.max_rows = max_rows;
        rig_open(&r, models[0], o);
        struct piece pieces[3];
        for (int i = 0; i < 3; i++)
            pieces[i] = piece_of(rig_sequence(&r, 12 + i), r.ids + 12 + i, n[i]);
        const struct seen all = rig_step(&r, pieces, 3, true);
        for (int i = 0; i < 3; i++) {
            struct piece one = pieces[i];
            assert_int_equal(rig_sequence(&alone, 12 + i), one.slot);
            const struct seen seen = rig_step(&alone, &one, 1, true);
            same_seen(&all, i, &seen, 0, "a draft in a batch");
            assert_int_equal(state_commit(&r.engine.state, one.slot, n[i] - 1), n[i] - 1);
            assert_int_equal(state_commit(&alone.engine.state, one.slot, n[i] - 1), n[i] - 1);
            same_future(&r, one.slot, &alone, one.slot, "after a draft in a batch");
        }
        refused(&r, &(struct piece){.slot = 0, .ids = r.ids, .n = max_rows + 1}, 1, true, "tokens",
                "at most ");
        rig_close(&r);
        rig_close(&alone);
    }
}

/* Pieces without rows are passed over, and a batch of them is nothing at all. */
static void empty_pieces(void **state)
{
    (void)state;
    struct rig r, never;
    rig_open(&r, models[0], plain);
    rig_open(&never, models[0], plain);
    for (int i = 0; i < 2; i++) assert_int_equal(rig_sequence(&r, 9), rig_sequence(&never, 9));
    const struct piece none[2] = {piece_of(0, NULL, 0), piece_of(1, NULL, 0)};
    struct seen seen = rig_step(&r, none, 2, false);
    assert_int_equal(seen.rows[0] + seen.bests[0], 0);
    rig_step(&r, none, 0, false);
    const struct piece mixed[2] = {none[0], piece_of(1, r.ids + 9, 4)};
    seen = rig_step(&r, mixed, 2, false);
    const struct seen want = rig_feed(&never, 1, r.ids + 9, 4);
    same_seen(&seen, 1, &want, 0, "beside an empty piece");
    same_future(&r, 0, &never, 0, "the empty piece");
    rig_close(&r);
    rig_close(&never);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals_change_nothing), cmocka_unit_test(context_is_exact),
        cmocka_unit_test(draft_needs_room),        cmocka_unit_test(any_pass_length),
        cmocka_unit_test(drafts_are_not_cut),      cmocka_unit_test(empty_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
