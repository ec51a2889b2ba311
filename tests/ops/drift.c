/* Law of op_delta over 10,000 tokens: an f32 state stays with double as well as f32 can. A hundred
 * thousand, and the figures: drift_slow.c. */
#include "harness/drift.h"
#include "harness/suite.h"

enum { D = HARNESS_SANITIZED ? 32 : 128, TEN_THOUSAND = 2 };

static void ten_thousand(struct lab *lab, struct verdict *v, const struct law *law)
{
    (void)law;
    for (int i = 0; i < drift_count; i++) {
        struct drifted d;
        if (!drift_run(&drifts[i], &lab->under[0], D, TEN_THOUSAND, &d, v)) continue;
        for (int point = 0; point <= TEN_THOUSAND; point++) drift_judge(&drifts[i], &d, point, v);
    }
}

static const struct law laws[] = {{.name = "10,000 tokens", .run = ten_thousand,
                                   .applies = drift_applies}};
SUITE(drift, LAWS(laws));
