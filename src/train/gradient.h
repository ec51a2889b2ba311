/* gradient.h: the mean loss of a batch of sequences, and its gradient. */
#ifndef TRAIN_GRADIENT_H
#define TRAIN_GRADIENT_H

#include "model/forward.h"

struct gradient {
    struct device *device;
    const struct weights *weights;
    struct arena *data, *meta;
    enum dtype compute;
    bool recompute; /* keep only the input of each layer, and run layers twice */
    bool forward_only;
};

/* Sequence b is ids[start[b]] .. ids[start[b+1]-1]; targets[i] is what should follow ids[i], or
 * negative: not counted. Adds d(mean over counted tokens)/d(parameter) to the gradients of weights
 * that have one. All arrays in device memory. */
enum gdn_status gradient_run(const struct gradient *gradient, int32_t B, const int32_t *start,
                             const int32_t *ids, const int32_t *targets, double *loss,
                             struct gdn_error *err);

#endif
