/* programs.c: random programs over sessions, 1,000 operations for each type (programs.h). */
#include "laws/programs.h"

#if defined(GDN_POISON) && GDN_POISON
enum { OPERATIONS = 100 };
#else
enum { OPERATIONS = 500 };
#endif

static void each_type(const char *device, int operations)
{
    for (int k = 0; k < 4; k++) {
        const struct play_options o = {.device = device, .compute = k & 1 ? GDN_BF16 : GDN_F32,
                                       .state = k & 2 ? GDN_BF16 : GDN_F32};
        program_run("q35-r2-untied", o, 1 + (uint64_t)k, operations, 12);
        program_run("q35-k2-f16", o, 11 + (uint64_t)k, operations, 12);
    }
}

static void cpu_is_its_oracle(void **state)
{
    (void)state;
    each_type("cpu", OPERATIONS);
}

static void reference_is_its_oracle(void **state)
{
    (void)state;
    program_run("q35-r2-untied", (struct play_options){.device = "ref"}, 3, OPERATIONS / 5, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_is_its_oracle),
        cmocka_unit_test(reference_is_its_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
