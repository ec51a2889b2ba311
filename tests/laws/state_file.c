/* state_file.c: memory or the disk fails in the midst of a call on sessions: an error that says so,
 * nothing kept, and every session goes on in bits as if the call had never been made. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "stage/play.h"

enum { T = 90, AT = 41 };

struct stage {
    struct play play;
    struct record whole;
    int32_t ids[T];
    gdn_session *s, *other; /* at AT and at AT - 10 */
    gdn_snapshot *snapshot; /* of s */
    char folder[32], path[48], probe[48];
    char *bytes[2]; /* the file of s, and of other */
    size_t len[2];
    struct gdn_error err;
};

static void must(struct stage *st, enum gdn_status status)
{
    if (status != GDN_OK) fail_msg("%s", st->err.text);
}

static void read_whole(const char *path, char **data, size_t *len)
{
    assert_int_equal(file_read(path, 1 << 28, data, len, NULL), GDN_OK);
}

/* The session is what it was: its file is the same, to the byte. */
static void unchanged(struct stage *st, gdn_session *s, int which)
{
    char *data;
    size_t len;
    error_clear(&st->err);
    must(st, gdn_session_save(s, st->probe, &st->err));
    read_whole(st->probe, &data, &len);
    assert_int_equal(len, st->len[which]);
    assert_memory_equal(data, st->bytes[which], len);
    mem_give(data);
}

