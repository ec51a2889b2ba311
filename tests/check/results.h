/* results.h: the tests of every suite that is linked in, each run at most once in a process. */
#ifndef CHECK_RESULTS_H
#define CHECK_RESULTS_H

#include "harness/suite.h"

struct result {
    struct test test;
    struct verdict v;
    bool ran;
    char subject[64]; /* "delta_slots cuts" */
};

/* The list, in the order of suites. */
int results_count(void);
struct result *results_at(int i);
/* By subject; NULL when no suite brings it. */
struct result *results_named(const char *subject);
/* Is the result one of this op: of its own suite, or of one with laws about it ("delta_slots")? */
bool result_concerns(const struct result *r, const char *op);

/* Runs it unless it ran. True when nothing failed. */
bool result_passes(struct result *r, struct lab *lab, bool loud);

#endif
