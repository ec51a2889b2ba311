/* normal.h: Unicode normal form C. The only file that knows utf8proc. */
#ifndef TEXT_NORMAL_H
#define TEXT_NORMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Turns well-formed *text into NFC: leaves both alone when it surely is already, otherwise puts
 * the normal form into `room` (whose old bytes are dropped) and points *text there. Linear in the
 * length, whatever the order of combining marks. False when memory does not suffice. */
bool normal_nfc(const char **text, size_t *len, struct bytes *room);

/* Never changed by NFC, and never changing what stands before it: text may be cut before it. */
bool normal_is_plain(uint32_t c);

/* What Python's str.isprintable is true for. */
bool normal_is_printable(uint32_t c);

#endif
