/* tokenizer.json from memory: refused with a sentence, or a tokenizer that keeps its promises. The
 * 256 tokens of the bytes, which every good file needs, may be written as "@", so that seeds and
 * mutations stay small. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "text/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_bytes(struct bytes *out)
{
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        uint32_t c = printable ? byte : next++;
        char text[2] = {(char)(c < 0x80 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        if (byte > 0) bytes_add_text(out, ",");
        json_put_string(out, text, c < 0x80 ? 1 : 2);
        bytes_addf(out, ":%u", byte);
    }
}

static void expand(struct bytes *out, const char *text, size_t len)
{
    const char *at = memmem(text, len, "\"@\"", 3);
    if (!at) {
        bytes_add(out, text, len);
        return;
    }
    bytes_add(out, text, (size_t)(at - text));
    add_bytes(out);
    bytes_add(out, at + 3, len - 3 - (size_t)(at - text));
}

static void use(const struct tokenizer *tok, enum tokenizer_control control)
{
    static const char text[] =
        "The cafe\xCC\x81 <s></s> 123's\n\n  ab abc \xE4\xB8\xAD aaaaaaaaaaaaaaaa!";
    struct ids ids = {0};
    struct bytes back = {0};
    struct gdn_error err = {0};
    enum gdn_status status = tokenizer_encode(tok, text, sizeof text - 1, control, &ids, &err);
    if (status != err.status || (status == GDN_OK) != (err.text[0] == 0)) abort();
    for (size_t i = 0; i < ids.len; i++) {
        if (ids.at[i] < 0 || ids.at[i] >= tokenizer_count(tok)) abort();
        /* What is special comes only from text that may hold control tokens. */
        if (control == TOKENIZER_PLAIN && tokenizer_is_special(tok, ids.at[i])) abort();
    }
    decode_ids(tok, ids.at, ids.len, false, &back);
    if (status == GDN_OK && back.len < sizeof text - 3) abort();
    ids_free(&ids);
    bytes_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes json = {0};
    struct tokenizer *tok;
    int64_t live = mem_counted().live_blocks;
    expand(&json, (const char *)data, size);
    for (unsigned flags = 0; flags <= TOKENIZER_ANY_PATTERN; flags++) {
        struct gdn_error err = {0};
        const char *text = json.at ? json.at : "";
        enum gdn_status status = tokenizer_parse(text, json.len, flags, &tok, &err);
        if ((status == GDN_OK) != (tok != NULL) || status != err.status) abort();
        if (status != GDN_OK && status != GDN_ERR_INPUT && status != GDN_ERR_UNSUPPORTED) abort();
        if (!tok) continue;
        use(tok, TOKENIZER_PLAIN);
        use(tok, TOKENIZER_WITH_CONTROL);
        tokenizer_close(tok);
    }
    bytes_free(&json);
    if (mem_counted().live_blocks != live) abort();
    return 0;
}
