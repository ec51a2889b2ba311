/* vocab.h: the table a tokenizer file is read into: texts with their ids in the order of the file,
 * and a way back from text to id. It lives only while a file is read. */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "text/parts.h"

enum { VOCAB_HEAD = 12 };
struct vocab_entry {
    uint32_t at, hash;
    int32_t id;
    uint16_t len;
    uint8_t flags; /* TOKEN_* */
    bool raw;      /* the text stands for itself: it is not written in the alphabet of bytes */
    bool merged;   /* some merge makes it */
    char head[VOCAB_HEAD]; /* the begin of the text, where the cache has it already */
};

/* The hash stands here too, so that passing over a slot touches nothing else. */
struct vocab_slot {
    uint32_t hash, entry; /* entry + 1, 0 for none */
};

struct vocab {
    struct bytes text;
    struct vocab_entry *entries;
    size_t count, room;
    size_t expected; /* a guess that saves growing: the caller's, before the first vocab_add */
    struct vocab_slot *slots;
    size_t mask;
};

enum vocab_added { VOCAB_ADDED, VOCAB_TWICE, VOCAB_CROWDED, VOCAB_NO_MEMORY };

/* Start with {0}. `text` is what the token stands for; with `raw` see above. */
enum vocab_added vocab_add(struct vocab *vocab, const char *text, size_t len, bool raw, int32_t id);
/* NULL when it is not there; good until the next vocab_add. */
struct vocab_entry *vocab_find(const struct vocab *vocab, const char *text, size_t len, bool raw);
/* The same of one that is not raw in three steps, for many at once: what the later ones read is on
 * its way into the cache by then. */
uint32_t vocab_hash(const char *text, size_t len);
void vocab_fetch_slot(const struct vocab *vocab, uint32_t hash);
void vocab_fetch_entry(const struct vocab *vocab, uint32_t hash);
struct vocab_entry *vocab_find_hashed(const struct vocab *vocab, uint32_t hash, const char *text,
                                      size_t len);
/* One that is not raw; *hint is where it may well be, and gets the place behind where it was:
 * merges mostly stand in the order of the tokens they make. */
struct vocab_entry *vocab_find_near(const struct vocab *vocab, size_t *hint, const char *text,
                                    size_t len);
void vocab_close(struct vocab *vocab);

/* The alphabet of byte-level BPE: each byte is written as a printable code point below U+0144. */
enum { ALPHABET_END = 0x144 };
struct alphabet {
    int16_t byte_of[ALPHABET_END]; /* -1: not a letter of the alphabet */
};
void alphabet_open(struct alphabet *alphabet);
/* The bytes that `text` writes, into out (room for `len`); false when it has other letters. */
bool alphabet_read(const struct alphabet *alphabet, const char *text, size_t len, char *out,
                   size_t *out_len);

#endif
