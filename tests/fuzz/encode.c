/* Encode and decode with the demo tokenizer: what comes back is the text in normal form, streamed
 * text is never cut inside a code point, and plain text never becomes a control token. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/decode.h"
#include "text/normal.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tokenizer *demo(void)
{
    static struct tokenizer *tok;
    if (!tok && tokenizer_open(GDN_SOURCE_DIR "/models/demo", 0, &tok, NULL) != GDN_OK) abort();
    return tok;
}

static void must_equal(const struct bytes *got, const char *want, size_t len)
{
    if (got->failed || got->len != len || (len && memcmp(got->at, want, len) != 0)) abort();
}

/* Token by token; the same as all at once. */
static void stream(const int32_t *ids, size_t count, const struct bytes *want)
{
    struct decoder decoder;
    struct bytes got = {0};
    bytes_add_text(&got, "");
    decoder_open(&decoder, demo(), false);
    for (size_t i = 0; i <= count; i++) {
        size_t before = got.len;
        if (i < count)
            decoder_push(&decoder, ids[i], &got);
        else
            decoder_flush(&decoder, &got);
        if (utf8_good_len(got.at + before, got.len - before) != got.len - before) abort();
    }
    must_equal(&got, want->at, want->len);
    bytes_free(&got);
}

static void there_and_back(const char *text, size_t len, const char *want, size_t want_len,
                           enum tokenizer_control control)
{
    struct ids ids = {0};
    struct bytes back = {0};
    if (tokenizer_encode(demo(), text, len, control, &ids, NULL) != GDN_OK) abort();
    for (size_t i = 0; i < ids.len && control == TOKENIZER_PLAIN; i++) {
        if (tokenizer_is_added(demo(), ids.at[i])) abort();
    }
    decode_ids(demo(), ids.at, ids.len, false, &back);
    must_equal(&back, want, want_len);
    stream(ids.at, ids.len, &back);
    bytes_free(&back);
    ids_free(&ids);
}

/* The bytes as ids that no encoder would make: the stream is the repair of all bytes joined. */
static void any_ids(const uint8_t *data, size_t size)
{
    struct ids ids = {0};
    struct bytes joined = {0}, want = {0}, got = {0};
    for (size_t i = 0; i + 1 < size; i += 2) {
        size_t len;
        int32_t id = (data[i] & 0x1F) << 8 | data[i + 1];
        const char *bytes = tokenizer_bytes(demo(), id, &len);
        bytes_add(&joined, bytes, len);
        if (!ids_add(&ids, id)) abort();
    }
    utf8_add_repaired(&want, joined.at, joined.len);
    decode_ids(demo(), ids.at, ids.len, false, &got);
    must_equal(&got, want.at, want.len);
    stream(ids.at, ids.len, &want);
    bytes_free(&joined);
    bytes_free(&want);
    bytes_free(&got);
    ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *normal;
    struct bytes repaired = {0}, room = {0};
    size_t len;
    utf8_add_repaired(&repaired, text, size);
    bytes_add_text(&repaired, "");
    normal = repaired.at;
    len = repaired.len;
    if (!normal_nfc(&normal, &len, &room)) abort();
    there_and_back(text, size, normal, len, TOKENIZER_PLAIN);
    /* Between control tokens each part has its own normal form; text that is in it stays whole. */
    there_and_back(normal, len, normal, len, TOKENIZER_WITH_CONTROL);
    any_ids(data, size);
    bytes_free(&repaired);
    bytes_free(&room);
    return 0;
}
