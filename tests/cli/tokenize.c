/* gdn tokenize: ids of a text, the text of ids, and what it refuses. */
#include "cli/program.h"

static void there_and_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"What is 7 + 5?", " two  spaces \n", "Gr\xc3\xbc\xc3\x9f",
                                        "<|im_start|>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put("text", texts[i]);
        went_well(gdn_in("text", "tokenize", "demo"));
        put("ids", ran.out);
        char in[TEXT];
        snprintf(in, sizeof in, "%s", ran.out);
        went_well(gdn("tokenize", "demo", texts[i]));
        assert_string_equal(ran.out, in);
        went_well(gdn("tokenize", "demo", "--decode", "ids"));
        assert_string_equal(ran.out, texts[i]);
        went_well(gdn_in("ids", "tokenize", "demo", "--decode"));
        assert_string_equal(ran.out, texts[i]);
    }
    went_well(gdn("tokenize", "demo", "<|im_start|>", "--count"));
    assert_string_not_equal(ran.out, "1\n");
    went_well(gdn("tokenize", "demo", "<|im_start|>", "--count", "--control"));
    assert_string_equal(ran.out, "1\n");
    went_well(gdn_in("/dev/null", "tokenize", "demo", "--count"));
    assert_string_equal(ran.out, "0\n");
}

static void shows(void **state)
{
    (void)state;
    went_well(gdn("tokenize", "demo", "7 +\n", "--show", "--count"));
    assert_string_equal(ran.out, "22\t\"7\"\n1154\t\" +\"\n198\t\"\\n\"\n3\n");
    went_well(gdn("tokenize", "demo", "7", "--chat", "--show", "--system", "Count."));
    assert_memory_equal(ran.out, "4085\t\"<|im_start|>\"\n", 20);
    assert_non_null(strstr(ran.out, "\"assistant\"\n"));
}

static void refusals(void **state)
{
    (void)state;
    refused(2, gdn("tokenize"), "found 0 of its arguments");
    refused(2, gdn("tokenize", "demo", "two", "words"), "quotes");
    refused(2, gdn("tokenize", "demo", "x", "--decode", "--show"), "--decode: found with");
    refused(2, gdn("tokenize", "demo", "x", "--system", "y"), "--system: found without --chat");
    refused(3, gdn("tokenize", "demo", "--decode", put("ids", "1 2 4096")),
            "ids: ", "4096");
    refused(3, gdn("tokenize", "demo", "--decode", "nowhere"), "nowhere");
    refused(3, gdn("tokenize", GDN_SOURCE_DIR "/tests/golden/q35-r2-untied", "x"), "no tokenizer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(shows), cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
