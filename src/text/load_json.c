/* load_json.c: a tokenizer.json as a whole. The file is walked once, nothing of it is kept as a
 * tree; every part that would change what comes out and is not known here is refused by name. */
#include <string.h>

#include "base/memory.h"
#include "text/load.h"

/* BYTES_A_TOKEN: of a file, with the merge that makes it. */
enum { WORD = 40, BYTES_A_TOKEN = 80 };

enum { HAVE_ADDED = 1, HAVE_NORMALIZER = 2, HAVE_PRE = 4, HAVE_POST = 8, HAVE_DECODER = 16,
       HAVE_MODEL = 32 };

/* null or ByteLevel, which as a post-processor moves offsets and as a decoder is what we do. */
static enum gdn_status read_byte_level(struct loader *l, const char *what)
{
    char type[WORD];
    TRY(load_type(l, what, type, sizeof type));
    if (!type[0] || strcmp(type, "ByteLevel") == 0) return GDN_OK;
    return load_unsupported(l, what, type, "ByteLevel or null");
}

static enum gdn_status read_post(struct loader *l) { return read_byte_level(l, "post_processor"); }

static enum gdn_status read_decoder(struct loader *l) { return read_byte_level(l, "decoder"); }

static const struct part {
    const char *name;
    int have;
    enum gdn_status (*read)(struct loader *l);
} parts[] = {
    {"added_tokens", HAVE_ADDED, load_added_tokens},
    {"normalizer", HAVE_NORMALIZER, load_normalizer},
    {"pre_tokenizer", HAVE_PRE, load_pre_tokenizer},
    {"post_processor", HAVE_POST, read_post},
    {"decoder", HAVE_DECODER, read_decoder},
    {"model", HAVE_MODEL, load_model},
};

static enum gdn_status read_all(struct loader *l)
{
    struct json_token token;
    bool more;
    int have = 0;
    TRY(load_expect(l, JSON_OBJECT, "tokenizer.json", &token));
    for (;;) {
        const struct part *part = NULL;
        TRY(load_key(l, &token, &more));
        if (!more) break;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            if (json_is(&token, parts[i].name)) part = &parts[i];
        }
        /* truncation and padding are what some training run once used: not for us. */
        if (!part) {
            TRY(load_skip(l, &token));
            continue;
        }
        if (have & part->have) return load_bad(l, "\"%s\" is there twice", part->name);
        have |= part->have;
        TRY(part->read(l));
    }
    TRY(load_next(l, &token));
    if (!(have & HAVE_MODEL)) return load_bad(l, "need a model");
    if (!(have & HAVE_PRE)) return load_bad(l, "need a pre_tokenizer");
    return GDN_OK;
}

/* From the order of the file to the order of the ids, which have to be 0, 1, 2 and so on. */
static enum gdn_status order_by_id(struct loader *l)
{
    struct tokenizer *tok = l->tok;
    struct vocab *vocab = &l->vocab;
    tok->tokens = mem_take_array(vocab->count, sizeof *tok->tokens);
    if (!tok->tokens) return load_no_memory(l);
    tok->count = vocab->count;
    for (size_t i = 0; i < vocab->count; i++) {
        const struct vocab_entry *entry = &vocab->entries[i];
        if ((size_t)entry->id >= tok->count)
            return load_bad(l, "id %d in a vocabulary of %zu: some id has no token", entry->id,
                            tok->count);
        struct token *token = &tok->tokens[entry->id];
        if (token->len > 0) return load_bad(l, "id %d belongs to two tokens", entry->id);
        *token = (struct token){entry->at, entry->len, entry->flags};
    }
    tok->text = vocab->text;
    vocab->text = (struct bytes){0};
    return GDN_OK;
}

enum gdn_status load_json(const char *json, size_t len, unsigned flags, struct tokenizer *tok,
                          struct gdn_error *err)
{
    struct loader l = {.err = err, .flags = flags, .tok = tok};
    json_open(&l.json, json, len);
    l.vocab.expected = len / BYTES_A_TOKEN;
    alphabet_open(&l.alphabet);
    return load_end(&l, read_all(&l));
}

enum gdn_status load_end(struct loader *l, enum gdn_status status)
{
    if (status == GDN_OK) status = load_settle_added(l);
    if (status == GDN_OK) status = order_by_id(l);
    vocab_close(&l->vocab);
    mem_give(l->merges);
    bytes_free(&l->group.text);
    mem_give(l->added);
    bytes_free(&l->added_text);
    return status;
}
