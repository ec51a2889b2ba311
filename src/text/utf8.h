/* utf8.h: where code points begin and end, and what to do with bytes that are none. */
#ifndef TEXT_UTF8_H
#define TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum utf8_kind {
    UTF8_GOOD, /* a well-formed code point */
    UTF8_BAD,  /* a maximal ill-formed part: one U+FFFD stands for it (Unicode 3.9, table 3-8) */
    UTF8_CUT   /* all bytes there are begin a well-formed code point that is not complete */
};

/* What stands at the head of `len` >= 1 bytes; *n gets its length. */
enum utf8_kind utf8_head(const unsigned char *at, size_t len, size_t *n);

/* Length of the well-formed text at the head of `text`. */
size_t utf8_good_len(const char *text, size_t len);
/* The code point at the head of well-formed text; *n gets its length. */
uint32_t utf8_read(const unsigned char *at, size_t *n);
/* Appends `text` with U+FFFD for what is not UTF-8. */
void utf8_add_repaired(struct bytes *out, const char *text, size_t len);

/* The bytes of a code point (no surrogate, at most U+10FFFF) into out; returns how many. */
size_t utf8_put(char out[4], uint32_t c);

/* White space as Python's str.strip sees it, which is what chat templates were tried with. */
bool utf8_is_space(uint32_t c);
/* Bytes of white space at the head of well-formed text, and the length without those at its end. */
size_t utf8_space_head(const char *text, size_t len);
size_t utf8_trim_end(const char *text, size_t len);

#define UTF8_REPLACEMENT "\xEF\xBF\xBD"

#endif
