/* flow.h: a made-up stream of tokens through a gdn_state of two layers, for the flows of
 * founding_cache.c and its neighbours. */
#ifndef CHECK_FLOW_H
#define CHECK_FLOW_H

#include "api/state.h"

enum { FLOW_LAYERS = 2, FLOW_ROWS = 80, FLOW_WIDE = 96, FLOW_SLOTS = 3 };

struct flow {
    gdn_state *state;
    struct state *inner;
    struct gdn_error err;
    enum gdn_type compute;
    bool good; /* every call went well so far */
    float want[FLOW_ROWS][FLOW_LAYERS][FLOW_WIDE]; /* the stream, token by token */
};
typedef float flow_rows[FLOW_LAYERS][FLOW_WIDE];

bool flow_open(struct flow *flow, enum gdn_type compute, enum gdn_type anchors, bool speculate);
void flow_close(struct flow *flow);

/* Tokens from..from+n-1 of a stream into a slot (-1: absent), several slots in one pass. */
struct flow_part {
    int32_t slot;
    int stream, from, n;
};
bool flow_pass(struct flow *flow, const struct flow_part *part, int parts, bool draft,
               flow_rows *out);
/* The arrays that the last pass gave are written over. */
void flow_spoil(void);
/* Stream 0 into a new slot, from its begin. */
int32_t flow_slot(struct flow *flow, int n);
/* Rows `from` on of stream 0 are these, in bits. */
bool flow_same(const struct flow *flow, const flow_rows *out, int from, int n);
/* The slot holds the begin of stream 0, and what follows comes out as it should. */
bool flow_goes_on(struct flow *flow, int32_t slot);
/* One number for S of all layers, in bits, and for the log and the ring. */
uint64_t flow_state(struct flow *flow, int32_t slot);

/* The law holds with f32 and with bf16 anchors, and nothing of it stays alive. */
bool flow_law(bool (*law)(struct flow *flow));

#endif
