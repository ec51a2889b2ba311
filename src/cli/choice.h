/* choice.h: the options by which commands that answer choose a token. */
#ifndef CLI_CHOICE_H
#define CLI_CHOICE_H

#include "cli/options.h"
#include "gdn/gdn.h"

struct choice {
    int64_t top_k, seed; /* these and those below: -1 when not given */
    double temperature, top_p, min_p;
};
struct choice choice_defaults(void);
void choice_options(struct options *o, struct choice *c);
/* What was not given is what the model's makers recommend; a seed is drawn. */
struct gdn_sampling choice_sampling(const struct choice *c, const struct gdn_model_info *info);

#endif
