/* measure.c: models of random weights of every family, and times by op. */
#include "open.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gdn-measure-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static const char *in_folder(const char *name)
{
    static char path[128];
    assert_true(file_join(path, sizeof path, folder, name));
    return path;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(in_folder("config.json"));
    unlink(in_folder("model.safetensors"));
    return rmdir(folder);
}

/* A random model of the shape of a golden one; *len: of its weights. */
static char *make_random(const char *golden, uint64_t seed, size_t *len)
{
    struct gdn_error err = {0};
    char path[512], *config, *weights;
    size_t n;
    snprintf(path, sizeof path, GDN_SOURCE_DIR "/tests/golden/%s/config.json", golden);
    assert_int_equal(file_read(path, 1 << 20, &config, &n, &err), GDN_OK);
    if (gdn_random_model(config, n, folder, seed, &err) != GDN_OK) fail_msg("%s", err.text);
    mem_give(config);
    const char *weights_path = in_folder("model.safetensors");
    assert_int_equal(file_read(weights_path, 1 << 30, &weights, len, &err), GDN_OK);
    return weights;
}

/* What it writes is what the loader takes, whole and nothing else, and a model of it speaks. */
static void every_family(void **state)
{
    static const char *const golden[] = {"q35-r1-tied", "q35-r2-untied", "q35moe-stacked",
                                         "next-grouped", "next-plain", "kimi-released",
                                         "kimi-groups", "olmo-released", "olmo-rope"};
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        size_t len;
        mem_give(make_random(golden[i], i, &len));
        struct gdn_options o = small_options();
        gdn_model *model = open_with(folder, &o);
        gdn_session *session = open_session(model);
        struct gdn_error err = {0};
        int32_t ids[40], next;
        for (int j = 0; j < 40; j++) ids[j] = j * 7 % 60;
        if (gdn_session_feed(session, ids, 40, &err) != GDN_OK) fail_msg("%s", err.text);
        const struct gdn_sampling greedy = {.size = sizeof greedy, .temperature = 0};
        /* This is refused where a logit is not a number. */
        if (gdn_session_sample(session, &greedy, &next, &err) != GDN_OK) fail_msg("%s", err.text);
        gdn_model_close(model);
    }
}

static void seeds(void **state)
{
    (void)state;
    size_t n, m, k;
    char *a = make_random("q35-r1-tied", 5, &n), *b = make_random("q35-r1-tied", 5, &m);
    char *c = make_random("q35-r1-tied", 6, &k);
    assert_true(n == m && n == k);
    assert_memory_equal(a, b, n);
    assert_int_not_equal(memcmp(a, c, n), 0);
    mem_give(a);
    mem_give(b);
    mem_give(c);
    refused(INPUT, "model_type", gdn_random_model("{}", 2, folder, 1, &err));
    refused(USAGE, "no such folder", gdn_random_model("{}", 2, "/nowhere/at/all", 1, &err));
}

/* Without a folder they are for a device with memory of its own. */
static void without_a_folder(void **state)
{
    static const char golden[] = GDN_SOURCE_DIR "/tests/golden/q35-r1-tied/config.json";
    struct gdn_error e = {0};
    struct gdn_options o = small_options();
    gdn_model *model;
    char *config;
    size_t n;
    (void)state;
    assert_int_equal(file_read(golden, 1 << 20, &config, &n, &e), GDN_OK);
    refused(UNSUPPORTED, "no file holds", gdn_model_open_random(config, n, 1, &o, &model, &err));
    assert_null(model);
    o.quant = GDN_QUANT_Q8;
    refused(UNSUPPORTED, "need gdn_random_model",
            gdn_model_open_random(config, n, 1, &o, &model, &err));
    o.quant = GDN_QUANT_NONE;
    refused(INPUT, "model_type", gdn_model_open_random("{}", 2, 1, &o, &model, &err));
    refused(INPUT, "config.json", gdn_model_open_random(NULL, 2, 1, &o, &model, &err));
    mem_give(config);
}

static int64_t calls_of(const struct gdn_op_time *times, int n, const char *op)
{
    for (int i = 0; i < n; i++)
        if (strcmp(times[i].op, op) == 0) return times[i].calls;
    return 0;
}

static void counts_by_op(void **state)
{
    (void)state;
    gdn_model *model = open_tiny(1, false);
    gdn_session *session = open_session(model);
    struct gdn_op_time times[32];
    struct gdn_error err = {0};
    struct gdn_model_info info;
    const int32_t ids[3] = {1, 2, 3};
    gdn_model_describe(model, &info);
    assert_int_equal(gdn_session_feed(session, ids, 3, &err), GDN_OK);
    assert_int_equal(gdn_model_profile(model, times, 32), 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(gdn_session_feed(session, ids, 3, &err), GDN_OK);
        const int n = gdn_model_profile(model, times, 32);
        assert_int_equal(calls_of(times, n, "embed"), 2); /* the rows, and those that are wanted */
        assert_int_equal(calls_of(times, n, "linear"), 4 * info.layers + 1);
        assert_int_equal(calls_of(times, n, "conv"), info.delta_layers);
        for (int i = 0; i < n; i++) assert_true(times[i].seconds >= 0);
    }
    assert_int_equal(gdn_model_profile(model, times, 32), 0);
    assert_int_equal(gdn_session_feed(session, ids, 3, &err), GDN_OK);
    assert_int_equal(gdn_model_profile(model, times, 1), 1);
    gdn_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family),
        cmocka_unit_test(seeds),
        cmocka_unit_test(without_a_folder),
        cmocka_unit_test(counts_by_op),
    };
    return cmocka_run_group_tests_name("measure", tests, make_folder, drop_folder);
}
