/* file_damage_slow.c: ten thousand damages of a large file. */
#include "file_damage.h"

static void a_large_file_at_random(void **state)
{
    (void)state;
    damage_large(10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_large_file_at_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
