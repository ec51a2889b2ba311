/* weights_random.h: a checkpoint of random weights, for measuring a shape whose real weights are
 * not at hand. Its outputs are finite and mean nothing. */
#ifndef MODEL_WEIGHTS_RANDOM_H
#define MODEL_WEIGHTS_RANDOM_H

#include "model/config.h"

/* Writes model.safetensors into an existing folder: bf16, the same bytes for the same seed. */
enum gdn_status weights_random(const struct config *config, const char *folder, uint64_t seed,
                               struct gdn_error *err);

#endif
