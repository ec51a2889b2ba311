/* layer.h: one function for every layer, for one token or many, with and without a tape. */
#ifndef MODEL_LAYER_H
#define MODEL_LAYER_H

#include "model/weights.h"
#include "state/state.h"

struct layer_call {
    const struct layer *layer;
    struct layer_state *state; /* NULL: dense, from an empty past */
};

/* A segment_run (ops/tape.h); context: struct layer_call. The residual stream comes as a sum that
 * the next norm adds up: in = {x, what to add to it or NULL}, and out likewise. */
void layer_run(struct pass *pass, void *context, struct tensor *const in[2], struct tensor *out[2]);

/* Its two parts, for who goes on with some of the rows alone: what the mixer makes of normed rows
 * h, before the product behind it; and all that follows, x being the stream. */
struct tensor *layer_mix(struct pass *pass, const struct layer *layer,
                         struct layer_state *state, struct tensor *h);
void layer_end(struct pass *pass, const struct layer *layer, struct tensor *x,
               struct tensor *mixed, struct tensor *out[2]);

#endif
