/* The thread team: every index once, the same shares every time. */
#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"

enum { MOST = 1000 };

struct seen {
    int64_t grain, count;
    int times[MOST];
    int thread[MOST];
    bool ragged; /* a share that is not whole grains, and not the last */
};

static void note(void *context, int64_t begin, int64_t end, int thread)
{
    struct seen *seen = context;
    if (begin % seen->grain != 0 || (end % seen->grain != 0 && end != seen->count) || begin >= end)
        seen->ragged = true;
    for (int64_t i = begin; i < end; i++) {
        seen->times[i]++;
        seen->thread[i] = thread;
    }
}

static void run_once(struct pool *pool, struct seen *seen, int64_t count, int64_t grain)
{
    memset(seen, 0, sizeof *seen);
    seen->grain = grain;
    seen->count = count;
    pool_run(pool, count, grain, note, seen);
    assert_false(seen->ragged);
    for (int64_t i = 0; i < MOST; i++) {
        assert_int_equal(seen->times[i], i < count);
        assert_in_range(seen->thread[i], 0, pool_threads(pool) - 1);
        if (i > 0 && i < count) assert_true(seen->thread[i] >= seen->thread[i - 1]);
    }
}

static void covers_every_index_once(void **state)
{
    (void)state;
    static struct seen first, second;
    static const int64_t counts[] = {0, 1, 2, 3, 7, 64, 65, 999, 1000};
    static const int64_t grains[] = {1, 2, 16, 1000, INT64_MAX};
    for (int threads = 1; threads <= 5; threads++) {
        struct pool *pool = pool_open(threads);
        assert_non_null(pool);
        assert_int_equal(pool_threads(pool), threads);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
                run_once(pool, &first, counts[c], grains[g]);
                run_once(pool, &second, counts[c], grains[g]);
                assert_memory_equal(&first, &second, sizeof first);
            }
        pool_close(pool);
    }
}

static void works_without_a_pool(void **state)
{
    (void)state;
    static struct seen seen;
    assert_int_equal(pool_threads(NULL), 1);
    run_once(NULL, &seen, 100, 7);
    pool_close(NULL);
}

static void shares_out_evenly(void **state)
{
    (void)state;
    static struct seen seen;
    struct pool *pool = pool_open(3);
    assert_non_null(pool);
    run_once(pool, &seen, 10, 1);
    static const int want[] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 2};
    assert_memory_equal(seen.thread, want, sizeof want);
    pool_close(pool);
}

/* Many short jobs, with pauses that let the workers fall asleep. */
static void wakes_up_again(void **state)
{
    (void)state;
    static struct seen seen;
    struct pool *pool = pool_open(2);
    assert_non_null(pool);
    for (int i = 0; i < 2000; i++) {
        run_once(pool, &seen, 8, 1);
        if (i % 200 == 0) usleep(2000);
    }
    pool_close(pool);
}

static void note_ends(void *context, int64_t begin, int64_t end, int thread)
{
    int64_t (*ends)[2] = context;
    ends[thread][0] = begin;
    ends[thread][1] = end;
}

static void cuts_counts_near_the_top(void **state)
{
    (void)state;
    const int64_t grain = INT64_MAX / 4;
    int64_t ends[4][2] = {{0}};
    const int64_t want[4][2] = {{0, 2 * grain}, {2 * grain, 3 * grain}, {3 * grain, 4 * grain},
                                {4 * grain, INT64_MAX}};
    struct pool *pool = pool_open(4);
    assert_non_null(pool);
    pool_run(pool, INT64_MAX, grain, note_ends, ends);
    assert_memory_equal(ends, want, sizeof want);
    pool_close(pool);
}

static void reports_failed_allocations(void **state)
{
    (void)state;
    int64_t before = mem_counted().live_blocks;
    for (int64_t n = 1; n <= 2; n++) {
        mem_fail_after(n, false);
        assert_null(pool_open(2));
        mem_fail_after(0, false);
        assert_int_equal(mem_counted().live_blocks, before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(covers_every_index_once), cmocka_unit_test(works_without_a_pool),
        cmocka_unit_test(shares_out_evenly),       cmocka_unit_test(wakes_up_again),
        cmocka_unit_test(cuts_counts_near_the_top),
        cmocka_unit_test(reports_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
