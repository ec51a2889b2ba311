/* replay.h: recordings of passes, by what their calls depend on.
 *
 * Kernels find ids, rows, positions, slots and pages in device memory that is filled before a pass,
 * so one recording serves whatever sequences come, as long as there are as many, with as many rows
 * and positions below the same bound. A pass is recorded the second time it is asked for: what
 * comes once (the rest of a prompt) is not worth it. */
#ifndef RUN_REPLAY_H
#define RUN_REPLAY_H

#include "tensor/device.h"

struct replay_key {
    int32_t B, T, asked; /* sequences, rows, rows whose best tokens are wanted */
    int32_t head;        /* runs of the draft head */
    int32_t reach;       /* of struct rows */
    int32_t types;       /* the state's arrays: a change of types moves them */
    bool draft;
};

struct replay_entry {
    struct replay_key key;
    int64_t seen, last; /* how often, and when it was asked for; seen 0: free */
    void *made;         /* NULL: not yet, or it cannot be recorded */
};

enum { REPLAYS = 64 };

struct replay {
    struct replay_entry entry[REPLAYS];
    int64_t now;
};

/* The entry of this key, asked for once more; a new one takes the place of the longest unused. */
struct replay_entry *replay_find(struct replay *replay, struct device *device,
                                 struct replay_key key);
void replay_close(struct replay *replay, struct device *device);

#endif
