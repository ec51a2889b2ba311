/* chat.h: a conversation into the prompt a ChatML model was trained on (the Qwen3.5 form).
 *
 *   <|im_start|> system \n ... <|im_end|> \n <|im_start|> user \n ... <|im_end|> \n
 *   <|im_start|> assistant \n <think> \n
 *
 * The markers become control tokens; what stands in a message never does, whatever it spells. */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "base/bytes.h"
#include "text/tokenizer.h"

enum { CHAT_MESSAGES_MAX = 4096 };

struct chat_message {
    const char *role; /* "system" (first only), "user" or "assistant" */
    const char *content;
    size_t content_len;
    /* Assistant only. NULL: taken from the content, the part before </think>, if there is one. */
    const char *reasoning;
    size_t reasoning_len;
};

struct chat_options {
    bool answer;         /* end with the head of an assistant turn, for the model to go on */
    bool think;          /* that head opens a <think> block; otherwise it holds an empty one */
    bool keep_reasoning; /* show the reasoning of assistant turns before the last question too */
};

/* A prompt in pieces: a control piece is the exact text of one marker, the pieces between hold
 * everything else. Start with {0}. */
struct chat_piece {
    size_t begin, end; /* in text */
    bool control;
};
struct chat_prompt {
    struct bytes text;
    struct chat_piece *pieces;
    size_t count, room;
};

/* Messages as in the checkpoint's template: content trimmed, a system message first if at all, at
 * least one user message that is not a tool response; errors name the message. `options` may be
 * NULL (all false). After a failure the prompt is empty. */
enum gdn_status chat_render(const struct chat_message *messages, size_t count,
                            const struct chat_options *options, struct chat_prompt *prompt,
                            struct gdn_error *err);
void chat_prompt_free(struct chat_prompt *prompt);

/* Renders and appends the ids. A tokenizer without the markers is refused. After a failure the
 * list is as it was. */
enum gdn_status chat_encode(const struct tokenizer *tok, const struct chat_message *messages,
                            size_t count, const struct chat_options *options, struct ids *ids,
                            struct gdn_error *err);

#endif
