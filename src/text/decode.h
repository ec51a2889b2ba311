/* decode.h: token ids into text while they arrive. Nothing half leaves: bytes that begin a code
 * point are held back until the rest comes or is known never to come. */
#ifndef TEXT_DECODE_H
#define TEXT_DECODE_H

#include "base/bytes.h"
#include "text/tokenizer.h"

struct decoder {
    const struct tokenizer *tok;
    bool skip_special;
    unsigned char tail[3]; /* the begin of a code point, held back */
    size_t tail_len;
};

/* With skip_special the tokens of tokenizer_is_special give no text. Nothing is to be closed. */
void decoder_open(struct decoder *decoder, const struct tokenizer *tok, bool skip_special);
/* Appends what has become certain: always whole code points; bytes that are not UTF-8 become
 * U+FFFD, one for each maximal bad part. An id outside the vocabulary gives nothing. */
void decoder_push(struct decoder *decoder, int32_t id, struct bytes *out);
/* The text ends here: a held-back begin becomes U+FFFD. The decoder may then be used again. */
void decoder_flush(struct decoder *decoder, struct bytes *out);

/* All at once. Failure of memory shows in out->failed. */
void decode_ids(const struct tokenizer *tok, const int32_t *ids, size_t count, bool skip_special,
                struct bytes *out);

#endif
