#include "results.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { MOST = 256 };
static struct result results[MOST];
static int count;

static void collect(void)
{
    if (count > 0) return;
    for (const struct suite *s = suite_first(); s; s = s->next) {
        struct test test[SUITE_TESTS];
        const int n = suite_tests(s, test);
        GDN_CHECK(count + n <= MOST, "more than %d tests", MOST);
        for (int i = 0; i < n; i++) {
            struct result *r = &results[count++];
            r->test = test[i];
            snprintf(r->subject, sizeof r->subject, "%s %s", s->name, test[i].name);
            r->v.subject = r->subject;
        }
    }
}

int results_count(void)
{
    collect();
    return count;
}

struct result *results_at(int i) { return &results[i]; }

struct result *results_named(const char *subject)
{
    for (int i = 0; i < results_count(); i++)
        if (strcmp(results[i].subject, subject) == 0) return &results[i];
    return NULL;
}

bool result_concerns(const struct result *r, const char *op)
{
    const struct suite *s = r->test.suite;
    const size_t n = strlen(op);
    if (strcmp(s->name, op) == 0) return true;
    return !s->proof && strncmp(s->name, op, n) == 0 && s->name[n] == '_';
}

bool result_passes(struct result *r, struct lab *lab, bool loud)
{
    r->v.loud = loud;
    if (!r->ran) test_run(&r->test, lab, &r->v);
    r->ran = true;
    return r->v.failures == 0 && r->v.cases > 0;
}
