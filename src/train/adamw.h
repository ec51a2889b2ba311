/* adamw.h: Adam with decoupled weight decay; moments in f32 (f64 for f64 parameters). */
#ifndef TRAIN_ADAMW_H
#define TRAIN_ADAMW_H

#include "train/params.h"

struct adamw {
    double rate, beta1, beta2, eps;
    double decay;    /* of parameters that decay (params.h) */
    int64_t step;
    void *first, *second; /* moments, parameter after parameter */
};

/* The settings stand in `adamw`; step and moments start at zero. */
enum gdn_status adamw_open(struct adamw *adamw, const struct params *params,
                           struct gdn_error *err);
void adamw_close(struct adamw *adamw);

/* One update of every parameter from its gradient. */
void adamw_step(struct adamw *adamw, struct params *params);

#endif
