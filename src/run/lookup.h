/* lookup.h: guessing the next tokens from where the last ones stood before. */
#ifndef RUN_LOOKUP_H
#define RUN_LOOKUP_H

#include <stdint.h>

/* Finds the longest end of tokens[0..n-1] (2 to 16 tokens) that also stands before it, of equally
 * long ones the latest, and writes what followed there: at most `most` tokens, and no more than
 * were alike. What follows may reach into the guess itself: a text that goes in circles is guessed
 * on. Returns how many. */
int32_t lookup_draft(const int32_t *tokens, int32_t n, int32_t most, int32_t *out);

#endif
