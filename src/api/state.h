/* state.h: what stands behind gdn/state.h. */
#ifndef API_STATE_H
#define API_STATE_H

#include "gdn/state.h"
#include "state/state.h"

struct gdn_state {
    struct device *device;
    struct state state;
    struct arena scratch;
    int32_t rows; /* most of one pass */
    bool *fed;    /* [layers] of the pass at hand */
    struct gdn_state_piece *piece; /* [slots] */
    int32_t pieces;
    bool open, draft;
    int32_t *on; /* device memory: start [slots+1], pos, slot [slots each] */
    struct rows now;
};

/* The slot is there, alive, and no pass is open. */
enum gdn_status state_slot_check(const gdn_state *state, int32_t slot, struct gdn_error *err);

#endif
