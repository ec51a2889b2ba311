/* What changes an answer and what ends it: penalties, biases, stop strings and tokens; and the log
 * probabilities of its tokens. With drafts all of it is the same. */
#include "cli/program.h"

#include <math.h>

#define COUNT "run", "demo", "Count from 1 to 9", "--temp", "0"
#define TALE "run", "demo", "Tell me a tale about a fox.", "--temp", "0", "-n", "40"

static char plain[TEXT];

static void keep_plain(void) { strcpy(plain, ran.out); }

/* Up to what differs from run to run. */
static void drop_times(char *json)
{
    char *at = strstr(json, ",\"timings\"");
    if (at) *at = 0;
}

/* The same words with each kind of drafts. */
static void same_with_drafts(const char *const *words)
{
    static const char *const kinds[] = {"--draft=lookup", "--draft=mtp"};
    char alone[TEXT];
    const char *all[40] = {0};
    int n = 0;
    drop_times(ran.out);
    strcpy(alone, ran.out);
    while (words[n]) {
        all[n] = words[n];
        n++;
    }
    for (int k = 0; k < 2; k++) {
        all[n] = kinds[k];
        assert_int_equal(run_with("/dev/null", "stdout", all), 0);
        assert_string_equal(ran.err, "");
        drop_times(ran.out);
        assert_string_equal(ran.out, alone);
    }
}
#define said(...)                                                                                  \
    do {                                                                                           \
        went_well(gdn(__VA_ARGS__));                                                               \
        same_with_drafts((const char *const[]){__VA_ARGS__, NULL});                                \
    } while (0)

