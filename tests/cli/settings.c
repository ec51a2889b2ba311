/* Options from the config file and the environment: who wins, what is refused, how it is told. */
#include "cli/program.h"

static void config_is(const char *text)
{
    mkdir("gdn", 0700);
    put("gdn/config", text);
}

/* --print-config is the config file's own form: what is set, in its lines. */
static void printed(const char *want)
{
    char lines[TEXT] = "";
    for (const char *line = ran.out; *line;) {
        const size_t n = strcspn(line, "\n") + 1;
        if (*line != '#' && *line != '\n') strncat(lines, line, n);
        line += n;
    }
    assert_string_equal(ran.err, "");
    assert_string_equal(lines, want);
}

static void the_stronger_wins(void **state)
{
    (void)state;
    config_is("# notes\n\nn = 5\ntemp = 0.25\n[chat_is_not_here_yet]\n");
    refused(3, gdn("run", DEMO, "x"), "gdn/config, line 5: command \"chat_is_not_here_yet\"");
    config_is("n = 5\ntemp = 0.25\nthreads=1\n[run]\nn = 6\n"
              "system = \"Be brief.\"\n[bench]\nn=7\n");
    gdn("run", DEMO, "x", "--print-config");
    printed("[run]\nsystem = \"Be brief.\"\nn = 6\ntemp = 0.25\nthreads = 1\n");
    setenv("GDN_N", "8", 1);
    setenv("GDN_TEMP", "0.5", 1);
    gdn("run", DEMO, "x", "--print-config", "--temp", "1", "--compute=bf16");
    printed("[run]\nsystem = \"Be brief.\"\nn = 8\ntemp = 1\nthreads = 1\ncompute = bf16\n");
    assert_non_null(strstr(ran.out, "# from GDN_N\nn = 8\n"));
    assert_non_null(strstr(ran.out, "# from the command line\ntemp = 1\n"));
    assert_non_null(strstr(ran.out, "# from line 6 of the config file\nsystem = "));
    assert_non_null(strstr(ran.out, "# device is not set (default: cpu)\n"));
    gdn("run", DEMO, "x", "--print-config", "--config", "none");
    printed("[run]\nn = 8\ntemp = 0.5\n");
    unsetenv("GDN_N");
    unsetenv("GDN_TEMP");
    put("other", "n = 9");
    gdn("run", DEMO, "x", "--print-config", "--config", "other");
    printed("[run]\nn = 9\n");
    setenv("GDN_CONFIG", "other", 1);
    gdn("run", DEMO, "x", "--print-config");
    printed("[run]\nn = 9\n");
    unsetenv("GDN_CONFIG");
    /* It does what it says. */
    config_is("print-ids = true\ntemp = 0\n[run]\nn = 3");
    went_well(gdn("run", DEMO, "Tell me a tale."));
    assert_int_equal(strspn(ran.out, "0123456789 \n"), strlen(ran.out));
    assert_int_equal(unlink("gdn/config"), 0);
}

