#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

static const double PATIENCE = 0.3; /* seconds */

struct progress progress_begin(void)
{
    return (struct progress){.begin = clock_seconds(), .terminal = isatty(STDERR_FILENO) == 1};
}

void progress_tell(struct progress *p, const char *what, int64_t done, int64_t all,
                   const char *unit)
{
    if (!p->terminal || clock_seconds() - p->begin < PATIENCE) return;
    fprintf(stderr, "\r[%s: %lld of %lld %s]", what, (long long)done, (long long)all, unit);
    p->shown = true;
}

double progress_end(struct progress *p)
{
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
    return clock_seconds() - p->begin;
}
