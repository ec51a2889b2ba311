/* state.h: what sequences remember, in slots.
 *
 * One slot holds one sequence: per gated-delta layer an anchor, a log and a convolution ring, per
 * attention layer a list of pages. All memory is taken at state_open; a step takes none. The idea
 * is docs/state.md: position and log length are numbers, so commit and rewind change a number.
 *
 *     origin          base                 position
 *       |------ ... ----|####|####|####|####|            # committed log entries, base + 1..16
 *                       ^ the anchor stands here         (up to 32 after a commit: folded lazily)
 *
 * This file knows layers as shapes and nothing of models. Positions live on the host; `base` lives
 * beside the kernels that move it, once per layer, so that a layer describes itself at any time. */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "base/status.h"
#include "tensor/device.h"

enum layer_kind { LAYER_DELTA, LAYER_ATTN };

struct layer_shape {
    enum layer_kind kind;
    int32_t Hk, Hv, Dk, Dv, taps; /* delta; taps: width of the convolution */
    bool channel_gate;
    int32_t Hkv, D; /* attention; its values are Dv wide, 0: as wide as keys */
    bool latent;    /* values are the first Dv entries of the keys and are not kept twice */
    int32_t width;  /* attention of a draft head, the last layer: its keys and values stand one
                       row behind the sequence, and it keeps the last rows of this width; 0: none
                       such */
};

/* Rows that such a layer keeps beside those that a log of n entries may take back; and at most. */
enum { HEAD_TAIL = 1, HEAD_ROWS = HEAD_TAIL + 2 * BLOCK };

struct layer_state {
    struct layer_shape shape;
    struct delta_slots delta;
    struct conv_slots conv;
    struct kv_pages kv;
};

enum slot_status { SLOT_FREE, SLOT_LIVE, SLOT_INVALID };

struct slot {
    enum slot_status status;
    uint32_t generation; /* counts assignments: a stale handle is recognised */
    int32_t position;    /* tokens committed */
    int32_t drafted;     /* rows of the last verify pass, still undecided */
    int32_t finite;      /* up to this position what came of the rows was seen to be numbers */
    /* Of a draft head: its rows 0..head-1 stand, as many as the position at most; what the others
     * are made from is kept, their vectors in the layer's ring and here their tokens, that of
     * position p in p mod ring. Row r takes token r + 1: row position - 1 stands only as long as
     * the next token is the one that is kept here. */
    int32_t head;
    int32_t recent[HEAD_ROWS];
};

struct state {
    struct device *device;
    int32_t layers, slots, entries, row_pages, pages;
    enum dtype compute, anchor_type;
    struct layer_state *layer;
    struct slot *slot;
    int32_t *table;       /* [slots][row_pages] host mirror of the page table; -1: none */
    int32_t *table_on;    /* the same in device memory: what kernels read */
    int32_t *shared;      /* [pages] how many slots hold the page */
    int32_t *free_page;   /* stack */
    int32_t free_pages;
    int64_t page_bytes;   /* of one page, over all attention layers */
    int32_t *anchor_row;    /* [slots] row of the anchors a slot has; -1: none */
    int32_t *anchor_row_on; /* the same in device memory */
    int32_t *anchor_shared; /* [slots] how many slots have the row */
    int32_t *settle_on;     /* device memory for the rows of state_settle */
    int64_t bytes;        /* device memory of all slots and pages */
    int32_t types;        /* counts changes of storage types: copies from before are refused */
};

struct state_options {
    int32_t slots, entries; /* entries: 16, or 32 for slots that speculate */
    int32_t context;        /* most positions of one sequence */
    int32_t spare_pages;    /* beyond what full slots need: for snapshots that outlive them */
    enum dtype compute;     /* of ring, log k, keys and values */
    enum dtype anchor;      /* f32 or bf16; the reference keeps f64 whatever is asked */
};

/* Device bytes that state_open will take; 0 when they do not fit in 64 bits. */
int64_t state_bytes(const struct device *device, const struct layer_shape *shape, int32_t layers,
                    const struct state_options *options);

enum gdn_status state_open(struct state *state, struct device *device,
                           const struct layer_shape *shape, int32_t layers,
                           const struct state_options *options, struct gdn_error *err);
void state_close(struct state *state);

/* A cleared slot at position 0, or -1 when all are taken. */
int32_t state_slot_take(struct state *state);
void state_slot_give(struct state *state, int32_t slot); /* -1, or a free one: nothing happens */

/* Before a pass of `rows` (0: of a draft head alone): the pages it writes exist and belong to this
 * slot alone, and so does its anchor when the pass may fold into it. */
enum gdn_status state_reserve(struct state *state, int32_t slot, int32_t rows,
                              struct gdn_error *err);

/* After a pass that succeeded. advance: the rows are part of the sequence. drafted: they wait for
 * commit. A prefill pass that failed half-way: invalidate. */