static void penalties(void **state)
{
    (void)state;
    said(COUNT);
    keep_plain();
    assert_string_equal(plain, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11.\n");
    said(COUNT, "--repetition", "2");
    assert_string_not_equal(ran.out, plain);
    said(COUNT, "--presence", "9");
    assert_string_not_equal(ran.out, plain);
    said(COUNT, "--frequency", "3");
    assert_string_not_equal(ran.out, plain);
    /* Of the last token alone, which never comes twice: nothing changes. */
    said(COUNT, "--presence", "9", "--window", "1");
    assert_string_equal(ran.out, plain);
    said(COUNT, "--repetition", "1", "--presence", "0", "--frequency", "0");
    assert_string_equal(ran.out, plain);
    refused(2, gdn(COUNT, "--repetition", "0"), "--repetition: found \"0\", need a number from");
    refused(2, gdn(COUNT, "--window", "-1"), "--window: found \"-1\"");
}

static void biases(void **state)
{
    (void)state;
    char id[64];
    went_well(gdn(COUNT, "--print-ids", "-n", "1"));
    snprintf(id, sizeof id, "%d=-inf", atoi(ran.out));
    said(COUNT);
    keep_plain();
    /* The first token never, by its id and by its text; another one always. */
    said(COUNT, "--bias", id);
    assert_string_not_equal(ran.out, plain);
    assert_null(strchr(ran.out, '1'));
    said(COUNT, "--bias", "1=-inf");
    assert_string_equal(ran.out, plain); /* digits are an id */
    said(COUNT, "--bias", "1=0", "--bias", "<|im_end|>=-1e3", "-n", "40");
    assert_true(strlen(ran.out) > strlen(plain));
    said(COUNT, "--bias", ",=100", "-n", "3");
    assert_string_equal(ran.out, ",,,\n");
    refused(2, gdn(COUNT, "--bias", "x"), "--bias: found \"x\", need TOKEN=X");
    refused(2, gdn(COUNT, "--bias", "=1"), "need TOKEN=X");
    refused(2, gdn(COUNT, "--bias", "5="), "need TOKEN=X");
    refused(2, gdn(COUNT, "--bias", "5=inf"), "need TOKEN=X");
    refused(2, gdn(COUNT, "--bias", "5=1e9"), "need TOKEN=X");
    refused(2, gdn(COUNT, "--bias", "4096=1"), "--bias: found id 4096, need 0 to 4095");
    refused(2, gdn(COUNT, "--bias", "two words=1"), "tokens, need one");
    put("ids", "1 2 3");
    refused(2, gdn("run", TINY, "--ids", "ids", "--print-ids", "--bias", "x=1"),
            "found \"x\" and no tokenizer for it, need an id");
}

static void stops(void **state)
{
    (void)state;
    said(COUNT);
    keep_plain();
    said(COUNT, "--stop", "5");
    assert_string_equal(ran.out, "1, 2, 3, 4, \n");
    said(COUNT, "--stop", "never", "--stop", "3, 4", "--stop", "5");
    assert_string_equal(ran.out, "1, 2, \n");
    said(COUNT, "--stop", "never");
    assert_string_equal(ran.out, plain);
    said(COUNT, "--stop", "1");
    assert_string_equal(ran.out, "\n");
    said(COUNT, "--stop-token", ",");
    assert_string_equal(ran.out, "1\n");
    /* Its ids are there with those of the stop string. */
    said(COUNT, "--stop", ", 2", "--print-ids");
    said(COUNT, "--stop", "5", "--json", "--logprobs", "0");
    assert_non_null(strstr(ran.out, "\"text\":\"1, 2, 3, 4, \""));
    refused(2, gdn(COUNT, "--stop", "\\q"), "need \\n, \\t or \\\\");
    refused(2, gdn(COUNT, "--stop", ""), "--stop: found an empty text");
    refused(2, gdn(COUNT, "--stop", "\xFF"), "--stop: ", "not UTF-8");
    refused(2, gdn(COUNT, "--stop-token", "5, 6"), "tokens, need one");
    put("ids", "1 2 3");
    refused(3, gdn("run", TINY, "--ids", "ids", "--print-ids", "--stop", "x"), "need --stop-token");
    went_well(gdn("run", TINY, "--ids", "ids", "--print-ids", "--temp", "0", "-n", "5"));
    char second[32];
    snprintf(second, sizeof second, "%d", atoi(strchr(ran.out, ' ')));
    went_well(gdn("run", TINY, "--ids", "ids", "--print-ids", "--temp", "0", "--stop-token",
                  second));
    assert_null(strchr(ran.out, ' '));
    /* A line end, and the same from the config file, where a list is as many lines. */
    mkdir("gdn", 0700);
    put("gdn/config", "stop = \"\\n\"\nstop = \"6\"\nstop = 4");
    said(COUNT);
    assert_string_equal(ran.out, "1, 2, 3, \n");
    said(COUNT, "--stop", "7");
    assert_string_equal(ran.out, "1, 2, 3, 4, 5, 6, \n");
    gdn(COUNT, "--print-config");
    assert_non_null(strstr(ran.out, "stop = \"\\n\"\nstop = \"6\"\nstop = \"4\"\n"));
    assert_int_equal(unlink("gdn/config"), 0);
}

/* What was guessed behind a stop string is no part of what is saved. */
static void saved_behind_a_stop(void **state)
{
    (void)state;
    static const char *const kinds[] = {"off", "lookup", "mtp"};
    char went_on[TEXT] = "";
    for (int k = 0; k < 3; k++) {
        went_well(gdn(COUNT, "--stop", "5", "--save", "s", "--draft", kinds[k], "--draft-depth",
                      "5"));
        assert_string_equal(ran.out, "1, 2, 3, 4, \n");
        went_well(gdn("run", "demo", "--resume", "s", "--temp", "0", "--print-ids"));
        if (k > 0) assert_string_equal(ran.out, went_on);
        strcpy(went_on, ran.out);
    }
    went_well(gdn("run", "demo", "--resume", "s", "--temp", "0"));
    assert_string_equal(ran.out, ", 6, 7, 8, 9, 10, 11.\n");
}

/* The numbers behind "logprob": in the object, in order. */
static int logprobs_of(const char *json, double *out, int room)
{
    int n = 0;
    for (const char *at = json; (at = strstr(at, "\"logprob\":")) && n < room; n++) {
        at += 10;
        out[n] = strncmp(at, "null", 4) == 0 ? -INFINITY : strtod(at, NULL);
    }
    return n;
}

static void logprobs(void **state)
{
    (void)state;
    enum { N = 9, TOP = 3, ALL = N * (1 + TOP) };
    double own[N + 1], all[ALL + 1];
    said(TALE, "--json", "--logprobs", "0", "-n", "9");
    assert_int_equal(logprobs_of(ran.out, own, N + 1), N);
    assert_non_null(strstr(ran.out, "\"top\":[]"));
    went_well(gdn(TALE, "--json", "--logprobs", "3", "-n", "9"));
    assert_int_equal(logprobs_of(ran.out, all, ALL + 1), ALL);
    for (int i = 0; i < N; i++) {
        const double *one = &all[i * (1 + TOP)];
        double sum = 0;
        assert_true(one[0] == own[i] && one[0] == one[1]); /* greedy: the first of them */
        for (int k = 1; k <= TOP; k++) {
            assert_true(k == 1 || one[k] <= one[k - 1]);
            sum += exp(one[k]);
        }
        assert_true(sum > 0 && sum <= 1);
    }
    /* Of the model, whatever changes what is chosen. */
    went_well(gdn(TALE, "--json", "--logprobs", "0", "-n", "1", "--bias", ",=90"));
    assert_int_equal(logprobs_of(ran.out, all, ALL), 1);
    assert_true(all[0] < own[0]);
    refused(2, gdn(TALE, "--logprobs", "3"), "--logprobs: found without --json");
    refused(2, gdn(TALE, "--json", "--logprobs", "257"), "need a whole number from 0 to 256");
}

/* A conversation ends its answers in the same ways. */
static void in_a_chat(void **state)
{
    (void)state;
    put("lines", "Count from 1 to 9\nCount from 1 to 9\n");
    went_well(gdn_in("lines", "chat", "demo", "--temp", "0", "--stop", "3"));
    assert_string_equal(ran.out, "1, 2, \n1, 2, \n");
    went_well(gdn_in("lines", "chat", "demo", "--temp", "0", "--bias", ",=100", "-n", "2"));
    assert_string_equal(ran.out, ",,\n,,\n");
    assert_int_equal(gdn_in("lines", "chat", "demo", "--temp", "0", "--draft", "mtp", "--stats"),
                     0);
    assert_non_null(strstr(ran.err, " tokens a step, drafts right "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalties), cmocka_unit_test(biases),
        cmocka_unit_test(stops),     cmocka_unit_test(saved_behind_a_stop),
        cmocka_unit_test(logprobs),  cmocka_unit_test(in_a_chat),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
