#include "model/family.h"

#include <stddef.h>
#include <string.h>

static const struct family families[] = {
    {.name = "Qwen3.5 dense", .text_type = "qwen3_5_text", .outer_type = "qwen3_5",
     .centred = true, .beta_scale = 1.0},
};

const struct family *family_find(const char *model_type)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].text_type, model_type) == 0 ||
            (families[i].outer_type && strcmp(families[i].outer_type, model_type) == 0))
            return &families[i];
    return NULL;
}

const char *family_names(void) { return "qwen3_5 and qwen3_5_text"; }
