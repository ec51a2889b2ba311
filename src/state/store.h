/* store.h: snapshots of many sequences under one budget of bytes, found again by their tokens.
 *
 * An entry is a snapshot, the tokens before it and what the owner wants kept with it. When room is
 * needed the least valuable goes: the tokens that its loss would make somebody compute again (back
 * to the next shorter stored prefix), weighted by kind, for each byte that it alone keeps alive and
 * each operation since it was last of use. A page of keys and values that several entries hold
 * counts once. Entries are named by their number, which stays theirs until they are released. */
#ifndef STATE_STORE_H
#define STATE_STORE_H

#include "state/snapshot.h"

/* Why a position is worth keeping. What a person wrote ends where conversations branch; thinking is
 * often cut away behind its end; the rest is for prompts that share a long beginning. */
enum store_kind { STORE_DISTANCE, STORE_THINKING, STORE_MESSAGE };

/* Entries of kind STORE_DISTANCE in one sequence stand at least this far apart, the wider the
 * further they lie behind the newest: 256 up to 4k tokens behind it, 1k up to 16k, 4k beyond. */
enum { STORE_NEAR = 256, STORE_MIDDLE = 1024, STORE_FAR = 4096, STORE_SPANS = 4 };
/* How far apart they stand this many tokens behind the newest. */
int32_t store_spacing(int32_t behind);

struct store_entry {
    struct snapshot snapshot;
    enum store_kind kind;
    bool live;
    int32_t pins;
    int32_t slot;        /* where it was taken, and of which assignment */
    uint32_t generation;
    uint64_t used;       /* store->clock when it was last of use */
    int32_t *tokens;     /* [snapshot.position] */
    void *extra;         /* of the owner: the next-token distribution */
    size_t extra_bytes;
};

struct store {
    struct state *state;
    struct store_entry *entry; /* [most] */
    int32_t most, live;
    int32_t *held;        /* [state->pages] entries that hold the page */
    int64_t budget, bytes; /* bytes: of all live entries, never more than the budget */
    uint64_t clock;
};

/* All snapshots are of `state`, which outlives the store. */
enum gdn_status store_open(struct store *store, struct state *state, int64_t budget, int32_t most,
                           struct gdn_error *err);
/* Releases every entry, pinned or not. */
void store_close(struct store *store);

/* Takes a snapshot of a live slot, whose tokens these are (as many as its position), and makes room
 * for it. *entry is -1, and nothing was done, when it is not worth keeping: an empty sequence, a
 * distance shorter than STORE_NEAR, or more bytes than the budget leaves beside what is pinned. The
 * same tokens are kept once: the entry that is there is of use again, with the stronger kind. */
struct store_note {
    const int32_t *tokens;
    enum store_kind kind;
    const void *extra;
    size_t extra_bytes;
};
enum gdn_status store_put(struct store *store, int32_t slot, const struct store_note *note,
                          struct arena *scratch, int32_t *entry, struct gdn_error *err);

/* The entry with the longest prefix of these tokens, all n of them at most; -1: none. */
int32_t store_find(const struct store *store, const int32_t *tokens, int32_t n);
/* Into a free slot, as snapshot_restore: any number of times. */
enum gdn_status store_restore(struct store *store, int32_t entry, int32_t *slot,
                              struct gdn_error *err);

/* A pinned entry is not evicted. Pins are counted. */
void store_pin(struct store *store, int32_t entry);
void store_unpin(struct store *store, int32_t entry);
/* Zeroes all that it kept. */
void store_release(struct store *store, int32_t entry);

/* Evicts until so many pages of the state are free; false when that is not to be had. */
bool store_free_pages(struct store *store, int32_t pages);

/* A slot has turned invalid: entries taken from it behind its last finite row go, pinned or not. */
void store_distrust(struct store *store, int32_t slot);

/* Two neighbours in a tree of prefixes become one, or one is cut in two. A state is a point, not a
 * stretch: of two the longer survives (parent may be -1), and of a cut all stays on the right. */
int32_t store_merge(struct store *store, int32_t parent, int32_t child);
void store_split(const struct store *store, int32_t entry, int32_t *left, int32_t *right);

/* Bytes of one entry: a shared page is counted in the entry of the lowest number. The sum over all
 * entries is store->bytes. */
int64_t store_entry_bytes(const struct store *store, int32_t entry);

#endif