void state_advance(struct state *state, int32_t slot, int32_t rows);
void state_drafted(struct state *state, int32_t slot, int32_t rows);
void state_invalidate(struct state *state, int32_t slot);
/* Somebody looked at what came of the last row: it was finite, or the slot is not usable now. */
void state_judge(struct state *state, int32_t slot, bool finite);

/* Accept the first n rows of the last verify pass: n > recorded is clamped, n <= 0 changes
 * nothing. Returns the rows accepted. */
int32_t state_commit(struct state *state, int32_t slot, int32_t n);

/* Committed entries in the log: how far state_rewind can go. */
int32_t state_length(const struct state *state, int32_t slot);
/* Take back the last n tokens: as if they had never come. */
enum gdn_status state_rewind(struct state *state, int32_t slot, int32_t n, struct gdn_error *err);

/* Folds what is overdue after a commit across a block edge: the log is then at most 16 long. The
 * value of the state does not change, nor do any later bits. */
enum gdn_status state_settle(struct state *state, int32_t slot, struct arena *scratch,
                             struct gdn_error *err);

/* A second sequence with the same past. Anchor and pages are shared until one of the two writes. */
int32_t state_fork(struct state *state, int32_t slot);

/* S at the slot's position, dense [Hv, Dv, Dk] in double: anchor and log put together. */
void state_export(const struct state *state, int32_t slot, int32_t layer, double *dense);

/* An empty slot stands at `position` from now on, with empty logs: its origin, where its blocks of
 * 16 begin. Then the state of each layer there: S as above, rounded to the anchor's type, and the
 * last taps - 1 inputs of the convolution, oldest first (NULL: zeros). */
enum gdn_status state_place(struct state *state, int32_t slot, int32_t position,
                            struct gdn_error *err);
enum gdn_status state_import(struct state *state, int32_t slot, int32_t layer, const double *dense,
                             const float *inputs, struct gdn_error *err);

/* Rows by which the keys and values of a layer stand behind the sequence. */
static inline int32_t layer_lag(const struct layer_shape *shape) { return shape->width > 0; }
static inline int32_t state_lag(const struct state *st)
{
    return st->layers > 0 ? layer_lag(&st->layer[st->layers - 1].shape) : 0;
}

/* Where the head of a sequence that is nowhere behind stands. */
static inline int32_t head_settled(int32_t position) { return position > 0 ? position - 1 : 0; }
/* The first position whose keys and values a pass of the slot may write. */
static inline int32_t state_first(const struct state *st, int32_t slot)
{
    const struct slot *s = &st->slot[slot];
    const int32_t settled = head_settled(s->position);
    return state_lag(st) == 0 ? s->position : s->head < settled ? s->head : settled;
}

/* Bytes of one position's keys or values in its page. */
static inline size_t kv_row_bytes(const struct kv_pages *kv, bool values)
{
    const int32_t width = !values ? kv->D : kv->v ? kv->Dv : 0;
    return dtype_size(kv->dtype) * (size_t)kv->Hkv * (size_t)width;
}

/* ---- storage types --------------------------------------------------------------------------- */

struct state_change {
    bool conv, anchor; /* what was converted */
};

/* Ring in `compute`, anchors in `anchor`: each is looked at alone. What differs is converted, value
 * by value, and reported; what does not is not touched; nothing is zeroed. Both f32 or bf16. */
enum gdn_status state_ensure(struct state *state, enum dtype compute, enum dtype anchor,
                             struct state_change *change, struct gdn_error *err);

/* ---- parts (slot.c, anchors.c, pages.c and snapshot.c share them) ---------------------------- */

enum gdn_status anchors_open(struct state *state, struct gdn_error *err);
void anchors_close(struct state *state);
/* The slot gets a row of zeros; shares the row of another; has none any more (the last owner zeroes
 * it); has one of its own, with the values it had. */
void anchor_take(struct state *state, int32_t slot);
void anchor_share(struct state *state, int32_t from, int32_t to);
void anchor_drop(struct state *state, int32_t slot);
void anchor_own(struct state *state, int32_t slot);
/* Where the anchor of a slot begins in device memory: what delta_anchor finds there. */
char *anchor_at(const struct state *state, int32_t layer, int32_t slot);
bool anchor_is_shared(const struct state *state, int32_t slot);

enum gdn_status pages_open(struct state *state, struct gdn_error *err);
void pages_close(struct state *state);
/* The slot holds no page any more. */
void pages_drop(struct state *state, int32_t slot);
/* `to` holds the same pages as `from`. */
void pages_share(struct state *state, int32_t from, int32_t to);
/* A snapshot holds the first n pages of a slot; a slot without pages gets those of a snapshot; a
 * snapshot lets go. */
void pages_hold(struct state *state, int32_t slot, int32_t *page, int32_t n);
void pages_lend(struct state *state, int32_t slot, const int32_t *page, int32_t n);
void pages_let_go(struct state *state, const int32_t *page, int32_t n);

#endif
