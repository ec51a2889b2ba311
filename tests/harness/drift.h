/* drift.h: how far the state of one head is from a recurrence in double after many tokens, in four
 * ways of keeping it. */
#ifndef HARNESS_DRIFT_H
#define HARNESS_DRIFT_H

#include "harness/lab.h"

/* One head of D x D. Keys are unit vectors: random ones, or `keys` of them over and over. */
struct drift {
    const char *name;
    int keys;           /* 0: each token has its own */
    double least, most; /* -g lies between them */
    double beta;        /* strength lies between half of it and it */
    bool channel;       /* a gate per key channel */
};
extern const struct drift drifts[];
extern const int drift_count;

enum keeping {
    KEEP_LOG,       /* slots with f32 anchors */
    KEEP_F32,       /* f32, written in place after every token */
    KEEP_BF16_LOG,  /* slots with bf16 anchors: rounded every 16 tokens */
    KEEP_BF16,      /* bf16, rounded after every token */
    KEEPINGS
};

/* Tokens come in calls of 112; drift_steps[i] is when error[i] is taken: |S - exact| / |exact|. */
enum { DRIFT_CALL = 112, DRIFT_POINTS = 4 };
extern const int drift_steps[DRIFT_POINTS]; /* about 100, 1,000, 10,000 and 100,000 */

struct drifted {
    double error[DRIFT_POINTS][KEEPINGS];
};

/* Its arrays are the host's, and a device's calls must reach them. */
bool drift_applies(const struct device *device);

/* Up to and with point `last`. False with a failure when memory is short. */
bool drift_run(const struct drift *drift, struct station *at, int D, int last, struct drifted *out,
               struct verdict *v);

/* What must hold at a point: f32 within 5e-5, and a log no worse than in place. */
void drift_judge(const struct drift *drift, const struct drifted *d, int point, struct verdict *v);

#endif
