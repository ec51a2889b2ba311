/* family.h: what distinguishes the model families, as rows of data. */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H

#include <stdbool.h>

#include "tensor/call.h"

/* How a family writes its config.json (config_family.c) and names its tensors (weights_layer.c). */
enum dialect { DIALECT_QWEN, DIALECT_KIMI, DIALECT_OLMO };

struct family {
    const char *name;       /* for people */
    const char *text_type;  /* model_type of the text config */
    const char *outer_type; /* model_type of a nested config around it, or NULL */
    enum dialect dialect;
    double eps;       /* of norms, where the config says nothing */
    double gated_eps; /* of the norm behind delta; 0: that of the others */
    enum act gate;    /* of that norm's gate */
    enum score score; /* of the router */
    bool centred;     /* norm weights are stored as w of (1 + w) */
    bool late;        /* .. or w multiplies what has been rounded */
    bool channel_gate; /* one decay for each key channel, through a low rank */
    bool latent;      /* attention over one latent row a token (MLA) */
    bool gated;       /* attention's result is gated */
    bool wide_norm;   /* q and k are normed as whole rows, not head by head */
    bool behind;      /* attention layers norm what a part made, not what it reads */
    bool experts;     /* every layer may be a mixture of experts */
    bool renormalise; /* .. whose weights always sum up to one */
};

/* NULL when the type is not one of ours. */
const struct family *family_find(const char *model_type);
/* "qwen3_5_text, ..." for messages. */
const char *family_names(void);

#endif
