/* gdn chat, its lines from a file: answers alone on standard output, commands, files, branches, and
 * how much of a conversation is computed again. */
#include "cli/program.h"

static int chat(const char *lines, const char *a, const char *b)
{
    put("lines", lines);
    return gdn_in("lines", "chat", "demo", "--temp", "0", "--threads", "1", a, b);
}

/* It ended well; these came, in this order. */
static void came_(const char *text, const char *const *parts, const char *file, int line)
{
    const char *at = text;
    if (ran.code != 0) fail_msg("%s:%d: exit %d, %s", file, line, ran.code, ran.err);
    for (; *parts; parts++) {
        const char *found = strstr(at, *parts);
        if (!found) fail_msg("%s:%d: no \"%s\" in \"%s\"", file, line, *parts, text);
        at = found + strlen(*parts);
    }
}
#define came(text, ...) came_(text, (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)

static void answers(void **state)
{
    (void)state;
    went_well(chat("What is 7 + 5?\n\n   \nAnd 3 + 4?", NULL, NULL));
    assert_string_equal(ran.out, "7 + 5 = 12.\n3 + 4 = 7.\n");
    /* What run says to the same question, which here has two lines. */
    went_well(gdn("run", "demo", "What is\n7 + 5?", "--temp", "0"));
    char said[TEXT];
    snprintf(said, sizeof said, "%s", ran.out);
    went_well(chat("What is\\\n7 + 5?\n", NULL, NULL));
    assert_string_equal(ran.out, said);
    went_well(chat("", NULL, NULL));
    assert_string_equal(ran.out, "");
    /* Guessing ahead changes nothing of what is said, in this turn and the next. */
    static const char tales[] = "Tell me a tale about a fox.\nAnd a tale about a cow.\n";
    went_well(chat(tales, "-n", "150"));
    snprintf(said, sizeof said, "%s", ran.out);
    put("lines", tales);
    went_well(gdn_in("lines", "chat", "demo", "--temp", "0", "-n", "150", "--draft", "mtp"));
    assert_string_equal(ran.out, said);
    went_well(gdn_in("lines", "chat", "demo", "--temp", "0", "-n", "150", "--draft", "lookup"));
    assert_string_equal(ran.out, said);
    went_well(chat("/quit\nWhat is 7 + 5?\n", NULL, NULL));
    assert_string_equal(ran.out, "");
    chat("What is 7 + 5?\n", "--stats", NULL);
    came(ran.err, "[prompt ", " tok/s; reused 0 tokens; answer ", "; first token ",
         " ms; peak memory ", "]\n");
    went_well(chat("Tell me a tale.\n", "-n", "1"));
    assert_true(strlen(ran.out) < 20);
}

/* Messages of any length: talk is what it was behind them. */
static void long_messages(void **state)
{
    (void)state;
    char lines[6000];
    size_t len = 0;
    while (len < 4000) len += (size_t)sprintf(lines + len, "The fox went on. ");
    snprintf(lines + len, sizeof lines - len, "\n/save long\n/rewind\nWhat is 7 + 5?\n");
    chat(lines, "-n", "9");
    came(ran.out, "\n7 + 5 = 12.\n");
    came(ran.err, "[saved: long and its state]", "[turns taken back: 1]");
    chat("/load long\n/stats\n", NULL, NULL);
    came(ran.err, "[loaded: 2 messages]");
}

static void commands(void **state)
{
    (void)state;
    chat("/help\n/nope\n/halp\n/think maybe\n/think off\n/rewind x\n/rewind\n/fork 2\n/save\n"
         "/load\n/load nowhere\n/system You are brief.\n/system\n/stats\n", NULL, NULL);
    came(ran.err, "/system TEXT", "/fork", "Ctrl-C stops the answer", "/nope: no such command",
         "/halp: no such command; did you mean /help", "/think: found \"maybe\", need on, off",
         "/rewind: found \"x\", need a number", "[turns taken back: 0]",
         "/fork: found \"2\", need a branch from 1 to 1", "/save: need the name of a file",
         "/load: need the name of a file", "nowhere", "no answer", "0 states kept");
    assert_string_equal(ran.out, "");
}

static void branches_and_turns(void **state)
{
    (void)state;
    chat("What is 7 + 5?\n/fork\nAnd 3 + 4?\n/fork 1\n/rewind\n/fork 2\n/rewind 5\n"
         "What is 7 + 5?\n", NULL, NULL);
    assert_string_equal(ran.out, "7 + 5 = 12.\n3 + 4 = 7.\n7 + 5 = 12.\n");
    came(ran.err, "[branch 2 of 2, 1 questions]", "[branch 1 of 2, 1 questions]",
         "[turns taken back: 1]", "[branch 2 of 2, 2 questions]", "[turns taken back: 2]");
    chat("/fork\n/fork\n/fork\n/fork\n/fork\n/fork\n/fork\n/fork\n/fork\n/fork\n/fork\n/fork\n"
         "/fork\n"
         "/fork\n/fork\n/fork\n", NULL, NULL);
    came(ran.err, "[branch 16 of 16", "/fork: there are 16 branches");
}

