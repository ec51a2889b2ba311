#include "harness/suite.h"

#include <limits.h>
#include <string.h>

#include "base/check.h"

static struct suite *first;

void suite_enter(struct suite *suite)
{
    struct suite **at = &first;
    while (*at && strcmp((*at)->name, suite->name) < 0) at = &(*at)->next;
    suite->next = *at;
    *at = suite;
}

struct suite *suite_first(void) { return first; }

static void alone_forward(struct lab *lab, const struct proof *proof, const struct shape *s,
                          struct verdict *v)
{
    prove_alone(lab, proof, s, false, v);
}

static void alone_backward(struct lab *lab, const struct proof *proof, const struct shape *s,
                           struct verdict *v)
{
    prove_alone(lab, proof, s, true, v);
}

int suite_tests(const struct suite *suite, struct test test[SUITE_TESTS])
{
    const struct proof *p = suite->proof;
    int n = 0;
    if (p)
        test[n++] = (struct test){suite, "forward", NULL, prove_forward, &p->forward};
    if (p && !p->loose) {
        test[n++] = (struct test){suite, "alone", NULL, alone_forward, &p->forward};
        test[n++] = (struct test){suite, "far", NULL, prove_far, &p->forward};
    }
    if (p && sweep_count(&p->backward) > 0) {
        test[n++] = (struct test){suite, "differences", NULL, prove_differences, &p->differences};
        test[n++] = (struct test){suite, "backward", NULL, prove_backward, &p->backward};
        test[n++] = (struct test){suite, "alone backward", NULL, alone_backward, &p->backward};
    }
    if (p && sweep_count(&p->repeat) > 0)
        test[n++] = (struct test){suite, "repeat", NULL, prove_repeat, &p->repeat};
    for (int i = 0; i < suite->laws; i++) {
        GDN_CHECK(n < SUITE_TESTS, "more than %d tests in %s", SUITE_TESTS, suite->name);
        test[n++] = (struct test){suite, suite->law[i].name, &suite->law[i], NULL, NULL};
    }
    return n;
}

bool test_applies(const struct test *test, struct device *device)
{
    const struct proof *p = test->suite->proof;
    if (test->law) return !test->law->applies || test->law->applies(device);
    const bool back = p && (test->sweep == &p->backward || test->sweep == &p->repeat);
    const bool any = sweep_count(test->sweep) > 0;
    if (test->prove == prove_far) return any && far_room(device);
    return any && (!back || device->backward[p->op]);
}

enum { FAR_CASES = 16 };

void test_run(const struct test *test, struct lab *lab, struct verdict *v)
{
    if (test->law) {
        test->law->run(lab, v, test->law);
        return;
    }
    const int most = test->prove == prove_far ? FAR_CASES : INT_MAX;
    for (int i = 0; i < sweep_count(test->sweep) && i < most; i++) {
        const struct shape s = sweep_shape(test->sweep, i);
        test->prove(lab, test->suite->proof, &s, v);
    }
}
