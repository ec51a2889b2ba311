/* weights.h: from the tensors of a checkpoint to one struct per layer kind.
 *
 * Names, prefixes, packed or separate projections, tied heads: all of that ends here. Large weights
 * are used where the file is mapped; small ones (norms, convolution, gates) become f32 copies. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "formats/shards.h"
#include "model/config.h"
#include "ops/front.h"

struct layer {
    enum layer_kind kind;
    struct norm_weight norm1, norm2; /* before the mixer, before the ffn */
    struct linear in, out;           /* packed projections of the mixer, and back to D */
    struct delta_weight delta;       /* kind LAYER_DELTA */
    struct attn_weight attn;         /* kind LAYER_ATTN */
    struct linear gate_up, down;
};

/* One tensor of the checkpoint in use: what it is called there, and where its values are now. */
struct weight {
    char *name;
    struct tensor tensor;
    const struct shard_tensor *origin;
    void *copy; /* values that are not the mapped ones (small: as f32), ours; or NULL */
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
    const char *prefix;    /* of the body, as found */
    int32_t mtp, vision;   /* tensors recognised and left alone */
    int64_t parameters;    /* values in use */
    int64_t file_bytes;    /* of all tensors in the files */
    int64_t copied_bytes;
};

/* `path`: a model folder or a .safetensors file. Everything the config asks for must be there in
 * the right shape, and nothing unknown beside it. */
enum gdn_status weights_open(struct weights *weights, const struct config *config, const char *path,
                             struct gdn_error *err);
void weights_close(struct weights *weights);

#endif
