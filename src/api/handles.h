/* handles.h: what stands behind the public handles. */
#ifndef API_HANDLES_H
#define API_HANDLES_H

#include "base/bytes.h"
#include "gdn/gdn.h"
#include "run/engine.h"
#include "run/sampler.h"
#include "state/file.h"
#include "state/prefix.h"
#include "text/chat.h"
#include "text/decode.h"
#include "text/marks.h"
#include "text/think.h"
#include "text/stop.h"
#include "text/tokenizer.h"

struct gdn_model {
    struct config config;
    struct weights weights;
    struct mtp mtp; /* open with options.draft == GDN_DRAFT_MTP */
    struct tokenizer *tokenizer; /* NULL: ids only */
    struct chat *chat;
    struct device *device;
    struct op_clock clock; /* of the device, once somebody asked */
    struct gdn_options options;
    struct engine_options engine_options;
    struct engine engine;
    bool engine_open; /* from the first session on */
    struct store store; /* of prefixes; closed (no entries) when options.prefix_bytes is 0 */
    struct marks marks;
    struct gdn_session *sessions; /* [options.sessions] */
    int32_t *tokens;              /* [options.sessions][context]: what each session was fed */
    int32_t *counts;              /* [vocab] zeros: for sampler_adjust */
    unsigned char fingerprint[32];
};

struct gdn_session {
    struct gdn_model *model;
    int32_t slot;
    bool live;
    bool ready; /* best tokens below belong to the last token fed */
    bool fresh; /* the step at hand wrote them */
    int32_t best_count;
    int32_t best_ids[ENGINE_BEST];
    float best_values[ENGINE_BEST];
    float best_lse;
    int32_t *tokens;   /* [position], a row of model->tokens */
    int32_t draft[16]; /* ids of the last verify pass */
    bool busy;         /* has a turn in the call at hand */
    struct gdn_draft_stats drafts;
    int32_t reach; /* tokens that are worth guessing ahead, by the last guesses; 0: none yet */
};

struct gdn_snapshot {
    struct gdn_model *model;
    struct snapshot state;
    struct gdn_session session; /* tokens: a copy of its own */
};

/* A text that may end before one of some strings. */
struct ending {
    bool stops; /* .. as the stopper says */
    struct stopper stopper;
    struct bytes text; /* what is certain to stand before */
};

struct gdn_decoder {
    struct decoder decoder;
    struct ending ending;
    struct bytes text;
};

struct gdn_reply {
    struct think think;
    struct ending ending; /* of the answer */
    struct think_text text;
};

/* A model without files: the text of its config, and the seed of its weights. */
struct shape_text {
    const char *text;
    size_t len;
    uint64_t seed;
};
/* gdn_model_open, or, with a shape, gdn_model_open_random. */
enum gdn_status model_open(const char *path, const struct shape_text *shape,
                           const struct gdn_options *options, gdn_model **model,
                           struct gdn_error *err);

/* The memory of a model with all its sessions, in bytes: what may be touched at most. */
struct plan {
    int64_t weights, copied, sessions, scratch, all;
};
struct plan plan_make(const struct gdn_model *model);
/* What the machine, or the GPU, has left for all of it; INT64_MAX: unknown. */
int64_t plan_left(const struct gdn_model *model);
/* Of one session of this many tokens. */
int64_t plan_session(const struct gdn_model *model, int32_t context);
/* The longest context that fits with all sessions; the one there is, when none does. */
int32_t plan_context(const struct gdn_model *model);
/* GDN_ERR_MEMORY, with the numbers, when the machine has less left. */
enum gdn_status plan_check(const struct gdn_model *model, struct gdn_error *err);

/* How much of options.prefix_bytes the store of prefixes may have: half of what is left. */
int64_t plan_prefixes(const struct gdn_model *model);

/* The first session opens the engine. */
enum gdn_status model_ready(struct gdn_model *model, struct gdn_error *err);
/* A session that is not in use, without a slot; NULL with a sentence. */
struct gdn_session *session_find(struct gdn_model *model, struct gdn_error *err);
/* It is open, and no step of it failed half-way or gave no finite numbers. */
enum gdn_status session_check(const struct gdn_session *session, struct gdn_error *err);
/* Before its state is taken: a draft head that is behind catches up. */
enum gdn_status session_settle(struct gdn_session *session, struct gdn_error *err);
/* The distribution of `from` and its first `position` tokens become those of a session whose slot
 * stands there now. */
void session_adopt(struct gdn_session *session, const struct gdn_session *from,
                   const int32_t *tokens, int32_t position);

/* What the store of prefixes holds makes way for pages that a step of these pieces needs: at most
 * all it touches. */
void prefixes_make_way(struct gdn_model *model, const struct piece *pieces, int count);
/* After a step: when it left the session unusable, what was kept of it since it was sound goes. */
void prefixes_doubt(const struct gdn_session *session);

/* What the model said behind the last token that was fed. */
void session_keep(struct gdn_session *session, const struct best *best);
/* Settings that the sampler can be asked with. */
enum gdn_status sampling_check(const struct gdn_sampling *sampling, const struct gdn_model *model,
                               struct gdn_error *err);

#endif