/* Of a pair of flags the one that was said nearer by. */
static void pairs(void **state)
{
    (void)state;
    config_is("fast = true\n");
    gdn("info", DEMO, "--print-config", "--exact");
    printed("[info]\nexact = true\n");
    setenv("GDN_EXACT", "1", 1);
    gdn("info", DEMO, "--print-config");
    printed("[info]\nexact = true\n");
    gdn("info", DEMO, "--print-config", "--fast");
    printed("[info]\nfast = true\n");
    unsetenv("GDN_EXACT");
    config_is("fast = true\nexact = true\n");
    refused(2, gdn("info", DEMO), "--exact and --fast: found both");
    assert_int_equal(unlink("gdn/config"), 0);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"n = 0", "line 1: -n: found \"0\", need a whole number"},
        {"\n\ntemp = warm", "line 3: --temp: found \"warm\""},
        {"fast = yes", "--fast: found \"yes\", need true or false"},
        {"compute = f16", "need one of f32|bf16|f64"},
        {"tmp = 1", "option \"tmp\" is unknown; did you mean temp?"},
        {"[run]\nshape = x", "line 2: option \"shape\" is not one of gdn run"},
        {"[rum]", "command \"rum\" is unknown; did you mean run?"},
        {"[run", "need [COMMAND]"},
        {"temp 0", "found \"temp 0\", need KEY = VALUE"},
        {"config = x", "option \"config\" is unknown"},
        {"help = true", "option \"help\" is unknown"},
        {"system =", "--system: found an empty text"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config_is(bad[i].text);
        refused(3, gdn("run", DEMO, "x"), "gdn run: ", "gdn/config, line ", bad[i].part);
    }
    put_bytes("gdn/config", "n=1\0m", 5);
    refused(3, gdn("run", DEMO, "x"), "gdn/config: found a zero byte at 3");
    /* Help is there all the same. */
    went_well(gdn("run", "--help"));
    refused(3, gdn("run", DEMO, "x", "--config", "nowhere"), "nowhere");
    /* An option of another command, above all sections, is none of this one's business. */
    config_is("shape = x\nn = 2");
    went_well(gdn("info", DEMO));
    assert_int_equal(unlink("gdn/config"), 0);
    setenv("GDN_TOP_K", "1000", 1);
    refused(2, gdn("run", DEMO, "x"), "GDN_TOP_K: --top-k: found \"1000\"");
    unsetenv("GDN_TOP_K");
}

/* ---- models by name -------------------------------------------------------------------------- */

static void names(void **state)
{
    (void)state;
    went_well(gdn("info", "demo"));
    assert_non_null(strstr(ran.out, "4.7 million"));
    went_well(gdn("info", DEMO "/config.json"));
    went_well(gdn("info", DEMO "/model.safetensors"));
    refused(3, gdn("info", "demmo"), "demmo: no such folder", "did you mean demo?");
    refused(3, gdn("info", "./demo"), "./demo: no such file or folder");
    mkdir("shelf", 0700);
    copy_model(TINY, "shelf/tiny");
    refused(3, gdn("info", "tiny"), "no model of that name");
    went_well(gdn("info", "tiny", "--models", "shelf"));
    refused(3, gdn("info", "tony", "--models=shelf"), "did you mean tiny?");
    setenv("GDN_MODELS", "shelf", 1);
    went_well(gdn("info", "tiny"));
    went_well(gdn("doctor"));
    assert_non_null(strstr(ran.out, "\n  tiny  "));
    assert_non_null(strstr(ran.out, "\n  demo  "));
    unsetenv("GDN_MODELS");
    mkdir("gdn", 0700);
    mkdir("gdn/models", 0700);
    copy_model(TINY, "gdn/models/mine");
    went_well(gdn("info", "mine"));
    /* A folder here is nearer than a name. */
    copy_model(TINY, "demo");
    went_well(gdn("info", "demo"));
    assert_null(strstr(ran.out, "4.7 million"));
    drop_folder("demo");
}

/* ---- doctor ---------------------------------------------------------------------------------- */

static void doctor(void **state)
{
    (void)state;
    static const char *const parts[] = {"gdn ", "\nProcessor\n", "\n  instructions ", "\n  amx  ",
                                        "\nMemory\n", "\n  huge pages ", "\nLimits\n", "\nGPU\n",
                                        "\nLibraries\n", "\n  libpcre2-8 ", "libedit.so.2"};
    went_well(gdn("doctor"));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(ran.out, parts[i])) fail_msg("no \"%s\" in: %s", parts[i], ran.out);
    refused(2, gdn("doctor", "x"), "found 1 arguments");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stronger_wins), cmocka_unit_test(pairs), cmocka_unit_test(refusals),
        cmocka_unit_test(names), cmocka_unit_test(doctor),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
