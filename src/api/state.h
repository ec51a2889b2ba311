/* state.h: what stands behind gdn/state.h. */
#ifndef API_STATE_H
#define API_STATE_H

#include "gdn/state.h"
#include "state/state.h"

struct gdn_state {
    struct device *device;
    struct state state;
    struct arena scratch;
    int32_t rows;   /* most of one pass */
    unsigned char *fed; /* [layers] which calls of the pass at hand were made */
    struct gdn_state_piece *piece; /* [pieces] of it */
    bool *lost;     /* [pieces] an output for the last row was not finite */
    void *row;      /* one row of the widest output */
    int32_t pieces;
    bool open, draft;
    int32_t *on; /* device memory: start [most + 1], pos, slot [most each]; most: of pieces */
    struct rows now;
};

/* The slot is there, alive, and no pass is open. */
enum gdn_status state_slot_check(const gdn_state *state, int32_t slot, struct gdn_error *err);

#endif
