/* handles.h: what stands behind the public handles. */
#ifndef API_HANDLES_H
#define API_HANDLES_H

#include "base/bytes.h"
#include "gdn/gdn.h"
#include "run/engine.h"
#include "text/decode.h"
#include "text/tokenizer.h"

struct gdn_model {
    struct config config;
    struct weights weights;
    struct tokenizer *tokenizer; /* NULL: ids only */
    struct device *device;
    struct gdn_options options;
    struct engine_options engine_options;
    struct engine engine;
    bool engine_open; /* from the first session on */
    struct gdn_session *sessions; /* [options.sessions], by slot */
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
};

struct gdn_decoder {
    struct decoder decoder;
    struct bytes text;
};

/* The first session opens the engine. */
enum gdn_status model_ready(struct gdn_model *model, struct gdn_error *err);

#endif
