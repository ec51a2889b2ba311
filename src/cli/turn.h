/* turn.h: one answer in a conversation: the whole of it is given to the session, which computes
 * what is new, and the answer comes out token by token. */
#ifndef CLI_TURN_H
#define CLI_TURN_H

#include "cli/answer.h"
#include "cli/figures.h"

struct turn {
    /* What stays from turn to turn. */
    gdn_model *model;
    gdn_session *session;
    struct gdn_model_info info;
    struct chosen chosen;
    int64_t most; /* tokens of an answer; 0: what the context leaves */
    enum gdn_think think;
    bool keep_thinking, show_thinking, drafts; /* drafts: of whatever kind */
    /* What came of the last one. */
    struct speech speech; /* .answer and .thoughts are kept */
    struct gdn_synced synced;
    int32_t prompt;       /* tokens of the conversation, with the head of the answer */
    bool stopped;         /* by Ctrl-C: before the answer, if there is none */
    struct figures figures;
};

/* `messages`: JSON, as gdn_chat_json takes it. A signal that interrupt_noted tells of stops it; the
 * session keeps what it has read. After a failure the session may be given other messages. */
enum gdn_status turn_take(struct turn *turn, const char *messages, size_t len,
                          struct gdn_error *err);
/* The session becomes what stands in front of the next question, whatever that is: what two lists
 * of messages, which differ in their last question only, have in common. A template may write a
 * turn in another way once it is no more the last. */
enum gdn_status turn_settle(struct turn *turn, const struct bytes *one, const struct bytes *other,
                            struct gdn_error *err);
/* Why not more of the conversation was reused. */
const char *turn_limit(const struct turn *turn);
void turn_free(struct turn *turn);

#endif
