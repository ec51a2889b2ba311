/* suite.h: what a file of tests/ops brings: the proof of an op, laws of its state, or both. It
 * enters itself in a list; a test program runs the list it is linked with, gdn-check all of them.
 *
 * A file ends in    SUITE(norm, .proof = &proof);
 *             or    SUITE(delta_slots, LAWS(laws)); */
#ifndef HARNESS_SUITE_H
#define HARNESS_SUITE_H

#include "harness/laws.h"
#include "harness/prove.h"

struct suite {
    const char *name; /* of the file */
    const struct proof *proof;
    const struct form *form;
    const struct law *law;
    int laws;
    struct suite *next;
};
#define LAWS(array) .law = (array), .laws = (int)(sizeof(array) / sizeof(*(array)))

/* In the order of op names, so that the order of linking shows nowhere. */
void suite_enter(struct suite *suite);
struct suite *suite_first(void);

#define SUITE(id, ...)                                                                   \
    static struct suite suite_##id = {.name = #id, __VA_ARGS__};                         \
    __attribute__((constructor)) static void enter_##id(void) { suite_enter(&suite_##id); } \
    struct suite_needs_a_semicolon

enum { SUITE_TESTS = 24 };

struct test {
    const struct suite *suite;
    const char *name; /* "forward", "alone", "backward", "differences", or a law's */
    const struct law *law;
    void (*prove)(struct lab *lab, const struct proof *proof, const struct shape *s,
                  struct verdict *v);
    const struct sweep *sweep;
};

int suite_tests(const struct suite *suite, struct test test[SUITE_TESTS]);
/* Whether the device has what the test is about: it may have no way back. */
bool test_applies(const struct test *test, struct device *device);
/* `subject` of the verdict is set; its counts begin at 0. */
void test_run(const struct test *test, struct lab *lab, struct verdict *v);

#endif
