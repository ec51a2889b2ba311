/* Whole files: refused when they are not files, and never seen half written. */
#include "base/file.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"

static char folder[64], path[128];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gdn-file-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return file_join(path, sizeof path, folder, "f") ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static int entries(void)
{
    int n = -2;
    DIR *dir = opendir(folder);
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n;
}

static void put(const char *text)
{
    struct file_out out;
    struct gdn_error err = {0};
    assert_int_equal(file_create(&out, path, &err), GDN_OK);
    file_write(&out, text, strlen(text));
    assert_int_equal(file_commit(&out, &err), GDN_OK);
}

static void holds(const char *text)
{
    char *data;
    size_t len;
    struct gdn_error err = {0};
    assert_int_equal(file_read(path, 1000, &data, &len, &err), GDN_OK);
    assert_int_equal(len, strlen(text));
    assert_string_equal(data, text);
    mem_give(data);
}

static void appears_only_when_complete(void **state)
{
    (void)state;
    struct file_out out;
    struct gdn_error err = {0};
    put("old");
    assert_int_equal(file_create(&out, path, &err), GDN_OK);
    file_write(&out, "new", 3);
    holds("old");
    assert_int_equal(entries(), 2);
    assert_int_equal(file_commit(&out, &err), GDN_OK);
    holds("new");
    assert_int_equal(entries(), 1);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0177, 0);
    file_abandon(&out);
    holds("new");
}

static void abandons(void **state)
{
    (void)state;
    struct file_out out;
    struct gdn_error err = {0};
    assert_int_equal(file_create(&out, path, &err), GDN_OK);
    file_write(&out, "x", 1);
    file_abandon(&out);
    file_abandon(&out);
    assert_int_equal(entries(), 0);
    assert_int_equal(file_commit(&out, &err), GDN_ERR_IO);
}

static void keeps_the_old_file_when_writing_fails(void **state)
{
    (void)state;
    struct rlimit before, small;
    struct file_out out;
    struct gdn_error err = {0};
    char block[1000] = {0};
    put("old");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 2000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum gdn_status made = file_create(&out, path, &err);
    for (int i = 0; i < 20; i++) file_write(&out, block, sizeof block);
    enum gdn_status status = file_commit(&out, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(made, GDN_OK);
    assert_int_equal(status, GDN_ERR_IO);
    assert_int_equal(err.status, GDN_ERR_IO);
    holds("old");
    assert_int_equal(entries(), 1);
}

static void reads_with_a_limit(void **state)
{
    (void)state;
    char *data;
    size_t len;
    struct gdn_error err = {0};
    put("12345");
    assert_int_equal(file_read(path, 5, &data, &len, &err), GDN_OK);
    mem_give(data);
    assert_int_equal(file_read(path, 4, &data, &len, &err), GDN_ERR_INPUT);
    assert_null(data);
    assert_non_null(strstr(err.text, path));
    mem_fail_after(1, false);
    assert_int_equal(file_read(path, 5, &data, &len, NULL), GDN_ERR_MEMORY);
}

static void maps(void **state)
{
    (void)state;
    struct file_map map;
    struct gdn_error err = {0};
    put("mapped");
    assert_int_equal(file_map_open(&map, path, &err), GDN_OK);
    assert_int_equal(map.len, 6);
    assert_memory_equal(map.data, "mapped", 6);
    file_map_close(&map);
    put("");
    assert_int_equal(file_map_open(&map, path, &err), GDN_OK);
    assert_true(map.len == 0 && !map.data);
    file_map_close(&map);
}

static void refuses_what_is_not_a_file(void **state)
{
    (void)state;
    struct file_map map;
    struct gdn_error err = {0};
    char *data;
    size_t len;
    assert_int_equal(file_read(folder, 5, &data, &len, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "a folder"));
    error_clear(&err);
    assert_int_equal(file_map_open(&map, path, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "cannot open"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_read(path, 5, &data, &len, NULL), GDN_ERR_INPUT);
}

static void joins_and_asks(void **state)
{
    (void)state;
    char out[8];
    assert_true(file_join(out, sizeof out, "ab", "c"));
    assert_string_equal(out, "ab/c");
    assert_true(file_join(out, sizeof out, "ab/", "c"));
    assert_string_equal(out, "ab/c");
    assert_false(file_join(out, sizeof out, "abcd", "efg"));
    assert_true(file_is_folder(folder) && file_exists(folder));
    assert_false(file_exists(path) || file_is_folder(path));
}

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(appears_only_when_complete),
        IN_FOLDER(abandons),
        IN_FOLDER(keeps_the_old_file_when_writing_fails),
        IN_FOLDER(reads_with_a_limit),
        IN_FOLDER(maps),
        IN_FOLDER(refuses_what_is_not_a_file),
        IN_FOLDER(joins_and_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
