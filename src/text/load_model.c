/* load_model.c: the part of a tokenizer.json that is the BPE itself: vocabulary, and merges by
 * load_merges.c. */
#include <string.h>

#include "base/memory.h"
#include "text/load.h"
#include "text/show.h"
#include "text/tokenizer.h"

enum { WORD = 40 };

enum gdn_status load_written(struct loader *l, const char *text, size_t len, struct written *out)
{
    if (len <= sizeof out->text) {
        out->raw = !alphabet_read(&l->alphabet, text, len, out->text, &out->len);
        if (out->raw) {
            memcpy(out->text, text, len);
            out->len = len;
        }
        if (len > 0 && out->len <= TOKENIZER_TOKEN_MAX) return GDN_OK;
    }
    return load_bad(l, "a token of %zu bytes, need 1 to %d", len, TOKENIZER_TOKEN_MAX);
}

enum gdn_status load_token_text(struct loader *l, const struct json_token *token, char *room,
                                const char **text, size_t *len)
{
    *text = token->text;
    *len = token->len;
    if (!token->escaped) return GDN_OK;
    *text = room;
    if (json_text(token, room, WRITTEN_MAX + 1, len)) return GDN_OK;
    return load_bad(l, "a token of more than %d bytes", TOKENIZER_TOKEN_MAX);
}

static enum gdn_status read_vocab_entry(struct loader *l, const struct json_token *key)
{
    char room[WRITTEN_MAX + 1], shown[64];
    const char *text;
    size_t len;
    int64_t id;
    struct written w;
    struct json_token value;
    TRY(load_token_text(l, key, room, &text, &len));
    TRY(load_written(l, text, len, &w));
    vocab_fetch_slot(&l->vocab, vocab_hash(w.text, w.len)); /* while the number is read */
    TRY(load_expect(l, JSON_NUMBER, "the id of a token", &value));
    if (!json_int(&value, 0, TOKENIZER_VOCAB_MAX - 1, &id))
        return load_bad(l, "the id of \"%s\": need 0 to %d",
                        show_bytes(shown, sizeof shown, text, len), TOKENIZER_VOCAB_MAX - 1);
    if (l->vocab.count == TOKENIZER_VOCAB_MAX)
        return load_bad(l, "vocabulary: need at most %d tokens", TOKENIZER_VOCAB_MAX);
    switch (vocab_add(&l->vocab, w.text, w.len, w.raw, (int32_t)id)) {
    case VOCAB_ADDED: return GDN_OK;
    case VOCAB_TWICE:
        return load_bad(l, "token \"%s\" is there twice",
                        show_bytes(shown, sizeof shown, text, len));
    case VOCAB_CROWDED: return load_bad(l, "the tokens were made to collide");
    case VOCAB_NO_MEMORY: break;
    }
    return load_no_memory(l);
}

enum gdn_status load_vocab(struct loader *l)
{
    struct json_token key;
    bool more;
    TRY(load_expect(l, JSON_OBJECT, "vocab", &key));
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) break;
        TRY(read_vocab_entry(l, &key));
    }
    return load_bytes(l);
}

enum gdn_status load_bytes(struct loader *l)
{
    for (int byte = 0; byte < 256; byte++) {
        char one = (char)byte;
        struct vocab_entry *entry = vocab_find(&l->vocab, &one, 1, false);
        if (!entry) return load_bad(l, "vocab: no token for byte 0x%02X, need all 256", byte);
        entry->merged = true;
        l->tok->bpe.byte_id[byte] = entry->id;
    }
    return GDN_OK;
}

/* A model key whose value may only be one that changes nothing: null, false, 0 or "". */
static enum gdn_status read_neutral(struct loader *l, const struct json_token *key)
{
    struct json_token value;
    char name[WORD];
    double number;
    if (!json_text(key, name, sizeof name, NULL)) name[0] = 0;
    TRY(load_next(l, &value));
    bool neutral = value.kind == JSON_NULL || value.kind == JSON_FALSE ||
                   (value.kind == JSON_STRING && value.len == 0) ||
                   (value.kind == JSON_NUMBER && json_double(&value, &number) && number == 0);
    return neutral ? GDN_OK : load_unsupported(l, name, "it set", "null or false");
}

static enum gdn_status read_model_type(struct loader *l)
{
    char type[WORD];
    TRY(load_word(l, "model type", type, sizeof type));
    return strcmp(type, "BPE") == 0 ? GDN_OK : load_unsupported(l, "model type", type, "BPE");
}

static bool is_neutral_key(const struct json_token *key)
{
    static const char *const names[] = {"dropout", "continuing_subword_prefix",
                                        "end_of_word_suffix", "byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (json_is(key, names[i])) return true;
    }
    return false;
}

enum gdn_status load_model(struct loader *l)
{
    struct json_token key;
    struct json merges = {0}; /* where they stand, when they come before the vocabulary */
    bool more, typed = false, have_vocab = false, have_merges = false, put_off = false;
    char shown[64];
    TRY(load_expect(l, JSON_OBJECT, "model", &key));
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) break;
        bool vocab = json_is(&key, "vocab"), merge = json_is(&key, "merges");
        if ((vocab && have_vocab) || (merge && have_merges))
            return load_bad(l, "model: vocab or merges are there twice");
        have_vocab |= vocab;
        have_merges |= merge;
        if (vocab) {
            TRY(load_vocab(l));
        } else if (merge && have_vocab) {
            TRY(load_merges(l));
        } else if (merge) {
            merges = l->json;
            put_off = true;
            TRY(load_skip(l, &key));
        } else if (json_is(&key, "type")) {
            typed = true;
            TRY(read_model_type(l));
        } else if (is_neutral_key(&key)) {
            TRY(read_neutral(l, &key));
        } else if (json_is(&key, "unk_token") || json_is(&key, "fuse_unk")) {
            /* Every byte has a token: nothing is ever unknown. */
            TRY(load_skip(l, &key));
        } else {
            return load_unsupported(l, "model key",
                                    show_bytes(shown, sizeof shown, key.text, key.len),
                                    "those of BPE");
        }
    }
    if (!typed || !have_vocab || !have_merges)
        return load_bad(l, "model: need type, vocab and merges");
    if (!put_off) return GDN_OK;
    struct json here = l->json;
    l->json = merges;
    enum gdn_status status = load_merges(l);
    l->json = here;
    return status;
}
