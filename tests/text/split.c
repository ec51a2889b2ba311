/* Cutting text by the known patterns, and by others under limits. */
#include "text/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/memory.h"

#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?"
#define QWEN35 HEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL
#define QWEN2 HEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
#define CL100K HEAD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL

static struct split *open_pattern(const char *pattern)
{
    struct split *split;
    struct gdn_error err = {0};
    if (split_open(pattern, strlen(pattern), true, &split, &err) != GDN_OK)
        fail_msg("%s", err.text);
    return split;
}

/* The pieces of `text`, each with a | behind it. */
static void check_pieces(const char *pattern, const char *text, const char *want)
{
    struct split *split = open_pattern(pattern);
    struct split_run *run = split_run_open(split);
    struct bytes got = {0};
    size_t len = strlen(text);
    assert_non_null(run);
    for (size_t at = 0, end; at < len; at = end) {
        assert_int_equal(split_next(run, text, len, at, &end, NULL), GDN_OK);
        assert_in_range(end, at + 1, len);
        bytes_add(&got, text + at, end - at);
        bytes_add_text(&got, "|");
    }
    assert_string_equal(got.at, want);
    bytes_free(&got);
    split_run_close(run);
    split_close(split);
}

static void knows_the_patterns(void **state)
{
    (void)state;
    static const char *const known[][2] = {
        {QWEN35, "qwen3.5"}, {QWEN2, "qwen2"}, {CL100K, "cl100k"}, {SPLIT_GPT2, "gpt-2"}};
    for (size_t i = 0; i < 4; i++) {
        struct split *split;
        assert_int_equal(split_open(known[i][0], strlen(known[i][0]), false, &split, NULL), GDN_OK);
        assert_string_equal(split_name(split), known[i][1]);
        assert_true(split_covers(split));
        split_close(split);
    }
}

static void cuts_as_the_models_do(void **state)
{
    (void)state;
    check_pieces(QWEN35, "I'LL say  it's 1234!!\n\n x", "I|'LL| say| | it|'s| |1|2|3|4|!!\n\n| x|");
    check_pieces(QWEN35, "a\xCC\x81 \xCC\x81!\xCC\x81", "a\xCC\x81| \xCC\x81|!\xCC\x81|");
    check_pieces(QWEN2, "a\xCC\x81" "b", "a|\xCC\x81" "b|");
    check_pieces(CL100K, "a12345", "a|123|45|");
    check_pieces(SPLIT_GPT2, "I'll 1234\n\n x!", "I|'ll| 1234|\n\n| x|!|");
    check_pieces(SPLIT_GPT2, "I'LL", "I|'|LL|");
    /* U+180E is no white space, U+0085 is. */
    check_pieces(QWEN35, "!\xE1\xA0\x8E!", "!\xE1\xA0\x8E!|");
    check_pieces(QWEN35, "!\xC2\x85!", "!|\xC2\x85|!|");
    check_pieces(QWEN35, "\r\n \t\n  x   ", "\r\n \t\n| | x|   |");
}

static void leaves_gaps_as_pieces(void **state)
{
    (void)state;
    check_pieces("b+", "aabbbcb", "aa|bbb|c|b|");
    check_pieces("b*", "aabb", "aa|bb|");
    check_pieces("x", "abc", "abc|");
    check_pieces("a\\Kb", "cab", "ca|b|");
}

static enum gdn_status open_status(const char *pattern, size_t len, struct gdn_error *err)
{
    struct split *split;
    int64_t live = mem_counted().live_blocks;
    enum gdn_status status = split_open(pattern, len, true, &split, err);
    split_close(split);
    assert_int_equal(mem_counted().live_blocks, live);
    return status;
}

