/* answer.h: the answer behind what a session was fed, said token by token as it comes, until
 * something ends it. */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include "cli/choice.h"
#include "cli/speech.h"

enum answer_end {
    ANSWER_STOP,   /* an end token, or a stop string */
    ANSWER_LENGTH, /* as many tokens as were asked for */
    ANSWER_FULL,   /* the context is full */
    ANSWER_INTERRUPTED
};

struct answer {
    const gdn_model *model;
    gdn_session *session;
    const struct chosen *chosen;
    struct speech *speech; /* begun */
    int64_t most;          /* tokens; 0: what the context leaves */
    int32_t context;
    int32_t top; /* of each token the log probabilities of so many others too; -1: none at all */
    /* What came of it: */
    enum answer_end end;
    int32_t said;          /* the last token said, while it is not fed; -1: none */
    double first, last;    /* clock_seconds when the first one was said, and at the end */
    struct bytes logprobs; /* JSON objects, one for each token; freed by the caller */
};

/* What is said stands in the session, but for `said`; what was guessed behind a stop string does
 * not. Ends when interrupt_noted, or when nobody reads any more. */
enum gdn_status answer_take(struct answer *answer, struct gdn_error *err);

#endif
