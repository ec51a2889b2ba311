/* main.c: the program around a file of tests/ops: its suites, on the cpu, under cmocka. An argument
 * is a mask of processor features (base/cpu.h, hexadecimal): the same with weaker code; or "cuda";
 * a second one is a pattern of names of tests ("*prompts").
 * Where that cannot be had the program says why and ends with 77: skipped. A program with a main of
 * its own (gdn-check, the tests of other folders) never links this file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/suite.h"

static struct lab lab;

static void prove_test(void **state)
{
    const struct test *test = *state;
    char subject[64];
    snprintf(subject, sizeof subject, "%s %s", test->suite->name, test->name);
    if (!test_applies(test, lab.under[0].device)) skip();
    struct verdict v = {.subject = subject};
    test_run(test, &lab, &v);
    if (v.failures > 0) {
        print_error("%lld failures in %lld cases; the first: %s\n", (long long)v.failures,
                    (long long)v.cases, v.first);
        fail();
    }
    assert_true(v.cases > 0);
}

int main(int argc, char **argv)
{
    enum { MOST = 64 };
    static struct test test[MOST];
    static struct CMUnitTest unit[MOST];
    static char name[MOST][64];
    struct gdn_error err = {0};
    const bool cuda = argc > 1 && strcmp(argv[1], "cuda") == 0;
    const uint32_t mask = argc > 1 && !cuda ? (uint32_t)strtoul(argv[1], NULL, 16) : ~0u;
    int n = 0;
    if (!lab_open(&lab, cuda ? "cuda" : "cpu", mask, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return err.status == GDN_ERR_UNSUPPORTED ? 77 : 1;
    }
    for (const struct suite *s = suite_first(); s && n + SUITE_TESTS <= MOST; s = s->next)
        n += suite_tests(s, test + n);
    for (int i = 0; i < n; i++) {
        snprintf(name[i], sizeof name[i], "%s %s", test[i].suite->name, test[i].name);
        unit[i] = (struct CMUnitTest){.name = name[i], .test_func = prove_test,
                                      .initial_state = &test[i]};
    }
    if (argc > 2) cmocka_set_test_filter(argv[2]);
    const int failed = _cmocka_run_group_tests("ops", unit, (size_t)n, NULL, NULL);
    lab_close(&lab);
    return failed;
}
