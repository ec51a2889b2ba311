/* draw.h: random weights, for measuring a shape whose real weights are not at hand. A value is a
 * function of the seed, of where its tensor begins and of its place there, so that a device makes
 * the same ones as a file holds. */
#ifndef TENSOR_DRAW_H
#define TENSOR_DRAW_H

#include <stdint.h>

/* Uniform in [low, high), as bf16. Four values come of each number of the stream (base/rng.h), 16
 * bits each: plenty for 8 of a bf16. */
struct draw {
    uint64_t seed, before; /* before: numbers of the stream that earlier tensors took */
    float low, high;
};

static inline uint64_t draw_numbers(int64_t n) { return (uint64_t)(n + 3) / 4; }

/* Values from .. from + n - 1; `from` is a multiple of 4. */
void draw_values(uint16_t *to, const struct draw *draw, int64_t from, int64_t n);

#endif
