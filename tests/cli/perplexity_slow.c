/* The demo model over the first 32,768 tokens of the validation books, against the number that the
 * official code gives in f32. */
#include "cli/program.h"

#include <math.h>

static void demo_model(void **state)
{
    (void)state;
    assert_int_equal(system("xz -dc " GDN_SOURCE_DIR "/tests/data/valid.txt.xz > valid.txt"), 0);
    went_well(gdn("perplexity", DEMO, "valid.txt", "--limit", "32768", "--ctx", "512", "--json"));
    assert_non_null(strstr(ran.out, "\"tokens\":32704,\"windows\":64,\"window\":512}"));
    const char *key = "{\"nats_per_token\":";
    assert_memory_equal(ran.out, key, strlen(key));
    const double nats = strtod(ran.out + strlen(key), NULL);
    if (!(fabs(nats - 3.2225) <= 1e-3)) fail_msg("%s", ran.out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(demo_model)};
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
