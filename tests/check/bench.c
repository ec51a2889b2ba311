#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "results.h"
#include "roof.h"

enum { REPEATS = 401 };
static const double LONG_ENOUGH = 0.12; /* seconds a row is timed */

/* What the machine can do at a footprint, measured once for each. */
struct roof {
    double bytes, read, flops;
};

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Counters that a call moves go back, so that every call is the first one. */
static void rewind_counters(const struct trial *t)
{
    for (int i = 0; i < t->pieces; i++)
        if (t->piece[i].want.added && t->piece[i].want.dtype == DTYPE_I32)
            box_upload(&t->piece[i].box);
}

static double median_time(struct trial *t, op_kernel *kernel)
{
    double time[REPEATS];
    int n = 0;
    struct station *s = t->at;
    for (int i = 0; i < t->pieces; i++) box_upload(&t->piece[i].box);
    const double begin = seconds_now();
    while (n < REPEATS && (n == 0 || seconds_now() - begin < LONG_ENOUGH)) {
        rewind_counters(t);
        const double at = seconds_now();
        kernel(s->device, &s->scratch, &t->args);
        time[n++] = seconds_now() - at;
        arena_reset(&s->scratch);
    }
    qsort(time, (size_t)n, sizeof *time, ascending);
    return time[n / 2];
}

static void print_row(const struct bench_options *o, const char *op, const char *form,
                      const struct shape *s, double time, double bytes, double flops,
                      const struct roof *roof)
{
    char shape[256];
    const double at_read = roof->read > 0 ? bytes / roof->read : 0;
    const double at_flops = roof->flops > 0 ? flops / roof->flops : 0;
    const double share = 100 * (at_read > at_flops ? at_read : at_flops) / time;
    shape_text(s, shape, sizeof shape);
    if (o->csv)
        printf("%s,%s,%s,%s,%d,%.3f,%.0f,%.0f,%.3f,%.3f,%.3f,%.3f,%.1f\n", o->device, op, form,
               shape, o->threads, 1e6 * time, bytes, flops, 1e-9 * bytes / time,
               1e-9 * flops / time, 1e-9 * roof->read, 1e-9 * roof->flops, share);
    else
        printf("%-11s %-8s %10.2f %8.2f %9.2f %8.2f %8.2f %6.1f  %s\n", op, form, 1e6 * time,
               1e-6 * bytes, 1e-6 * flops, 1e-9 * bytes / time, 1e-9 * flops / time, share, shape);
    fflush(stdout);
}

/* One line of an op, forward or backward (about twice the flops and bytes of forward). */
static bool bench_line(struct station *at, const struct bench_options *o, const struct suite *suite,
                       const struct shape *s, bool backward, struct roof *roof, struct verdict *v)
{
    const struct proof *proof = suite->proof;
    const struct manner manner = {.calm = true, .grads = backward};
    struct trial t;
    double bytes = 0, flops = 0;
    v->shape = *s;
    proof->cost(s, &bytes, &flops);
    if (backward) bytes *= 2, flops *= 2;
    if (roof->bytes != bytes) {
        roof->bytes = bytes;
        roof->read = roof_read(at->device->pool, (size_t)bytes);
    }
    if (!trial_open(&t, proof, s, at, &manner, v)) return false;
    op_kernel *const *table = backward ? at->device->backward : at->device->forward;
    print_row(o, suite->name, backward ? "backward" : "forward", s,
              median_time(&t, table[proof->op]), bytes, flops, roof);
    trial_close(&t);
    return true;
}

static bool suite_passed(struct lab *lab, const struct suite *suite)
{
    for (int i = 0; i < results_count(); i++) {
        struct result *r = results_at(i);
        if (result_concerns(r, suite->name) && !result_passes(r, lab, false)) return false;
    }
    return true;
}

static void print_head(const struct bench_options *o, const struct roof *roof)
{
    if (o->csv)
        printf("device,op,form,shape,threads,us,bytes,flops,GB/s,GFLOP/s,roof GB/s,roof GFLOP/s,"
               "percent\n");
    else
        printf("%s, %d thread%s; this machine does %.1f fp32 GFLOP/s with as many; %%: time of "
               "reading the bytes once,\nor of doing the flops if that is longer, against the time "
               "taken\n%-11s %-8s %10s %8s %9s %8s %8s %6s\n", o->device, o->threads,
               o->threads > 1 ? "s" : "", 1e-9 * roof->flops, "op", "form", "us", "MB", "MFLOP",
               "GB/s", "GFLOP/s", "%");
}

bool bench_run(struct lab *lab, const struct bench_options *o)
{
    struct station at;
    struct gdn_error err = {0};
    struct verdict v = {.subject = "bench", .loud = true};
    if (!station_open(&at, o->device, o->threads, o->mask, SCRATCH_BYTES, &err)) {
        fprintf(stderr, "gdn-check: %s\n", err.text);
        return false;
    }
    struct roof roof = {.flops = roof_flops(at.device->pool)};
    print_head(o, &roof);
    bool made = true;
    for (const struct suite *s = suite_first(); s; s = s->next) {
        if (!s->proof || (o->op && strcmp(o->op, s->name) != 0)) continue;
        if (!suite_passed(lab, s)) {
            fprintf(stderr, "%s: not timed, because a proof of it failed\n", s->name);
            continue;
        }
        const struct sweep *lines = &s->proof->bench;
        for (int i = 0; i < lines->lines; i++) {
            const struct shape shape = sweep_shape(lines, i);
            made = bench_line(&at, o, s, &shape, false, &roof, &v) && made;
            if (sweep_count(&s->proof->backward) > 0 && !shape.slots)
                made = bench_line(&at, o, s, &shape, true, &roof, &v) && made;
        }
    }
    station_close(&at);
    return made;
}
