/* config.h: config.json and generation_config.json, checked, as numbers.
 *
 * Every size is within limits and consistent with the others when config_open returns: the rest of
 * the model multiplies them without fear. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "base/status.h"
#include "model/family.h"
#include "state/state.h"

enum { CONFIG_LAYERS = 1024, CONFIG_EOS = 16 };

struct config {
    const struct family *family;
    int32_t vocab, D, F, layers; /* D model width, F width of a dense ffn; 0: there is none */
    int32_t Hq, Hkv, head_dim, rot; /* rot 0: attention knows no positions */
    int32_t nope, shared_key, latent, value_dim; /* families with latent attention */
    int32_t Hk, Hv, Dk, Dv, taps;
    int32_t rank;    /* between the two halves of a decay for each channel */
    int32_t experts; /* 0: none */
    int32_t experts_used, expert_width, shared_width, groups, groups_used;
    bool renormalise;
    double route_scale;
    int32_t context; /* max_position_embeddings */
    double eps, theta, beta_scale;
    bool tied;
    enum layer_kind kind[CONFIG_LAYERS];
    bool sparse[CONFIG_LAYERS]; /* its ffn is a mixture of experts */
    int32_t mtp_layers; /* as configured; 0 when not mentioned */
    int32_t eos[CONFIG_EOS];
    int32_t eos_count; /* of config.json and generation_config.json together */
    bool sampling;     /* generation_config.json recommends what follows */
    double temperature, top_p;
    int32_t top_k;
};

/* `folder` holds config.json and, perhaps, generation_config.json. */
enum gdn_status config_open(struct config *config, const char *folder, struct gdn_error *err);

/* The text of a config.json; `name` is for messages. */
enum gdn_status config_parse(struct config *config, const char *json, size_t len, const char *name,
                             struct gdn_error *err);
/* Adds what a generation_config.json says. */
enum gdn_status config_parse_generation(struct config *config, const char *json, size_t len,
                                        const char *name, struct gdn_error *err);

/* The shape of what one layer remembers. */
struct layer_shape config_layer_shape(const struct config *config, int32_t layer);

#endif
