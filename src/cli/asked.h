/* asked.h: the options that all commands have which answer: what is asked, how it is answered. */
#ifndef CLI_ASKED_H
#define CLI_ASKED_H

#include "cli/choice.h"
#include "cli/setup.h"

struct asked {
    const char *system;
    bool think, no_think, show_thinking, stats;
    int64_t most; /* tokens of an answer */
    struct choice choice;
    struct setup setup;
};
struct asked asked_defaults(void);

/* "--system", "--think", "--no-think": below a group of the command's own. */
void asked_question_options(struct options *o, struct asked *a);
/* "-n" from `least` on, "--show-thinking", how answers end. */
void asked_answer_options(struct options *o, struct asked *a, int64_t least, const char *most);
/* The groups behind those. */
void asked_engine_options(struct options *o, struct asked *a);

/* GDN_ERR_USAGE when both flags were given. */
enum gdn_status asked_think(const struct asked *a, enum gdn_think *think, struct gdn_error *err);

#endif
