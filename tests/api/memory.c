/* A model that needs more than the machine has is refused before it takes anything. */
#include "open.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/machine.h"

static char root[64], proc[96], meminfo[128];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/gdn-memory-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(proc, sizeof proc, "%s/proc", root);
    snprintf(meminfo, sizeof meminfo, "%s/meminfo", proc);
    machine_set_root(root);
    return mkdir(proc, 0700);
}

static int drop_root(void **state)
{
    (void)state;
    machine_set_root(NULL);
    unlink(meminfo);
    rmdir(proc);
    return rmdir(root);
}

static void has(int64_t bytes)
{
    FILE *file = fopen(meminfo, "w");
    assert_non_null(file);
    fprintf(file, "MemAvailable: %lld kB\n", (long long)bytes / 1024);
    assert_int_equal(fclose(file), 0);
}

static void refused_before_it_is_taken(void **state)
{
    (void)state;
    struct gdn_options o = small_options();
    o.context = 32768;
    struct gdn_error err = {0};
    struct gdn_model_info info;
    gdn_session *session;
    gdn_model *model = open_with(DEMO, &o);
    gdn_model_describe(model, &info);
    assert_int_equal(info.machine_bytes, -1);
    assert_true(info.need_bytes > info.session_bytes + info.scratch_bytes);
    assert_true(info.need_bytes <= info.session_bytes + info.scratch_bytes + info.weight_bytes +
                                       info.copied_bytes);
    const int64_t before = mem_counted().live_bytes, need = (info.need_bytes + 1023) / 1024 * 1024;
    has(need - 1024);
    gdn_model_describe(model, &info);
    assert_int_equal(info.machine_bytes, need - 1024);
    assert_int_equal(gdn_session_new(model, &session, &err), GDN_ERR_MEMORY);
    assert_null(session);
    assert_int_equal(mem_counted().live_bytes, before);
    static const char *const parts[] = {
        "not enough memory: 1 session of 32768 tokens may take ", " MB (weights 9.5 MB, sessions ",
        " MB, scratch ", " MB), the machine has ", " MB left; a context of ", " tokens fits"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(err.text, parts[i])) fail_msg("\"%s\": no \"%s\"", err.text, parts[i]);
    /* Memory that has come back is used. */
    has(need);
    session = open_session(model);
    gdn_model_close(model);
}

/* The advice holds: to the page. */
static void the_context_that_fits(void **state)
{
    (void)state;
    struct gdn_options o = small_options();
    struct gdn_error err = {0};
    gdn_session *session;
    o.context = 32768;
    o.sessions = 3;
    has(80 << 20);
    gdn_model *model = open_with(DEMO, &o);
    assert_int_equal(gdn_session_new(model, &session, &err), GDN_ERR_MEMORY);
    gdn_model_close(model);
    const char *at = strstr(err.text, "a context of ");
    assert_non_null(at);
    o.context = (int32_t)strtol(at + 13, NULL, 10);
    assert_in_range(o.context, 64, 32767);
    gdn_session_free(open_session(model = open_with(DEMO, &o)));
    gdn_model_close(model);
    o.context += 64;
    err = (struct gdn_error){0};
    model = open_with(DEMO, &o);
    assert_int_equal(gdn_session_new(model, &session, &err), GDN_ERR_MEMORY);
    gdn_model_close(model);
    /* None does. */
    has(30 << 20);
    err = (struct gdn_error){0};
    model = open_with(DEMO, &o);
    assert_int_equal(gdn_session_new(model, &session, &err), GDN_ERR_MEMORY);
    assert_null(strstr(err.text, "fits"));
    gdn_model_close(model);
}

/* Asked for what fits, a model takes that; all it was made for, where there is room. */
static void what_fits_is_taken(void **state)
{
    (void)state;
    struct gdn_options o = small_options();
    struct gdn_model_info info;
    o.context = GDN_CONTEXT_FIT;
    o.sessions = 3;
    has(100 << 20);
    gdn_model *model = open_with(DEMO, &o);
    gdn_model_describe(model, &info);
    assert_in_range(info.context, 64, 32767);
    assert_true(info.need_bytes <= info.machine_bytes / 8 * 7);
    gdn_session_free(open_session(model));
    gdn_model_close(model);
    has((int64_t)1 << 40);
    model = open_with(DEMO, &o);
    gdn_model_describe(model, &info);
    assert_int_equal(info.context, 32768);
    gdn_model_close(model);
    /* Nothing does: refused as ever, not made useless. */
    struct gdn_error err = {0};
    gdn_session *session;
    has(30 << 20);
    model = open_with(DEMO, &o);
    assert_int_equal(gdn_session_new(model, &session, &err), GDN_ERR_MEMORY);
    gdn_model_close(model);
}

/* Of a limit of addresses: in a process of its own. */
static void limit_of_addresses(void **state)
{
    (void)state;
    has((int64_t)1 << 40);
    struct gdn_options o = small_options();
    o.context = 32768;
    gdn_model *model = open_with(DEMO, &o);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct gdn_error err = {0};
        gdn_session *session;
        const struct rlimit limit = {.rlim_cur = 150 << 20, .rlim_max = RLIM_INFINITY};
        if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(1);
        if (gdn_session_new(model, &session, &err) != GDN_ERR_MEMORY) _exit(2);
        _exit(strstr(err.text, "the limit of addresses has ") ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    gdn_model_close(model);
}

/* What fits under such a limit can be had: the engine opens, and says something. Not with the
 * address sanitizer, which has taken more addresses than that for itself. */
static void fits_under_a_limit(void **state)
{
    (void)state;
#if defined(GDN_POISON) && GDN_POISON
    skip();
#endif
    has((int64_t)1 << 40);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct gdn_error err = {0};
        struct gdn_options o = small_options();
        struct gdn_model_info info;
        gdn_model *model;
        gdn_session *session;
        const struct rlimit limit = {.rlim_cur = 300 << 20, .rlim_max = RLIM_INFINITY};
        o.context = GDN_CONTEXT_FIT;
        if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(1);
        if (gdn_model_open(DEMO, &o, &model, &err) != GDN_OK) _exit(2);
        gdn_model_describe(model, &info);
        if (info.context >= 32768 || info.context < 64) _exit(3);
        if (gdn_session_new(model, &session, &err) != GDN_OK) _exit(4);
        _exit(gdn_session_feed(session, (int32_t[]){1, 2, 3}, 3, &err) == GDN_OK ? 0 : 5);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_before_it_is_taken), cmocka_unit_test(the_context_that_fits),
        cmocka_unit_test(what_fits_is_taken),         cmocka_unit_test(limit_of_addresses),
        cmocka_unit_test(fits_under_a_limit),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
