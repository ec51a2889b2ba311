/* What every command keeps: help, exit codes, and which stream carries what. */
#include "cli/program.h"

static void help_is(const char *name, const char *out)
{
    char path[512];
    size_t len;
    snprintf(path, sizeof path, GDN_SOURCE_DIR "/tests/cli/help/%s.txt", name);
    char *want = get(path, &len);
    /* A page that was changed on purpose: gdn NAME --help > tests/cli/help/NAME.txt */
    assert_string_equal(out, want);
    mem_give(want);
}

static void help_pages(void **state)
{
    (void)state;
    static const char *const names[] = {"run", "logits", "perplexity", "info", "convert", "state",
                                        "bench", "tokenize", "doctor", "chat"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        went_well(gdn(names[i], "--help"));
        help_is(names[i], ran.out);
        went_well(gdn(names[i], "-h"));
        help_is(names[i], ran.out);
        /* A terminal of 100 columns shows it. */
        for (const char *line = ran.out; *line; line += strcspn(line, "\n") + 1)
            assert_true(strcspn(line, "\n") <= 100);
    }
    went_well(gdn("--help"));
    help_is("gdn", ran.out);
    went_well(gdn("-h"));
    help_is("gdn", ran.out);
}

static void version(void **state)
{
    (void)state;
    went_well(gdn("--version"));
    assert_memory_equal(ran.out, "gdn ", 4);
    assert_int_equal(ran.out[strspn(ran.out, "gdn 0123456789.")], '\n');
}

static void no_command(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    assert_int_equal(run_with("/dev/null", "stdout", none), 2);
    assert_string_equal(ran.out, "");
    assert_non_null(strstr(ran.err, "Commands\n"));
}

static void unknown_words(void **state)
{
    (void)state;
    refused(2, gdn("rum"), "gdn: rum: unknown command; did you mean run?");
    refused(2, gdn("perplexty", "a"), "did you mean perplexity?");
    refused(2, gdn("frobnicate"), "gdn: frobnicate: unknown command\n", "see: gdn --help");
    refused(2, gdn("run", "--tmp", "1", DEMO, "x"), "gdn run: --tmp: unknown option; did you mean "
            "--temp?", "see: gdn run --help");
    refused(2, gdn("logits", "--id=3", DEMO), "--id: unknown option; did you mean --ids?");
    refused(2, gdn("info", DEMO, "--zzzzzzzzzzz"), "--zzzzzzzzzzz: unknown option\n");
    refused(2, gdn("info", DEMO, "-x"), "-x: unknown option\n");
}

static void values(void **state)
{
    (void)state;
    refused(2, gdn("run", DEMO, "x", "--temp"), "--temp: its value is missing, need X");
    refused(2, gdn("run", DEMO, "x", "--ids", "--raw"), "--ids: its value is missing, need FILE");
    refused(2, gdn("run", DEMO, "x", "--temp", "warm"),
            "--temp: found \"warm\", need a number from 0 to 100");
    refused(2, gdn("run", DEMO, "x", "--temp", "-1"), "found \"-1\"");
    refused(2, gdn("run", DEMO, "x", "--temp", "nan"), "found \"nan\"");
    refused(2, gdn("run", DEMO, "x", "--temp", "1e999"), "found \"1e999\"");
    refused(2, gdn("run", DEMO, "x", "--temp", "0x1"), "found \"0x1\"");
    refused(2, gdn("run", DEMO, "x", "--temp="), "found \"\"");
    refused(2, gdn("run", DEMO, "x", "-n", "0"), "-n: found \"0\", need a whole number from 1 to "
            "2147483647");
    refused(2, gdn("run", DEMO, "x", "-n", "2147483648"), "-n: found \"2147483648\"");
    refused(2, gdn("run", DEMO, "x", "-n", "99999999999999999999"), "-n: found");
    refused(2, gdn("run", DEMO, "x", "-n", "1.5"), "-n: found \"1.5\"");
    refused(2, gdn("run", DEMO, "x", "--raw=yes"), "--raw: found \"yes\", takes no value");
    refused(2, gdn("run", DEMO, "x", "--compute", "f16"), "--compute: found \"f16\", need one of "
            "f32|bf16");
    refused(2, gdn("run", DEMO, "x", "--compute", "f"), "--compute: found \"f\"");
    refused(2, gdn("run", DEMO, "x", "--system="), "--system: found an empty text");
}

static void words(void **state)
{
    (void)state;
    refused(2, gdn("info"), "found 0 of its arguments, need: gdn info MODEL");
    refused(2, gdn("run", DEMO, "two", "words"), "found 3 arguments, need: gdn run MODEL [PROMPT]",
            "quotes");
    refused(2, gdn("run", DEMO, "--", "--temp", "x"), "found 3 arguments");
    refused(2, gdn("logits", TINY, "--out", "o"), "--ids is missing");
    refused(2, gdn("logits", TINY, "--ids", "x"), "--out is missing");
    refused(2, gdn("perplexity", DEMO), "need: gdn perplexity MODEL FILE");
}

static void clashes(void **state)
{
    (void)state;
    refused(2, gdn("run", DEMO, "x", "--exact", "--fast"), "--exact and --fast: found both");
    refused(2, gdn("run", DEMO, "x", "--compute", "f64"), "--compute f64", "need --device ref");
    refused(2, gdn("run", DEMO, "x", "--ids", "f"), "--ids: found a prompt beside it");
    refused(2, gdn("run", DEMO, "--ids", "f", "--think"), "--ids: found with --think");
    refused(2, gdn("run", DEMO, "x", "--raw", "--system", "y"), "--raw: found with --system");
    refused(2, gdn("run", DEMO, "x", "--raw", "--no-think"), "--raw: found with --no-think");
    refused(2, gdn("run", DEMO, "x", "--think", "--no-think"), "--think and --no-think");
}

static void info(void **state)
{
    (void)state;
    went_well(gdn("info", DEMO));
    assert_non_null(strstr(ran.out, "8: 6 gated-delta, 2 attention\n"));
    assert_non_null(strstr(ran.out, "end tokens         4084 4086\n"));
    assert_non_null(strstr(ran.out, "session of 32768 tokens\n"));
    went_well(gdn("info", DEMO, "--ctx", "1024", "--json"));
    assert_memory_equal(ran.out, "{\"family\":\"", 11);
    assert_string_equal(ran.out + strlen(ran.out) - 2, "}\n");
    assert_non_null(strstr(ran.out, "\"parameters\":4739800,"));
    assert_non_null(strstr(ran.out, "\"eos\":[4084,4086],"));
    assert_non_null(strstr(ran.out, "\"context\":1024,"));
    assert_non_null(strstr(ran.out, "\"mtp_layers\":1,\"mtp_tensors\":15,\"vision_tensors\":0,"));
    went_well(gdn("info", GDN_SOURCE_DIR "/tests/golden/q35-r2-untied"));
    assert_non_null(strstr(ran.out, "2 vision tensors\n"));
    assert_non_null(strstr(ran.out, "only ids can be used\n"));
}

static void full_disk_is_told(void **state)
{
    (void)state;
    static const char *const words[] = {"info", DEMO, NULL};
    assert_int_equal(run_with("/dev/null", "/dev/full", words), 6);
    assert_non_null(strstr(ran.err, "standard output: writing failed: No space left on device"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_pages),    cmocka_unit_test(version),
        cmocka_unit_test(no_command),    cmocka_unit_test(unknown_words),
        cmocka_unit_test(values),        cmocka_unit_test(words),
        cmocka_unit_test(clashes),       cmocka_unit_test(info),
        cmocka_unit_test(full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
