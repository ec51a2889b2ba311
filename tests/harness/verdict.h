/* verdict.h: what a proof found, in figures and in a sentence. */
#ifndef HARNESS_VERDICT_H
#define HARNESS_VERDICT_H

#include <stdbool.h>

#include "harness/shape.h"
#include "tensor/tensor.h"

struct verdict {
    const char *subject; /* "delta on cpu" */
    struct shape shape;  /* the case at hand, for the sentences */
    bool loud;           /* every failure goes to stderr, not only the first into `first` */
    int64_t cases, failures;
    double worst;        /* largest error met in wide numbers, as a share of its limit: 16-bit
                            ones always come close to theirs, which is their rounding */
    char first[640];     /* the first failure */
};

void verdict_fail(struct verdict *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `held`, or the sentence is a failure. Returns `held`. */
#define EXPECT(v, held, ...) ((held) ? true : (verdict_fail((v), __VA_ARGS__), false))

/* How far values may be from the reference.
 *
 * l2: of the whole tensor, relative. f32: a sum of n products in a few ascending chains is off by
 * about sqrt(n) 2^-24 of its operands: 2e-7 for the widths here; two or three such stages behind
 * one another and an exp of a sum stay under 1e-6; 2e-6 is what is asked.
 * element: of one value against the largest: 8 l2, since one of a few thousand errors may well be
 * eight times their mean.
 * rounding: what storing in 16 bits adds to each value, at most: bf16 keeps 8 bits, so 2^-8 of the
 * value; f16 keeps 11. A tensor whose norm rests on a few elements has it in l2 as well. */
struct limit {
    double l2, element, rounding;
};
struct limit limit_of(enum dtype stored, double l2, int roundings);

/* Counts a failure unless got is within the limit of want; both hold t's elements in order. */
void verdict_compare(struct verdict *v, const char *name, const struct tensor *t,
                     const double *got, const double *want, struct limit limit);

/* "(3, 0, 17)": the coordinate of an element. */
void coordinate_text(const struct tensor *t, int64_t element, char *out, size_t room);

#endif
