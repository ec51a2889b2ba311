#include "model/family.h"

#include <stddef.h>
#include <string.h>

static const struct family families[] = {
    {.name = "Qwen3.5 dense", .text_type = "qwen3_5_text", .outer_type = "qwen3_5",
     .dialect = DIALECT_QWEN, .eps = 1e-6, .centred = true, .gated = true},
    {.name = "Qwen3.5 MoE", .text_type = "qwen3_5_moe_text", .outer_type = "qwen3_5_moe",
     .dialect = DIALECT_QWEN, .eps = 1e-6, .centred = true, .gated = true, .experts = true,
     .renormalise = true},
    {.name = "Qwen3-Next", .text_type = "qwen3_next", .dialect = DIALECT_QWEN, .eps = 1e-6,
     .centred = true, .gated = true, .experts = true},
    {.name = "Kimi-Linear", .text_type = "kimi_linear", .dialect = DIALECT_KIMI, .eps = 1e-5,
     .gate = ACT_SIGMOID, .score = SCORE_SIGMOID, .late = true, .channel_gate = true,
     .latent = true, .experts = true},
    {.name = "OLMo-Hybrid", .text_type = "olmo_hybrid", .dialect = DIALECT_OLMO, .eps = 1e-6,
     .gated_eps = 1e-5, .wide_norm = true, .behind = true},
};

const struct family *family_find(const char *model_type)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].text_type, model_type) == 0 ||
            (families[i].outer_type && strcmp(families[i].outer_type, model_type) == 0))
            return &families[i];
    return NULL;
}

const char *family_names(void)
{
    return "qwen3_5, qwen3_5_moe, qwen3_next, kimi_linear or olmo_hybrid";
}
