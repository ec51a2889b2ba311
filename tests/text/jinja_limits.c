/* What a template may not do, where its text comes from, and what failures leave behind. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "text/jinja.h"

#define BOMBS GDN_SOURCE_DIR "/tests/fuzz/corpus/text_jinja/bomb-*"

static enum gdn_status render_with(const char *source, size_t len, const char *json,
                                   const struct jinja_limits *limits, struct jinja_output *out,
                                   struct gdn_error *err)
{
    const struct jinja_variable variables[] = {{"x", json, strlen(json), false},
                                               {"eos", "\"</s>\"", 6, true}};
    struct jinja *jinja;
    enum gdn_status status = jinja_open("t.jinja", source, len, &jinja, err);
    assert_true((status == GDN_OK) == (jinja != NULL));
    if (status != GDN_OK) return status;
    status = jinja_render(jinja, variables, 2, NULL, limits, out, err);
    jinja_close(jinja);
    return status;
}

static enum gdn_status render(const char *source, const char *json, struct jinja_output *out,
                              struct gdn_error *err)
{
    return render_with(source, strlen(source), json, NULL, out, err);
}

static void bombs_end_as_errors(void **state)
{
    (void)state;
    glob_t files;
    assert_int_equal(glob(BOMBS, 0, NULL, &files), 0);
    assert_true(files.gl_pathc >= 40);
    const int64_t live = mem_counted().live_blocks;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct gdn_error err = {0};
        struct jinja_output out = {0};
        char *source;
        size_t len;
        assert_int_equal(file_read(files.gl_pathv[i], 1 << 20, &source, &len, NULL), GDN_OK);
        const enum gdn_status status = render_with(source, len, "null", NULL, &out, &err);
        if (status != GDN_ERR_INPUT && status != GDN_ERR_UNSUPPORTED)
            fail_msg("%s: %d %s", files.gl_pathv[i], status, err.text);
        /* Said with the place. */
        if (!strstr(err.text, "t.jinja, line 1, column ")) fail_msg("%s", err.text);
        assert_null(out.text.at);
        mem_give(source);
    }
    globfree(&files);
    assert_int_equal(mem_counted().live_blocks, live);
}

/* Just inside a limit is fine; one further is not. */
static void keeps_to_the_limits(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        struct jinja_limits good, bad;
        const char *says;
    } cases[] = {
        {"{% for a in range(9) %}{% endfor %}", {.steps = 22}, {.steps = 21}, "21 steps"},
        {"{{ 'ab' * 8 }}", {.output = 16}, {.output = 15}, "15 bytes of output"},
        {"{{ 'ab' * 1048576 }}", {.memory = 16 << 20}, {.memory = 1 << 20}, "bytes of memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t len = strlen(cases[i].source);
        struct jinja_output out = {0};
        struct gdn_error err = {0};
        struct jinja_limits good = cases[i].good;
        if (good.memory) good.output = 16 << 20;
        if (render_with(cases[i].source, len, "1", &good, &out, &err) != GDN_OK)
            fail_msg("%s: %s", cases[i].source, err.text);
        jinja_output_free(&out);
        assert_int_equal(render_with(cases[i].source, len, "1", &cases[i].bad, &out, &err),
                         GDN_ERR_INPUT);
        if (!strstr(err.text, cases[i].says)) fail_msg("%s", err.text);
    }
}

