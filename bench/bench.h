/* bench.h: what the timing programs share: clocks, order statistics, memory, and the roofs of the
 * machine that stand beside every time.
 *
 * Others may be using the machine. So one thread is timed by its own clock, rounds of the work take
 * turns with rounds of its roof, and of each the median and the best are told. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/roof.h"

/* Instruction sets, weakest first, as the mask of device_open reaches them. */
struct bench_isa {
    const struct roof *roof;
    uint32_t mask;
};
enum { BENCH_ISAS = 3 };
extern const struct bench_isa bench_isas[BENCH_ISAS];
bool bench_has(const struct bench_isa *isa);

/* Seconds of this thread's own clock, or with more threads of the wall's. */
double bench_seconds(int threads);

/* Sorts. */
double bench_median(double *x, int n);

/* Memory, or the end of the program. */
void *bench_must(void *memory);
void bench_check(bool good, const char *what);

/* Seconds of a round of work; of it, and of a roof that took turns with it. */
struct bench_time {
    double median, best;
    double roof; /* median rate, of all threads: flops or bytes a second */
    int rounds;
};
typedef void bench_work(void *context);

/* What bounds the work, by one thread and then times their number: */
struct bench_roof {
    const struct bench_isa *isa; /* multiply-adds in registers; or */
    size_t bytes;                /* reading so many, again and again; or */
    bench_work *work;            /* this, with the context of the work and by all its threads, */
    double amount;               /* which is so much */
};

/* Rounds for about `limit` seconds, at least 5, of as many works as a clock can tell. The first,
 * which touches the memory, does not count. */
struct bench_time bench_run(bench_work *work, void *context, int threads, struct bench_roof roof,
                            double limit);

/* What is asked of a row, in its unit: the peers' figures on an AMX Xeon, and the two bars; 0: no
 * such. */
struct bench_want {
    double ggml, ik, must, goal;
};
#define BENCH_WANT " ggml    ik  must  goal"
/* The rest of a line. */
void bench_print_want(const struct bench_want *want, double found);

/* A line of a table whose works make `units` in a round: its name, us a unit (median, best), the
 * roof, us a unit at the roof if each takes `amount`, the share of it, what is asked. */
void bench_print_head(const char *columns);
void bench_print_row(const char *name, struct bench_time t, double units, double amount,
                     const struct bench_want *want);

#endif
