/* load_model.c: the part of a tokenizer.json that is the BPE itself: vocabulary and merges. */
#include <string.h>

#include "base/memory.h"
#include "text/load.h"
#include "text/show.h"
#include "text/tokenizer.h"

/* A token is written with at most two bytes of text for each of its own. */
enum { WRITTEN_MAX = 2 * TOKENIZER_TOKEN_MAX, WORD = 40 };

/* The text of a token as the file writes it, as bytes: through the alphabet if it can be. */
struct written {
    char text[WRITTEN_MAX];
    size_t len;
    bool raw;
};

static enum gdn_status read_written(struct loader *l, const char *text, size_t len,
                                    struct written *out)
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

/* The text of a key or string: where it stands, or unescaped into `room` of WRITTEN_MAX + 1. */
static enum gdn_status token_text(struct loader *l, const struct json_token *token, char *room,
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
    TRY(token_text(l, key, room, &text, &len));
    TRY(read_written(l, text, len, &w));
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

static enum gdn_status find_part(struct loader *l, const char *text, size_t len,
                                 struct written *whole, uint32_t *id)
{
    char shown[64];
    struct written part;
    TRY(read_written(l, text, len, &part));
    const struct vocab_entry *entry = vocab_find(&l->vocab, part.text, part.len, part.raw);
    if (!entry || part.raw || whole->len + part.len > sizeof whole->text)
        return load_bad(l, "merge %zu: \"%s\" is not in the vocabulary", l->merge_count,
                        show_bytes(shown, sizeof shown, text, len));
    memcpy(whole->text + whole->len, part.text, part.len);
    whole->len += part.len;
    *id = (uint32_t)entry->id;
    return GDN_OK;
}

static enum gdn_status add_merge(struct loader *l, uint32_t left, uint32_t right,
                                 const struct written *whole)
{
    char shown[64];
    struct vocab_entry *entry =
        vocab_find_near(&l->vocab, &l->merge_hint, whole->text, whole->len);
    if (entry) return load_add_merge(l, left, right, entry, (uint32_t)l->merge_count + 1);
    return load_bad(l, "merge %zu makes \"%s\", which is not in the vocabulary", l->merge_count,
                    show_bytes(shown, sizeof shown, whole->text, whole->len));
}

enum gdn_status load_add_merge(struct loader *l, uint32_t left, uint32_t right,
                               struct vocab_entry *made, uint32_t rank1)
{
    if (l->merge_count == TOKENIZER_MERGES_MAX)
        return load_bad(l, "merges: need at most %d", TOKENIZER_MERGES_MAX);
    struct bpe_merge *merges =
        load_grow(l->merges, l->merge_count, &l->merge_room, sizeof *merges);
    if (!merges) return load_no_memory(l);
    l->merges = merges;
    made->merged = true;
    merges[l->merge_count++] = (struct bpe_merge){
        .left = left, .right = right, .made = (uint32_t)made->id, .rank1 = rank1};
    return GDN_OK;
}

/* "a b": the alphabet has no space, so that the first one is the border. */
enum gdn_status load_merge(struct loader *l, const char *text, size_t len)
{
    struct written whole = {.len = 0};
    uint32_t left = 0, right = 0;
    const char *space = memchr(text, ' ', len);
    if (!space) return load_bad(l, "merge %zu: need two tokens", l->merge_count);
    size_t first = (size_t)(space - text);
    TRY(find_part(l, text, first, &whole, &left));
    TRY(find_part(l, space + 1, len - first - 1, &whole, &right));
    return add_merge(l, left, right, &whole);
}

static enum gdn_status read_merge_text(struct loader *l, const struct json_token *token)
{
    char room[2 * WRITTEN_MAX + 2];
    size_t len;
    if (!token->escaped) return load_merge(l, token->text, token->len);
    if (json_text(token, room, sizeof room, &len)) return load_merge(l, room, len);
    return load_bad(l, "merge %zu: too long", l->merge_count);
}

/* ["a", "b"], behind its opening bracket. */
static enum gdn_status read_merge_pair(struct loader *l)
{
    char room[WRITTEN_MAX + 1];
    const char *text;
    size_t len;
    struct json_token token;
    struct written whole = {.len = 0};
    uint32_t ids[2];
    for (int i = 0; i < 2; i++) {
        TRY(load_expect(l, JSON_STRING, "a part of a merge", &token));
        TRY(token_text(l, &token, room, &text, &len));
        TRY(find_part(l, text, len, &whole, &ids[i]));
    }
    bool more;
    TRY(load_item(l, &token, &more));
    if (more) return load_bad(l, "merge %zu: more than two tokens", l->merge_count);
    return add_merge(l, ids[0], ids[1], &whole);
}

static enum gdn_status read_merges(struct loader *l)
{
    struct json_token token;
    bool more;
    TRY(load_expect(l, JSON_ARRAY, "merges", &token));
    for (;;) {
        TRY(load_item(l, &token, &more));
        if (!more) break;
        if (token.kind == JSON_STRING)
            TRY(read_merge_text(l, &token));
        else if (token.kind == JSON_ARRAY)
            TRY(read_merge_pair(l));
        else
            return load_bad(l, "merge %zu: need a string or a pair", l->merge_count);
    }
    return load_settle_merges(l);
}

enum gdn_status load_settle_merges(struct loader *l)
{
    int32_t byte_id[256];
    memcpy(byte_id, l->tok->bpe.byte_id, sizeof byte_id);
    if (!bpe_open(&l->tok->bpe, l->merge_count)) return load_no_memory(l);
    memcpy(l->tok->bpe.byte_id, byte_id, sizeof byte_id);
    for (size_t i = 0; i < l->merge_count; i++) {
        switch (bpe_add(&l->tok->bpe, l->merges[i])) {
        case BPE_ADDED: break;
        case BPE_TWICE: return load_bad(l, "merge %zu is there twice", i);
        case BPE_CROWDED: return load_bad(l, "the merges were made to collide");
        }
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
            TRY(read_merges(l));
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
    enum gdn_status status = read_merges(l);
    l->json = here;
    return status;
}
