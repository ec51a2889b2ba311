/* replay.h: recordings of passes, by what their calls depend on.
 *
 * Kernels find ids, rows, positions, slots and pages in device memory that is filled before a pass,
 * so one recording serves whatever sequences come, as long as there are as many, with as many rows
 * and positions below the same bound. A pass is recorded the second time it is asked for: what
 * comes once (the rest of a prompt) is not worth it. */
#ifndef RUN_REPLAY_H
#define RUN_REPLAY_H

#include "tensor/device.h"

enum replay_kind { REPLAY_PASS, REPLAY_GUESS, REPLAY_CHAIN };

struct replay_key {
    enum replay_kind kind; /* of rows of sequences; of a guess: its first token, a further one */
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

/* Has the device do what `run` asks it for, which depends on the key alone: by playing it, or
 * recording it first, or by running it. False, and nothing played, when `run` says it failed. */
bool replay_run(struct replay *replay, struct device *device, struct replay_key key,
                bool (*run)(void *context), void *context);
void replay_close(struct replay *replay, struct device *device);

#endif
