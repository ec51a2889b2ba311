/* talk.h: a conversation as chat templates take it: messages, each the text of a JSON object. Its
 * file is the JSON list of them, which other programs read too. */
#ifndef CLI_TALK_H
#define CLI_TALK_H

#include "base/bytes.h"
#include "base/status.h"

enum { TALK_MESSAGES = 4000, TALK_BYTES = 64 << 20 };

struct talk_message {
    char *json;
    bool system, question; /* its role is "system", "user" */
};
struct talk {
    struct talk_message *message; /* NULL while there are none */
    int count;
};

/* `thoughts` may be empty. GDN_ERR_MEMORY, or GDN_ERR_USAGE when there are too many. */
enum gdn_status talk_add(struct talk *talk, const char *role, const char *text,
                         const char *thoughts, struct gdn_error *err);
/* The system message becomes this; empty: there is none any more. */
enum gdn_status talk_set_system(struct talk *talk, const char *text, struct gdn_error *err);
/* Takes back the last n questions with all behind them; how many there were, at most. */
int talk_take_back(struct talk *talk, int n);
int talk_questions(const struct talk *talk);

/* The list as JSON; a failure of memory shows in out->failed. */
void talk_print(const struct talk *talk, struct bytes *out);
/* Reads such a list into an empty talk; `name` stands in messages. After a failure it is empty. */
enum gdn_status talk_parse(struct talk *talk, const char *text, size_t len, const char *name,
                           struct gdn_error *err);
enum gdn_status talk_copy(struct talk *to, const struct talk *from, struct gdn_error *err);
void talk_free(struct talk *talk);

#endif
