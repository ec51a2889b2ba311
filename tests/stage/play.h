/* play.h: sequences through the public API, every row of logits kept for comparison in bits. */
#ifndef STAGE_PLAY_H
#define STAGE_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdn/gdn.h"

struct play {
    gdn_model *model;
    int32_t vocab;
};

/* A tiny model of tests/golden, "models/demo", or a whole path. A failure fails the running cmocka
 * test. */
struct play_options {
    const char *device;
    enum gdn_type compute, state;
    int threads, sessions;
    bool speculate, fast;
    enum gdn_draft draft;
    int depth;
    int32_t context; /* 0: 512 */
    int64_t prefix_bytes; /* 0: what the library does unasked */
    enum gdn_quant quant;
};
void play_open(struct play *play, const char *model, const struct play_options *options);
void play_close(struct play *play);
/* If this build and machine have the device; a test without it is skipped, and this says why. */
bool play_has(const char *device);
gdn_session *play_session(struct play *play);

/* Logits of consecutive rows; play_record makes room for `rows`. */
struct record {
    float *at;
    size_t rows, room;
    int32_t vocab;
};
void record_open(struct record *record, const struct play *play, size_t rows);
void record_close(struct record *record);

/* Feeds n ids in pieces of the given lengths, the last repeated (no lengths: one piece). */
void play_feed(gdn_session *session, const int32_t *ids, size_t n, const int32_t *cuts,
               size_t cut_count, struct record *record);
/* Verifies n ids, commits `keep` of them; rows of all n are recorded. */
void play_draft(gdn_session *session, const int32_t *ids, size_t n, int32_t keep,
                struct record *record);

/* First difference in bits of rows a..a+n-1 of one and b..b+n-1 of the other fails the test. */
void same_rows(const struct record *one, size_t a, const struct record *other, size_t b, size_t n,
               const char *what);

/* n ids below the vocabulary, the same for the same seed. */
void play_ids(const struct play *play, uint64_t seed, int32_t *ids, size_t n);

#endif
