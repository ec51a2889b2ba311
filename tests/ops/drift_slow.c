/* The law of drift.c over 100,000 tokens, with the figures of docs/numerics.md printed. */
#include <stdio.h>

#include "harness/drift.h"
#include "harness/suite.h"

enum { D = HARNESS_SANITIZED ? 32 : 128, LAST = DRIFT_POINTS - 1 };

static void hundred_thousand(struct lab *lab, struct verdict *v, const struct law *law)
{
    (void)law;
    printf("one head of %d x %d, |S - exact| / |exact|\n", D, D);
    printf("%-26s %8s %10s %10s %10s %10s\n", "", "tokens", "f32 log", "f32", "bf16 log", "bf16");
    for (int i = 0; i < drift_count; i++) {
        struct drifted d;
        if (!drift_run(&drifts[i], &lab->under[0], D, LAST, &d, v)) continue;
        for (int point = 0; point <= LAST; point++) {
            const double *e = d.error[point];
            drift_judge(&drifts[i], &d, point, v);
            printf("%-26s %8d %10.2g %10.2g %10.2g %10.2g\n", drifts[i].name, drift_steps[point],
                   e[KEEP_LOG], e[KEEP_F32], e[KEEP_BF16_LOG], e[KEEP_BF16]);
        }
        fflush(stdout);
    }
}

static const struct law laws[] = {{.name = "100,000 tokens", .run = hundred_thousand,
                                   .applies = drift_applies}};
SUITE(drift_slow, LAWS(laws));