/* "prompt N tokens" of the n-th line of times. */
static int computed(int n)
{
    const char *at = ran.err;
    for (int i = 0; i < n && at; i++) at = strstr(at + (i > 0), "[prompt ");
    if (!at) fail_msg("no %d lines of times in %s", n, ran.err);
    return atoi(at + 8);
}

static void nothing_twice(void **state)
{
    (void)state;
    /* The same question again; another in its place; a branch; the first one's place again. */
    chat("Tell me a tale about a fox.\n/rewind\nTell me a tale about a fox.\n/rewind\n"
         "Tell me a tale about a cow.\n/fork\nAnd then?\n/fork 1\nAnd then?\n", "--stats", NULL);
    assert_true(computed(1) > 16);
    assert_int_equal(computed(2), 0);
    assert_true(computed(3) > 0 && computed(3) <= 16 + 16);
    assert_true(computed(4) > 0);
    assert_int_equal(computed(5), 0);
}

static void files(void **state)
{
    (void)state;
    char first[TEXT];
    chat("What is 7 + 5?\n/save talk\nAnd 3 + 4?\n", "--stats", NULL);
    came(ran.err, "[saved: talk and its state]");
    const int next = computed(2);
    snprintf(first, sizeof first, "%s", strchr(ran.out, '\n') + 1);
    went_well(gdn("state", "verify", "talk.gdnstate"));
    /* In another run nothing of it is computed again, and the answer is the same. */
    chat("And 3 + 4?\n", "--load", "talk");
    assert_string_equal(ran.out, first);
    put("lines", "/load talk\nAnd 3 + 4?\n/stats\n");
    assert_int_equal(gdn_in("lines", "chat", "demo", "--temp", "0"), 0);
    assert_string_equal(ran.out, first);
    came(ran.err, "[loaded: 2 messages]", "[prompt ");
    assert_true(computed(1) <= next);
    /* Without its state, or with a broken or foreign one, it is only slower. */
    edit("talk.gdnstate", "gdnstate", "gdnstaat");
    chat("/load talk\nAnd 3 + 4?\n", NULL, NULL);
    came(ran.err, "talk.gdnstate", "(it is read again)", "[loaded: 2 messages]");
    assert_string_equal(ran.out, first);
    assert_int_equal(unlink("talk.gdnstate"), 0);
    chat("/load talk\nAnd 3 + 4?\n", NULL, NULL);
    assert_string_equal(ran.out, first);
    /* What is no conversation is told, and changes nothing. */
    put("bad1", "{}");
    put("bad2", "[{\"content\":\"x\"}]");
    put("bad3", "[{\"role\":\"user\"}");
    put("bad4", "[3]");
    chat("What is 7 + 5?\n/load bad1\n/load bad2\n/load bad3\n/load bad4\n"
         "And 3 + 4?\n", NULL, NULL);
    came(ran.err, "bad1: found no list", "bad2: message 0 has no role", "bad3: byte ",
         "bad4: byte ", "need an object");
    came(ran.out, "7 + 5 = 12.\n", first);
    refused(3, gdn("chat", "demo", "--load", "bad1"), "gdn chat: bad1: found no list");
}

static void limits(void **state)
{
    (void)state;
    /* The context: told, and the question is taken back; what fits goes on. */
    chat("What is 7 + 5? I mean the sum of seven and five, which I would like to know, if it is "
         "not too much to ask of you, who knows all the sums.\nWhat is 7 + 5?\n", "--ctx", "40");
    came(ran.err, "gdn chat: the conversation: found ", "tokens, the context holds 40");
    assert_string_equal(ran.out, "7 + 5 = 12.\n");
    chat("Tell me a tale.\n", "--ctx", "30");
    came(ran.err, "[the context of 30 tokens is full]");
    refused(2, gdn("chat"), "found 0 of its arguments");
    refused(2, gdn("chat", "demo", "--think", "--no-think"), "found both");
    refused(3, gdn("chat", TINY), "found no tokenizer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers), cmocka_unit_test(long_messages), cmocka_unit_test(commands),
        cmocka_unit_test(branches_and_turns),
        cmocka_unit_test(nothing_twice), cmocka_unit_test(files), cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
