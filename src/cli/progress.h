/* progress.h: what takes a while, told on a terminal and nowhere else: one line on standard error
 * that is written over and goes away at the end. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    double begin;         /* seconds */
    bool terminal, shown; /* standard error is one; the line is there */
};

struct progress progress_begin(void);
/* "[reading: 512 of 2048 tokens]", but not for what is over at once. */
void progress_tell(struct progress *progress, const char *what, int64_t done, int64_t all,
                   const char *unit);
/* Seconds since the begin. */
double progress_end(struct progress *progress);

#endif
