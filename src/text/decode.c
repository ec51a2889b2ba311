#include "text/decode.h"

#include "text/utf8.h"

void decoder_open(struct decoder *decoder, const struct tokenizer *tok, bool skip_special)
{
    *decoder = (struct decoder){.tok = tok, .skip_special = skip_special};
}

void decoder_push(struct decoder *decoder, int32_t id, struct bytes *out)
{
    unsigned char joined[sizeof decoder->tail + TOKENIZER_TOKEN_MAX];
    size_t len, n, at = 0, have = decoder->tail_len;
    const char *text = tokenizer_bytes(decoder->tok, id, &len);
    if (!text || (decoder->skip_special && tokenizer_is_special(decoder->tok, id))) return;
    memcpy(joined, decoder->tail, have);
    memcpy(joined + have, text, len);
    have += len;
    while (at < have) {
        enum utf8_kind kind = utf8_head(joined + at, have - at, &n);
        if (kind == UTF8_CUT) break;
        if (kind == UTF8_GOOD)
            bytes_add(out, joined + at, n);
        else
            bytes_add_text(out, UTF8_REPLACEMENT);
        at += n;
    }
    decoder->tail_len = have - at;
    memcpy(decoder->tail, joined + at, have - at);
}

void decoder_flush(struct decoder *decoder, struct bytes *out)
{
    if (decoder->tail_len > 0) bytes_add_text(out, UTF8_REPLACEMENT);
    decoder->tail_len = 0;
}

void decode_ids(const struct tokenizer *tok, const int32_t *ids, size_t count, bool skip_special,
                struct bytes *out)
{
    struct decoder decoder;
    decoder_open(&decoder, tok, skip_special);
    for (size_t i = 0; i < count; i++) decoder_push(&decoder, ids[i], out);
    decoder_flush(&decoder, out);
}
