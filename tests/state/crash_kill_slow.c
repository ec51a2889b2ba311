/* crash_kill_slow.c: a thousand kills. */
#include "crash_kill.h"

static void small_files(void **state)
{
    (void)state;
    kill_many(file_small, FILE_SMALL, 500);
}

static void large_files(void **state)
{
    (void)state;
    kill_many(file_large, FILE_LARGE, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_files),
        cmocka_unit_test(large_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
