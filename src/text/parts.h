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
};

/* Fills zeroed parts from the text of a tokenizer.json; what is there after a failure is the
 * caller's to release. `flags` as in tokenizer_open. */
enum gdn_status load_json(const char *json, size_t len, unsigned flags, struct tokenizer *tok,
                          struct gdn_error *err);

#endif
