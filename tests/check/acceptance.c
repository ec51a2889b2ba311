/* acceptance.c: runs the list of founding.c. */
#include "acceptance.h"

#include <stdio.h>

#include "base/check.h"
#include "founding.h"
#include "results.h"

static struct lab stock[2];
static bool open[2];

struct lab *founding_lab(const char *device)
{
    const int i = device[0] == 'r';
    struct gdn_error err = {0};
    if (!open[i]) open[i] = lab_open(&stock[i], device, ~0u, &err);
    if (!open[i]) fprintf(stderr, "gdn-check: %s\n", err.text);
    return open[i] ? &stock[i] : NULL;
}

void founding_close(void)
{
    for (int i = 0; i < 2; i++)
        if (open[i]) lab_close(&stock[i]);
}

const struct suite *founding_suite(const char *name)
{
    const struct result *r = NULL;
    for (int i = 0; i < results_count() && !r; i++)
        if (result_concerns(results_at(i), name)) r = results_at(i);
    GDN_CHECK(r != NULL, "no suite is called %s", name);
    return r->test.suite;
}

bool founding_verdict(const struct verdict *v)
{
    if (v->failures > 0) fprintf(stderr, "%s\n", v->first);
    return v->failures == 0;
}

bool founding_proves(const char *device, const char *suite, prover *prove,
                     const struct shape *shape, int shapes)
{
    struct verdict v = {.subject = suite};
    struct lab *lab = founding_lab(device);
    for (int i = 0; i < shapes && lab; i++) {
        struct shape s = shape[i];
        if (s.B == 0) s.B = 1;
        prove(lab, founding_suite(suite)->proof, &s, &v);
    }
    return lab && founding_verdict(&v);
}

static bool holds(const struct founding *f)
{
    if (f->test) return f->test();
    struct lab *lab = founding_lab("cpu");
    for (int i = 0; i < 4 && f->by[i]; i++) {
        struct result *r = results_named(f->by[i]);
        GDN_CHECK(r != NULL, "%s: no suite brings '%s'", f->id, f->by[i]);
        if (!lab || !result_passes(r, lab, false)) {
            fprintf(stderr, "%s\n", r->v.first);
            return false;
        }
    }
    return true;
}

int acceptance_run(void)
{
    int failed = 0;
    for (int i = 0; i < foundings; i++) {
        const struct founding *f = &founding[i];
        if (f->later) {
            printf("%s later %s: %s\n", f->id, f->later, f->what);
            continue;
        }
        const bool passed = holds(f);
        printf("%s %s %s\n", f->id, passed ? "pass" : "FAIL", f->what);
        fflush(stdout);
        failed += !passed;
    }
    founding_close();
    return failed > 0;
}