static void knows_how_deep_is_too_deep(void **state)
{
    (void)state;
    for (int depth = 60; depth < 70; depth++) {
        struct bytes b = {0};
        struct jinja_output out = {0};
        struct gdn_error err = {0};
        for (int i = 0; i < depth; i++) bytes_add_text(&b, "{% if 1 %}");
        bytes_add_text(&b, "x");
        for (int i = 0; i < depth; i++) bytes_add_text(&b, "{% endif %}");
        const enum gdn_status status = render(b.at, "1", &out, &err);
        assert_int_equal(status, depth <= JINJA_DEPTH ? GDN_OK : GDN_ERR_INPUT);
        jinja_output_free(&out);
        bytes_free(&b);
    }
    struct gdn_error err = {0};
    struct jinja *jinja;
    char *large = mem_take(JINJA_SOURCE_MAX + 1);
    assert_int_equal(jinja_open("t", large, JINJA_SOURCE_MAX + 1, &jinja, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "262145 bytes"));
    memset(large, 'x', JINJA_SOURCE_MAX);
    assert_int_equal(jinja_open("t", large, JINJA_SOURCE_MAX, &jinja, NULL), GDN_OK);
    jinja_close(jinja);
    mem_give(large);
}

static void refuses_with_the_place(void **state)
{
    (void)state;
    static const struct {
        const char *source, *json, *says;
    } cases[] = {
        {"a\n  {{ x.y.z }}", "{}", "t.jinja, line 2, column 9: 'y' is undefined"},
        {"{% if x %}", "1", "line 1, column 11: found the end of the template, need endif elif"},
        {"{{ x ! }}", "1", "column 6: found the character \"!\" in a tag"},
        {"{{ x\xC3\xA9 }}", "1", "column 5: found the character \"\\xC3\\xA9\""},
        {"{% fore x %}", "1", "found \"fore\", need if, for, set"},
        {"{% for x of y %}", "1", "column 10: found \"of\", need \"in\""},
        {"{{ x|nofilter }}", "1", "column 6: found the filter \"nofilter\", which is not known"},
        {"{{ x is notest }}", "1", "column 9: found the test \"notest\""},
        {"{{ raise_exception('So ' ~ x) }}", "5", "column 19: So 5"},
        {"{{ '\\ud800' }}", "1", "found an escape that is no character"},
        {"\xFF", "1", "t.jinja, byte 0: found no UTF-8"},
        {"{{ x }}", "{\"a\": }", "x, byte 6: not JSON"},
        {"{{ strftime_now('%Y') }}", "1", "the time is not known"},
        {"{{ 99999999999999999999 }}", "1", "which is too large"},
        {"{% for a in x recursive %}{% endfor %}", "1", "a recursive loop"},
        {"\n {% call x() %}{% endcall %}", "1", "t.jinja, line 2, column 5: found \"call\", need if"},
        {"{% filter upper %}{% endfilter %}", "1", "column 4: found \"filter\", need if, for"},
        {"{% with a = 1 %}{% endwith %}", "1", "column 4: found \"with\", need if, for, set"},
        {"{% include 'a' %}", "1", "column 4: found \"include\", need if, for, set"},
        {"{{ x(1)(2) }}", "1", "found a value of type int, need a function"},
        {"{{ range(1, 2, 3, 4) }}", "1", "range: found 4 arguments, need at most 3"},
        {"{{ range(stop=1) }}", "1", NULL},
        {"{{ x.split(sap=1) }}", "\"a\"", "split: found an argument \"sap\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct jinja_output out = {0};
        struct gdn_error err = {0};
        const enum gdn_status status = render(cases[i].source, cases[i].json, &out, &err);
        if (!cases[i].says) {
            assert_int_equal(status, GDN_OK);
            jinja_output_free(&out);
            continue;
        }
        assert_true(status == GDN_ERR_INPUT || status == GDN_ERR_UNSUPPORTED);
        if (!strstr(err.text, cases[i].says)) fail_msg("%s", err.text);
    }
}

/* ---- where text comes from ------------------------------------------------------------------- */

/* `marks`: t for the template, d for data, one for each byte of the output. */
static const struct {
    const char *source, *json, *text, *marks;
} origins[] = {
    {"<{{ x }}>", "\"ab\"", "<ab>", "tddt"},
    {"{{ '<' + x + '>' }}", "\"ab\"", "<ab>", "tddt"},
    {"{{ eos ~ x ~ eos }}", "\"a\"", "</s>a</s>", "ttttdtttt"},
    {"{{ ('<' ~ x ~ '>')[1:] }}", "\"ab\"", "ab>", "ddt"},
    {"{{ ('<' ~ x ~ '>')[::-1] }}", "\"ab\"", ">ba<", "tddt"},
    {"{{ (' ' ~ x ~ ' ')|trim }}", "\" a \"", "a", "d"},
    {"{{ ('<' ~ x ~ '>').split('b')[1] }}", "\"abc\"", "c>", "dt"},
    {"{{ x.split(',')|join('|') }}", "\"a,b\"", "a|b", "dtd"},
    {"{{ x.replace('b', '<>') }}", "\"abc\"", "a<>c", "dttd"},
    {"{{ '[b]'.replace('b', x) }}", "\"q\"", "[q]", "tdt"},
    {"{{ ('a' ~ x)|upper }}", "\"b\"", "AB", "td"},
    {"{{ x|tojson }}", "\"a\\n\"", "\"a\\n\"", "tdddt"},
    {"{{ x }}", "[\"a\"]", "['a']", "ttdtt"},
    {"{% for k in x %}{{ k }}{% endfor %}", "{\"key\": 1}", "key", "ddd"},
    {"{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(x)|trim }}", "\"a\"", "<a>", "tdt"},
    {"{% set y %}<{{ x }}>{% endset %}{{ y }}", "\"a\"", "<a>", "tdt"},
    {"{{ '%s' if false else x }}", "\"a\"", "a", "d"},
    {"{{ [x, 'b']|join }}", "\"a\"", "ab", "dt"},
    {"{{ (x ~ '\\n' ~ x)|indent(1) }}", "\"a\"", "a\n a", "dttd"},
    {"{{ x.strip('<') ~ x.removeprefix('<') }}", "\"<a\"", "aa", "dd"},
    {"{{ x|length }}", "\"abc\"", "3", "t"},
    {"{{ x * 2 ~ '-' * 2 }}", "\"a\"", "aa--", "ddtt"},
    {"{{ x|list|join('.') }}", "\"ab\"", "a.b", "dtd"},
    {"{{ x|string|default('z') }}{{ y|default('z') }}", "\"a\"", "az", "dt"},
};

static void remembers_where_text_comes_from(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
        struct jinja_output out = {0};
        struct gdn_error err = {0};
        if (render(origins[i].source, origins[i].json, &out, &err) != GDN_OK)
            fail_msg("%s: %s", origins[i].source, err.text);
        assert_string_equal(out.text.at, origins[i].text);
        assert_int_equal(out.marks.len, strlen(origins[i].marks));
        for (size_t k = 0; k < out.marks.len; k++)
            if (out.marks.at[k] != (origins[i].marks[k] == 'd'))
                fail_msg("%s: byte %zu of \"%s\"", origins[i].source, k, out.text.at);
        jinja_output_free(&out);
    }
}

static void survives_failing_memory(void **state)
{
    (void)state;
    static const char source[] = "{% for a in x %}{{ a ~ '-' }}{% endfor %}";
    struct jinja_output out = {0};
    const struct mem_count before = mem_counted();
    assert_int_equal(render(source, "[1, 2]", &out, NULL), GDN_OK);
    const int64_t takes = mem_counted().takes - before.takes;
    jinja_output_free(&out);
    assert_true(takes > 3);
    for (int64_t n = 1; n <= 2 * takes; n++) {
        mem_fail_after((n + 1) / 2, n % 2 == 0);
        assert_int_equal(render(source, "[1, 2]", &out, NULL), GDN_ERR_MEMORY);
        mem_fail_after(0, false);
        assert_null(out.text.at);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bombs_end_as_errors),
        cmocka_unit_test(keeps_to_the_limits),
        cmocka_unit_test(knows_how_deep_is_too_deep),
        cmocka_unit_test(refuses_with_the_place),
        cmocka_unit_test(remembers_where_text_comes_from),
        cmocka_unit_test(survives_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
