/* setup.h: the options every command has that opens a model, and opening it. */
#ifndef CLI_SETUP_H
#define CLI_SETUP_H

#include "cli/options.h"
#include "gdn/gdn.h"

struct setup {
    int device, compute, state, quant; /* words of their option; -1: not given */
    int cpumask; /* setup_without */
    bool exact, fast;
    bool fit; /* without --ctx the context is what fits into memory */
    const char *models; /* --models; NULL: not given */
    int64_t threads, context; /* 0: all cores, what the model was made for */
    int draft; /* enum gdn_draft */
    int64_t draft_depth; /* 0: what is good for the kind */
};
struct setup setup_defaults(void);

void setup_options(struct options *o, struct setup *s);
/* "--models" alone, for commands that compute nothing. */
void setup_models_option(struct options *o, struct setup *s);
/* "--ctx", for commands in which it is how many tokens a session may hold. */
void setup_context_option(struct options *o, struct setup *s);

/* "--draft" and "--draft-depth", for commands that answer. */
void setup_draft_options(struct options *o, struct setup *s);

/* Does the processor compute, so that its roofs are those of what runs. */
bool setup_on_host(const struct setup *s);

/* The instruction sets that --cpumask takes away, bits of enum gdn_isa. */
uint32_t setup_without(const struct setup *s);

enum gdn_status setup_open(const char *path, const struct setup *s, int sessions,
                           gdn_model **model, struct gdn_error *err);

/* Can a model of random weights be opened without files: the text of its config is all there is. */
bool setup_draws(const struct setup *s);
enum gdn_status setup_open_random(const char *config, size_t len, const struct setup *s,
                                  int sessions, gdn_model **model, struct gdn_error *err);

/* One line on standard error when a model needs most of the memory that is left, or has a shorter
 * context than it was made for, for the sake of it. */
void setup_say_memory(const char *command, const struct setup *s,
                      const struct gdn_model_info *info);

#endif
