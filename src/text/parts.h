/* parts.h: what a tokenizer is made of. Only for the files of this folder: a reader of some file
 * format fills the parts, tokenizer.c uses them and never learns which reader it was. */
#ifndef TEXT_PARTS_H
#define TEXT_PARTS_H

#include "base/bytes.h"
#include "base/status.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/split.h"

enum { TOKEN_ADDED = 1, TOKEN_SPECIAL = 2 };

struct token {
    uint32_t at; /* in tokenizer.text */
    uint16_t len;
    uint8_t flags;
};

struct tokenizer {
    struct bytes text;    /* the bytes of all tokens */
    struct token *tokens; /* by id */
    size_t count;
    struct bpe bpe;
    struct split *split;
    bool nfc;
    /* The added tokens: sought in the text as it is, sought in its normal form, and all of them. */
    struct added raw, normal, all;
    /* Words that are a token although no merges lead there (tiktoken takes whole words first). */
    struct added words;
};

/* These fill zeroed parts: from vocab.json, merges.txt, tokenizer_config.json and added_tokens.json
 * (at == NULL: there is none); from tiktoken.model
 * and tokenizer_config.json; from tokenizer.json. What is there after a failure is the caller's to
 * release. `flags` as in tokenizer_open. */
struct load_text {
    const char *at;
    size_t len;
};
enum gdn_status load_pair(struct load_text vocab, struct load_text merges, struct load_text config,
                          struct load_text added, unsigned flags, struct tokenizer *tok,
                          struct gdn_error *err);
enum gdn_status load_tiktoken(struct load_text ranks, struct load_text config, unsigned flags,
                              struct tokenizer *tok, struct gdn_error *err);
enum gdn_status load_json(const char *json, size_t len, unsigned flags, struct tokenizer *tok,
                          struct gdn_error *err);

#endif
