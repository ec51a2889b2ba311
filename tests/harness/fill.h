/* fill.h: the numbers that go into a case. All are made in double from (seed, index) and rounded to
 * the type they are declared with, so that every device gets the same values. */
#ifndef HARNESS_FILL_H
#define HARNESS_FILL_H

#include <stdint.h>

#include "tensor/dtype.h"

enum regime {
    REGIME_NORMAL,
    REGIME_TINY,
    REGIME_HUGE,
    REGIME_ZERO,
    REGIME_DENORMAL,
    REGIME_COUNT
};

/* Log-decay: mild -U(0,1), none 0, strong -U(60,200): e^g underflows. */
enum decay { DECAY_MILD, DECAY_NONE, DECAY_STRONG, DECAY_COUNT };

enum fill {
    FILL_NORMAL, /* N(0,1) times 1, 1e-20, 1e4, 0 or 1e-40 by the regime */
    FILL_STEADY, /* N(0,1) in every regime */
    FILL_UNIT,   /* unit vectors along the last axis; zero in the zero regime */
    FILL_DECAY,  /* by the decay */
    FILL_SHARE,  /* U(0,1) */
    FILL_ZERO
};

struct filling {
    enum fill fill;
    double scale;
    enum regime regime;
    enum decay decay;
    uint64_t seed;
    enum dtype dtype; /* values are rounded to it */
};

void fill_values(const struct filling *f, double *out, int64_t count, int64_t width);

/* One number in memory. */
double number_read(const void *at, enum dtype dtype);
void number_write(void *at, enum dtype dtype, double value);
double number_rounded(enum dtype dtype, double value);

/* A row of q8 or q4 of these numbers; and the numbers that such a row then holds. */
void quantised_write(void *at, enum dtype dtype, const double *row, int64_t width);
void quantised_settle(double *row, enum dtype dtype, int64_t width);

#endif
