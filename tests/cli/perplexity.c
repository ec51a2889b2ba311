/* gdn perplexity: windows, counts and forms of its answer. perplexity_slow.c has the demo model's
 * number over a real text. */
#include "cli/program.h"

#include <math.h>

static double number(const char *key)
{
    const char *at = strstr(ran.out, key);
    if (!at) fail_msg("no %s in %s", key, ran.out);
    return strtod(at + strlen(key), NULL);
}

static double nats(void) { return number("\"nats_per_token\":"); }
static int tokens(void) { return (int)number("\"tokens\":"); }
static int windows(void) { return (int)number("\"windows\":"); }

#define score(...) went_well(gdn("perplexity", __VA_ARGS__, "--json"))

static int make_ids(void **state)
{
    if (make_work(state) != 0) return -1;
    char text[1000] = "";
    for (int i = 0; i < 130; i++) snprintf(text + strlen(text), 8, "%d,", (i * 37 + i / 7) % 256);
    put("ids", text);
    return 0;
}

static void windows_and_counts(void **state)
{
    (void)state;
    static const struct {
        const char *window, *limit;
        int tokens, windows;
    } cases[] = {{"512", "1000", 129, 1}, {"65", "130", 128, 2}, {"64", "128", 126, 2},
                 {"64", "129", 126, 2}, /* a window of one is dropped */
                 {"64", "130", 127, 3},   {"2", "130", 65, 65},  {"3", "130", 86, 43},
                 {"130", "1000", 129, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        score(TINY, "ids", "--ids", "--ctx", cases[i].window, "--limit", cases[i].limit);
        assert_int_equal(tokens(), cases[i].tokens);
        assert_int_equal(windows(), cases[i].windows);
        assert_int_equal((int)number("\"window\":"), atoi(cases[i].window));
        assert_true(fabs(number("\"perplexity\":") - exp(nats())) < 1e-9 * exp(nats()));
    }
}

/* Windows that ran side by side give what they give alone, to the last bit. */
static void batching_changes_nothing(void **state)
{
    (void)state;
    double sum = 0;
    size_t len;
    char *text = get("ids", &len), *at = text;
    for (int w = 0; w < 4; w++) {
        char *begin = at;
        for (int i = 0; i < 32; i++) at = strchr(at, ',') + 1;
        put_bytes("part", begin, (size_t)(at - begin));
        score(TINY, "part", "--ids", "--ctx", "32");
        assert_int_equal(windows(), 1);
        sum += nats() * 31;
    }
    mem_give(text);
    score(TINY, "ids", "--ids", "--ctx", "32", "--limit", "128");
    assert_int_equal(windows(), 4);
    assert_true(fabs(nats() * 124 - sum) < 1e-11 * sum);
    char first[TEXT];
    strcpy(first, ran.out);
    score(TINY, "ids", "--ids", "--ctx", "32", "--limit", "128", "--threads", "1");
    assert_string_equal(ran.out, first);
}

static void forms(void **state)
{
    (void)state;
    put("text", "Once there was a kind fox named Anna.\n<|endoftext|>\nOnce there was a wolf.\n");
    score(DEMO, "text");
    const int count = tokens();
    const double mean = nats();
    went_well(gdn_in("text", "perplexity", DEMO, "-"));
    char want[100];
    snprintf(want, sizeof want, "%.5f nats per token, perplexity %.4f, over %d tokens in 1 windows "
             "of 512\n", mean, exp(mean), count);
    assert_string_equal(ran.out, want);
    /* A marker between documents is one token, not thirteen letters. */
    put("text", "Once there was a kind fox named Anna.\n<|endofcake|>\nOnce there was a wolf.\n");
    score(DEMO, "text");
    assert_true(tokens() > count + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_and_counts),
        cmocka_unit_test(batching_changes_nothing),
        cmocka_unit_test(forms),
    };
    return cmocka_run_group_tests(tests, make_ids, drop_work);
}
