/* prefix.h: how much of a list of tokens need not be computed, and where its computing stops to
 * keep a state for the next list.
 *
 *     kept       |----- agrees -----|-- differs --|      a state at its end, a log of 1..16
 *     list       |----- agrees -----|---- to be computed ----|
 *
 * A state serves a list up to where the two agree, if its log reaches back to there: it is restored
 * and rewound. So one state serves every position of its block of 16, and of several stops in a
 * block only the last is made. */
#ifndef STATE_PREFIX_H
#define STATE_PREFIX_H

#include "state/store.h"

/* How many of two lists' first tokens are the same. */
int32_t prefix_agreed(const int32_t *a, int32_t a_len, const int32_t *b, int32_t b_len);

/* Where in a list of n tokens a state can stand that was taken at `position`, can be rewound by
 * `length` and agrees with the list so far; 0: nowhere. All n tokens only when it stands there and
 * is `ready`, with the distribution behind the last token: otherwise that token runs again. */
int32_t prefix_reach(int32_t position, int32_t length, int32_t agreed, int32_t n, bool ready);

struct prefix_found {
    int32_t entry;    /* -1: none is of use */
    int32_t position; /* where it can stand; 0 without an entry */
    int32_t agreed;   /* tokens of the list that agree with any entry, whether it reaches or not */
};
/* Entries with something `extra` are ready. */
struct prefix_found prefix_find(const struct store *store, const int32_t *tokens, int32_t n);

/* The next stop behind `from` on the way to n > from. mark [n + 1]: PREFIX_NONE, or why the state
 * at this many tokens is wanted. Without marks there are stops by distance, and one at n. */
enum { PREFIX_NONE = 0, PREFIX_THINKING, PREFIX_MESSAGE };
struct prefix_stop {
    int32_t position;
    enum store_kind kind;
};
struct prefix_stop prefix_next(const unsigned char *mark, int32_t from, int32_t n);

#endif
