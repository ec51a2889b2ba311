/* Answers in two parts: marks as tokens, marks as text, marks cut anywhere, marks that never come,
 * and texts that only look like marks. */
#include "text/think.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "text/small.h"

#include "base/rng.h"
#include "text/chat.h"
#include "text/utf8.h"

enum { SPECIAL = 259, OPEN = 260, CLOSE = 261 };

#define MARKS                                                                      \
    SMALL_ADDED ",{\"id\":260,\"content\":\"<think>\",\"special\":false},"         \
                "{\"id\":261,\"content\":\"</think>\",\"special\":false}"

static struct tokenizer *with_marks(void)
{
    return small_open(&(struct small){.added = MARKS}, 0);
}

/* A script of ids: bytes stand for themselves, and \1 \2 \3 for the special token and the marks. */
static size_t ids_of(const char *script, int32_t *ids)
{
    size_t n = 0;
    for (; script[n]; n++) {
        const unsigned char c = (unsigned char)script[n];
        ids[n] = c <= 3 ? SPECIAL - 1 + c : c;
    }
    return n;
}

struct parts {
    char thoughts[512], answer[512];
};

static void add_text(char *to, struct bytes *text)
{
    assert_false(text->failed);
    assert_int_equal(utf8_good_len(text->at ? text->at : "", text->len), text->len);
    assert_true(strlen(to) + text->len < 512);
    if (text->len) strncat(to, text->at, text->len);
    text->len = 0;
}

static struct parts parts_of(const struct tokenizer *tok, bool spells, const char *before,
                             const char *script)
{
    struct think t;
    struct think_text out = {0};
    struct parts parts = {"", ""};
    int32_t head[512], ids[512];
    const size_t heads = ids_of(before, head), count = ids_of(script, ids);
    think_open(&t, tok, spells, head, heads);
    for (size_t i = 0; i <= count; i++) {
        think_push(&t, i < count ? ids[i] : -1, &out);
        add_text(parts.thoughts, &out.thoughts);
        add_text(parts.answer, &out.answer);
    }
    think_close(&t);
    bytes_free(&out.thoughts);
    bytes_free(&out.answer);
    return parts;
}

struct case_of {
    const char *before, *script, *thoughts, *answer;
};

static void check(const struct tokenizer *tok, bool spells, const struct case_of *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct parts got = parts_of(tok, spells, cases[i].before, cases[i].script);
        if (strcmp(got.thoughts, cases[i].thoughts) || strcmp(got.answer, cases[i].answer))
            fail_msg("case %zu: found \"%s\" | \"%s\", need \"%s\" | \"%s\"", i, got.thoughts,
                     got.answer, cases[i].thoughts, cases[i].answer);
    }
}
#define COUNT(list) (sizeof(list) / sizeof *(list))

static void marks_that_are_tokens(void **state)
{
    (void)state;
    static const struct case_of cases[] = {
        {"", "Paris.", "", "Paris."},
        {"", "\2\nhm, \n\nFrance\n\3\n\nParis.\n", "hm, \n\nFrance", "Paris.\n"},
        {"", "\n\2hm\3Paris.", "hm", "Paris."},
        {"", "\n Paris. ", "", "\n Paris. "},
        {"", " \n", "", " \n"},
        /* The template has opened them, or opened and closed them, or a turn before has. */
        {"\1user\nwhat\1\n\2\n", "\nhm\n\3\n\nParis.", "hm", "Paris."},
        {"\1user\nwhat\1\n\2\n\n\3\n\n", "Paris.", "", "Paris."},
        {"\1user\n\2what\1\n", "Paris.", "", "Paris."},
        {"", "\3 Paris.", "", "</think> Paris."},
        /* They were cut in the middle of a thought. */
        {"\1\2hm", " France\3Paris.", " France", "Paris."},
        /* Nobody ends them. */
        {"\1\2", "hm, hm\n\n", "hm, hm", ""},
        {"", "\2", "", ""},
        {"", "\2\3", "", ""},
        {"", "\2 \n\3 \n", "", ""},
        /* Opened twice, and opened again behind a part of the answer. */
        {"\1\2\n", "\2\nhm\3 Paris.", "hm", "Paris."},
        {"", "\2one\3first \2two\3second", "one\n\ntwo", "first second"},
        /* A text that spells them is a text. */
        {"", "<think>a</think>b", "", "<think>a</think>b"},
        {"", "\2a</think>b\3c", "a</think>b", "c"},
        {"\1<think>", "a", "", "a"},
        /* Half a code point before a mark never becomes whole. */
        {"", "\2a\xE4\xB8\3b\xE4", "a\xEF\xBF\xBD", "b\xEF\xBF\xBD"},
        {"", "\2\xE4\xB8\xAD\3\xE4\xB8\xAD", "\xE4\xB8\xAD", "\xE4\xB8\xAD"},
        /* Special tokens say nothing. */
        {"", "\2a\1\3\1b\1", "a", "b"},
    };
    struct tokenizer *tok = with_marks();
    check(tok, true, cases, COUNT(cases)); /* what the template spells is the tokens then */
    check(tok, false, cases, COUNT(cases));
    tokenizer_close(tok);
}

