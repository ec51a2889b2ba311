/* Normal form C: the short way against utf8proc's own, for every code point. */
#include "text/normal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/rng.h"
#include "text/utf8.h"

static size_t put(char *at, uint32_t c)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)at);
}

static void check_text(const char *text, size_t len)
{
    utf8proc_uint8_t *want;
    utf8proc_ssize_t want_len =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len, &want,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    struct bytes room = {0};
    assert_true(want_len >= 0);
    assert_true(normal_nfc(&text, &len, &room));
    assert_int_equal(len, want_len);
    if (len) assert_memory_equal(text, want, len);
    free(want);
    bytes_free(&room);
}

static bool is_scalar(uint32_t c) { return c < 0xD800 || (c > 0xDFFF && c < 0x110000); }

static void agrees_on_every_code_point(void **state)
{
    (void)state;
    static const char *const around[][2] = {{"", ""}, {"xe", "\xCC\x81y"}};
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (!is_scalar(c)) continue;
        for (size_t i = 0; i < 2; i++) {
            char text[24];
            size_t len = (size_t)snprintf(text, 8, "%s", around[i][0]);
            len += put(text + len, c);
            len += (size_t)snprintf(text + len, 8, "%s", around[i][1]);
            check_text(text, len);
        }
    }
}

/* What normal_is_plain promises: class 0, its own normal form, and never the second of a pair. */
static void plain_ones_stand_alone(void **state)
{
    (void)state;
    bool *second = mem_take(0x110000);
    for (uint32_t c = 0; c < 0x110000; c++) {
        utf8proc_int32_t parts[8];
        if (!is_scalar(c)) continue;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 8,
                                                     UTF8PROC_STABLE | UTF8PROC_COMPOSE, NULL);
        for (utf8proc_ssize_t i = 1; i < n; i++) second[parts[i]] = true;
    }
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (!is_scalar(c) || !normal_is_plain(c)) continue;
        assert_int_equal(utf8proc_get_property((utf8proc_int32_t)c)->combining_class, 0);
        assert_false(second[c]);
    }
    mem_give(second);
}

static void agrees_on_mixtures(void **state)
{
    (void)state;
    static const uint32_t low[] = {0x41, 0x300, 0x300, 0x590, 0x900, 0x1100, 0x1E00, 0xAC00, 0x9C0,
                                   0x3040, 0x1D158, 0x11127, 0xF900};
    static const uint32_t wide[] = {26, 80, 80, 60, 100, 256, 256, 60, 60, 96, 20, 16, 40};
    struct rng rng = {11, 0};
    for (int round = 0; round < 30000; round++) {
        char text[256];
        size_t len = 0, count = (size_t)rng_below(&rng, 60);
        for (size_t i = 0; i < count; i++) {
            size_t kind = (size_t)rng_below(&rng, sizeof low / sizeof *low);
            len += put(text + len, low[kind] + (uint32_t)rng_below(&rng, wide[kind]));
        }
        check_text(text, len);
    }
}

static void leaves_normal_text_alone(void **state)
{
    (void)state;
    const char text[] = "plain ASCII, caf\xC3\xA9, \xD0\xB9, \xEA\xB0\x80, \xF0\x9F\x98\x80";
    const char *at = text;
    size_t len = sizeof text - 1;
    struct bytes room = {0};
    assert_true(normal_nfc(&at, &len, &room));
    assert_ptr_equal(at, text);
    assert_int_equal(len, sizeof text - 1);
    assert_null(room.at);
}

static double seconds_of(size_t len)
{
    struct timespec begin, end;
    char *text = mem_take(len);
    const char *at = text;
    struct bytes room = {0};
    /* Marks of class 230, then marks of class 220, which have to go before all of the former. */
    for (size_t i = 0; i < len; i += 2) put(text + i, i < len / 2 ? 0x301 : 0x323);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    assert_true(normal_nfc(&at, &len, &room));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    assert_memory_equal(at, "\xCC\xA3", 2);
    assert_memory_equal(at + len - 2, "\xCC\x81", 2);
    mem_give(text);
    bytes_free(&room);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

static void a_run_of_marks_costs_its_length(void **state)
{
    (void)state;
    double best = 1e9;
    for (int round = 0; round < 12 && best > 2.3; round++) {
        double once = seconds_of(1 << 20), twice = seconds_of(2 << 20);
        if (twice / once < best) best = twice / once;
    }
    if (best > 2.3) fail_msg("twice the length takes %.2f times as long", best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_every_code_point), cmocka_unit_test(plain_ones_stand_alone),
        cmocka_unit_test(agrees_on_mixtures),         cmocka_unit_test(leaves_normal_text_alone),
        cmocka_unit_test(a_run_of_marks_costs_its_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
