/* A tokenizer in several files: the first byte says whether it is vocab.json with merges.txt ('v')
 * or tiktoken.model ('t'); then the texts, each ended by a zero byte, tokenizer_config.json last.
 * Refused with a sentence, or a tokenizer that keeps its promises. "@" in place of a vocabulary or
 * of ranks stands for the 256 bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/decode.h"
#include "text/parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_alphabet(struct bytes *out)
{
    for (unsigned byte = 0, next = 0x100; byte < 256; byte++) {
        const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        const unsigned c = printable ? byte : next++;
        bytes_addf(out, "%s\"\\u%04x\":%u", byte ? "," : "", c, byte);
    }
}

static void put_ranks(struct bytes *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (unsigned byte = 0; byte < 256; byte++)
        bytes_addf(out, "%c%c== %u\n", letters[byte >> 2], letters[(byte & 3) << 4], byte);
}

/* The next text of the input, with its @ replaced. */
static struct bytes take(const char **at, const char *end, void (*put)(struct bytes *out))
{
    struct bytes out = {0};
    const char *zero = memchr(*at, 0, (size_t)(end - *at));
    const char *stop = zero ? zero : end;
    const char *sign = put ? memchr(*at, '@', (size_t)(stop - *at)) : NULL;
    bytes_add(&out, *at, (size_t)((sign ? sign : stop) - *at));
    if (sign) {
        put(&out);
        bytes_add(&out, sign + 1, (size_t)(stop - sign - 1));
    }
    *at = zero ? zero + 1 : end;
    return out;
}

static struct load_text text_of_bytes(const struct bytes *b)
{
    return (struct load_text){b->at ? b->at : "", b->len};
}

static void use(const struct tokenizer *tok)
{
    static const char text[] = "The cafe\xCC\x81 <s></s> 123's\n\n \xE4\xB8\xAD\xE6\x96\x87 aab!";
    struct ids ids = {0};
    struct bytes back = {0};
    struct gdn_error err = {0};
    const enum gdn_status status =
        tokenizer_encode(tok, text, sizeof text - 1, TOKENIZER_PLAIN, &ids, &err);
    if (status != err.status) abort();
    for (size_t i = 0; i < ids.len; i++)
        if (ids.at[i] < 0 || ids.at[i] >= tokenizer_count(tok)) abort();
    decode_ids(tok, ids.at, ids.len, false, &back);
    if (status == GDN_OK && back.len < sizeof text - 3) abort();
    ids_free(&ids);
    bytes_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t live = mem_counted().live_blocks;
    const char *at = (const char *)data, *end = at + size;
    struct gdn_error err = {0};
    if (size == 0) return 0;
    const bool pair = *at++ == 'v';
    struct bytes first = take(&at, end, pair ? put_alphabet : put_ranks);
    struct bytes merges = pair ? take(&at, end, NULL) : (struct bytes){0};
    struct bytes config = take(&at, end, NULL);
    struct bytes added = pair ? take(&at, end, NULL) : (struct bytes){0};
    struct tokenizer *tok = mem_take(sizeof *tok);
    const enum gdn_status status =
        pair ? load_pair(text_of_bytes(&first), text_of_bytes(&merges), text_of_bytes(&config),
                         (struct load_text){added.len ? added.at : NULL, added.len}, 0, tok, &err)
             : load_tiktoken(text_of_bytes(&first), text_of_bytes(&config), 0, tok, &err);
    if (status != err.status || (status == GDN_OK) != (err.text[0] == 0)) abort();
    if (status != GDN_OK && status != GDN_ERR_INPUT && status != GDN_ERR_UNSUPPORTED) abort();
    if (status == GDN_OK) use(tok);
    tokenizer_close(tok);
    bytes_free(&first);
    bytes_free(&merges);
    bytes_free(&config);
    bytes_free(&added);
    if (mem_counted().live_blocks != live) abort();
    return 0;
}
