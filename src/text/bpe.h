/* bpe.h: the merges of a byte-level BPE and their use on one word.
 *
 * The one idea: a word is a chain of tokens, each knowing the rank of the merge with its right
 * neighbour; the lowest rank (leftmost of equals) is merged until none is left. Short words are
 * scanned, long ones kept in a heap, so that a word of n bytes costs n log n. */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/ids.h"

struct bpe_merge {
    uint32_t left, right; /* token ids */
    uint32_t made;        /* what the two become */
    uint32_t rank1;       /* place in the file plus one; 0 marks an empty slot */
};

struct bpe {
    struct bpe_merge *slots; /* open addressing; a power of two of them */
    size_t mask;
    int32_t byte_id[256]; /* the token of each single byte */
};

/* Room for `merges` merges; false when memory does not suffice. byte_id is the caller's to fill. */
bool bpe_open(struct bpe *bpe, size_t merges);
void bpe_close(struct bpe *bpe);

enum bpe_added { BPE_ADDED, BPE_TWICE, BPE_CROWDED };
/* BPE_TWICE: the pair is there already; BPE_CROWDED: too many pairs fall together (see hash.h). */
enum bpe_added bpe_add(struct bpe *bpe, struct bpe_merge merge);

/* What a thread needs to encode: space for long words and a memory of recent short ones. */
struct bpe_node;
struct bpe_known;
struct bpe_work {
    struct bpe_node *nodes;
    uint64_t *heap;
    size_t room;
    struct bpe_known *known;
};

/* `remember`: worth a quarter megabyte, for texts of more than a few lines. */
bool bpe_work_open(struct bpe_work *work, bool remember);
void bpe_work_close(struct bpe_work *work);

/* Appends the ids of one word of at least one byte; false when memory does not suffice. */
bool bpe_encode(const struct bpe *bpe, struct bpe_work *work, const unsigned char *word,
                size_t len, struct ids *out);

#endif
