/* config_open.c: a folder's config.json and generation_config.json together: the ids that end a
 * text, what sampling is recommended, and files that cannot be read. */
#include "small.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static void eos(void **state)
{
    (void)state;
    struct config c;
    accept_text(&c, SMALL({"eos_token_id", NULL}));
    assert_int_equal(c.eos_count, 0);
    accept_text(&c, SMALL({"eos_token_id", "[]"}));
    assert_int_equal(c.eos_count, 0);
    accept_text(&c, SMALL({"eos_token_id", "0"}));
    assert_int_equal(c.eos_count, 1);
    accept_text(&c, SMALL({"eos_token_id", "[99,3,99,3]"}));
    assert_int_equal(c.eos_count, 2);
    assert_int_equal(c.eos[0], 99);
    assert_int_equal(c.eos[1], 3);
    static const char *const wrong[] = {"100", "-1", "1.0", "\"7\"", "true", "{}",
                                        "9223372036854775807"};
    char value[60], found[60];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(found, sizeof found, "found %s,", wrong[i]);
        refuse_key("eos_token_id", wrong[i], found, "need 0 to 99");
        snprintf(value, sizeof value, "[1,%s]", wrong[i]);
        refuse_key("eos_token_id", value, found, "need 0 to 99");
    }
    refuse_key("eos_token_id", "[[1]]", "found [1]", "need 0 to 99");
    refuse_key("eos_token_id", "[null]", "found null", "need 0 to 99");
    const char *sixteen = "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]";
    accept_text(&c, SMALL({"eos_token_id", sixteen}));
    assert_int_equal(c.eos_count, CONFIG_EOS);
    refuse_key("eos_token_id", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "found 17 ",
               "at most 16");
}

static void add(struct config *c, const char *json)
{
    struct gdn_error err = {0};
    if (config_parse_generation(c, json, strlen(json), "small.json", &err) != GDN_OK)
        fail_msg("%s", err.text);
}

static void refuse_generation(const char *json, const char *name, const char *found,
                              const char *need)
{
    struct config c;
    struct gdn_error err = {0};
    accept_text(&c, SMALL({NULL, NULL}));
    const enum gdn_status got = config_parse_generation(&c, json, strlen(json), "small.json", &err);
    refused_as(&err, got, GDN_ERR_INPUT, name, found, need);
}

static void generation(void **state)
{
    (void)state;
    struct config c;
    accept_text(&c, SMALL({NULL, NULL}));
    add(&c, "{}");
    assert_false(c.sampling);
    assert_int_equal(c.eos_count, 1);
    assert_true(c.temperature == 1.0 && c.top_p == 1.0 && c.top_k == 0);
    add(&c, "{\"do_sample\":true,\"temperature\":0.7,\"top_p\":0.9,\"top_k\":20,"
            "\"eos_token_id\":[7,8],\"transformers_version\":\"5\"}");
    assert_true(c.sampling && c.temperature == 0.7 && c.top_p == 0.9);
    assert_int_equal(c.top_k, 20);
    assert_int_equal(c.eos_count, 2);
    assert_int_equal(c.eos[1], 8);
    add(&c, "{\"do_sample\":null,\"temperature\":null,\"top_p\":null,\"top_k\":null,"
            "\"eos_token_id\":null}");
    assert_false(c.sampling);
    assert_int_equal(c.eos_count, 2);
    refuse_generation("[]", "found []", "", "an object");
    refuse_generation("{", "line 1", "", "");
    refuse_generation("{\"do_sample\":\"yes\"}", "do_sample", "\"yes\"", "true or false");
    refuse_generation("{\"temperature\":-0.1}", "temperature", "found -0.1", "from 0 to 100");
    refuse_generation("{\"temperature\":\"hot\"}", "temperature", "\"hot\"", "from 0 to 100");
    refuse_generation("{\"top_p\":1.01}", "top_p", "found 1.01", "from 0 to 1");
    refuse_generation("{\"top_k\":-1}", "top_k", "found -1", "an integer from 0");
    refuse_generation("{\"top_k\":2.5}", "top_k", "found 2.5", "an integer from 0");
    refuse_generation("{\"eos_token_id\":100}", "eos_token_id", "found 100", "0 to 99");
    refuse_generation("{\"eos_token_id\":[0,1,2,3,4,5,6,8,9,10,11,12,13,14,15,16]}", "eos_token_id",
                      "found 17", "at most 16");
}

/* ---- folders --------------------------------------------------------------------------------- */

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[256];
    assert_true(file_join(path, sizeof path, folder, name));
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gdn-config-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(in_folder("config.json"));
    unlink(in_folder("generation_config.json"));
    return rmdir(folder);
}

static void folder_refused(const char *path, enum gdn_status want, const char *file,
                           const char *part)
{
    struct config c;
    struct gdn_error err = {0};
    const enum gdn_status got = config_open(&c, path, &err);
    if (got != want || err.status != want || !strstr(err.text, file) || !strstr(err.text, part))
        fail_msg("found %d %s, need %d ...%s...%s", (int)got, err.text, (int)want, file, part);
}

static void folders(void **state)
{
    (void)state;
    struct config c;
    struct gdn_error err = {0};
    folder_refused(folder, GDN_ERR_INPUT, "config.json", "cannot open: No such file");
    put("config.json", SMALL({NULL, NULL}));
    assert_int_equal(config_open(&c, folder, &err), GDN_OK);
    assert_int_equal(c.eos_count, 1);
    put("generation_config.json", "{\"eos_token_id\":[9,7],\"top_k\":5,\"do_sample\":true}");
    assert_int_equal(config_open(&c, folder, &err), GDN_OK);
    assert_int_equal(c.eos_count, 2);
    assert_int_equal(c.top_k, 5);
    put("generation_config.json", "{");
    folder_refused(folder, GDN_ERR_INPUT, "generation_config.json", "line 1");
    put("generation_config.json", "{\"eos_token_id\":100}");
    folder_refused(folder, GDN_ERR_INPUT, "generation_config.json", "found 100, need 0 to 99");
    put("config.json", SMALL({"model_type", "\"mamba\""}));
    folder_refused(folder, GDN_ERR_UNSUPPORTED, "config.json", "mamba");
}

static void unreadable(void **state)
{
    (void)state;
    char path[5000];
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = 0;
    folder_refused(path, GDN_ERR_USAGE, "aaa", "the name is too long");
    put("config.json", "");
    folder_refused(folder, GDN_ERR_INPUT, "config.json", "line 1");
    assert_int_equal(truncate(in_folder("config.json"), (16 << 20) + 1), 0);
    folder_refused(folder, GDN_ERR_INPUT, "config.json", "found 16777217 bytes, need at most");
    unlink(in_folder("config.json"));
    mkdir(in_folder("config.json"), 0700);
    folder_refused(folder, GDN_ERR_INPUT, "config.json", "found a folder");
    rmdir(in_folder("config.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eos),
        cmocka_unit_test(generation),
        cmocka_unit_test_setup_teardown(folders, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(unreadable, make_folder, drop_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
