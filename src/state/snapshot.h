/* snapshot.h: the whole past of one sequence at one position, held apart from its slot.
 *
 * Self-contained: the slot may go on, be restored elsewhere or be given back. Anchors, logs and
 * rings are copies in host memory; pages of keys and values are held by reference, for a page that
 * is held is never written (pages.c copies it first). Always the complete state: there is no part
 * of a recurrent state that belongs to a range of positions. */
#ifndef STATE_SNAPSHOT_H
#define STATE_SNAPSHOT_H

#include "state/state.h"

struct snapshot {
    struct state *state; /* whose pages these are; NULL: the snapshot of an empty sequence */
    int32_t position;
    int32_t length;      /* entries of every log: 1..16, the canonical form (0 at position 0) */
    int32_t types;       /* state->types when it was taken: how memory is to be read */
    int32_t pages;
    int32_t *page;       /* [pages], inside memory */
    char *memory;        /* layer after layer: anchor, k, u, G, ring rows oldest first */
    size_t bytes;        /* of memory */
};

/* Own bytes of a snapshot of `length` entries at `position`; the most any can have: 16 entries. */
size_t snapshot_bytes(const struct state *state, int32_t position, int32_t length);

/* The pages that a snapshot of the slot would hold now; valid until the slot moves. */
const int32_t *snapshot_pages(const struct state *state, int32_t slot, int32_t *pages);

/* Takes the committed state of a live slot (undecided drafts are no part of it). `memory`: room for
 * snapshot_bytes(...), or NULL to take it from the heap. The slot is settled first (see
 * state_settle): its representation may change, its value does not. A draft head must not be behind
 * (engine_settle). At position 0 the snapshot is empty and holds nothing. */
enum gdn_status snapshot_take(struct snapshot *snapshot, struct state *state, int32_t slot,
                              struct arena *scratch, void *memory, struct gdn_error *err);

/* Puts it into a slot that is free now, and only when that is whole gives *slot back and names the
 * new one there (*slot may be -1: nothing to give back). `position` must be the snapshot's own. A
 * failure changes nothing. Any number of times, into any number of slots. */
enum gdn_status snapshot_restore(const struct snapshot *snapshot, struct state *state,
                                 int32_t *slot, int32_t position, struct gdn_error *err);

/* The copies of all layers and the position into a cleared slot that has its pages already. */
void snapshot_fill(const struct snapshot *snapshot, int32_t slot);

/* Bytes it keeps alive: its own, and its share of pages (a page held by n counts 1/n of itself). */
int64_t snapshot_weight(const struct snapshot *snapshot);

/* Zeroes the copy and lets the pages go; memory from the heap goes back there. */
void snapshot_release(struct snapshot *snapshot, bool from_heap);

/* Where in `memory` the first layer begins. */
size_t snapshot_first(const struct snapshot *snapshot);

/* Walks the copy of one layer, in its order; shared with the file (save.c, load.c). */
struct snapshot_part {
    char *at;
    size_t bytes;
    enum dtype dtype;
};
enum { SNAPSHOT_ANCHOR, SNAPSHOT_K, SNAPSHOT_U, SNAPSHOT_G, SNAPSHOT_RING, SNAPSHOT_PARTS };
/* The parts of delta layer `layer`; offsets start at *offset, which moves behind them. */
void snapshot_parts(const struct snapshot *snapshot, const struct state *state, int32_t layer,
                    size_t *offset, struct snapshot_part part[SNAPSHOT_PARTS]);
/* The anchor of such a part as if each of its heads were a slot: a file takes one at a time. */
struct delta_slots snapshot_heads(const struct device *device, const struct delta_slots *delta,
                                  const struct snapshot_part *anchor);

#endif
