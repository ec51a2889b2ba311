/* gdn-check: proves every kernel against the reference, times those that passed, and goes through
 * the acceptance list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acceptance.h"
#include "base/cpu.h"
#include "bench.h"
#include "results.h"

static const char usage[] =
    "gdn-check               prove the ops: a table of what was tried and how close it came\n"
    "  --list                names of all tests\n"
    "  --op NAME             only this op\n"
    "  --device NAME         device under test (cpu)\n"
    "  --mask HEX            processor features it may use (all)\n"
    "  --loud                every failure, not only the first of a test\n"
    "gdn-check --bench       prove, then time what passed\n"
    "  --threads N           of the timed device (1)\n"
    "  --csv                 as comma-separated values\n"
    "gdn-check --acceptance  the founding behaviours: ID, pass, FAIL or later, and what it is\n";

struct options {
    bool list, loud, bench, csv, acceptance, help;
    const char *op, *device;
    uint32_t mask;
    int threads;
};

/* The value of an option that takes one, or NULL. */
static const char *value_of(int argc, char **argv, int *i)
{
    return *i + 1 < argc ? argv[++*i] : NULL;
}

static bool flag(struct options *o, const char *name)
{
    struct {
        const char *name;
        bool *at;
    } const flags[] = {{"--list", &o->list},   {"--loud", &o->loud},
                       {"--bench", &o->bench}, {"--csv", &o->csv},
                       {"--help", &o->help},   {"--acceptance", &o->acceptance}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strcmp(name, flags[i].name) == 0) return *flags[i].at = true;
    return false;
}

static bool number(const char *text, int base, unsigned long most, unsigned long *out)
{
    char *end = NULL;
    if (!text || !*text) return false;
    *out = strtoul(text, &end, base);
    return !*end && *out <= most;
}

static bool options_read(struct options *o, int argc, char **argv)
{
    unsigned long n = 0;
    *o = (struct options){.device = "cpu", .mask = ~0u, .threads = 1};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (flag(o, name)) continue;
        const char *value = value_of(argc, argv, &i);
        if (!value) return false;
        if (strcmp(name, "--op") == 0)
            o->op = value;
        else if (strcmp(name, "--device") == 0)
            o->device = value;
        else if (strcmp(name, "--mask") == 0 && number(value, 16, UINT32_MAX, &n))
            o->mask = (uint32_t)n;
        else if (strcmp(name, "--threads") == 0 && number(value, 10, 1024, &n) && n > 0)
            o->threads = (int)n;
        else
            return false;
    }
    return true;
}

static void list(void)
{
    for (int i = 0; i < results_count(); i++) {
        const struct test *t = &results_at(i)->test;
        printf("%-14s %-16s", t->suite->name, t->name);
        if (t->sweep) printf(" %4d cases", sweep_count(t->sweep));
        printf("\n");
    }
}

/* "cpu: avx2 avx512": what is proved below. */
static void print_isa(const struct device *device)
{
    static const struct {
        uint32_t flag;
        const char *name;
    } names[] = {{CPU_AVX2, "avx2"},
                 {CPU_AVX512, "avx512"},
                 {CPU_AVX512_BF16, "avx512_bf16"},
                 {CPU_AVX512_VNNI, "avx512_vnni"},
                 {CPU_AMX, "amx"}};
    printf("%s:%s", device->name, device->isa ? "" : " portable");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (device->isa & names[i].flag) printf(" %s", names[i].name);
    printf("\n\n");
}

/* The proofs as a table; false when one failed. */
static bool prove(struct lab *lab, const struct options *o, bool quiet)
{
    bool all = true;
    int n = 0, skipped = 0;
    if (!quiet) print_isa(lab->under[0].device);
    if (!quiet) printf("%-14s %-16s %6s %12s\n", "op", "test", "cases", "error/limit");
    for (int i = 0; i < results_count(); i++) {
        struct result *r = results_at(i);
        if (o->op && !result_concerns(r, o->op)) continue;
        if (!test_applies(&r->test, lab->under[0].device)) {
            skipped++;
            if (!quiet)
                printf("%-14s %-16s %6s %12s  skipped\n", r->test.suite->name, r->test.name, "", "");
            continue;
        }
        const bool passed = result_passes(r, lab, o->loud);
        n++;
        all = all && passed;
        if (!quiet)
            printf("%-14s %-16s %6lld %12.3g  %s\n", r->test.suite->name, r->test.name,
                   (long long)r->v.cases, r->v.worst, passed ? "pass" : "FAIL");
        if (!quiet && !passed)
            printf("    %lld failures, the first: %s\n", (long long)r->v.failures, r->v.first);
        fflush(stdout);
    }
    if (!quiet && skipped > 0)
        printf("%d tests skipped: not for %s\n", skipped, lab->under[0].device->name);
    if (n + skipped == 0) fprintf(stderr, "gdn-check: no op is called '%s'; --list names them\n", o->op);
    return all && n + skipped > 0;
}

int main(int argc, char **argv)
{
    struct options o;
    struct lab lab;
    struct gdn_error err = {0};
    if (!options_read(&o, argc, argv)) {
        fputs(usage, stderr);
        return GDN_ERR_USAGE;
    }
    if (o.help) {
        fputs(usage, stdout);
        return 0;
    }
    if (o.list) {
        list();
        return 0;
    }
    if (o.acceptance) return acceptance_run();
    if (!lab_open(&lab, o.device, o.mask, &err)) {
        fprintf(stderr, "gdn-check: %s\n", err.text);
        return (int)err.status;
    }
    bool passed = prove(&lab, &o, o.bench);
    if (o.bench) {
        const struct bench_options b = {.op = o.op, .device = o.device, .mask = o.mask,
                                        .threads = o.threads, .csv = o.csv};
        passed = bench_run(&lab, &b) && passed;
    }
    lab_close(&lab);
    return passed ? 0 : 1;
}
