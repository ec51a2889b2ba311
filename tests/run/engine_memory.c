/* engine_memory.c: memory runs out, when an engine opens and in the middle of a step. A step of one
 * row is then as if it had not been asked for; a longer one leaves its sequence unusable, and says
 * so; no other sequence notices. */
#include "rig.h"

static const struct engine_options plain = {.slots = 3, .entries = 2 * BLOCK, .context = 128};

/* ---- opening --------------------------------------------------------------------------------- */

static void opening_fails(bool forever)
{
    struct rig r;
    rig_files(&r, "q35-r2-untied", 1);
    for (int64_t n = 1;; n++) {
        const int64_t live = mem_counted().live_blocks;
        struct gdn_error err = {0};
        mem_fail_after(n, forever);
        const enum gdn_status got = engine_open(&r.engine, &r.config, &r.weights, r.config.vocab,
                                                r.device, &plain, &err);
        mem_fail_after(0, false);
        if (got == GDN_OK) {
            assert_true(n > 30); /* state, arenas, buffers */
            rig_feed(&r, state_slot_take(&r.engine.state), r.ids, 5);
            rig_close(&r);
            assert_true(mem_counted().live_blocks < live);
            return;
        }
        if (got != GDN_ERR_MEMORY || err.status != got || !strstr(err.text, "no memory for"))
            fail_msg("allocation %lld: found %d %s", (long long)n, (int)got, err.text);
        engine_close(&r.engine); /* what failed to open may be closed */
        assert_int_equal(mem_counted().live_blocks, live);
    }
}

static void every_allocation_of_open_fails(void **state)
{
    (void)state;
    const int64_t live = mem_counted().live_blocks;
    opening_fails(false);
    opening_fails(true);
    assert_int_equal(mem_counted().live_blocks, live);
}

/* Too large to be counted: refused before anything is taken. */
static void too_large(void **state)
{
    (void)state;
    struct rig r;
    rig_files(&r, "q35-r2-untied", 1);
    const struct engine_options huge = {.slots = 65536, .entries = BLOCK, .context = 1 << 30};
    struct gdn_error err = {0};
    const struct mem_count before = mem_counted();
    assert_int_equal(engine_open(&r.engine, &r.config, &r.weights, r.config.vocab, r.device, &huge,
                                 &err),
                     GDN_ERR_MEMORY);
    assert_non_null(strstr(err.text, "65536 slots and 1073741824 positions"));
    assert_true(mem_counted().peak_bytes < before.peak_bytes + (1 << 20));
    rig_close(&r);
}

/* ---- a step ---------------------------------------------------------------------------------- */

/* The scratch arena as if it had been made too small. */
static size_t shrink(struct rig *r, size_t bytes)
{
    const size_t whole = r->engine.data.size;
    r->engine.data.size = bytes;
    return whole;
}

/* Runs the step with `bytes` of scratch; true when it failed, as it must: with the status, the
 * sentence, and no position moved but those of pieces that had gone through. */
static bool starved(struct rig *r, const struct piece *pieces, int count, bool draft, size_t bytes)
{
    struct seen seen;
    struct sink sink = see(&seen);
    sink.hidden = NULL;
    struct gdn_error err = {0};
    const size_t whole = shrink(r, bytes);
    const enum gdn_status got = engine_step(&r->engine, pieces, count, draft, &sink, &err);
    r->engine.data.size = whole;
    if (got == GDN_OK) return false;
    if (got != GDN_ERR_MEMORY || err.status != got ||
        !strstr(err.text, "its scratch memory did not suffice"))
        fail_msg("%zu bytes of scratch: found %d %s", bytes, (int)got, err.text);
    for (int i = 0; i < count; i++) assert_int_equal(seen.bests[i], 0);
    return true;
}

/* One token, tried with ever more scratch until it suffices: each try fails in another op, in
 * another layer, some behind a fold. Positions around the edges of blocks and pages. */
static void a_token_may_fail(void **state)
{
    (void)state;
    static const char *const models[] = {"q35-r2-untied", "q35-r4-odd", "q35-r1-tied"};
    static const int32_t positions[] = {0, 1, 15, 16, 17, 31, 32, 63, 64};
    for (int m = 0; m < 3; m++) {
        struct rig r, never;
        rig_open(&r, models[m], plain);
        rig_open(&never, models[m], plain);
        for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
            const int32_t at = positions[i], s = rig_sequence(&r, at), t = rig_sequence(&never, at);
            const struct piece one = piece_of(s, r.ids + at, 1);
            size_t bytes = 0, tries = 0;
            while (starved(&r, &one, 1, false, bytes)) {
                assert_int_equal(rig_position(&r, s), at);
                bytes += 64 + bytes / 8;
                tries++;
            }
            assert_true(tries > 20);
            assert_int_equal(rig_position(&r, s), at + 1);
            rig_feed(&never, t, never.ids + at, 1);
            same_future(&r, s, &never, t, "after tokens that failed");
            state_slot_give(&r.engine.state, s);
            state_slot_give(&never.engine.state, t);
        }
        rig_close(&r);
        rig_close(&never);
    }
}