static void stage_open(struct stage *st, const char *model)
{
    const struct play_options options = {.sessions = 3, .speculate = true, .threads = 1};
    *st = (struct stage){0};
    snprintf(st->folder, sizeof st->folder, "%s/gdn-law-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(st->folder));
    snprintf(st->path, sizeof st->path, "%s/f", st->folder);
    snprintf(st->probe, sizeof st->probe, "%s/probe", st->folder);
    play_open(&st->play, model, &options);
    play_ids(&st->play, 1, st->ids, T);
    record_open(&st->whole, &st->play, T);
    st->s = play_session(&st->play);
    play_feed(st->s, st->ids, T, NULL, 0, &st->whole);
    gdn_session_free(st->s);
    /* A commit across a block edge: what is overdue is folded when it is put aside. */
    st->s = play_session(&st->play);
    st->other = play_session(&st->play);
    play_feed(st->s, st->ids, AT - 11, NULL, 0, NULL);
    play_draft(st->s, st->ids + AT - 11, 13, 10, NULL);
    play_feed(st->s, st->ids + AT - 1, 1, NULL, 0, NULL);
    play_feed(st->other, st->ids, AT - 10, NULL, 0, NULL);
    for (int i = 0; i < 2; i++) {
        must(st, gdn_session_save(i ? st->other : st->s, st->path, &st->err));
        read_whole(st->path, &st->bytes[i], &st->len[i]);
    }
    must(st, gdn_session_snapshot(st->s, &st->snapshot, &st->err));
}

/* The rest of the text gives the rows it always gave. */
static void goes_on(struct stage *st, gdn_session *s)
{
    struct record r;
    const size_t p = (size_t)gdn_session_position(s);
    record_open(&r, &st->play, T);
    play_feed(s, st->ids + p, T - p, (int32_t[]){1, 7}, 2, &r);
    same_rows(&st->whole, p, &r, 0, T - p, "after what failed");
    record_close(&r);
}

static void stage_close(struct stage *st)
{
    unchanged(st, st->s, 0);
    unchanged(st, st->other, 1);
    goes_on(st, st->s);
    goes_on(st, st->other);
    gdn_snapshot_free(st->snapshot);
    mem_give(st->bytes[0]);
    mem_give(st->bytes[1]);
    record_close(&st->whole);
    play_close(&st->play);
    unlink(st->path);
    unlink(st->probe);
    assert_int_equal(rmdir(st->folder), 0);
}

/* ---- the calls ------------------------------------------------------------------------------- */

typedef enum gdn_status deed(struct stage *st);

static enum gdn_status put_aside(struct stage *st)
{
    gdn_snapshot *made;
    const enum gdn_status status = gdn_session_snapshot(st->s, &made, &st->err);
    assert_int_equal(status == GDN_OK, made != NULL);
    gdn_snapshot_free(made);
    return status;
}

static enum gdn_status restore(struct stage *st)
{
    return gdn_session_restore(st->s, st->snapshot, &st->err);
}

static enum gdn_status save(struct stage *st)
{
    return gdn_session_save(st->s, st->path, &st->err);
}

/* The faults are over, and so is a session that was made. */
static enum gdn_status drop(enum gdn_status status, gdn_session *made)
{
    mem_fail_after(0, false);
    file_fail_after(0, 0, false);
    assert_int_equal(status == GDN_OK, made != NULL);
    gdn_session_free(made);
    return status;
}

static enum gdn_status load(struct stage *st)
{
    gdn_session *made;
    const enum gdn_status status = gdn_session_load(st->play.model, st->path, &made, NULL,
                                                    &st->err);
    return drop(status, made);
}

static enum gdn_status fork_it(struct stage *st)
{
    gdn_session *made;
    const enum gdn_status status = gdn_session_fork(st->s, &made, &st->err);
    return drop(status, made);
}

static enum gdn_status begin(struct stage *st)
{
    gdn_session *made;
    const enum gdn_status status = gdn_session_new(st->play.model, &made, &st->err);
    return drop(status, made);
}

static enum gdn_status verify(struct stage *st)
{
    struct gdn_state_file info;
    return gdn_state_file_verify(st->path, &info, &st->err);
}

/* A step takes no memory at all: told to fail, it does not. */
static enum gdn_status step(struct stage *st)
{
    const int32_t *next = st->ids + AT;
    TRY(gdn_session_draft(st->s, next, 5, NULL, &st->err));
    gdn_session_commit(st->s, 3);
    TRY(gdn_session_feed(st->s, next + 3, 1, &st->err));
    TRY(gdn_session_rewind(st->s, 4, &st->err));
    return gdn_session_restore(st->s, st->snapshot, &st->err); /* its distribution, too */
}

struct call {
    const char *name;
    deed *act;
    int sites; /* of allocation */
};
static const struct call calls[] = {
    {"snapshot", put_aside, 3}, {"restore", restore, 0}, {"save", save, 5}, {"load", load, 4},
    {"fork", fork_it, 0},       {"new", begin, 0},       {"verify", verify, 2}, {"step", step, 0},
};
enum { CALLS = sizeof calls / sizeof *calls };

/* ---- memory ---------------------------------------------------------------------------------- */

static void sweep_memory(struct stage *st, const struct call *c, bool forever)
{
    for (int n = 1; n <= c->sites + 1; n++) {
        const struct mem_count before = mem_counted();
        error_clear(&st->err);
        mem_fail_after(n, forever);
        const enum gdn_status status = c->act(st);
        mem_fail_after(0, false);
        if (status != (n <= c->sites ? GDN_ERR_MEMORY : GDN_OK) || status != st->err.status)
            fail_msg("%s, allocation %d: status %d %s", c->name, n, (int)status, st->err.text);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
        assert_int_equal(mem_counted().live_bytes, before.live_bytes);
        unchanged(st, st->s, 0);
        unchanged(st, st->other, 1);
    }
}

static void every_allocation(void **state)
{
    (void)state;
    static const char *const models[] = {"q35-r2-untied", "q35-k2-f16"};
    for (int m = 0; m < 2; m++) {
        struct stage st;
        stage_open(&st, models[m]);
        for (int c = 0; c < CALLS; c++)
            for (int forever = 0; forever < 2; forever++) sweep_memory(&st, &calls[c], forever);
        stage_close(&st);
    }
}

/* The first session opens the engine; what could not be opened can be opened again. */
static void every_allocation_of_the_first_session(void **state)
{
    (void)state;
    struct stage st;
    stage_open(&st, "q35-r2-untied");
    const struct mem_count before = mem_counted();
    for (int forever = 0; forever < 2; forever++)
        for (int n = 1, more = 1; more; n++) {
            struct play p;
            gdn_session *s;
            play_open(&p, "q35-r2-untied", &(struct play_options){.speculate = true, .threads = 1});
            mem_fail_after(n, forever);
            error_clear(&st.err);
            const enum gdn_status status = gdn_session_new(p.model, &s, &st.err);
            mem_fail_after(0, false);
            more = status != GDN_OK;
            if (more) assert_true(status == GDN_ERR_MEMORY && !s && st.err.text[0]);
            if (more) s = play_session(&p);
            play_feed(s, st.ids, 20, NULL, 0, NULL);
            goes_on(&st, s);
            play_close(&p);
            assert_int_equal(mem_counted().live_bytes, before.live_bytes);
            assert_true(n < 1000);
            if (!more) assert_true(n > 10);
        }
    stage_close(&st);
}

/* ---- the disk -------------------------------------------------------------------------------- */

static int64_t made_calls;

static void count(void *context, const struct file_event *e)
{
    (void)context, (void)e;
    made_calls++;
}

static void sweep_disk(struct stage *st, deed *act, int code, bool forever)
{
    for (int64_t n = 1, more = 1; more; n++) {
        char *data;
        size_t len;
        must(st, gdn_session_save(st->other, st->path, &st->err));
        const struct mem_count before = mem_counted();
        made_calls = 0;
        file_watch(count, NULL);
        file_fail_after(n, code, forever);
        const enum gdn_status status = act(st);
        file_fail_after(0, 0, false);
        file_watch(NULL, NULL);
        more = made_calls >= n;
        assert_int_equal(status, st->err.status);
        assert_true(status == GDN_OK || status == GDN_ERR_IO);
        assert_true(more || status == GDN_OK);
        error_clear(&st->err);
        assert_int_equal(mem_counted().live_bytes, before.live_bytes);
        read_whole(st->path, &data, &len);
        const int which = len == st->len[0] && memcmp(data, st->bytes[0], len) == 0 ? 0 : 1;
        assert_int_equal(len, st->len[which]);
        assert_memory_equal(data, st->bytes[which], len);
        if (status == GDN_OK) assert_int_equal(which, act == save ? 0 : 1);
        mem_give(data);
        unchanged(st, st->s, 0);
        unchanged(st, st->other, 1);
    }
}

static void every_call_of_the_disk(void **state)
{
    (void)state;
    static const int code[] = {EIO, ENOSPC, FILE_SHORT};
    static deed *const acts[] = {save, load, verify};
    struct stage st;
    stage_open(&st, "q35-r2-untied");
    for (int a = 0; a < 3; a++)
        for (int c = 0; c < 3; c++)
            for (int forever = 0; forever < 2; forever++)
                sweep_disk(&st, acts[a], code[c], forever);
    stage_close(&st);
}

/* The same tokens in other cuts, without drafts: the same file. */
static void the_way_does_not_show(void **state)
{
    (void)state;
    struct stage st;
    stage_open(&st, "q35-r2-untied");
    gdn_session *plain = play_session(&st.play);
    play_feed(plain, st.ids, AT, (int32_t[]){1, 7, 30}, 3, NULL);
    unchanged(&st, plain, 0);
    gdn_session_free(plain);
    stage_close(&st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_way_does_not_show),
        cmocka_unit_test(every_allocation),
        cmocka_unit_test(every_allocation_of_the_first_session),
        cmocka_unit_test(every_call_of_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
