/* state.h: the state of gated-delta layers for programs with projections of their own.
 *
 *     gdn_state *state;
 *     struct gdn_state_layer layer[] = {{.Hk = 4, .Hv = 8, .Dk = 128, .Dv = 128, .taps = 4}};
 *     struct gdn_state_options options = {.layers = layer, .count = 1, .slots = 2};
 *     if (gdn_state_open(&options, &state, &err) != GDN_OK) return puts(err.text), 1;
 *     int32_t slot = gdn_state_slot_take(state);
 *     struct gdn_state_piece piece = {.slot = slot, .rows = n};
 *     gdn_state_begin(state, &piece, 1, false, &err);
 *     for each layer: gdn_state_conv(...), then gdn_state_delta(...)
 *     gdn_state_end(state, &err);
 *
 * A slot holds one sequence: in each layer an anchor (S at the last edge of 16 tokens), a log of
 * what each token since then wrote, and the last inputs of the short convolution. Commit and rewind
 * change a length. A row's bits depend on the rows before it in its sequence, not on how the rows
 * were cut into passes, nor on other sequences, drafts, snapshots or files.
 *
 * Arrays are dense, row-major and hold the rows of all pieces one after another. x, q, k, v, y and
 * o are of the compute type, g, beta and weights are f32. q is scaled already, k are unit vectors;
 * g is the natural logarithm of the decay, at most 0. S is [Hv, Dv, Dk]. Calls return a status and
 * write a sentence into *err (zeroed before; may be NULL). One thread at a time uses a state. */
#ifndef GDN_STATE_H
#define GDN_STATE_H

#include "gdn/gdn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gdn_state gdn_state;

struct gdn_state_layer {
    int32_t Hk, Hv, Dk, Dv; /* Hv is a multiple of Hk */
    int32_t taps;           /* width of the convolution over C = 2 Hk Dk + Hv Dv; 1: none */
    bool channel_gate;      /* g is [Hv, Dk] for each row, otherwise [Hv] */
};

struct gdn_state_options {
    const struct gdn_state_layer *layers;
    int32_t count;
    int32_t slots;         /* sequences at once; 0 or less counts as 1 */
    int32_t context;       /* most tokens of one sequence; 0: 131072 */
    int32_t rows;          /* most rows of one pass; 0: 512 */
    bool speculate;        /* room for drafts of up to 16 rows */
    enum gdn_type compute; /* GDN_F32, GDN_BF16 */
    enum gdn_type state;   /* of the anchors: GDN_F32, GDN_BF16 */
    const char *device;    /* NULL: "cpu" */
    int threads;           /* 0: all cores */
};

/* *state is NULL after a failure. All memory of the slots is taken here. */
GDN_API enum gdn_status gdn_state_open(const struct gdn_state_options *options, gdn_state **state,
                                       struct gdn_error *err);
/* After its snapshots were freed. NULL is fine. */
GDN_API void gdn_state_close(gdn_state *state);
/* Of all slots: anchors, logs and inputs of the convolutions. */
GDN_API int64_t gdn_state_bytes(const gdn_state *state);
/* From now on the anchors are of this type: GDN_F32, GDN_BF16. Those that are alive are converted
 * value by value, to bf16 with one rounding, and that is told in *converted (may be NULL); nothing
 * else is touched. Snapshots from before are refused afterwards; files are not. */
GDN_API enum gdn_status gdn_state_convert(gdn_state *state, enum gdn_type anchors, bool *converted,
                                          struct gdn_error *err);

/* An empty sequence, or -1 when all slots are taken. */
GDN_API int32_t gdn_state_slot_take(gdn_state *state);
GDN_API void gdn_state_slot_give(gdn_state *state, int32_t slot);
/* Counts the sequences of a slot: who kept a slot's number sees that it is another's now. */
GDN_API uint32_t gdn_state_generation(const gdn_state *state, int32_t slot);
GDN_API int32_t gdn_state_position(const gdn_state *state, int32_t slot);

/* ---- passes ---------------------------------------------------------------------------------- */

struct gdn_state_piece {
    int32_t slot; /* all different; -1: rows that are not there, such as padding */
    int32_t rows;
};
/* A pass over all layers, in any order, each once: conv (a layer with one tap has none), then
 * delta. draft: at most 16 rows a piece, and gdn_state_commit decides how many of them become part
 * of the sequence. Nothing is kept of the rows of slot -1, and their outputs are 0. */
