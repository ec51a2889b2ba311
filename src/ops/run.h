/* run.h: what the files of the front door share: a slot of the table run and noted, windows. */
#ifndef OPS_RUN_H
#define OPS_RUN_H

#include "base/check.h"
#include "ops/front.h"

/* A pass that is out of memory may carry lost tensors of any shape: nothing is checked any more. */
#define SHAPE_CHECK(pass, condition, ...) \
    GDN_CHECK(pass_status(pass) != GDN_OK || (condition), __VA_ARGS__)

/* Runs the slot and notes the call: outputs require a gradient when any input or weight does. */
void pass_run(struct pass *pass, enum op op, void *args, bool weight_learns);

struct tensor *pass_view(struct pass *pass, struct tensor *of, int64_t offset, int rank,
                         const int64_t *dim, const int64_t *stride);

bool linear_learns(const struct linear *w);

#endif
