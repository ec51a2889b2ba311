/* The JSON reader and writer: against jansson, at their limits, and cut at every byte. */
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/json_compare.h"
#include "base/memory.h"
#include "base/rng.h"

static const char *const valid[] = {
    "{}", "[]", "0", "-0", "1", "-1", "12345678901234567890", "1.5", "-0.0", "1e5", "1E+5", "1e-5",
    "0e0", "0.0e-0", "123.456e7", "true", "false", "null", "\"\"", "\"a\"", " \t\r\n1\t\r\n ",
    "[1]", "[1,2,3]", "[ 1 , 2 ]", "[[],[[]],{}]", "{\"a\":1}", "{ \"a\" : 1 , \"b\" : [ ] }",
    "{\"\":0}", "{\"a\":{\"b\":{\"c\":[1,{\"d\":null}]}}}", "{\"a\":1,\"a\":2}",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0041\\u00e9\\u20AC\\uffff\"", "\"\\u0000\"",
    "\"\\ud83d\\ude00\"", "\"\\uD834\\uDD1E x\"", "\"\\udbff\\udfff\"", "\"\x7f\"",
    "\"\xc2\x80\xdf\xbf\"", "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"",
    "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", "\"1234567\"", "\"12345678\"", "\"123456789\"",
    "\"1234567\\n\"", "\"12345678\\n\"", "\"123456\xc3\xa9\"", "\"1234567\xc3\xa9 1234567\"",
    "{\"1234567890123456\":\"abcdefghijklmnopqrstuvwxyz\"}", "{\"a\\u0062\":1}",
    "0.1", "2.2250738585072014e-308", "4.9e-324", "1.7976931348623157e308", "1e-400", "1e22",
    "1e23", "9007199254740993", "9007199254740992.99999999999999999999", "0.000000000000001",
};

static const char *const invalid[] = {
    "", " ", "{", "}", "[", "]", "[}", "{]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]",
    "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "{\"a\" 1}", "{\"a\"::1}",
    "{a:1}", "{'a':1}", "{1:1}", "{null:1}", "{\"a\":1 \"b\":2}", "{\"a\",1}", "[\"a\":1]", "1 2",
    "{}{}", "[]]", "{}}", "tru", "True", "truE", "nul", "nulll", "fals", "NaN", "Infinity",
    "-Infinity", "+1", "-", "--1", "01", "-01", "00", "1.", ".5", "-.5", "1.e5", "1e", "1e+",
    "1E-", "1e1.5", "0x10", "1_000", "1,5", "1f", "\"", "\"a", "\"\\\"", "\"\\", "\"\\a\"",
    "\"\\x41\"", "\"\\'\"", "\"\\0\"", "\"\\u\"", "\"\\u1\"", "\"\\u12\"", "\"\\u123\"",
    "\"\\u123g\"", "\"\\u 123\"", "\"\\u-123\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\ud800\"",
    "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\ud83d\\ude0\"", "\"\n\"",
    "\"\t\"", "\"\x01\"", "\"\x1f\"", "\"1234567\x1f\"", "\"\x80\"", "\"\xbf\"", "\"\xc0\x80\"",
    "\"\xc1\xbf\"", "\"\xc3\"", "\"\xc3(\"", "\"\xe0\x9f\xbf\"", "\"\xed\xa0\x80\"",
    "\"\xe2\x82\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"",
    "\"\xf0\x9f\x98\"", "\"\xff\"", "\xef\xbb\xbf{}", "\xc2\xa0{}", "\f1", "\v1", "//x\n1",
    "/**/1", "1//x", "[1]#", "\\u0031", "\xff", "[\"\xff\"]", "{\"\xff\":1}", "{\"a\\q\":1}",
};

/* A document with a little of everything. */
static const char sample[] =
    "{\"model\": {\"vocab\": {\"\\u0120the\": 0, \"\xc4\xa0" "of\": 1, \"\\\"\": 2, \"\": 3},\n"
    " \"merges\": [[\"a\", \"b\"], [\"\xf0\x9f\x98\x80\", \"\\ud83d\\ude00\"]]},\t"
    "\"x\": [-0.5e-3,\r 123456789, true, false, null, [], {}, \"\\b\\f\\n\\r\\t\\/\\\\\"], "
    "\"long key of many bytes\": \"some text of more than sixteen bytes\"}";

static bool accepts(const char *text, size_t len)
{
    struct json_traits traits;
    return json_compare_accepts(text, len, &traits);
}

/* The verdict on a copy that ends where the text ends. */
static const char *difference(const char *text, size_t len)
{
    char *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, text, len);
    const char *result = json_compare(exact, len);
    free(exact);
    return result;
}

static void agrees(const char *text, size_t len)
{
    const char *what = difference(text, len);
    if (what) fail_msg("%s: %.*s", what, (int)len, text);
}

static void reads_what_rfc_8259_allows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        if (!accepts(valid[i], strlen(valid[i]))) fail_msg("refused: %s", valid[i]);
        agrees(valid[i], strlen(valid[i]));
    }
}

