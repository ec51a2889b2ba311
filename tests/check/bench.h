/* bench.h: the same calls that are proved, timed. */
#ifndef CHECK_BENCH_H
#define CHECK_BENCH_H

#include "harness/lab.h"

struct bench_options {
    const char *op; /* NULL: all */
    const char *device;
    uint32_t mask;
    int threads;
    bool csv;
};

/* A row for each bench line of each op whose tests passed; ops that failed are named instead. False
 * when a call could not be made. */
bool bench_run(struct lab *lab, const struct bench_options *o);

#endif
