/* forward.h: the whole model over the rows of a pass. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "model/layer.h"

struct forward {
    const struct weights *weights;
    struct state *state;       /* NULL: dense, from an empty past (training) */
    const int32_t *ids;        /* [rows->T] in device memory, each below the vocabulary */
    bool recompute;            /* with a tape: remember only the input of each layer */
    struct layer_call *calls;  /* [layers], filled by forward_run; live until the backward pass */
    /* Called with the embedding (0) and the output of each layer but the last (1..layers-1), or
     * NULL. What it reads is valid during the call. */
    void (*hidden)(void *context, int32_t index, const struct tensor *x);
    void *context;
};

/* Hidden vectors after the final norm, [T, D]. */
struct tensor *forward_run(struct pass *pass, struct forward *forward);

/* Logits of some rows of it, f32 [n, vocab] (f64 on the reference); `rows` in device memory. */
struct tensor *forward_logits(struct pass *pass, const struct weights *weights,
                              struct tensor *hidden, const int32_t *rows, int64_t n);

/* The same of all rows of `hidden`. */
struct tensor *forward_head(struct pass *pass, const struct weights *weights,
                            struct tensor *hidden);

/* Bytes of scratch a pass of T rows needs without a tape, logits of `wanted` rows included; an
 * upper bound. */
size_t forward_bytes(const struct config *config, const struct device *device, enum dtype compute,
                     int64_t T, int64_t wanted);

#endif
