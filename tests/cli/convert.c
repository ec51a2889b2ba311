/* convert.c: gdn convert, and --quant of the commands that open a model. */
#include "cli/program.h"

#include <sys/stat.h>
#include <unistd.h>

static char base[] = "/tmp/gdn-convert-XXXXXX";

static const char *out_folder(void)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/out", base);
    return path;
}

static void remove_out(void)
{
    static const char *const names[] = {"README.md", "config.json", "generation_config.json",
                                        "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", out_folder(), names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(out_folder()), 0);
}

/* What is stored answers as what is made while it is opened. */
static void answers_the_same(void **state)
{
    (void)state;
    static const char *const quants[] = {"q8", "q4"};
    for (int i = 0; i < 2; i++) {
        char said[TEXT];
        went_well(gdn("convert", DEMO, out_folder(), "--quant", quants[i]));
        assert_string_equal(ran.out, "");
        went_well(gdn("run", out_folder(), "Once upon a time", "--raw", "-n", "20", "--temp", "0"));
        strcpy(said, ran.out);
        went_well(gdn("run", DEMO, "Once upon a time", "--raw", "-n", "20", "--temp", "0",
                      "--quant", quants[i]));
        assert_string_equal(ran.out, said);
        went_well(gdn("info", out_folder()));
        assert_non_null(strstr(ran.out, quants[i]));
        refused(8, gdn("convert", DEMO, out_folder(), "--quant", quants[i]), "exists already");
        refused(3, gdn("run", out_folder(), "x", "--quant", quants[1 - i]), "found q");
        remove_out();
    }
}

static void refusals(void **state)
{
    (void)state;
    refused(2, gdn("convert", DEMO, out_folder()), "--quant: found nothing, need q8 or q4");
    refused(2, gdn("convert", DEMO, out_folder(), "--quant", "q5"), "need one of q8|q4");
    refused(2, gdn("convert", DEMO), "need: gdn convert MODEL OUT");
    refused(3, gdn("convert", "/no/such/model", out_folder(), "--quant", "q8"), "/no/such/model");
    refused(6, gdn("convert", DEMO, "/no/such/folder/out", "--quant", "q8"), "/no/such/folder/out");
    assert_int_equal(access(out_folder(), F_OK), -1);
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(base); /* nothing is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_the_same),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
