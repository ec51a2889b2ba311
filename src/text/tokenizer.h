/* tokenizer.h: text into token ids, exactly as the checkpoint's files say.
 *
 *   text ─ U+FFFD for bad bytes ─ control tokens out ─ NFC ─ split by pattern ─ BPE ─> ids
 *
 * A tokenizer is made once, never changes after that and is shared by all threads. What it reads
 * is byte-level BPE (the Qwen, OLMo and GPT-2 kind); anything else in the file is refused by
 * name. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "text/ids.h"

enum {
    TOKENIZER_FILE_MAX = 64 << 20,
    TOKENIZER_VOCAB_MAX = 2000000,
    TOKENIZER_MERGES_MAX = 4000000,
    TOKENIZER_TOKEN_MAX = 1024,   /* bytes of one token */
    TOKENIZER_TEXT_MAX = 1 << 30  /* bytes of one encode */
};

struct tokenizer;

/* Flags of tokenizer_open. */
enum {
    /* Take a pre-tokenizer pattern that is not one of the known ones; it then runs with a limit on
     * its steps and its memory (see split.h). */
    TOKENIZER_ANY_PATTERN = 1
};

/* `path` is a tokenizer.json, or a folder with one; or with vocab.json and merges.txt, or with
 * tiktoken.model, each beside its tokenizer_config.json. *tok is NULL after a failure. */
enum gdn_status tokenizer_open(const char *path, unsigned flags, struct tokenizer **tok,
                               struct gdn_error *err);
/* Has the folder one of these? */
bool tokenizer_is_in(const char *folder);
/* The same from the text of a tokenizer.json, which is not kept. */
enum gdn_status tokenizer_parse(const char *json, size_t len, unsigned flags,
                                struct tokenizer **tok, struct gdn_error *err);
void tokenizer_close(struct tokenizer *tok);

/* Ids are 0 .. count - 1, added tokens included. A model may have more rows than this. */
int32_t tokenizer_count(const struct tokenizer *tok);
/* What an id stands for: raw bytes, not always whole code points, not zero-ended; they live as
 * long as the tokenizer. NULL and length 0 for an id outside the vocabulary. */
const char *tokenizer_bytes(const struct tokenizer *tok, int32_t id, size_t *len);
/* The id of an added token by its exact text, or -1. */
int32_t tokenizer_find_added(const struct tokenizer *tok, const char *text, size_t len);
/* The first added token in [*begin, len) of a text, the longest that begins there: its id, its
 * place in [*begin, *end); -1 when there is none. */
int32_t tokenizer_search_added(const struct tokenizer *tok, const char *text, size_t len,
                               size_t *begin, size_t *end);
/* Added to the vocabulary beside BPE: markers such as <|im_start|> and <think>. */
bool tokenizer_is_added(const struct tokenizer *tok, int32_t id);
/* Added and marked special: those that "skip special tokens" leaves out (<think> is not one). */
bool tokenizer_is_special(const struct tokenizer *tok, int32_t id);

enum tokenizer_control {
    /* The text of an added token is split like any other text: what users write. */
    TOKENIZER_PLAIN,
    /* It becomes the token: text that the program or the operator wrote. */
    TOKENIZER_WITH_CONTROL
};

/* Appends the ids of `text` (any bytes: ill-formed UTF-8 becomes U+FFFD, one for each maximal bad
 * part). After a failure the list is as it was. Cost is linear but for a logarithm in the length
 * of the longest word. Adds nothing of its own: no BOS, no prefix space. */
enum gdn_status tokenizer_encode(const struct tokenizer *tok, const char *text, size_t len,
                                 enum tokenizer_control control, struct ids *ids,
                                 struct gdn_error *err);

#endif
