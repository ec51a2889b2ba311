/* folder.c: a folder appears whole or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/folder.h"

static char base[64];

static const char *in_base(const char *name)
{
    static char path[8][300];
    static int turn;
    char *to = path[turn++ % 8];
    assert_true(file_join(to, sizeof path[0], base, name));
    return to;
}

static void put(const char *folder, const char *name)
{
    char path[4500];
    struct file_out out;
    struct gdn_error err = {0};
    assert_true(file_join(path, sizeof path, folder, name));
    assert_int_equal(file_create(&out, path, &err), GDN_OK);
    file_write(&out, "x", 1);
    assert_int_equal(file_commit(&out, &err), GDN_OK);
}

static int setup(void **state)
{
    (void)state;
    strcpy(base, "/tmp/gdn-folder-XXXXXX");
    return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(base);
}

static void appears_when_committed(void **state)
{
    (void)state;
    struct folder_out out;
    struct gdn_error err = {0};
    assert_int_equal(folder_create(&out, in_base("new/"), &err), GDN_OK);
    put(out.temp, "a");
    assert_false(file_exists(in_base("new")));
    assert_int_equal(folder_commit(&out, &err), GDN_OK);
    assert_false(file_exists(in_base("new.gdn-tmp")));
    folder_abandon(&out); /* harmless now */
    assert_true(file_exists(in_base("new/a")));
    unlink(in_base("new/a"));
    rmdir(in_base("new"));
}

static void leaves_nothing(void **state)
{
    (void)state;
    struct folder_out out;
    struct gdn_error err = {0};
    assert_int_equal(folder_create(&out, in_base("new"), &err), GDN_OK);
    put(out.temp, "a");
    put(out.temp, "b");
    folder_abandon(&out);
    folder_abandon(&out);
    assert_false(file_exists(in_base("new")) || file_exists(in_base("new.gdn-tmp")));
}

static void refuses(void **state)
{
    (void)state;
    struct folder_out out;
    struct gdn_error err = {0};
    assert_int_equal(mkdir(in_base("old"), 0777), 0);
    assert_int_equal(folder_create(&out, in_base("old"), &err), GDN_ERR_REFUSED);
    assert_non_null(strstr(err.text, "old: exists already"));
    folder_abandon(&out);
    err = (struct gdn_error){0};
    assert_int_equal(rename(in_base("old"), in_base("new.gdn-tmp")), 0);
    assert_int_equal(folder_create(&out, in_base("new"), &err), GDN_ERR_REFUSED);
    assert_non_null(strstr(err.text, "new.gdn-tmp: found it there"));
    folder_abandon(&out);
    assert_int_equal(rmdir(in_base("new.gdn-tmp")), 0); /* not ours: still there */
    assert_int_equal(folder_create(&out, in_base("no/such"), &err), GDN_ERR_IO);
    assert_int_equal(folder_create(&out, "", &err), GDN_ERR_USAGE);
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(folder_create(&out, longest, &err), GDN_ERR_USAGE);
    /* Somebody takes the name while it is written. */
    assert_int_equal(folder_create(&out, in_base("new"), &err), GDN_OK);
    put(out.temp, "a");
    assert_int_equal(mkdir(in_base("new"), 0777), 0);
    put(in_base("new"), "b");
    assert_int_equal(folder_commit(&out, &err), GDN_ERR_IO);
    assert_false(file_exists(in_base("new.gdn-tmp")));
    unlink(in_base("new/b"));
    rmdir(in_base("new"));
}

static enum gdn_status count(void *context, const char *name, struct gdn_error *err)
{
    (void)name;
    if (++*(int *)context == 3) return error_set(err, GDN_ERR_INPUT, "enough");
    return GDN_OK;
}

static void walks_files(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    int n = 0;
    put(base, "a");
    put(base, ".hidden");
    assert_int_equal(mkdir(in_base("folder"), 0777), 0);
    assert_int_equal(folder_walk(base, count, &n, &err), GDN_OK);
    assert_int_equal(n, 1);
    put(base, "b");
    assert_int_equal(folder_walk(base, count, &n, &err), GDN_ERR_INPUT);
    assert_string_equal(err.text, "enough");
    assert_int_equal(folder_walk(in_base("none"), count, &n, &err), GDN_ERR_IO);
    unlink(in_base("a"));
    unlink(in_base("b"));
    unlink(in_base(".hidden"));
    rmdir(in_base("folder"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(appears_when_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(walks_files, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
