/* load.h: walking through a tokenizer.json, for the files that read one. */
#ifndef TEXT_LOAD_H
#define TEXT_LOAD_H

#include "base/json.h"
#include "text/parts.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

/* An added token as the file has it. */
struct load_added {
    size_t at; /* in loader.added_text */
    uint32_t len;
    int32_t id;
    bool special, normalized;
};

/* A token is written with at most two bytes of text for each of its own. */
enum { WRITTEN_MAX = 2 * TOKENIZER_TOKEN_MAX };

/* The text of a token as the file writes it, as bytes: through the alphabet if it can be. */
struct written {
    char text[WRITTEN_MAX];
    size_t len;
    bool raw;
};

/* Merges that are read and not yet looked up. */
enum { MERGE_GROUP = 32 };
struct merge_part {
    size_t at, len;           /* in the group's text: its bytes */
    size_t file_at, file_len; /* the same as the file writes it */
    uint32_t hash;
    bool raw;
};
struct merge_group {
    struct merge_text {
        struct merge_part part[2];
        const char *place; /* of the JSON reader */
        size_t line;
    } merge[MERGE_GROUP];
    size_t count;
    struct bytes text;
};

struct loader {
    struct json json;
    struct gdn_error *err;
    unsigned flags;
    struct tokenizer *tok;
    struct alphabet alphabet;
    struct vocab vocab;
    struct bpe_merge *merges;
    size_t merge_count, merge_room, merge_hint;
    struct merge_group group;
    size_t line; /* of a text of lines; 0: the JSON tells the place */
    struct bytes added_text;
    struct load_added *added;
    size_t added_count, added_room;
};

/* The next token; a syntax error becomes a status. */
enum gdn_status load_next(struct loader *l, struct json_token *token);
/* The next token, which must begin a value of this kind: `what` names it in the message. */
enum gdn_status load_expect(struct loader *l, enum json_kind kind, const char *what,
                            struct json_token *token);
/* Inside an object: the next key and true, or false behind its end. */
enum gdn_status load_key(struct loader *l, struct json_token *key, bool *more);
/* Inside an array: the first token of the next value and true, or false behind its end. */
enum gdn_status load_item(struct loader *l, struct json_token *token, bool *more);
enum gdn_status load_skip(struct loader *l, const struct json_token *token);
enum gdn_status load_bool(struct loader *l, const char *what, bool *value);
/* Short text such as the name of a type: too long a one is cut, which makes it unknown. */
enum gdn_status load_word(struct loader *l, const char *what, char *out, size_t room);
/* A value that is null or an object; out gets the object's "type", or "" for null. */
enum gdn_status load_type(struct loader *l, const char *what, char *out, size_t room);
/* GDN_ERR_INPUT with the place in the file. */
enum gdn_status load_bad(struct loader *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* GDN_ERR_UNSUPPORTED: the file says `found` for `what`. */
enum gdn_status load_unsupported(struct loader *l, const char *what, const char *found,
                                 const char *need);

/* The values of these keys. */
enum gdn_status load_normalizer(struct loader *l);
enum gdn_status load_pre_tokenizer(struct loader *l);
enum gdn_status load_added_tokens(struct loader *l);
enum gdn_status load_model(struct loader *l);

/* Parts of a model: the value of "vocab", "a b" of a merge, one token for each byte, a merge that
 * is known, and all merges once they are read. */
enum gdn_status load_vocab(struct loader *l);
enum gdn_status load_merges(struct loader *l);
enum gdn_status load_merge(struct loader *l, const char *text, size_t len);
enum gdn_status load_bytes(struct loader *l);
enum gdn_status load_add_merge(struct loader *l, uint32_t left, uint32_t right,
                               struct vocab_entry *made, uint32_t rank1);
enum gdn_status load_settle_merges(struct loader *l);
/* GDN_ERR_INPUT for a token that is empty or too long. */
enum gdn_status load_written(struct loader *l, const char *text, size_t len, struct written *out);
/* The text of a key or string: where it stands, or unescaped into `room` of WRITTEN_MAX + 1. */
enum gdn_status load_token_text(struct loader *l, const struct json_token *token, char *room,
                                const char **text, size_t *len);
/* An added token: the rest of its object behind the { (`id` -1: it tells its id), or one of this
 * text, which replaces none that is there. */
enum gdn_status load_added_token(struct loader *l, int32_t id);
enum gdn_status load_added_text(struct loader *l, const char *text, size_t len, int32_t id,
                                bool special);
/* The texts of tokenizer_config.json and added_tokens.json (at == NULL: there is none). */
enum gdn_status load_config(struct loader *l, struct load_text config, struct load_text added);
/* The end of every reader: puts the parts in place (if all went well) and frees the loader. */
enum gdn_status load_end(struct loader *l, enum gdn_status status);

/* Once all is read: gives the added tokens their place in the vocabulary and in the searches. */
enum gdn_status load_settle_added(struct loader *l);

/* Room for one more in a growing array of the loader; NULL when memory does not suffice. */
void *load_grow(void *array, size_t count, size_t *room, size_t size);
enum gdn_status load_no_memory(struct loader *l);

#endif
