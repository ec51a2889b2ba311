/* added.h: finding added tokens in a text: the leftmost, and of those the longest. The tokens are
 * sorted, so that each further byte narrows the range of those still possible. */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct added_token {
    uint32_t at, len; /* in `text` */
    int32_t id;
};

struct added {
    struct bytes text;
    struct added_token *tokens;
    size_t count, room;
    bool begins[256]; /* some token begins with this byte */
};

/* Start with {0}; false when memory does not suffice. `len` is at least 1. */
bool added_add(struct added *added, const char *text, size_t len, int32_t id);
/* Sorts; to be called once, before the first search. Returns the id of a token that is there
 * twice, or -1. */
int32_t added_seal(struct added *added);
void added_close(struct added *added);

/* The first match in [*begin, len): its id, its place in [*begin, *end); -1 and *begin == len
 * when there is none. */
int32_t added_search(const struct added *added, const char *text, size_t len, size_t *begin,
                     size_t *end);
/* The token that is exactly this text, or -1. */
int32_t added_exact(const struct added *added, const char *text, size_t len);

#endif
