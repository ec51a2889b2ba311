/* speech.h: an answer on its way out: its text as it comes, with the thoughts on standard error;
 * or its ids; or kept for one JSON object at the end. */
#ifndef CLI_SPEECH_H
#define CLI_SPEECH_H

#include "base/bytes.h"
#include "gdn/gdn.h"

enum speech_form { SPEECH_TEXT, SPEECH_IDS, SPEECH_JSON };

struct speech {
    enum speech_form form;
    bool show_thinking; /* thoughts go where the answer goes, between their marks */
    bool keep;          /* of SPEECH_TEXT too: both parts are kept */
    const char *const *stop; /* strings that the answer ends before */
    size_t stop_count;
    bool dim;           /* thoughts are dimmed */
    gdn_reply *reply;   /* NULL: there is no tokenizer, or only ids are wanted */
    bool thinking;      /* the last word was a thought */
    int64_t count;      /* tokens so far */
    struct bytes ids, thoughts, answer; /* kept; ids for JSON, with commas between */
};

/* `before`: what the model was fed in front of the answer (gdn_reply_new). `text`: the ids can
 * become a text. */
enum gdn_status speech_begin(struct speech *speech, const gdn_model *model, bool text,
                             const int32_t *before, size_t count, struct gdn_error *err);
void speech_token(struct speech *speech, int32_t id);
/* One of the stop strings has come up: of it and what is behind nothing is said. */
bool speech_stopped(const struct speech *speech);
/* No token comes any more: the last words, and a line end. False: they were thoughts. */
bool speech_end(struct speech *speech);
void speech_free(struct speech *speech);

#endif
