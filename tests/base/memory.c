/* The one door to the heap: what it counts, how it fails, and the guard around a step. */
#include "base/memory.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void gives_zeroed_aligned_blocks(void **state)
{
    (void)state;
    static const unsigned char zero[300];
    for (size_t n = 0; n < sizeof zero; n += 13) {
        unsigned char *block = mem_take(n);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        assert_memory_equal(block, zero, n);
        memset(block, 0xff, n);
        mem_give(block);
    }
    mem_give(NULL);
}

static void counts(void **state)
{
    (void)state;
    struct mem_count before = mem_counted();
    char *a = mem_take(100), *b = mem_text("four");
    void *space = mem_reserve(1 << 20);
    assert_non_null(a);
    assert_non_null(space);
    assert_string_equal(b, "four");
    struct mem_count now = mem_counted();
    assert_int_equal(now.live_blocks, before.live_blocks + 3);
    assert_int_equal(now.live_bytes, before.live_bytes + 105 + (1 << 20));
    assert_int_equal(now.takes, before.takes + 3);
    assert_true(now.peak_bytes >= now.live_bytes);
    mem_give(a);
    mem_give(b);
    mem_unreserve(space, 1 << 20);
    assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    assert_int_equal(mem_counted().live_bytes, before.live_bytes);
}

static void resizes(void **state)
{
    (void)state;
    char *block = mem_resize(NULL, 3);
    assert_non_null(block);
    memcpy(block, "abc", 3);
    block = mem_resize(block, 1000);
    assert_memory_equal(block, "abc", 3);
    block = mem_resize(block, 2);
    assert_memory_equal(block, "ab", 2);
    mem_fail_after(1, false);
    assert_null(mem_resize(block, 100));
    assert_memory_equal(block, "ab", 2);
    mem_give(block);
}

static void refuses_sizes_that_wrap(void **state)
{
    (void)state;
    assert_null(mem_take(SIZE_MAX));
    assert_null(mem_take(SIZE_MAX - 63));
    assert_null(mem_take_array(SIZE_MAX / 2, 3));
    assert_null(mem_take_array((size_t)1 << 32, (size_t)1 << 32));
}

static void fails_when_told(void **state)
{
    (void)state;
    mem_fail_after(2, false);
    void *a = mem_take(1), *b = mem_take(1), *c = mem_take(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    mem_give(a);
    mem_give(c);
    mem_fail_after(2, true);
    a = mem_take(1);
    assert_non_null(a);
    for (int i = 0; i < 3; i++) {
        assert_null(mem_take(1));
        assert_null(mem_reserve(1));
    }
    mem_fail_after(0, false);
    mem_give(a);
    a = mem_take(1);
    assert_non_null(a);
    mem_give(a);
}

/* A take inside a step is counted; where memory is poisoned it ends the process. */
static void guards_a_step(void **state)
{
    (void)state;
    int64_t before = mem_counted().guarded_takes;
    mem_guard_raise();
    mem_guard_raise();
    mem_guard_lower();
#if defined(GDN_POISON) && GDN_POISON
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        mem_take(1);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    int64_t breaches = 0;
#else
    mem_give(mem_take(1));
    int64_t breaches = 1;
#endif
    mem_guard_lower();
    mem_give(mem_take(1));
    assert_int_equal(mem_counted().guarded_takes, before + breaches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_zeroed_aligned_blocks), cmocka_unit_test(counts),
        cmocka_unit_test(resizes),                     cmocka_unit_test(refuses_sizes_that_wrap),
        cmocka_unit_test(fails_when_told),             cmocka_unit_test(guards_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
