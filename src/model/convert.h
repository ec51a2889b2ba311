/* convert.h: a checkpoint written again with quantised weights. */
#ifndef MODEL_CONVERT_H
#define MODEL_CONVERT_H

#include "model/weights.h"

/* The tensors of an opened checkpoint, in one file and in their order: large weights as
 * weights_quantise would make them, under NAME.q8 or NAME.q4 (weights_find); all others as they
 * are. A few rows at a time: memory holds neither model. */
enum gdn_status weights_convert(const struct weights *weights, enum dtype dtype, struct pool *pool,
                                const char *path, const struct weights_watch *watch,
                                struct gdn_error *err);

#endif
