/* cache.h: slots of op_delta on a device, for proofs that call the op itself: anchors and logs, all
 * zeros at position 0. */
#ifndef HARNESS_CACHE_H
#define HARNESS_CACHE_H

#include "tensor/device.h"

struct cache {
    struct device *device;
    struct delta_slots slots;
};

/* `like` has the sizes; the types are f32, or f64 on the reference, but for k_type and a bf16
 * anchor. False when memory is short; close it then too. */
bool cache_open(struct cache *c, struct device *device, const struct delta_slots *like);
void cache_close(struct cache *c);

/* The state of a slot at its position, dense [Hv][Dv][Dk]: anchor and log put together in double.
 * False when memory is short. */
bool cache_state(const struct cache *c, int slot, int pos, double *S);

#endif
