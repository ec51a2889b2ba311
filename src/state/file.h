/* file.h: a sequence on disk, state file version 1 (docs/state.md has the layout).
 *
 *   0         64                                      table                       end
 *   | prologue | payload: sections, each tag + length  | hash of each MiB | seal |
 *
 * Written beside its name, synced, renamed, the folder synced; mode 0600. Everything is checked
 * (length, seal, every block, identity, every size) before anything of it is used, and it goes into
 * a spare slot first: a file that is refused has changed nothing. The state is stored dense, in
 * [Hv, Dv, Dk], so that every device reads what any device wrote. */
#ifndef STATE_FILE_H
#define STATE_FILE_H

#include "state/snapshot.h"

enum { STATE_FILE_VERSION = 1, STATE_FILE_BLOCK = 1 << 20, STATE_FILE_BEST = 256 };

/* What a sequence is, beside its layers. */
struct state_record {
    unsigned char model[32]; /* fingerprint (model/fingerprint.h) */
    int32_t position;
    int32_t *tokens;         /* [position] */
    int32_t best_count;      /* the next-token distribution: best tokens and their logits */
    int32_t best_ids[STATE_FILE_BEST];
    float best_values[STATE_FILE_BEST];
    float best_lse;
};

/* Zeroes the tokens that loading gave and gives them back. */
void state_record_free(struct state_record *record);

enum gdn_status state_save(const char *path, const struct snapshot *snapshot,
                           const struct state_record *record, struct gdn_error *err);

/* What a file says of itself, checked to the last byte but compared with no model. */
struct state_summary {
    struct state_record record; /* tokens NULL */
    enum dtype compute, anchor, wide;
    int32_t layers, length;
    int64_t bytes;
};
enum gdn_status state_verify(const char *path, struct state_summary *summary,
                             struct gdn_error *err);

/* Into a free slot of `state`, named in *slot; *record gets the tokens (state_record_free). A
 * failure changes nothing. Refused unless model, shapes and compute type are the same and the
 * context holds it. Anchors of another type are converted and reported in *converted. */
enum gdn_status state_load(const char *path, struct state *state, const unsigned char model[32],
                           int32_t *slot, struct state_record *record, bool *converted,
                           struct gdn_error *err);

/* The same for the bytes of a file, aligned to 16; `name` stands in the sentences. */
enum gdn_status state_verify_memory(const char *name, const void *data, size_t len,
                                    struct state_summary *summary, struct gdn_error *err);
enum gdn_status state_load_memory(const char *name, const void *data, size_t len,
                                  struct state *state, const unsigned char model[32], int32_t *slot,
                                  struct state_record *record, bool *converted,
                                  struct gdn_error *err);

#endif