static void refuses_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        if (accepts(invalid[i], strlen(invalid[i]))) fail_msg("taken: %s", invalid[i]);
        agrees(invalid[i], strlen(invalid[i]));
    }
    assert_false(accepts("1\0", 2));
    assert_false(accepts("\"\0\"", 3));
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    size_t len = sizeof sample - 1;
    assert_true(accepts(sample, len));
    agrees(sample, len);
    for (size_t n = 0; n < len; n++) {
        char *cut = malloc(n ? n : 1);
        assert_non_null(cut);
        memcpy(cut, sample, n);
        assert_false(accepts(cut, n));
        free(cut);
    }
}

static void agrees_on_mutations(void **state)
{
    (void)state;
    struct rng rng = {.seed = 11};
    static const char alphabet[] = "{}[]:,\"\\ud8dceE+-.0123456789 tfn\n\x80\xc3\xe2\xf0\x01";
    for (int i = 0; i < 20000; i++) {
        char text[sizeof sample];
        size_t len = sizeof sample - 1;
        memcpy(text, sample, len);
        for (uint64_t k = 1 + rng_below(&rng, 3); k > 0; k--)
            text[rng_below(&rng, len)] = alphabet[rng_below(&rng, sizeof alphabet - 1)];
        agrees(text, len);
    }
}

static void limits_the_depth(void **state)
{
    (void)state;
    for (int object = 0; object < 2; object++)
        for (int depth = JSON_DEPTH - 1; depth <= JSON_DEPTH + 1; depth++) {
            struct bytes text = {0};
            for (int i = 0; i < depth; i++) bytes_add_text(&text, object ? "{\"a\":" : "[");
            bytes_add_text(&text, "1");
            for (int i = 0; i < depth; i++) bytes_add_text(&text, object ? "}" : "]");
            assert_int_equal(accepts(text.at, text.len), depth <= JSON_DEPTH);
            bytes_free(&text);
        }
}

static void hands_out_tokens(void **state)
{
    (void)state;
    struct json json;
    struct json_token t;
    const char *text = " {\"a\\n\" : [ 12 , \"\xc3\xa9\\u0000z\" ] } ";
    json_open(&json, text, strlen(text));
    assert_int_equal(json_next(&json, &t), JSON_OBJECT);
    assert_ptr_equal(t.text, text + 1);
    assert_int_equal(json_next(&json, &t), JSON_KEY);
    assert_true(t.escaped && t.len == 3);
    assert_true(json_is(&t, "a\n"));
    assert_false(json_is(&t, "a"));
    assert_false(json_is(&t, "a\\n"));
    assert_false(json_is(&t, "a\nb"));
    assert_int_equal(json_next(&json, &t), JSON_ARRAY);
    assert_int_equal(json_next(&json, &t), JSON_NUMBER);
    assert_true(t.len == 2 && memcmp(t.text, "12", 2) == 0);
    assert_int_equal(json_next(&json, &t), JSON_STRING);
    char out[8];
    size_t len;
    assert_true(json_text(&t, out, 5, &len));
    assert_int_equal(len, 4);
    assert_memory_equal(out, "\xc3\xa9\0z", 5);
    for (size_t room = 0; room < 5; room++) assert_false(json_text(&t, out, room, &len));
    assert_int_equal(json_next(&json, &t), JSON_ARRAY_END);
    assert_int_equal(json_next(&json, &t), JSON_OBJECT_END);
    assert_int_equal(json_next(&json, &t), JSON_END);
    assert_int_equal(json_next(&json, &t), JSON_END);
}

static void says_what_is_wrong_and_where(void **state)
{
    (void)state;
    struct json json;
    struct json_token t;
    json_open(&json, "[1, x]", 6);
    json_next(&json, &t);
    json_next(&json, &t);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(json_next(&json, &t), JSON_ERROR);
        assert_string_equal(json.error, "a value is needed here");
        assert_int_equal(json_offset(&json), 4);
    }
    assert_false(json_skip(&json, &t));
}

static void skips_values(void **state)
{
    (void)state;
    struct json json;
    struct json_token t;
    const char *text = "{\"a\":{\"b\":[1,[2],{}]},\"c\":3,\"d\":[[]],\"e\":4}";
    json_open(&json, text, strlen(text));
    json_next(&json, &t);
    for (const char *key = "acd"; *key; key++) {
        assert_int_equal(json_next(&json, &t), JSON_KEY);
        assert_int_equal(*t.text, *key);
        if (*key == 'd') json_next(&json, &t);
        assert_true(json_skip(&json, &t));
    }
    assert_int_equal(json_next(&json, &t), JSON_KEY);
    assert_true(json_is(&t, "e"));
    json_next(&json, &t);
    assert_true(json_skip(&json, &t));
    assert_int_equal(json_next(&json, &t), JSON_OBJECT_END);
    json_open(&json, "[[1,2", 5);
    json_next(&json, &t);
    assert_false(json_skip(&json, &t));
}

static struct json_token number(const char *text)
{
    struct json json;
    struct json_token t;
    json_open(&json, text, strlen(text));
    json_next(&json, &t);
    return t;
}

