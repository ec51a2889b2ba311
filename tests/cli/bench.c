/* gdn bench: the rows it was asked for, in each form, and what it refuses. Never how fast. */
#include "cli/program.h"

static int count(const char *what)
{
    int n = 0;
    for (const char *at = ran.out; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

static void rows(void **state)
{
    (void)state;
    went_well(gdn("bench", TINY, "-p", "5,33", "-n", "3", "-d", "0,20", "-r", "2", "-o", "json",
                  "--profile", "--threads", "1"));
    assert_int_equal(count("{\"work\":\"prompt\""), 4);
    assert_int_equal(count("{\"work\":\"decode\""), 2);
    assert_int_equal(count("\"behind\":20"), 3);
    assert_int_equal(count("\"linear\":"), 6);
    assert_int_equal(count("\"threads\":1,\"rounds\":2"), 1);
    went_well(gdn("bench", TINY, "-p", "5", "-n", "0", "-r", "1", "-o", "csv"));
    assert_int_equal(count("\n"), 2);
    went_well(gdn("bench", TINY, "-p", "5", "-n", "2", "-r", "1", "--profile"));
    assert_int_equal(count("| prompt 5 |"), 1);
    assert_int_equal(count("| decode 2 |"), 1);
    assert_int_equal(count("the rest"), 2);
    went_well(gdn("bench", TINY, "-p", "5", "-n", "2", "-b", "3", "-d", "0,7", "-r", "1"));
    assert_int_equal(count("| decode 2 x 3 | 0 |"), 1);
    assert_int_equal(count("| decode 2 x 3 | 7 |"), 1);
}

/* The line of the machine names the instructions that were used. */
static void masks(void **state)
{
    (void)state;
    went_well(gdn("bench", TINY, "-p", "5", "-n", "1", "-r", "1", "--cpumask", "portable"));
    assert_int_equal(count("(portable): reads"), 1);
    refused(2, gdn("bench", TINY, "--cpumask", "sse"), "--cpumask");
}

/* The processor's roofs are not those of another device. */
static void elsewhere(void **state)
{
    (void)state;
    if (gdn("info", TINY, "--device", "cuda") != 0) skip();
    went_well(gdn("bench", TINY, "-p", "5", "-n", "1", "-r", "1", "--device", "cuda"));
    assert_int_equal(count(" beside a GPU; opened"), 1);
    assert_int_equal(count(": reads") + count("of reading") + count("of multiplying"), 0);
    went_well(gdn("bench", TINY, "-p", "5", "-n", "1", "-r", "1", "--device", "cuda", "-o",
                  "json"));
    assert_int_equal(count("\"roof_share\":null"), 2);
    assert_int_equal(count("\"flops\""), 0);
    went_well(gdn("bench", TINY, "-p", "5", "-n", "0", "-r", "1", "--device", "cuda", "-o",
                  "csv"));
    assert_int_equal(count(",,,"), 1);
    assert_int_equal(count(",\n"), 1);
}

static void shapes(void **state)
{
    (void)state;
    went_well(gdn("bench", "--shape", TINY "/config.json", "-p", "5", "-n", "1", "-r", "1"));
    assert_int_equal(count("| prompt 5 |"), 1);
}

static void refusals(void **state)
{
    (void)state;
    refused(2, gdn("bench"), "neither a model nor --shape");
    refused(2, gdn("bench", TINY, "--shape", "qwen3.5-2b"), "a model and --shape");
    refused(2, gdn("bench", "--shape", "qwen3.5-2x"), "did you mean qwen3.5-2b?");
    refused(2, gdn("bench", TINY, "-p", "5,"), "-p: found \"5,\"");
    refused(2, gdn("bench", TINY, "-p", "0"), "-p: found \"0\"");
    refused(2, gdn("bench", TINY, "-b", "0"), "-b");
    refused(2, gdn("bench", TINY, "-d", "1,2,3,4,5,6,7,8,9"), "up to 8");
    refused(2, gdn("bench", TINY, "-p", "100000"), "context");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(masks),
        cmocka_unit_test(elsewhere),
        cmocka_unit_test(shapes),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests_name("bench", tests, make_work, drop_work);
}
