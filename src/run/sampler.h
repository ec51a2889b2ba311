/* sampler.h: choosing a token: pure functions of a row of logits, the tokens before it, settings
 * (gdn.h, struct gdn_sampling, whose numbers may be any here) and the position.
 *
 * In this order: repetition, presence and frequency, bias, bans (sampler_adjust, over the whole
 * row); then among the best of it top_k, temperature, top_p, min_p, and the draw.
 *
 * The draw adds to each logit a noise of its own, a function of seed, position and token, and takes
 * the largest sum (Gumbel: each token is the largest with its probability). So a draw does not
 * depend on what was drawn before or elsewhere, and who draws from a similar distribution at the
 * same position, as a draft does, will mostly draw the same token. */
#ifndef RUN_SAMPLER_H
#define RUN_SAMPLER_H

#include "gdn/gdn.h"

enum { SAMPLER_BEST = 256 };
struct sampler_best {
    int32_t n, ids[SAMPLER_BEST];
    float values[SAMPLER_BEST];
};

/* Something in it changes logits. */
bool sampler_adjusts(const struct gdn_sampling *sampling);

/* row[id], for the ids among the last `window` of tokens[0..n-1], c times each:
 *     z > 0: z / repetition, otherwise z * repetition;  then - presence - frequency * c
 * then row[id] + add for every bias, and -inf for what is banned. Ids from `vocab` on are passed
 * over. counts: [vocab] zeros, and zeros again afterwards. */
void sampler_adjust(const struct gdn_sampling *sampling, const int32_t *tokens, int32_t n,
                    int32_t vocab, float *row, int32_t *counts);

/* The same over the n best of a row alone, in order: changes their logits, puts them in order again
 * (equal ones by id), and returns how many of them are certain to be the first of the whole row
 * changed. Those that are not among the n had no more than the last of them, and what would raise
 * them makes nothing certain. */
int32_t sampler_adjust_best(const struct gdn_sampling *sampling, const int32_t *tokens, int32_t n,
                            int32_t vocab, struct sampler_best *best, int32_t *counts);

/* How many of the best of a row, changed or not, decide what is chosen. */
int32_t sampler_needs(const struct gdn_sampling *sampling);

/* `ids` and `values` (logits): n >= 1 best tokens, most likely first; `position`: of the token that
 * is chosen. Without any weight to draw by (infinite, all NaN) the first is taken. */
int32_t sampler_choose(const struct gdn_sampling *sampling, int32_t n, const int32_t *ids,
                       const float *values, int64_t position);

#endif
