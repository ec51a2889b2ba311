/* choice.h: the options by which commands that answer choose tokens and end the answer, and what
 * comes of them for one model. */
#ifndef CLI_CHOICE_H
#define CLI_CHOICE_H

#include "cli/options.h"
#include "gdn/gdn.h"

struct choice {
    int64_t top_k, seed; /* these and the three below: -1 when not given */
    double temperature, top_p, min_p;
    double repetition, presence, frequency;
    int64_t window;
    struct option_list bias, stop, stop_token; /* as they were typed */
};
struct choice choice_defaults(void);
void choice_options(struct options *o, struct choice *c);
/* "--stop" and "--stop-token". */
void choice_stop_options(struct options *o, struct choice *c);

struct chosen {
    struct gdn_sampling sampling;
    struct gdn_bias bias[OPTION_ITEMS];
    int32_t stop[OPTION_ITEMS + 16]; /* end tokens, the model's among them */
    size_t stop_count;
    const char *string[OPTION_ITEMS]; /* --stop, its escapes resolved */
    size_t string_count;
    struct bytes text; /* that they point into */
};
/* What was not given is what the model's makers recommend; a seed is drawn. Tokens may be spelled
 * where the model has a tokenizer. `chosen` stays where it is, and is given to chosen_free after a
 * failure too. */
enum gdn_status choice_make(const struct choice *c, const gdn_model *model,
                            const struct gdn_model_info *info, struct chosen *chosen,
                            struct gdn_error *err);
void chosen_free(struct chosen *chosen);
/* The answer ends with this token. */
bool chosen_ends(const struct chosen *chosen, int32_t id);

#endif
