/* params.h: the weights of a model as trainable values: copies in f32 (or f64), each with a
 * gradient. While they are open, the model computes with them; closing gives the file's back. */
#ifndef TRAIN_PARAMS_H
#define TRAIN_PARAMS_H

#include "model/weights.h"

struct param {
    const char *name;       /* of the checkpoint */
    struct tensor *tensor;  /* the model's, now pointing to the copy */
    struct tensor file;     /* as it was */
    struct tensor gradient;
    int64_t n;
    bool decays; /* matrices, the convolution; not norms, biases and gates, flat or not */
};

struct params {
    struct param *list;
    int32_t count;
    int64_t n;   /* values in all */
    void *memory;
};

/* Quantised weights are no parameters: they stay as they are, and gradients pass through them.
 * dtype: DTYPE_F32, or DTYPE_F64 for the reference device. */
enum gdn_status params_open(struct params *params, struct weights *weights, enum dtype dtype,
                            struct gdn_error *err);
void params_close(struct params *params);

/* Gradients to zero: before each step. */
void params_clear(struct params *params);

#endif
