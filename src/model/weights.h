/* weights.h: from the tensors of a checkpoint to one struct per layer kind.
 *
 * Names, prefixes, packed or separate projections, tied heads: all of that ends here. Large weights
 * are used where the file is mapped; small ones (norms, convolution, gates) become f32 copies. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "base/pool.h"
#include "formats/shards.h"
#include "model/config.h"
#include "ops/front.h"
#include "tensor/draw.h"

struct layer {
    enum layer_kind kind;
    bool latent, behind; /* attention over latent rows; norms behind the parts, not before them */
    struct norm_weight norm1, norm2; /* of the mixer, of the ffn */
    struct linear in, out;           /* packed projections of the mixer, and back to D */
    struct linear decay, gate;       /* second halves of a low rank, for a decay a channel */
    struct delta_weight delta;       /* kind LAYER_DELTA */
    struct attn_weight attn;         /* kind LAYER_ATTN .. */
    struct latent_weight mla;        /* .. latent */
    struct linear gate_up, down;     /* the ffn, or the shared expert (no parts: there is none) */
    struct linear share;             /* of the shared expert's gate; no parts: it has none */
    bool sparse;                     /* the ffn is a mixture of experts */
    struct route_weight route;
    struct experts experts;
};

/* One tensor of the model in use: what it is called in the checkpoint, and where its values are
 * now. A few are several of the checkpoint's, one after another (separate convolutions). */
enum { WEIGHT_ORIGINS = 3 };
struct weight {
    char *name;
    struct tensor tensor;
    const struct shard_tensor *origin[WEIGHT_ORIGINS];
    int origins;
    bool small; /* as f32, whatever the file holds; never quantised */
    void *copy; /* values that are not the mapped ones (small, quantised), ours; or NULL */
    struct draw draw; /* how its values are made, without an origin */
};

struct weights {
    struct shards shards;
    struct weight *list; /* every tensor in use, in layer order */
    int32_t count, room;
    struct tensor *embed; /* [vocab, D] */
    struct linear head;   /* of the embedding when tied */
    struct norm_weight final;
    struct layer *layer;
    int32_t layers;
    struct device *device; /* whose memory holds all tensors, in `placed`; NULL: the host's */
    void *placed;
    int64_t placed_bytes;
    struct arena parts;  /* what projections and experts are made of */
    const char *prefix;    /* of the body, as found */
    bool drawn;            /* there are no files (weights_random.h) */
    bool shifted;          /* norms hold 1 + w where the family's files hold w (MLX) */
    int32_t mtp, vision;   /* tensors recognised and left alone */
    int64_t parameters;    /* values in use */
    int64_t file_bytes;    /* of all tensors in the files */
    int64_t unused_bytes;  /* of those among them that are left alone */
    int64_t copied_bytes;
};

/* `path`: a model folder or a .safetensors file. Everything the config asks for must be there in
 * the right shape, and nothing unknown beside it. */
enum gdn_status weights_open(struct weights *weights, const struct config *config, const char *path,
                             struct gdn_error *err);
void weights_close(struct weights *weights);

/* Who wants to know how far what takes long has come, in bytes. */
struct weights_watch {
    void (*tell)(void *context, int64_t done, int64_t all); /* or NULL */
    void *context;
};

/* Into the memory of the device, when its kernels cannot read the host's: before anything is
 * computed there. It must outlive the weights. */
enum gdn_status weights_place(struct weights *weights, struct device *device,
                              const struct weights_watch *watch, struct gdn_error *err);
void weights_unplace(struct weights *weights);

/* Tells of every tensor that a checkpoint of this config needs, by the release's name under
 * "model.", in the order of the layers. */
typedef void weights_wanted(void *context, const char *name, int rank, const int64_t *dim);
enum gdn_status weights_list(const struct config *config, weights_wanted *wanted, void *context,
                             struct gdn_error *err);

/* What one token reads of the weights: all of the projections, of the experts those it goes to. */
struct weights_visit {
    double bytes, products; /* multiply-adds */
};
struct weights_visit weights_visit(const struct weights *weights);

/* Makes rows of q8 or q4 (tensor/quant.h) of the large weights and lets go of the mapped pages,
 * some at a time, so that memory never holds both. What is q8 or q4 already must be what is asked
 * for. After a failure the weights can only be closed. */
enum gdn_status weights_quantise(struct weights *weights, enum dtype dtype, struct pool *pool,
                                 const struct weights_watch *watch, struct gdn_error *err);
/* Can weights_quantise do that; a sentence about the first that is stored as something else. */
enum gdn_status weights_quantisable(const struct weights *weights, enum dtype dtype,
                                    struct gdn_error *err);
/* What weights_quantise would make of a weight; its own type when it stays as it is. */
enum dtype weight_quantised(const struct weights *weights, const struct weight *weight,
                            enum dtype dtype);
/* Rows [begin, end) of a weight in a float type as rows of q8 or q4 one behind the other, in
 * parallel; `room` of the weight's width for each thread. A number that has no place in them is a
 * sentence. */
enum gdn_status weight_make_rows(const struct weight *weight, enum dtype dtype, int64_t begin,
                                 int64_t end, struct pool *pool, float *room, void *to,
                                 struct gdn_error *err);
/* DTYPE_Q4 or DTYPE_Q8 when any weight is (q4 before q8); DTYPE_COUNT: none is. */
enum dtype weights_quant(const struct weights *weights);

/* Into an existing folder (not from a device's memory), under the names that the files had, with
 * the values of now: unchanged weights give the same bytes. */
enum gdn_status weights_save(const struct weights *weights, const char *folder,
                             struct gdn_error *err);

/* What a tensor of the checkpoint is here; DTYPE_COUNT: nothing that a model computes with. */
enum dtype weight_dtype(enum st_dtype dtype);

/* A quantised tensor NAME stands in a file as NAME.q8 or NAME.q4: U8, the last axis the bytes of a
 * row. The tensor of either name; *dtype tells which it is. NULL: there is none. */
const struct shard_tensor *weights_find(const struct weights *weights, const char *name,
                                        enum dtype *dtype);

#endif