/* A verify pass that failed has decided nothing: neither it nor the one before can be committed. */
static void a_draft_may_fail(void **state)
{
    (void)state;
    for (int32_t at = 10; at < 24; at += 3) {
        struct rig r, never;
        rig_open(&r, "q35-r2-untied", plain);
        rig_open(&never, "q35-r2-untied", plain);
        const int32_t s = rig_sequence(&r, at), t = rig_sequence(&never, at);
        const struct piece before = piece_of(s, r.ids + 100, 7), draft = piece_of(s, r.ids + at, 9);
        int tries = 0;
        for (size_t bytes = 1 << 10;; bytes += bytes / 2, tries++) {
            rig_step(&r, &before, 1, true);
            if (!starved(&r, &draft, 1, true, bytes)) break;
            assert_int_equal(state_commit(&r.engine.state, s, 7), 0);
            assert_int_equal(rig_position(&r, s), at);
        }
        assert_in_range(tries, 10, 30);
        assert_int_equal(state_commit(&r.engine.state, s, 2), 2);
        rig_feed(&never, t, never.ids + at, 2);
        same_future(&r, s, &never, t, "after drafts that failed");
        rig_close(&r);
        rig_close(&never);
    }
}

/* In one batch: a token, which is as before; a prefill, which is lost; a bystander. */
static void a_prefill_is_lost(void **state)
{
    (void)state;
    struct rig r, never;
    rig_open(&r, "q35-r2-untied", plain);
    rig_open(&never, "q35-r2-untied", plain);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig_sequence(&r, 20), rig_sequence(&never, 20));
    const struct piece pieces[2] = {piece_of(0, r.ids + 20, 1), piece_of(1, r.ids + 20, 5)};
    assert_true(starved(&r, pieces, 2, false, 20000));
    assert_int_equal(rig_position(&r, 0), 20);
    struct gdn_error err = {0};
    assert_int_equal(engine_step(&r.engine, &pieces[1], 1, false, NULL, &err), GDN_ERR_USAGE);
    assert_non_null(strstr(err.text, "not usable: an earlier step of it failed half-way"));
    err = (struct gdn_error){0};
    assert_int_equal(engine_step(&r.engine, pieces, 2, false, NULL, &err), GDN_ERR_USAGE);
    assert_int_equal(rig_position(&r, 0), 20);
    same_future(&r, 0, &never, 0, "a token beside a prefill that failed");
    same_future(&r, 2, &never, 2, "a bystander");
    /* The slot itself is not lost: cleared, it is as good as new. */
    state_slot_give(&r.engine.state, 1);
    state_slot_give(&never.engine.state, 1);
    assert_int_equal(rig_sequence(&r, 20), 1);
    assert_int_equal(rig_sequence(&never, 20), 1);
    same_future(&r, 1, &never, 1, "the slot again");
    rig_close(&r);
    rig_close(&never);
}

/* ---- a step of many passes ------------------------------------------------------------------- */

struct trap {
    struct seen seen;
    struct rig *rig;
    size_t whole;
};

/* Scratch is gone as soon as the first piece has come through. */
static bool spring(void *context, int piece, int32_t row, const struct best *best)
{
    struct trap *t = context;
    see_best(&t->seen, piece, row, best);
    t->whole = shrink(t->rig, 0);
    return false;
}

/* Passes of 4 rows: a token and the head of a prefill go through; the second pass fails. */
static void the_second_pass_fails(void **state)
{
    (void)state;
    struct rig r, never;
    struct engine_options four = plain;
    four.max_rows = 4;
    rig_open(&r, "q35-r2-untied", four);
    rig_open(&never, "q35-r2-untied", four);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig_sequence(&r, 16), rig_sequence(&never, 16));
    const struct piece pieces[3] = {piece_of(0, r.ids + 16, 1), piece_of(1, r.ids + 16, 9),
                                    piece_of(2, r.ids + 16, 6)};
    struct trap trap = {.rig = &r};
    const struct sink sink = {.context = &trap, .best = spring};
    struct gdn_error err = {0};
    assert_int_equal(engine_step(&r.engine, pieces, 3, false, &sink, &err), GDN_ERR_MEMORY);
    r.engine.data.size = trap.whole;
    assert_int_equal(trap.seen.bests[0], 1);
    assert_int_equal(trap.seen.bests[1] + trap.seen.bests[2], 0);
    /* The token is taken back, the prefill is lost, the third piece was never begun. */
    assert_int_equal(rig_position(&r, 0), 16);
    assert_int_equal(r.engine.state.slot[1].status, SLOT_INVALID);
    same_future(&r, 0, &never, 0, "a token that was taken back");
    same_future(&r, 2, &never, 2, "a piece that was never begun");
    rig_close(&r);
    rig_close(&never);
}

/* Two drafts in two passes, of which the second fails: neither can be committed. */
static void the_second_draft_fails(void **state)
{
    (void)state;
    struct rig r, never;
    struct engine_options four = plain;
    four.max_rows = 4;
    rig_open(&r, "q35-r2-untied", four);
    rig_open(&never, "q35-r2-untied", four);
    for (int i = 0; i < 2; i++)
        assert_int_equal(rig_sequence(&r, 14), rig_sequence(&never, 14));
    const struct piece pieces[2] = {piece_of(0, r.ids + 14, 3), piece_of(1, r.ids + 14, 3)};
    struct trap trap = {.rig = &r};
    const struct sink sink = {.context = &trap, .best = spring};
    struct gdn_error err = {0};
    assert_int_equal(engine_step(&r.engine, pieces, 2, true, &sink, &err), GDN_ERR_MEMORY);
    r.engine.data.size = trap.whole;
    for (int32_t i = 0; i < 2; i++) {
        assert_int_equal(state_commit(&r.engine.state, i, 3), 0);
        assert_int_equal(rig_position(&r, i), 14);
        same_future(&r, i, &never, i, "after a batch of drafts that failed");
    }
    rig_close(&r);
    rig_close(&never);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_open_fails), cmocka_unit_test(too_large),
        cmocka_unit_test(a_token_may_fail),               cmocka_unit_test(a_draft_may_fail),
        cmocka_unit_test(a_prefill_is_lost),              cmocka_unit_test(the_second_pass_fails),
        cmocka_unit_test(the_second_draft_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
