/* bench.h: what `gdn bench` found, on its way to being printed. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "base/bytes.h"
#include "cli/roofs.h"
#include "gdn/gdn.h"

enum { BENCH_LIST = 8, BENCH_ROWS = 2 * BENCH_LIST * BENCH_LIST, BENCH_OPS = 32 };

/* A prompt of `tokens`, or so many tokens one by one, behind `depth` others. */
struct bench_row {
    bool decode;
    int64_t tokens, depth, together; /* together: so many answers at once */
    double median, low, high; /* tokens a second */
    double bytes, flops;      /* of one token: read, and of the prompt's products */
    int ops;
    double seconds; /* all rounds together, which the ops are parts of */
    struct gdn_op_time op[BENCH_OPS];
};

struct bench_report {
    const char *model, *mode, *compute, *instructions;
    char processor[96];
    int threads, repeats;
    struct machine_roofs machine; /* zeros: another device computes, whose roofs nobody measures */
    double open_seconds;
    int64_t peak; /* bytes; 0: unknown */
    int rows;
    struct bench_row row[BENCH_ROWS];
};

enum bench_format { BENCH_MD, BENCH_CSV, BENCH_JSON };
void bench_print(const struct bench_report *report, enum bench_format format, bool profile,
                 struct bytes *out);

#endif