static void refuses_patterns(void **state)
{
    (void)state;
    struct split *split;
    struct gdn_error err = {0};
    assert_int_equal(split_open("a\x1b+", 3, false, &split, &err), GDN_ERR_UNSUPPORTED);
    assert_null(split);
    assert_non_null(strstr(err.text, "\"a\\x1B+\""));
    assert_non_null(strstr(err.text, "--allow-any-pattern"));
    error_clear(&err);
    assert_int_equal(open_status("a(", 2, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "character 2"));
    assert_int_equal(open_status("\\C", 2, NULL), GDN_ERR_INPUT);
    assert_int_equal(open_status("\xFF", 1, NULL), GDN_ERR_INPUT);

    struct bytes pattern = {0};
    for (int i = 0; i < 16 << 10; i++) bytes_add_text(&pattern, "a");
    assert_int_equal(open_status(pattern.at, pattern.len, NULL), GDN_OK);
    bytes_add_text(&pattern, "a");
    assert_int_equal(open_status(pattern.at, pattern.len, NULL), GDN_ERR_INPUT);
    for (int depth = 64; depth <= 65; depth++) {
        pattern.len = 0;
        for (int i = 0; i < depth; i++) bytes_add_text(&pattern, "(");
        for (int i = 0; i < depth; i++) bytes_add_text(&pattern, ")");
        assert_int_equal(open_status(pattern.at, pattern.len, NULL),
                         depth == 64 ? GDN_OK : GDN_ERR_INPUT);
    }
    bytes_free(&pattern);
}

/* Patterns that would run for ages stop with an error. */
static void gives_up(void **state)
{
    (void)state;
    static const char *const bombs[] = {"(a+)+$", "(a|aa)+$", "(?:a?){30}a{30}$", "(a+)+[^a!]"};
    char text[2000];
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        struct split *split = open_pattern(bombs[i]);
        struct split_run *run = split_run_open(split);
        struct gdn_error err = {0};
        size_t end;
        text[sizeof text - 1] = '!';
        if (split_next(run, text, sizeof text, 0, &end, &err) != GDN_ERR_INPUT)
            fail_msg("%s", bombs[i]);
        assert_non_null(strstr(err.text, "gave up"));
        split_run_close(run);
        split_close(split);
    }
}

static void says_when_memory_is_short(void **state)
{
    (void)state;
    struct split *split = open_pattern("(a|b)+");
    struct split_run *run = split_run_open(split);
    size_t end = 0;
    mem_fail_after(1, false);
    assert_int_equal(split_next(run, "abab", 4, 0, &end, NULL), GDN_ERR_MEMORY);
    mem_fail_after(0, false);
    assert_int_equal(split_next(run, "abab", 4, 0, &end, NULL), GDN_OK);
    assert_int_equal(end, 4);
    split_run_close(run);
    split_close(split);
}

static double seconds_of(const char *pattern, const char *unit, size_t len)
{
    struct timespec begin, end;
    struct split *split = open_pattern(pattern);
    struct split_run *run = split_run_open(split);
    char *text = mem_take(len);
    size_t n = strlen(unit);
    for (size_t i = 0; i < len; i++) text[i] = unit[i % n];
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    for (size_t at = 0; at < len;)
        assert_int_equal(split_next(run, text, len, at, &at, NULL), GDN_OK);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    mem_give(text);
    split_run_close(run);
    split_close(split);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

static void text_bombs_cost_their_length(void **state)
{
    (void)state;
    static const char *const units[] = {"a", "7", " ", "\xCC\x81", "!", " \n", "  x", "'s", "\r"};
    static const char *const patterns[] = {QWEN35, QWEN2, CL100K, SPLIT_GPT2};
    for (size_t p = 0; p < 4; p++) {
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            double best = 1e9;
            for (int round = 0; round < 12 && best > 2.3; round++) {
                double once = seconds_of(patterns[p], units[i], 6 << 16);
                double twice = seconds_of(patterns[p], units[i], 12 << 16);
                if (twice / once < best) best = twice / once;
            }
            if (best > 2.3) fail_msg("pattern %zu, \"%s\": %.2f", p, units[i], best);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_the_patterns),    cmocka_unit_test(cuts_as_the_models_do),
        cmocka_unit_test(leaves_gaps_as_pieces), cmocka_unit_test(refuses_patterns),
        cmocka_unit_test(gives_up),              cmocka_unit_test(says_when_memory_is_short),
        cmocka_unit_test(text_bombs_cost_their_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
