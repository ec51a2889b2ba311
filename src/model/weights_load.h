/* weights_load.h: a checkpoint while its tensors are taken, one by one (weights_take.c), layer by
 * layer (weights_layer.c). Only weights*.c include it.
 *
 * A name may be several with | between them, tried in order: what the release calls it first. */
#ifndef MODEL_WEIGHTS_LOAD_H
#define MODEL_WEIGHTS_LOAD_H

#include "model/weights.h"

enum { NAMED = 5 }; /* faults that a sentence names, before it only counts them */

struct drawing {
    uint64_t seed, before; /* of struct draw */
};

struct loader {
    struct weights *w;
    const struct config *c;
    const char *path;
    struct gdn_error *err;
    bool *used; /* [shards.count] */
    weights_wanted *wanted; /* not NULL: tensors are not taken, but told of */
    void *context;          /* its */
    struct drawing *drawn;  /* not NULL: nor is there a file; values are drawn */
    size_t faults;
    struct gdn_error first; /* of the faults */
    char others[240];       /* the names of the next */
};

/* The whole model, layer by layer. */
enum gdn_status take_model(struct loader *loader);

/* A sentence for checkpoints that GPTQ, AWQ, MLX .. have quantised. */
enum gdn_status weights_refuse_foreign(const struct shards *shards, struct gdn_error *err);

/* A tensor is missing or of the wrong kind. Loading goes on, so that all such are counted. */
enum gdn_status faults_found(struct loader *loader);
void add_name(char *names, size_t room, const char *name);

/* prefix + one of the names is there; its full name. */
bool find_name(const struct loader *loader, const char *prefix, const char *names,
               char full[ST_NAME_BYTES]);

/* *out stays NULL after a fault. small: as an f32 copy. */
enum gdn_status take_tensor(struct loader *loader, const char *prefix, const char *names,
                            bool small, int rank, const int64_t *dim, struct tensor **out);
enum gdn_status take_vector(struct loader *loader, const char *prefix, const char *names,
                            int64_t n, struct tensor **out);
enum gdn_status take_norm(struct loader *loader, const char *prefix, const char *names, int64_t n,
                          struct norm_weight *norm);
/* Tensors [need[i], width] with these names as one small tensor, one below another. */
enum gdn_status take_stack(struct loader *loader, const char *prefix, const char *const *names,
                           const int64_t *need, int count, int64_t width, struct tensor **out);

/* The next of the list, named; memory for values of its own. */
enum gdn_status new_weight(struct loader *loader, const char *name, struct weight **out);
enum gdn_status take_memory(struct loader *loader, struct weight *weight, size_t bytes);

/* A weight that no file holds: bf16, or f32 when it is small. */
struct tensor drawn_over(void *data, bool small, int rank, const int64_t *dim);
/* For a loader that draws (weights_draw.c): a whole name, and names as in take_stack. */
enum gdn_status draw_tensor(struct loader *loader, const char *name, bool small, int rank,
                            const int64_t *dim, struct tensor **out);
enum gdn_status draw_stack(struct loader *loader, const char *prefix, const char *const *names,
                           const int64_t *rows, int count, int64_t width, struct tensor **out);

/* A row block of a packed projection: prefix + name, [rows, K]. */
struct part {
    const char *name;
    int64_t rows;
};
enum gdn_status take_linear(struct loader *loader, const char *prefix, int64_t K, int parts,
                            const struct part *part, struct linear *linear);
/* Room for the parts of a projection; NULL with a sentence. */
struct linear_part *take_parts(struct loader *loader, int64_t parts);

/* prefix: that of the layer, with its last dot. */
enum gdn_status take_layer(struct loader *loader, const char *prefix, enum layer_kind kind,
                           bool sparse, struct layer *layer);
enum gdn_status take_ffn(struct loader *loader, const char *prefix, bool sparse,
                         struct layer *layer);

/* Room for `layers` layers of this config in the list of weights. */
enum gdn_status take_room(struct weights *weights, const struct config *config, int32_t layers,
                          struct gdn_error *err);

#endif
