/* show.h: a piece of a file inside an error message: printable, bounded, on one line. */
#ifndef TEXT_SHOW_H
#define TEXT_SHOW_H

#include <stddef.h>

/* Writes `text` into out (room >= 16 bytes, zero-ended) with \xNN for what is not printable ASCII
 * and ... for what does not fit; returns out. */
const char *show_bytes(char *out, size_t room, const char *text, size_t len);

#endif
