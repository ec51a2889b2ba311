/* ops_delta.h: what both directions of delta share. */
#ifndef API_OPS_DELTA_H
#define API_OPS_DELTA_H

#include "api/ops_frame.h"

/* A call after its checks. */
struct delta {
    const struct gdn_delta *call;
    double scale;
    struct array q, k, v, g, beta, S0, o, S1;
    struct array dq, dk, dv, dg, dbeta, dS0, dout, dS1; /* backward */
};

enum gdn_status delta_check(const struct gdn_ops *ops, const struct gdn_delta *call,
                            const struct gdn_delta_gradient *gradient, struct delta *d,
                            struct gdn_error *err);

/* Inputs of a group as the kernel wants them; raw_q and raw_k are q and k before they were made
 * unit vectors. */
struct delta_inputs {
    struct tensor q, k, v, g, beta, raw_q, raw_k;
};
void delta_inputs_lay(struct frame *f, const struct group *g, const struct delta *d,
                      struct delta_inputs *in);

static const double DELTA_EPS = 1e-6; /* of the unit vectors, on the sum of squares */

frame_body delta_backward;

#endif
