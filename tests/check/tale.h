/* tale.h: the demo model reads a text, for founding_model.c. */
#ifndef CHECK_TALE_H
#define CHECK_TALE_H

#include "api/handles.h"

#define DOCUMENT "cat " GDN_SOURCE_DIR "/docs/state.md"
#define CODE "cat " GDN_SOURCE_DIR "/src/state/store.c"
#define BOOKS "xz -dc " GDN_SOURCE_DIR "/tests/data/valid.txt.xz 2>&1"

enum { VOCAB = 4096, WINDOW = 512 };

struct tale {
    gdn_model *model;
    gdn_session *session;
    float *rows; /* [WINDOW][VOCAB] logits of what was read last */
    struct gdn_error err;
};

/* One session of WINDOW tokens, which may draft. False with a word on stderr, as everything here. */
bool tale_open(struct tale *tale, enum gdn_type compute, enum gdn_type state);
void tale_close(struct tale *tale);
/* From the begin, with nothing read. */
bool tale_again(struct tale *tale);
/* Feeds ids; the logits of each go to the row of its position. */
bool tale_read(struct tale *tale, const int32_t *ids, size_t n);
/* The same for a sink of one's own call: its context is the tale. */
void tale_keep_row(void *context, int feed, size_t row, const float *logits, int32_t vocab);
/* The first n ids of what a command prints; its last words may be cut off. */
bool tale_ids(const struct tale *tale, const char *command, int32_t *ids, size_t n);

static inline struct state *tale_state(const struct tale *tale)
{
    return &tale->model->engine.state;
}

#endif