static void marks_that_are_text(void **state)
{
    (void)state;
    static const struct case_of cases[] = {
        {"", "Paris.", "", "Paris."},
        {"", "<think>\nhm\n</think>\n\nParis.", "hm", "Paris."},
        {"\1user\nwhat\1\n<think>", "\nhm\n</think>\nParis.", "hm", "Paris."},
        {"\1<think></think>", "Paris.", "", "Paris."},
        {"\1user <think>\1\n", "Paris.", "", "Paris."},
        {"\1<think>hm", " France</think>Paris.", " France", "Paris."},
        /* Half marks at the end, and marks that are none. */
        {"", "<thi", "", "<thi"},
        {"", " <thin>k", "", " <thin>k"},
        {"", "<think>hm</thi", "hm</thi", ""},
        {"", "<think>hm \n</thi \n", "hm \n</thi", ""},
        {"", "<think>a < b </thin> c\n</think>d", "a < b </thin> c", "d"},
        {"", "<think>a</</think>b", "a</", "b"},
        {"", "<think><think>a</think>b</think>c", "<think>a", "b</think>c"},
        {"", "<think>hm", "hm", ""},
        {"", "<think>", "", ""},
        /* In an answer that has begun they are words. */
        {"", "The mark <think> opens, </think> ends.", "",
         "The mark <think> opens, </think> ends."},
        {"", "</think>a", "", "</think>a"},
    };
    struct tokenizer *tok = small_open(&(struct small){0}, 0);
    check(tok, true, cases, COUNT(cases));
    tokenizer_close(tok);
}

static void models_without_thoughts(void **state)
{
    (void)state;
    static const struct case_of cases[] = {
        {"", "<think>\nhm\n</think>\n\nParis.", "", "<think>\nhm\n</think>\n\nParis."},
        {"\1<think>", " \n\1Paris. \n", "", " \n" "Paris. \n"},
    };
    struct tokenizer *tok = small_open(&(struct small){0}, 0);
    check(tok, false, cases, COUNT(cases));
    tokenizer_close(tok);
}

/* Tokens of several bytes cut a spelled mark anywhere; and what is given out at once, what not. */
static void cuts(void **state)
{
    (void)state;
    struct tokenizer *tok = small_open(&(struct small){.vocab = ",\"ab\":256,\"abc\":257,\"\xC4\xA0"
        "a\":258,\"</\":260,\"think\":261,\">\xC4\x8A\":262,\"k>a\":263,\"<thin\":264"}, 0);
    static const int32_t ids[] = {264, 263, ' ', 260, 261, 262, 'b', 260, 261, '>'};
    static const char *const thoughts[] = {"", "a", "", "", "", "", "", "", "", "", ""};
    static const char *const answer[] = {"", "", "", "", "", "", "b", "</", "think", ">", ""};
    struct think t;
    struct think_text out = {0};
    think_open(&t, tok, true, NULL, 0);
    for (size_t i = 0; i <= COUNT(ids); i++) {
        struct parts now = {"", ""};
        think_push(&t, i < COUNT(ids) ? ids[i] : -1, &out);
        add_text(now.thoughts, &out.thoughts);
        add_text(now.answer, &out.answer);
        assert_string_equal(now.thoughts, thoughts[i]);
        assert_string_equal(now.answer, answer[i]);
    }
    think_close(&t);
    bytes_free(&out.thoughts);
    bytes_free(&out.answer);
    tokenizer_close(tok);
}

/* Whatever comes, nothing but marks and white space beside them is lost: of any stream without
 * white space, the parts joined are the text without its first pair of marks. */
static void nothing_is_lost(void **state)
{
    (void)state;
    struct tokenizer *tok = small_open(&(struct small){0}, 0);
    static const char letters[] = "<>/think";
    struct rng rng = {11, 0};
    for (int round = 0; round < 20000; round++) {
        char script[64] = "", want[64], joined[1024];
        while (strlen(script) < 40) {
            const uint64_t pick = rng_below(&rng, 12);
            if (pick < 2)
                strcat(script, pick ? "</think>" : "<think>");
            else
                strncat(script, letters + rng_below(&rng, sizeof letters - 1), 1);
        }
        strcpy(want, script);
        const bool thinks = strncmp(want, "<think>", 7) == 0;
        if (thinks) memmove(want, want + 7, strlen(want + 7) + 1);
        char *end = thinks ? strstr(want, "</think>") : NULL;
        if (end) memmove(end, end + 8, strlen(end + 8) + 1);
        const struct parts got = parts_of(tok, true, "", script);
        snprintf(joined, sizeof joined, "%s%s", got.thoughts, got.answer);
        assert_string_equal(joined, want);
        if (!thinks) assert_string_equal(got.thoughts, "");
        if (thinks && !end) assert_string_equal(got.answer, "");
    }
    tokenizer_close(tok);
}

static void ids_of_no_token(void **state)
{
    (void)state;
    struct tokenizer *tok = with_marks();
    struct think t;
    struct think_text out = {0};
    static const int32_t before[] = {-5, 100000, OPEN, INT32_MAX};
    think_open(&t, tok, true, before, COUNT(before));
    assert_int_equal(t.place, THINK_THOUGHTS);
    think_push(&t, 100000, &out);
    think_push(&t, 'a', &out);
    think_push(&t, INT32_MIN, &out);
    assert_int_equal(out.thoughts.len, 1);
    think_close(&t);
    bytes_free(&out.thoughts);
    bytes_free(&out.answer);
    tokenizer_close(tok);
}

/* Which templates know the marks. */
static void templates(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        bool spells;
    } cases[] = {{"{{ '<think>' }}", true}, {"{{ '</think>' }}", false}, {"", false}};
    struct gdn_error err = {0};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct chat *chat;
        assert_int_equal(chat_parse("t", cases[i].source, strlen(cases[i].source), &chat, &err), 0);
        assert_int_equal(chat_spells_thoughts(chat), cases[i].spells);
        chat_close(chat);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_that_are_tokens), cmocka_unit_test(marks_that_are_text),
        cmocka_unit_test(models_without_thoughts), cmocka_unit_test(cuts),
        cmocka_unit_test(nothing_is_lost),       cmocka_unit_test(ids_of_no_token),
        cmocka_unit_test(templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
