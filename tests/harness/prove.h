/* prove.h: what is proved of every op. Each takes one shape and notes what it finds. */
#ifndef HARNESS_PROVE_H
#define HARNESS_PROVE_H

#include "harness/trial.h"

/* Every output is written, nothing else is; values within their limits of the reference in F64 on
 * the same rounded inputs; the same bits in a second run and with 2 and 3 threads. */
void prove_forward(struct lab *lab, const struct proof *proof, const struct shape *s,
                   struct verdict *v);

/* A row (for ops over sequences: a sequence) alone gives the bits that it has in the batch: of
 * outputs, and with `grads` of the gradients of inputs that belong to it. And NaN in the first row
 * or sequence reaches no other. */
void prove_alone(struct lab *lab, const struct proof *proof, const struct shape *s, bool grads,
                 struct verdict *v);

/* Rows 4 GiB apart give the bits that they give side by side. Needs a device that has far_room. */
void prove_far(struct lab *lab, const struct proof *proof, const struct shape *s,
               struct verdict *v);
bool far_room(struct device *device);

/* Backward against the reference's on the same inputs; it adds to what stands in the gradients; an
 * output without a gradient counts as zero, an input without one leaves the others unchanged; the
 * same bits in a second run and with 2 and 3 threads. */
void prove_backward(struct lab *lab, const struct proof *proof, const struct shape *s,
                    struct verdict *v);

/* Backward has the same bits in a hundred runs, with 1, 2 and 3 threads in turn. */
void prove_repeat(struct lab *lab, const struct proof *proof, const struct shape *s,
                  struct verdict *v);

/* The reference's backward against central differences of its forward, in F64. */
void prove_differences(struct lab *lab, const struct proof *proof, const struct shape *s,
                       struct verdict *v);

/* Every byte of two calls made in the same manner is equal. */
void expect_same_bits(const struct trial *a, const struct trial *b, const char *when);

#endif
