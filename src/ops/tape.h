/* tape.h: what ran, so that it can be run backwards.
 *
 * A pass may carry a tape. Then each op call is appended to it, and backward is one loop over it
 * from its end. A segment (recompute) is one entry: a function that is run again, with a tape of
 * its own, when its gradient is needed. */
#ifndef OPS_TAPE_H
#define OPS_TAPE_H

#include "base/arena.h"
#include "tensor/device.h"

struct pass;

/* A piece of a model: at most two tensors in, two out, the outputs like in[0] in shape and type; it
 * must compute the same from the same inputs every time. in[1] may be NULL. */
typedef void segment_run(struct pass *pass, void *context, struct tensor *const in[2],
                         struct tensor *out[2]);

struct tape_entry {
    struct tape_entry *before;
    enum op op;       /* or OP_COUNT: a segment */
    void *args;       /* copy of the argument struct */
    uint32_t *version; /* of each input when it was read */
    segment_run *segment;
    void *context;
    struct tensor *in[2], *out[2];
};

/* Entries live in the pass's meta arena; start with {0}. */
struct tape {
    struct tape_entry *last;
    int64_t entries;
};

/* Appends; on a full arena nothing is appended and the arena has failed. */
void tape_append(struct tape *tape, struct arena *meta, enum op op, const void *args);

/* Runs everything backwards. The caller has set the gradient of what it differentiates
 * (tensor_grad, then a value). Gradients add up: clear parameter gradients before a step. */
void tape_backward(struct pass *pass);

#endif
