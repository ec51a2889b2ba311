/* family.h: what distinguishes the model families, as rows of data. */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H

#include <stdbool.h>

struct family {
    const char *name;      /* for people */
    const char *text_type; /* model_type of the text config */
    const char *outer_type; /* model_type of a nested config around it, or NULL */
    bool centred;          /* norm weights are stored as w of (1 + w) */
    double beta_scale;     /* 2 where negative eigenvalues are allowed */
};

/* NULL when the type is not one of ours. */
const struct family *family_find(const char *model_type);
/* "qwen3_5_text, ..." for messages. */
const char *family_names(void);

#endif
