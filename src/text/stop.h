/* stop.h: a text that ends where one of some strings comes up, while it streams. What may still
 * become one of them is held back; nothing of it leaves. */
#ifndef TEXT_STOP_H
#define TEXT_STOP_H

#include "base/bytes.h"
#include "base/status.h"

struct stopper {
    struct bytes strings; /* each with a zero behind it */
    size_t count;
    struct bytes held; /* the longest end of the text that begins one of them */
    bool done;         /* one has come up: nothing leaves any more */
};

/* Strings: none empty, all UTF-8. Begins a new text. */
enum gdn_status stopper_open(struct stopper *stopper, const char *const *strings, size_t count,
                             struct gdn_error *err);
void stopper_close(struct stopper *stopper);

/* Appends to `out` what is certain to stand before any of the strings. The one that is complete
 * first ends the text, the longest of those that are so at the same byte. However the text is cut
 * into pieces, the same comes of it; whole code points in, whole code points out. */
void stopper_push(struct stopper *stopper, const char *text, size_t len, struct bytes *out);
/* The text ends here: what was held back belongs to it. */
void stopper_flush(struct stopper *stopper, struct bytes *out);

#endif
