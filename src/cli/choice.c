#include "cli/choice.h"

#include <sys/random.h>

struct choice choice_defaults(void)
{
    return (struct choice){.top_k = -1, .seed = -1, .temperature = -1, .top_p = -1, .min_p = -1};
}

void choice_options(struct options *o, struct choice *c)
{
    options_group(o, "Choosing a token (defaults: what the model's makers recommend)");
    options_real(o, "--temp", &c->temperature, 0, 100, "0 if none",
                 "temperature; 0: the most likely token");
    options_integer(o, "--top-k", &c->top_k, 0, 256, NULL, "of the N most likely; 0: of 256");
    options_real(o, "--top-p", &c->top_p, 0, 1, NULL, "of those that make up this share; 0: off");
    options_real(o, "--min-p", &c->min_p, 0, 1, "0, off",
                 "of those at least this likely, relative to the best");
    options_integer(o, "--seed", &c->seed, 0, INT64_MAX, "drawn", "same seed, same answer");
}

struct gdn_sampling choice_sampling(const struct choice *c, const struct gdn_model_info *info)
{
    struct gdn_sampling how = gdn_sampling_default();
    if (info->recommends) {
        how.temperature = info->temperature;
        how.top_k = info->top_k;
        how.top_p = info->top_p;
    }
    if (c->temperature >= 0) how.temperature = c->temperature;
    if (c->top_k >= 0) how.top_k = (int32_t)c->top_k;
    if (c->top_p >= 0) how.top_p = c->top_p;
    if (c->min_p >= 0) how.min_p = c->min_p;
    /* A small number can be typed again. */
    uint32_t drawn = 0;
    if (c->seed < 0 && getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) < 0) drawn = 0;
    how.seed = c->seed < 0 ? drawn : (uint64_t)c->seed;
    return how;
}