GDN_API enum gdn_status gdn_state_begin(gdn_state *state, const struct gdn_state_piece *pieces,
                                        int32_t count, bool draft, struct gdn_error *err);
/* y = silu of the causal convolution of x [rows, C] by w [C, taps]. */
GDN_API enum gdn_status gdn_state_conv(gdn_state *state, int32_t layer, const void *x,
                                       const float *w, void *y, struct gdn_error *err);
/* q, k [rows, Hk, Dk], v, o [rows, Hv, Dv], g as in the layer, beta [rows, Hv]. */
GDN_API enum gdn_status gdn_state_delta(gdn_state *state, int32_t layer, const void *q,
                                        const void *k, const void *v, const float *g,
                                        const float *beta, void *o, struct gdn_error *err);
/* Positions move. When a call was left out or failed, they do not: drafts and pieces of one row are
 * as if they had never come, and longer ones leave their slot unusable. So does an output of delta
 * for the last row of a piece that is not finite; that is no failure, for the others go on. */
GDN_API enum gdn_status gdn_state_end(gdn_state *state, struct gdn_error *err);

/* The first n rows of the last draft: more is clamped, 0 or less changes nothing. Returns how
 * many. */
GDN_API int32_t gdn_state_commit(gdn_state *state, int32_t slot, int32_t n);
/* As if the last n rows had never come; at most gdn_state_rewindable (0..31). */
GDN_API int32_t gdn_state_rewindable(const gdn_state *state, int32_t slot);
GDN_API enum gdn_status gdn_state_rewind(gdn_state *state, int32_t slot, int32_t n,
                                         struct gdn_error *err);
/* A second sequence with the same past: a slot, or -1. Anchors are shared until one changes. */
GDN_API int32_t gdn_state_fork(gdn_state *state, int32_t slot);

/* ---- dense states ---------------------------------------------------------------------------- */

/* S of one layer at the slot's position, in double. */
GDN_API enum gdn_status gdn_state_export(const gdn_state *state, int32_t slot, int32_t layer,
                                         double *S, struct gdn_error *err);
/* An empty slot becomes a sequence of `position` tokens whose states come from outside: S of each
 * layer, and the last taps - 1 inputs of its convolution, oldest first (NULL: zeros). Its blocks of
 * 16 begin at this position. */
GDN_API enum gdn_status gdn_state_place(gdn_state *state, int32_t slot, int32_t position,
                                        struct gdn_error *err);
GDN_API enum gdn_status gdn_state_import(gdn_state *state, int32_t slot, int32_t layer,
                                         const double *S, const float *inputs,
                                         struct gdn_error *err);

/* ---- put aside ------------------------------------------------------------------------------- */

typedef struct gdn_state_copy gdn_state_copy;
/* The committed state of a slot. Of an empty sequence: NULL, and that is fine. */
GDN_API enum gdn_status gdn_state_snapshot(gdn_state *state, int32_t slot, gdn_state_copy **copy,
                                           struct gdn_error *err);
GDN_API int64_t gdn_state_copy_bytes(const gdn_state_copy *copy);
GDN_API void gdn_state_copy_free(gdn_state_copy *copy);
/* Any number of times, only to the position it was taken at. Without a copy: succeeds only where
 * the slot stands already. It is built in a spare slot first, whose number *slot then is; a failure
 * changes nothing. */
GDN_API enum gdn_status gdn_state_restore(gdn_state *state, int32_t *slot,
                                          const gdn_state_copy *copy, int32_t position,
                                          struct gdn_error *err);
/* The same as a file (docs/state.md). `model`: 32 bytes that must be the same when it is loaded;
 * NULL: zeros. Loading takes a new slot. *converted (may be NULL): anchors had another type. */
GDN_API enum gdn_status gdn_state_save(gdn_state *state, int32_t slot, const unsigned char *model,
                                       const char *path, struct gdn_error *err);
GDN_API enum gdn_status gdn_state_load(gdn_state *state, const char *path,
                                       const unsigned char *model, int32_t *slot, bool *converted,
                                       struct gdn_error *err);

#ifdef __cplusplus
}
#endif
#endif
