/* snapshot.c: put aside and taken up again, in memory or on disk, is never having stopped: the
 * following rows are the same in bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "stage/play.h"

enum { T = 150 };
/* Sanitizers see the same code in fewer positions. */
#if defined(GDN_POISON) && GDN_POISON
enum { EVERY = 7 };
#else
enum { EVERY = 1 };
#endif

struct stage {
    struct play play;
    struct record whole;
    int32_t ids[T], wrong[T];
    struct gdn_error err;
};

static void stage_open(struct stage *st, const char *model, struct play_options options)
{
    *st = (struct stage){0};
    options.sessions = 2;
    options.speculate = true;
    play_open(&st->play, model, &options);
    play_ids(&st->play, 1, st->ids, T);
    play_ids(&st->play, 2, st->wrong, T);
    record_open(&st->whole, &st->play, T);
    gdn_session *s = play_session(&st->play);
    play_feed(s, st->ids, T, NULL, 0, &st->whole);
    gdn_session_free(s);
}

static void stage_close(struct stage *st)
{
    record_close(&st->whole);
    play_close(&st->play);
}

static void goes_on(struct stage *st, gdn_session *s, const char *what)
{
    struct record r;
    const size_t p = (size_t)gdn_session_position(s);
    record_open(&r, &st->play, T);
    assert_memory_equal(gdn_session_tokens(s), st->ids, p * sizeof *st->ids);
    play_feed(s, st->ids + p, T - p, (int32_t[]){1, 20, 3}, 3, &r);
    same_rows(&st->whole, p, &r, 0, T - p, what);
    record_close(&r);
}

/* A session with the first n ids, reached through drafts that cross block edges. */
static gdn_session *drafted_to(struct stage *st, size_t n)
{
    gdn_session *s = play_session(&st->play);
    while ((size_t)gdn_session_position(s) < n) {
        const size_t p = (size_t)gdn_session_position(s), left = n - p;
        struct record none;
        record_open(&none, &st->play, 16);
        play_draft(s, st->ids + p, left < 13 ? left : 13, left < 11 ? (int32_t)left : 11, &none);
        record_close(&none);
    }
    return s;
}

static void each(void (*law)(struct stage *st))
{
    static const struct play_options kinds[] = {
        {.device = "cpu"},
        {.device = "cpu", .compute = GDN_BF16},
        {.device = "cpu", .state = GDN_BF16},
        {.device = "ref"},
    };
    static const char *const models[] = {"q35-r2-untied", "q35-k2-f16"};
    for (size_t m = 0; m < 2; m++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            struct stage st;
            stage_open(&st, models[m], kinds[k]);
            law(&st);
            stage_close(&st);
        }
}

static void snapshots(struct stage *st)
{
    for (size_t at = 1; at < T; at += at < 40 ? EVERY : 13 * EVERY) {
        gdn_session *s = drafted_to(st, at);
        gdn_snapshot *snapshot;
        if (gdn_session_snapshot(s, &snapshot, &st->err) != GDN_OK) fail_msg("%s", st->err.text);
        assert_int_equal(gdn_snapshot_position(snapshot), at);
        assert_true(gdn_snapshot_bytes(snapshot) > 0);
        /* The session goes another way; the snapshot does not follow. */
        play_feed(s, st->wrong, 40, NULL, 0, NULL);
        for (int i = 0; i < 2; i++) {
            if (gdn_session_restore(s, snapshot, &st->err) != GDN_OK) fail_msg("%s", st->err.text);
            goes_on(st, s, "restored");
        }
        gdn_session_free(s);
        s = play_session(&st->play);
        if (gdn_session_restore(s, snapshot, &st->err) != GDN_OK) fail_msg("%s", st->err.text);
        gdn_snapshot_free(snapshot);
        goes_on(st, s, "restored elsewhere, the snapshot gone");
        gdn_session_free(s);
    }
}

static void restored_is_never_stopped(void **state)
{
    (void)state;
    each(snapshots);
}

static void files(struct stage *st)
{
    char path[] = "/tmp/gdn-law-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t at = 1; at < T; at += 11 * EVERY) {
        gdn_session *s = drafted_to(st, at), *t;
        bool converted = true;
        if (gdn_session_save(s, path, &st->err) != GDN_OK) fail_msg("%s", st->err.text);
        play_feed(s, st->wrong, 20, NULL, 0, NULL);
        if (gdn_session_load(st->play.model, path, &t, &converted, &st->err) != GDN_OK)
            fail_msg("%s", st->err.text);
        assert_false(converted);
        goes_on(st, t, "loaded");
        gdn_session_free(s);
        gdn_session_free(t);
    }
    unlink(path);
}

static void loaded_is_never_stopped(void **state)
{
    (void)state;
    each(files);
}

/* What was saved again from a loaded session is the same file. */
static void files_are_canonical(void **state)
{
    (void)state;
    struct stage st;
    struct gdn_error err = {0};
    char a[] = "/tmp/gdn-law-XXXXXX", b[] = "/tmp/gdn-law-XXXXXX", command[128];
    assert_true(mkstemp(a) >= 0 && mkstemp(b) >= 0);
    stage_open(&st, "q35-r2-untied", (struct play_options){.device = "cpu"});
    for (size_t at = 1; at < 60; at += 7) {
        gdn_session *s = drafted_to(&st, at), *plain = play_session(&st.play), *t;
        play_feed(plain, st.ids, at, (int32_t[]){2}, 1, NULL);
        assert_int_equal(gdn_session_save(plain, b, &err), GDN_OK);
        gdn_session_free(plain);
        assert_int_equal(gdn_session_load(st.play.model, b, &t, NULL, &err), GDN_OK);
        assert_int_equal(gdn_session_save(t, a, &err), GDN_OK);
        snprintf(command, sizeof command, "cmp %s %s", a, b);
        assert_int_equal(system(command), 0);
        gdn_session_free(s);
        gdn_session_free(t);
    }
    unlink(a);
    unlink(b);
    stage_close(&st);
}

static void nothing_leaks(void **state)
{
    (void)state;
    const struct mem_count before = mem_counted();
    struct stage st;
    stage_open(&st, "q35-r2-untied", (struct play_options){.device = "cpu"});
    snapshots(&st);
    stage_close(&st);
    assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    assert_int_equal(mem_counted().live_bytes, before.live_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restored_is_never_stopped),
        cmocka_unit_test(loaded_is_never_stopped),
        cmocka_unit_test(files_are_canonical),
        cmocka_unit_test(nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
