/* weights_save.c: a checkpoint that is opened and saved again is the same, to the byte, whatever the
 * family and however it was laid out; and what was changed comes back changed. */
#include "forge.h"

#include <dirent.h>

#include "base/file.h"

static void read_all(const char *folder, const char *name, char **data, size_t *len)
{
    struct gdn_error err = {0};
    char path[512];
    assert_true(file_join(path, sizeof path, folder, name));
    if (file_read(path, 1 << 24, data, len, &err) != GDN_OK) fail_msg("%s", err.text);
}

static void same_file(const char *a, const char *b, const char *name)
{
    char *x, *y;
    size_t n, m;
    read_all(a, name, &x, &n);
    read_all(b, name, &y, &m);
    if (n != m || memcmp(x, y, n) != 0) fail_msg("%s of %s has other bytes", name, a);
    mem_give(x);
    mem_give(y);
}

static bool of_weights(const char *name)
{
    return strncmp(name, "model", 5) == 0;
}

/* Compares, or only removes, what was saved; returns how many files. */
static int each_file(const char *folder, const char *saved, bool compare)
{
    int n = 0;
    char path[512];
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (!of_weights(e->d_name)) continue;
        if (compare) same_file(folder, saved, e->d_name);
        assert_true(file_join(path, sizeof path, saved, e->d_name));
        unlink(path);
        n++;
    }
    closedir(dir);
    return n;
}

static void model_comes_back(const char *folder)
{
    struct config c;
    struct weights w;
    struct gdn_error err = {0};
    char to[] = "/tmp/gdn-save-XXXXXX";
    assert_non_null(mkdtemp(to));
    if (config_open(&c, folder, &err) != GDN_OK || weights_open(&w, &c, folder, &err) != GDN_OK ||
        weights_save(&w, to, &err) != GDN_OK)
        fail_msg("%s: %s", folder, err.text);
    weights_close(&w);
    assert_true(each_file(folder, to, true) > 0);
    assert_int_equal(rmdir(to), 0);
}

/* Every folder of tests/golden that holds weights. */
static void same_bytes(void **state)
{
    (void)state;
    int n = 0;
    char folder[600], config[700];
    DIR *dir = opendir(GDN_SOURCE_DIR "/tests/golden");
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        snprintf(folder, sizeof folder, "%s/tests/golden/%s", GDN_SOURCE_DIR, e->d_name);
        snprintf(config, sizeof config, "%s/config.json", folder);
        if (e->d_name[0] == '.' || !file_exists(config)) continue;
        model_comes_back(folder);
        n++;
    }
    closedir(dir);
    assert_true(n >= 4);
}

/* An f32 copy of the values with another first one takes their place; returns the tensor as it was. */
static struct tensor change(struct tensor *t, double value)
{
    const struct tensor was = *t;
    const int64_t n = tensor_elements(t);
    float *x = mem_take_array((size_t)n, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)dtype_load(was.data, was.dtype, i);
    x[0] = (float)value;
    *t = tensor_over(x, DTYPE_F32, was.rank, was.dim);
    return was;
}

/* A value of every weight moves, to one that its type in the file can hold. */
static void changes_are_saved(void **state)
{
    (void)state;
    static const char folder[] = GDN_SOURCE_DIR "/tests/golden/q35-r1-tied";
    struct config c;
    struct weights w, again;
    struct gdn_error err = {0};
    char to[] = "/tmp/gdn-save-XXXXXX";
    assert_non_null(mkdtemp(to));
    assert_int_equal(config_open(&c, folder, &err), GDN_OK);
    assert_int_equal(weights_open(&w, &c, folder, &err), GDN_OK);
    struct tensor *was = mem_take_array((size_t)w.count, sizeof *was);
    assert_non_null(was);
    for (int32_t i = 0; i < w.count; i++) was[i] = change(&w.list[i].tensor, 0.5 + i);
    if (weights_save(&w, to, &err) != GDN_OK) fail_msg("%s", err.text);
    if (weights_open(&again, &c, to, &err) != GDN_OK) fail_msg("%s", err.text);
    assert_int_equal(again.count, w.count);
    for (int32_t i = 0; i < w.count; i++) {
        const struct tensor *is = &again.list[i].tensor;
        assert_true(dtype_load(is->data, is->dtype, 0) == 0.5 + i);
        for (int64_t k = 1; k < tensor_elements(is); k++)
            assert_true(dtype_load(is->data, is->dtype, k) ==
                        dtype_load(was[i].data, was[i].dtype, k));
        mem_give(w.list[i].tensor.data);
        w.list[i].tensor = was[i];
    }
    mem_give(was);
    weights_close(&again);
    weights_close(&w);
    each_file(folder, to, false);
    assert_int_equal(rmdir(to), 0);
}

static void a_folder_that_is_not_there(void **state)
{
    (void)state;
    static const char folder[] = GDN_SOURCE_DIR "/tests/golden/q35-r4-odd";
    struct config c;
    struct weights w;
    struct gdn_error err = {0};
    assert_int_equal(config_open(&c, folder, &err), GDN_OK);
    assert_int_equal(weights_open(&w, &c, folder, &err), GDN_OK);
    assert_int_equal(weights_save(&w, "/tmp/gdn-no-such-folder", &err), GDN_ERR_IO);
    assert_non_null(strstr(err.text, "gdn-no-such-folder"));
    weights_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bytes),
                                       cmocka_unit_test(changes_are_saved),
                                       cmocka_unit_test(a_folder_that_is_not_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
