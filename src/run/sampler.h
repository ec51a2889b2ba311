/* sampler.h: choosing a token; pure functions of a distribution's best tokens and a random number. */
#ifndef RUN_SAMPLER_H
#define RUN_SAMPLER_H

#include <stdint.h>

struct sampling {
    double temperature; /* <= 0: the most likely token */
    int32_t top_k;      /* <= 0: all that are given */
    double top_p;       /* <= 0 or >= 1: off */
    double min_p;       /* <= 0: off */
};

/* `ids` and `values` (logits): n >= 1 best tokens, most likely first. `unit`: a number in [0, 1).
 * In this order: top_k, temperature, top_p (of the tokens that are left), min_p, draw. */
int32_t sampler_choose(const struct sampling *sampling, int32_t n, const int32_t *ids,
                       const float *values, double unit);

#endif