static void reads_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } cases[] = {
        {"0", true, 0}, {"-0", true, 0}, {"7", true, 7}, {"-7", true, -7},
        {"9223372036854775807", true, INT64_MAX}, {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0}, {"-9223372036854775809", false, 0},
        {"99999999999999999999999", false, 0}, {"1.0", false, 0}, {"1e2", false, 0},
        {"true", false, 0}, {"\"1\"", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t value = 0;
        struct json_token t = number(cases[i].text);
        assert_int_equal(json_int(&t, INT64_MIN, INT64_MAX, &value), cases[i].good);
        assert_int_equal(value, cases[i].value);
    }
    int64_t value;
    struct json_token t = number("10");
    assert_true(json_int(&t, 10, 10, &value));
    assert_false(json_int(&t, 11, 20, &value));
    assert_false(json_int(&t, 0, 9, &value));
}

static void same_double(const char *text)
{
    double got, want = strtod(text, NULL);
    struct json_token t = number(text);
    if (!json_double(&t, &got) || memcmp(&got, &want, sizeof got) != 0)
        fail_msg("%s: want %a", text, want);
}

static void reads_doubles_like_strtod(void **state)
{
    (void)state;
    struct rng rng = {.seed = 5};
    char text[1400];
    for (int i = 0; i < 100000; i++) {
        uint64_t bits = rng_u64(&rng);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        snprintf(text, sizeof text, "%.*g", (int)(1 + rng_below(&rng, 20)), v);
        if (isfinite(strtod(text, NULL))) same_double(text);
        snprintf(text, sizeof text, "%.*f", (int)rng_below(&rng, 9),
                 rng_between(&rng, -1e6, 1e6));
        same_double(text);
    }
    /* Half way between two doubles, and one digit above it far behind what a double can hold. */
    snprintf(text, sizeof text, "%.0f", 0x1p200 + 0x1p148);
    same_double(text);
    snprintf(text, sizeof text, "%.1080f", 0x1.8p-1074 * 3);
    same_double(text);
    for (size_t zeros = 0; zeros < 1000; zeros += 37) {
        int n = snprintf(text, sizeof text, "9007199254740993.%0*d", (int)zeros + 1, 1);
        assert_true(n > 0);
        same_double(text);
        snprintf(text, sizeof text, "1%0*de-%zu", (int)zeros + 1, 0, zeros + 1);
        same_double(text);
        snprintf(text, sizeof text, "0.%0*de%zu", (int)zeros + 1, 1, zeros);
        same_double(text);
    }
    same_double("1e-99999999999999999999");
    same_double("0e99999999999999999999");
    double v;
    struct json_token huge = number("1e309"), far = number("-1e99999999999999999999");
    assert_false(json_double(&huge, &v));
    assert_false(json_double(&far, &v));
}

static void writes_strings(void **state)
{
    (void)state;
    struct bytes out = {0};
    static const char raw[] = "a\"\\\n\t\r\x01\x7f/\xc3\xa9\xf0\x9f\x98\x80|\xff|\xc3|\xed\xa0\x80";
    json_put_string(&out, raw, sizeof raw - 1);
    assert_string_equal(out.at, "\"a\\\"\\\\\\n\\t\\u000d\\u0001\x7f/\xc3\xa9\xf0\x9f\x98\x80|"
                                "\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    agrees(out.at, out.len);
    bytes_free(&out);
    json_put_string(&out, "a\0b", 3);
    assert_string_equal(out.at, "\"a\\u0000b\"");
    bytes_free(&out);
}

static void writes_doubles_that_read_back(void **state)
{
    (void)state;
    struct rng rng = {.seed = 9};
    static const double some[] = {0.0,     -0.0,     1.0,    0.1,          1e300, -1e-300,
                                  DBL_MAX, DBL_MIN, 1.0 / 3, 123456789.125, 4.9e-324};
    for (size_t i = 0; i < 10000; i++) {
        uint64_t bits = rng_u64(&rng);
        double v, back;
        memcpy(&v, &bits, sizeof v);
        if (i < sizeof some / sizeof *some) v = some[i];
        struct bytes out = {0};
        json_put_double(&out, v);
        assert_false(out.failed);
        struct json_token t = number(out.at);
        if (isfinite(v)) {
            assert_true(json_double(&t, &back));
            assert_memory_equal(&v, &back, sizeof v);
        } else {
            assert_int_equal(t.kind, JSON_NULL);
        }
        bytes_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_rfc_8259_allows),
        cmocka_unit_test(refuses_the_rest),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(agrees_on_mutations),
        cmocka_unit_test(limits_the_depth),
        cmocka_unit_test(hands_out_tokens),
        cmocka_unit_test(says_what_is_wrong_and_where),
        cmocka_unit_test(skips_values),
        cmocka_unit_test(reads_integers),
        cmocka_unit_test(reads_doubles_like_strtod),
        cmocka_unit_test(writes_strings),
        cmocka_unit_test(writes_doubles_that_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
