/* input.h: what commands are given to read: texts, and files of token ids. "-" is stdin. */
#ifndef CLI_INPUT_H
#define CLI_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "gdn/gdn.h"

/* All of a file in mem_take memory with a zero byte behind it; the caller gives it back. */
enum gdn_status input_read(const char *path, size_t limit, char **text, size_t *len,
                           struct gdn_error *err);

/* Token ids separated by white space or commas. The text is kept for messages that name a place. */
struct id_file {
    const char *path;
    char *text;
    size_t len;
    int32_t *ids;
    size_t count;
};
/* Refuses a file without ids. After a failure there is nothing to close. */
enum gdn_status id_file_open(struct id_file *file, const char *path, struct gdn_error *err);
/* Names the first id that is not a row of this vocabulary. */
enum gdn_status id_file_check(const struct id_file *file, int32_t vocab, struct gdn_error *err);
void id_file_close(struct id_file *file);

/* The tokens of a text, in mem_take memory. `chat`: as the one question of a user, after the text
 * `system` (or NULL), with the head of the answer. Otherwise
 * the text as it is; `control`: in which control tokens may be spelled. */
struct prompt {
    const char *text;
    size_t len;
    bool chat, control;
    bool behind; /* a chat goes on: what ends the answer before it comes first */
    enum gdn_think think;
    const char *system;
};
enum gdn_status prompt_tokens(const gdn_model *model, const struct prompt *prompt, int32_t **ids,
                              size_t *count, struct gdn_error *err);

#endif
