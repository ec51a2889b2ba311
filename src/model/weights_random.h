/* weights_random.h: random weights of a shape, for measuring it where the real ones are not at
 * hand: in a file, or made where they are used. The same seed gives the same values. What a model
 * computes with them is finite and means nothing. */
#ifndef MODEL_WEIGHTS_RANDOM_H
#define MODEL_WEIGHTS_RANDOM_H

#include "model/weights.h"

/* Writes model.safetensors into an existing folder: bf16. */
enum gdn_status weights_random(const struct config *config, const char *folder, uint64_t seed,
                               struct gdn_error *err);

/* The same weights without a file: large ones have no data until weights_place makes it in the
 * memory of a device, so nothing of their size is ever on the host. */
enum gdn_status weights_draw(struct weights *weights, const struct config *config, uint64_t seed,
                             struct gdn_error *err);

/* How a tensor of the checkpoint is drawn, behind what `seed` and `before` have given already. */
struct draw weights_draw_of(const struct config *config, const char *name, int rank,
                            const int64_t *dim, uint64_t seed, uint64_t before);

#endif
