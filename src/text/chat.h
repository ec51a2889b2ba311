/* chat.h: conversations into prompts, by the chat template the checkpoint brings.
 *
 *   messages ─ jinja ─> text with the origin of each byte ─ control tokens, and text between ─> ids
 *
 * A control token is one whose whole text the template wrote. What came with the messages never
 * becomes one, whatever it spells, alone or together with what stands around it. */
#ifndef TEXT_CHAT_H
#define TEXT_CHAT_H

#include "text/jinja.h"
#include "text/tokenizer.h"

struct chat; /* immutable, shared by threads */

/* The template of a model's folder: chat_template.jinja, or "chat_template" in
 * tokenizer_config.json (of a list the one named "default"); with neither, a built-in ChatML of the
 * Qwen3.5 form without tools. A file that is broken costs only those calls that need it: they
 * return its error. Fails for want of memory only; *chat is then NULL. */
enum gdn_status chat_open(const char *folder, struct chat **chat, struct gdn_error *err);
/* The same from the text of a template. */
enum gdn_status chat_parse(const char *name, const char *source, size_t len, struct chat **chat,
                           struct gdn_error *err);
void chat_close(struct chat *chat);

/* The template knows <think>: where these are no tokens, the model spells them (think.h). */
bool chat_spells_thoughts(const struct chat *chat);

enum chat_think { CHAT_THINK_DEFAULT, CHAT_THINK_ON, CHAT_THINK_OFF };

/* All texts are JSON. Those but the messages may be NULL. */
struct chat_request {
    const char *messages; /* a list of objects: role, content, reasoning_content, tool_calls ... */
    size_t messages_len;
    const char *tools;     /* a list */
    const char *variables; /* an object: further variables of the template */
    bool answer;           /* end with the head of an assistant turn, for the model to go on */
    enum chat_think think; /* enable_thinking; by default the template decides */
    bool keep_thinking;    /* preserve_thinking: thoughts before the last question too */
    bool control;          /* messages may spell control tokens */
    bool behind;           /* the messages come behind an answer that is told already, and has not
                              been ended: only what the template writes from there on (not with
                              chat_render) */
};

/* Errors of the template and of the JSON are GDN_ERR_INPUT and have the place. */
enum gdn_status chat_render(const struct chat *chat, const struct chat_request *request,
                            struct jinja_output *out, struct gdn_error *err);
/* Renders and appends the ids; after a failure the list is as it was. */
enum gdn_status chat_encode(const struct chat *chat, const struct tokenizer *tok,
                            const struct chat_request *request, struct ids *ids,
                            struct gdn_error *err);

#endif
