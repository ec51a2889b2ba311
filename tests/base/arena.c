/* Scratch: addresses that repeat, and a failure that is kept until the next reset. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"

static void repeats_its_addresses(void **state)
{
    (void)state;
    struct arena arena;
    unsigned char *first[20];
    assert_true(arena_open(&arena, 1 << 16));
    for (int pass = 0; pass < 3; pass++) {
        unsigned char *last = NULL;
        for (size_t i = 0; i < 20; i++) {
            size_t bytes = 1 + i * 37;
            unsigned char *at = arena_take(&arena, bytes);
            assert_non_null(at);
            assert_int_equal((uintptr_t)at % 64, 0);
            assert_true(at > last);
            if (pass == 0) first[i] = at;
            assert_ptr_equal(at, first[i]);
            memset(at, (int)i, bytes);
            last = at + bytes - 1;
        }
        arena_reset(&arena);
        assert_int_equal(arena.used, 0);
    }
    arena_close(&arena);
}

static void releases_to_a_mark(void **state)
{
    (void)state;
    struct arena arena;
    assert_true(arena_open(&arena, 4096));
    arena_take(&arena, 100);
    size_t mark = arena_mark(&arena);
    void *a = arena_take(&arena, 100);
    memset(a, 7, 100);
    arena_release(&arena, mark);
    unsigned char *b = arena_take_zeroed(&arena, 100);
    assert_ptr_equal(a, b);
    for (int i = 0; i < 100; i++) assert_int_equal(b[i], 0);
    assert_true(arena.high >= arena.used);
    arena_close(&arena);
}

static void keeps_a_failure(void **state)
{
    (void)state;
    struct arena arena;
    assert_true(arena_open(&arena, 4096));
    assert_null(arena_take(&arena, 4097));
    assert_true(arena.failed);
    assert_non_null(arena_take(&arena, 10));
    assert_null(arena_take(&arena, SIZE_MAX));
    assert_null(arena_take(&arena, SIZE_MAX - 100));
    assert_null(arena_take_zeroed(&arena, 1 << 20));
    assert_true(arena.failed);
    arena_reset(&arena);
    assert_false(arena.failed);
    assert_non_null(arena_take(&arena, 1));
    arena_close(&arena);
}

static void survives_a_refused_space(void **state)
{
    (void)state;
    struct arena arena;
    mem_fail_after(1, false);
    assert_false(arena_open(&arena, 4096));
    assert_null(arena_take(&arena, 1));
    arena_reset(&arena);
    assert_true(arena.failed);
    arena_close(&arena);
    assert_false(arena_open(&arena, SIZE_MAX));
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_its_addresses),
        cmocka_unit_test(releases_to_a_mark),
        cmocka_unit_test(keeps_a_failure),
        cmocka_unit_test(survives_a_refused_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
