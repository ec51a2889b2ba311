/* convert.c: gdn convert, and --quant of the commands that open a model. */
#include "cli/program.h"

/* What is stored answers as what is made while it is opened. */
static void answers_the_same(void **state)
{
    (void)state;
    static const char *const quants[] = {"q8", "q4"};
    for (int i = 0; i < 2; i++) {
        char said[TEXT];
        went_well(gdn("convert", DEMO, "out", "--quant", quants[i]));
        assert_string_equal(ran.out, "");
        went_well(gdn("run", "out", "Once upon a time", "--raw", "-n", "20", "--temp", "0"));
        strcpy(said, ran.out);
        went_well(gdn("run", DEMO, "Once upon a time", "--raw", "-n", "20", "--temp", "0",
                      "--quant", quants[i]));
        assert_string_equal(ran.out, said);
        went_well(gdn("info", "out"));
        assert_non_null(strstr(ran.out, quants[i]));
        refused(8, gdn("convert", DEMO, "out", "--quant", quants[i]), "exists already");
        refused(3, gdn("run", "out", "x", "--quant", quants[1 - i]), "found q");
        drop_folder("out");
    }
}

#define MODELS GDN_SOURCE_DIR "/models"

static void by_name(void **state)
{
    (void)state;
    went_well(gdn("convert", "demo", "out", "--quant", "q8", "--models", MODELS));
    went_well(gdn("info", "out"));
    drop_folder("out");
}

static void refusals(void **state)
{
    (void)state;
    refused(2, gdn("convert", DEMO, "out"), "--quant: found nothing, need q8 or q4");
    refused(2, gdn("convert", DEMO, "out", "--quant", "q5"), "need one of q8|q4");
    refused(2, gdn("convert", DEMO), "need: gdn convert MODEL OUT");
    refused(3, gdn("convert", "/no/such/model", "out", "--quant", "q8"), "/no/such/model");
    refused(3, gdn("convert", "dmeo", "out", "--quant", "q8", "--models", MODELS),
            "did you mean demo");
    refused(6, gdn("convert", DEMO, "/no/such/folder/out", "--quant", "q8"), "/no/such/folder/out");
    assert_int_equal(access("out", F_OK), -1);
    assert_int_equal(count_files(".gdn-tmp"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_the_same),
        cmocka_unit_test(by_name),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
