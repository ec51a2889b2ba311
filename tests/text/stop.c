/* stop.c: a text ends where a string comes up, in whatever pieces it arrives. */
#include "text/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "text/utf8.h"

static struct gdn_error err;

static void opened(struct stopper *s, const char *const *strings, size_t count)
{
    if (stopper_open(s, strings, count, &err) != GDN_OK) fail_msg("%s", err.text);
}

/* Pieces end at zeros; what has left after each is told with | between. */
static void streams(const char *const *strings, size_t count, const char *const *pieces,
                    const char *want, bool done)
{
    struct stopper s = {0};
    struct bytes out = {0};
    opened(&s, strings, count);
    bytes_add(&out, "", 0);
    for (size_t i = 0; pieces[i]; i++) {
        stopper_push(&s, pieces[i], strlen(pieces[i]), &out);
        bytes_add_text(&out, "|");
    }
    stopper_flush(&s, &out);
    assert_string_equal(out.at, want);
    assert_int_equal(s.done, done);
    stopper_close(&s);
    bytes_free(&out);
}

static void by_hand(void **state)
{
    (void)state;
    static const char *const end[] = {"END"}, *const two[] = {"\n\n", "User:"};
    static const char *const nested[] = {"abcd", "bc"}, *const same[] = {"c", "abc"};
    static const char *const accents[] = {"\xC3\xA9t\xC3\xA9"};
    streams(end, 1, (const char *[]){"no", " end", NULL}, "no| end|", false);
    streams(end, 1, (const char *[]){"an E", "N", "D.", NULL}, "an |||", true);
    streams(end, 1, (const char *[]){"an E", "N", "T.", NULL}, "an ||ENT.|", false);
    streams(end, 1, (const char *[]){"EEN", "EN", "END", "more", NULL}, "E|EN|EN||", true);
    streams(end, 1, (const char *[]){"it E", NULL}, "it |E", false); /* the end of the text */
    streams(end, 1, (const char *[]){"aENDbENDc", NULL}, "a|", true);
    streams(two, 2, (const char *[]){"a\n", "b\n", "\n", NULL}, "a|\nb||", true);
    streams(two, 2, (const char *[]){"Use", "User", ":", NULL}, "|Use||", true);
    /* What is complete first ends the text; of two at the same byte the longer. */
    streams(nested, 2, (const char *[]){"abcd", NULL}, "a|", true);
    streams(nested, 2, (const char *[]){"ab", "cd", NULL}, "|a|", true);
    streams(same, 2, (const char *[]){"xabc", NULL}, "x|", true);
    streams(accents, 1, (const char *[]){"l'\xC3\xA9", "t\xC3\xA8", NULL},
            "l'|\xC3\xA9t\xC3\xA8|", false);
    streams(NULL, 0, (const char *[]){"any", "thing", NULL}, "any|thing|", false);
}

static void refused(const char *string, const char *what)
{
    struct stopper s = {0};
    const char *const strings[] = {"good", string};
    err = (struct gdn_error){0};
    assert_int_equal(stopper_open(&s, strings, 2, &err), GDN_ERR_USAGE);
    if (!strstr(err.text, "stop string 1") || !strstr(err.text, what)) fail_msg("%s", err.text);
    err = (struct gdn_error){0};
}

static void refusals(void **state)
{
    (void)state;
    refused("", "nothing");
    refused(NULL, "nothing");
    refused("\xC3", "not UTF-8");
    refused("a\xFF", "not UTF-8");
}

/* ---- any text, any cut ----------------------------------------------------------------------- */

/* Where the text ends: the first byte at which some string is complete, back to its begin. */
static size_t slowly(const char *text, size_t len, const char *const *strings, size_t count,
                     bool *done)
{
    for (size_t end = 1; end <= len; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < count; i++) {
            const size_t n = strlen(strings[i]);
            if (n <= end && n > longest && memcmp(text + end - n, strings[i], n) == 0) longest = n;
        }
        *done = longest > 0;
        if (*done) return end - longest;
    }
    return len;
}

static size_t random_text(struct rng *rng, char *text, int points)
{
    static const char *const letters[] = {"a", "b", "\xC3\xA9", "\xE2\x82\xAC"};
    size_t len = 0;
    for (int i = 0; i < points; i++) {
        const char *letter = letters[rng_below(rng, 4)];
        strcpy(text + len, letter);
        len += strlen(letter);
    }
    return len;
}

static void any_cut(void **state)
{
    (void)state;
    struct rng rng = {.seed = 2};
    int stopped = 0;
    for (int round = 0; round < 20000; round++) {
        char text[200], string[3][40];
        const char *const strings[3] = {string[0], string[1], string[2]};
        const size_t count = 1 + rng_below(&rng, 3);
        const size_t len = random_text(&rng, text, (int)rng_below(&rng, 40));
        for (size_t i = 0; i < count; i++)
            random_text(&rng, string[i], 1 + (int)rng_below(&rng, 6));
        bool done = false;
        const size_t want = slowly(text, len, strings, count, &done);
        struct stopper s = {0};
        struct bytes out = {0};
        opened(&s, strings, count);
        bytes_add(&out, "", 0);
        for (size_t at = 0, n; at < len; at += n) {
            n = 1 + rng_below(&rng, 12);
            while (at + n < len && ((unsigned char)text[at + n] & 0xC0) == 0x80) n++;
            if (n > len - at) n = len - at;
            stopper_push(&s, text + at, n, &out);
            assert_true(out.len <= want && memcmp(out.at, text, out.len) == 0);
            assert_int_equal(utf8_good_len(out.at, out.len), out.len);
        }
        stopper_flush(&s, &out);
        assert_int_equal(out.len, want);
        assert_memory_equal(out.at, text, want);
        assert_int_equal(s.done, done);
        stopped += done;
        stopper_close(&s);
        bytes_free(&out);
    }
    assert_true(stopped > 5000 && stopped < 19000);
}

static void without_memory(void **state)
{
    (void)state;
    const char *const strings[] = {"a stop"};
    const int64_t live = mem_counted().live_blocks;
    struct stopper s = {0};
    for (int64_t n = 1; n < 3; n++) {
        mem_fail_after(n, true);
        const enum gdn_status got = stopper_open(&s, strings, 1, &err);
        mem_fail_after(0, false);
        assert_int_equal(got, GDN_ERR_MEMORY);
        assert_int_equal(mem_counted().live_blocks, live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(refusals),
        cmocka_unit_test(any_cut),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
