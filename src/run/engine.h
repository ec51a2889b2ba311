/* engine.h: a model, a device and slots, advanced one ragged batch at a time.
 *
 *   pieces (slot, ids) ─cut at max_rows─> pass: upload rows, forward, head, sink ─> positions move
 *
 * A step takes no memory: arenas, staging and device arrays are made at engine_open. Passes repeat
 * their arena addresses, so that a device with a queue can record a pass and play it (replay.h). A
 * pass that succeeds moves all its positions; one that fails moves none. */
#ifndef RUN_ENGINE_H
#define RUN_ENGINE_H

#include "model/forward.h"
#include "model/mtp.h"
#include "run/replay.h"

enum { ENGINE_BEST = 256 };

struct engine_options {
    int32_t slots, entries, context;
    enum dtype compute, anchor;
    int32_t max_rows; /* of one pass; 0: what suits the device, or 512 */
    bool fast;        /* prefill may give up exactness */
    const struct mtp *mtp; /* NULL: no draft head is kept up */
};

/* A stretch of a piece that is in the pass. */
struct stretch {
    int piece;
    int32_t from, n; /* rows of the piece */
    int32_t start;   /* first row in the pass */
    bool judged, finite; /* what came of its last row was looked at, and is numbers */
};

/* The tokens that are guessed: a BPE's ids rise as its tokens get rarer, so the first half of them,
 * and those from the first end token behind it on, `jump` further in the vocabulary. Half
 * a head less to read is worth more than the few that are missed. */
struct guessable {
    struct linear head;
    struct linear_part part[2];
    int32_t jump;
};

struct engine {
    const struct config *config;
    const struct weights *weights;
    const struct mtp *mtp;
    struct device *device;
    enum dtype compute;
    bool fast;
    int32_t max_rows, head_rows, context, vocab; /* vocab: rows that may be chosen */
    struct state state;
    struct arena data, meta;
    struct layer_call *calls;
    struct stretch *stretch; /* [slots] */
    int32_t *done;           /* [slots] rows of each piece that have run */
    int32_t *late;           /* [slots] those whose draft head catches up */
    /* Host staging and its copy in device memory, both laid out as: ids, wanted rows, targets
     * [max_rows each], start [slots+1], pos, slot [slots each]; then the last three once more for
     * the draft head, of up to 2 runs a sequence. */
    int32_t *stage, *on_device;
    struct replay replay;
    void *row;           /* one row of the widest kind, as the device computed it */
    float *row_f32;      /* the same as f32 */
    /* Of n rows (up to head_rows) their best k: ids [n][k], logits [n][k], lse [n]; in device
     * memory and on the host. choice: of one row that was adjusted. */
    int32_t *best, *best_stage, *choice, *choice_stage;
    float *adjusted;     /* [vocab] device memory: a row of logits, changed */
    struct guessable guessable;
    void *chain;         /* [slots][D] device memory: what the draft head made of guesses */
};

/* `vocab`: tokens that exist (the rest of the rows is padding). */
enum gdn_status engine_open(struct engine *engine, const struct config *config,
                            const struct weights *weights, int32_t vocab, struct device *device,
                            const struct engine_options *options, struct gdn_error *err);
void engine_close(struct engine *engine);

/* Address space of the arena of structs, of which a pass touches little. */
enum { ENGINE_META = 64 << 20 };
/* Address space of the scratch arena. */
size_t engine_scratch_bytes(const struct config *config, const struct device *device,
                            const struct engine_options *options);

/* After which rows of a piece the best tokens are wanted. */
enum best_rows { BEST_NONE, BEST_LAST, BEST_EVERY };

/* What is computed for the rows of a piece. */
struct piece {
    int32_t slot;
    const int32_t *ids;
    int32_t n;
    int32_t first_logits; /* logits of rows first_logits..n-1; n: none */
    enum best_rows best;
    int32_t few; /* so many best are enough at first; 0: ENGINE_BEST */
    bool adjust; /* sink->adjust is asked before the best of a row are handed out */
};

struct ranking {
    int32_t n;
    const int32_t *ids;  /* [n] most likely first */
    const float *values; /* [n] logits */
};

struct best {
    struct ranking model;  /* as the model has it */
    struct ranking choice; /* the same, or of the row as it was adjusted */
    const float *row;      /* [vocab] as the model has it, where it was adjusted; or NULL */
    float lse;             /* of the model's row; always finite unless the step is a draft */
};

/* Any may be NULL. Rows count from the begin of the piece; pointers live during the call. */
struct sink {
    void *context;
    void (*logits)(void *context, int piece, int32_t row, const float *logits, int32_t vocab);
    void (*hidden)(void *context, int piece, int32_t row, int32_t index, const float *x,
                   int32_t width);
    void (*loss)(void *context, int piece, int32_t row, double nats);
    /* True: now all ENGINE_BEST of the row, which were few. */
    bool (*best)(void *context, int piece, int32_t row, const struct best *best);
    /* Changes the logits [vocab] that are chosen from. */
    void (*adjust)(void *context, int piece, int32_t row, float *logits, int32_t vocab);
};

/* Runs all pieces (slots all different). With `draft` no position moves: state_commit decides, and
 * pieces have at most 16 rows (and no more than a pass). After a failure a piece of one row is as
 * if it had not been asked for; a longer one that was half-way is unusable. So is a sequence whose
 * logits were asked for their best and are not finite: the step goes well for the others. */
enum gdn_status engine_step(struct engine *engine, const struct piece *pieces, int count,
                            bool draft, const struct sink *sink, struct gdn_error *err);

/* Before a slot's state is taken (snapshot.h): a draft head that is behind catches up. */
enum gdn_status engine_settle(struct engine *engine, int32_t slot, struct gdn_error *err);

/* A guess at what comes behind `id`, which is not fed yet. */
struct guess {
    int32_t slot, id, most;
    int32_t *out; /* [most] */
    int32_t n;    /* written: tokens guessed */
};

/* Asked in turn for each token of a guess: one of the best, or -1: no more. */
struct guess_ask {
    void *context;
    int32_t (*choose)(void *context, int guess, int32_t at, const struct best *best);
    int32_t best; /* how many to choose from are wanted, 1 to ENGINE_BEST */
};

/* Guesses with the draft head for slots that stand at position 1 or further, all together, one
 * token after the other. What the state remembers of the sequences does not change. */
enum gdn_status engine_guess(struct engine *engine, struct guess *guesses, int count,
                             const struct guess_ask *ask, struct gdn_error *err);

#endif
