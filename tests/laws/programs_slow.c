/* programs_slow.c: random programs over sessions, 10,000 operations for each type (programs.h). */
#include "laws/programs.h"

enum { OPERATIONS = 10000 };

static void cpu_is_its_oracle(void **state)
{
    (void)state;
    static const char *const models[] = {"q35-r1-tied", "q35-r2-untied", "q35-r4-odd",
                                         "q35-k2-f16"};
    for (int k = 0; k < 4; k++) {
        const struct play_options o = {.device = "cpu", .compute = k & 1 ? GDN_BF16 : GDN_F32,
                                       .state = k & 2 ? GDN_BF16 : GDN_F32};
        program_run(models[k], o, 100 + (uint64_t)k, OPERATIONS, 12);
    }
}

static void reference_is_its_oracle(void **state)
{
    (void)state;
    program_run("q35-k2-f16", (struct play_options){.device = "ref"}, 200, OPERATIONS / 10, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_is_its_oracle),
        cmocka_unit_test(reference_is_its_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
