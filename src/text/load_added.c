/* load_added.c: the added tokens of a tokenizer.json and their place in the vocabulary. */
#include <string.h>

#include "base/memory.h"
#include "text/load.h"
#include "text/normal.h"
#include "text/show.h"
#include "text/tokenizer.h"

struct record {
    struct load_added added;
    bool has_id, has_text;
};

static enum gdn_status read_content(struct loader *l, struct record *r)
{
    char text[TOKENIZER_TOKEN_MAX + 1];
    size_t len;
    struct json_token token;
    TRY(load_expect(l, JSON_STRING, "the content of an added token", &token));
    if (!json_text(&token, text, sizeof text, &len) || len == 0)
        return load_bad(l, "an added token of %zu bytes, need 1 to %d", token.len,
                        TOKENIZER_TOKEN_MAX);
    r->added.at = l->added_text.len;
    r->added.len = (uint32_t)len;
    r->has_text = true;
    bytes_add(&l->added_text, text, len);
    return l->added_text.failed ? load_no_memory(l) : GDN_OK;
}

/* Flags that stretch or restrain a match. None of the models this is for uses them. */
static enum gdn_status read_must_be_off(struct loader *l, const char *what)
{
    bool on;
    TRY(load_bool(l, what, &on));
    return on ? load_unsupported(l, what, "true in an added token", "false") : GDN_OK;
}

static enum gdn_status read_added_key(struct loader *l, const struct json_token *key,
                                      struct record *r)
{
    int64_t id;
    struct json_token token;
    if (json_is(key, "content")) return read_content(l, r);
    if (json_is(key, "special")) return load_bool(l, "special", &r->added.special);
    if (json_is(key, "normalized")) return load_bool(l, "normalized", &r->added.normalized);
    if (json_is(key, "lstrip")) return read_must_be_off(l, "lstrip");
    if (json_is(key, "rstrip")) return read_must_be_off(l, "rstrip");
    if (json_is(key, "single_word")) return read_must_be_off(l, "single_word");
    if (!json_is(key, "id")) return load_skip(l, key);
    TRY(load_expect(l, JSON_NUMBER, "the id of an added token", &token));
    if (!json_int(&token, 0, TOKENIZER_VOCAB_MAX - 1, &id))
        return load_bad(l, "the id of an added token: need 0 to %d", TOKENIZER_VOCAB_MAX - 1);
    r->added.id = (int32_t)id;
    r->has_id = true;
    return GDN_OK;
}

static enum gdn_status keep(struct loader *l, const struct load_added *added)
{
    if (l->added_count == TOKENIZER_VOCAB_MAX) return load_bad(l, "too many added tokens");
    struct load_added *grown =
        load_grow(l->added, l->added_count, &l->added_room, sizeof *grown);
    if (!grown) return load_no_memory(l);
    l->added = grown;
    l->added[l->added_count++] = *added;
    return GDN_OK;
}

enum gdn_status load_added_text(struct loader *l, const char *text, size_t len, int32_t id,
                                bool special)
{
    const struct load_added added = {.at = l->added_text.len, .len = (uint32_t)len, .id = id,
                                     .special = special};
    bytes_add(&l->added_text, text, len);
    return l->added_text.failed ? load_no_memory(l) : keep(l, &added);
}

enum gdn_status load_added_token(struct loader *l, int32_t id)
{
    struct json_token key;
    struct record r = {.added.id = id, .has_id = id >= 0};
    bool more;
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) break;
        TRY(read_added_key(l, &key, &r));
    }
    if (!r.has_id || !r.has_text) return load_bad(l, "an added token: need id and content");
    return keep(l, &r.added);
}

enum gdn_status load_added_tokens(struct loader *l)
{
    struct json_token token;
    bool more;
    TRY(load_expect(l, JSON_ARRAY, "added_tokens", &token));
    for (;;) {
        TRY(load_item(l, &token, &more));
        if (!more) return GDN_OK;
        if (token.kind != JSON_OBJECT) return load_bad(l, "added_tokens: need objects");
        TRY(load_added_token(l, -1));
    }
}

/* Its entry in the vocabulary: the one that is there already, or a new one. An added token stands
 * for its own text even when all of that is in the alphabet of bytes. */
static enum gdn_status settle_entry(struct loader *l, const struct load_added *added,
                                    const char *text)
{
    char bytes[TOKENIZER_TOKEN_MAX], shown[64];
    size_t len = added->len;
    bool raw = !alphabet_read(&l->alphabet, text, added->len, bytes, &len);
    struct vocab *vocab = &l->vocab;
    struct vocab_entry *entry = vocab_find(vocab, raw ? text : bytes, len, raw);
    show_bytes(shown, sizeof shown, text, added->len);
    if (!entry) {
        enum vocab_added done = vocab_add(vocab, raw ? text : bytes, len, raw, added->id);
        if (done == VOCAB_NO_MEMORY) return load_no_memory(l);
        if (done != VOCAB_ADDED) return load_bad(l, "added token \"%s\": collides", shown);
        entry = &vocab->entries[vocab->count - 1];
    } else if (entry->id != added->id) {
        return load_bad(l, "added token \"%s\" has id %d here and %d in the vocabulary", shown,
                        added->id, entry->id);
    }
    /* What a merge makes, plain text makes; a control token must be out of its reach. */
    if (entry->merged && added->special)
        return load_unsupported(l, shown, "a special token that a merge makes", "one beside BPE");
    entry->flags = (uint8_t)(TOKEN_ADDED | (added->special ? TOKEN_SPECIAL : 0));
    if (len == added->len) return GDN_OK;
    entry->at = (uint32_t)vocab->text.len;
    entry->len = (uint16_t)added->len;
    bytes_add(&vocab->text, text, added->len);
    return vocab->text.failed ? load_no_memory(l) : GDN_OK;
}

static enum gdn_status settle_search(struct loader *l, const struct load_added *added,
                                     const char *text, struct bytes *room)
{
    struct tokenizer *tok = l->tok;
    const char *sought = text;
    size_t len = added->len;
    if (!added_add(&tok->all, text, len, added->id)) return load_no_memory(l);
    if (added->normalized && tok->nfc && !normal_nfc(&sought, &len, room)) return load_no_memory(l);
    if (!added_add(added->normalized ? &tok->normal : &tok->raw, sought, len, added->id))
        return load_no_memory(l);
    return GDN_OK;
}

enum gdn_status load_settle_added(struct loader *l)
{
    struct bytes room = {0};
    enum gdn_status status = GDN_OK;
    for (size_t i = 0; i < l->added_count && status == GDN_OK; i++) {
        const char *text = l->added_text.at + l->added[i].at;
        status = settle_entry(l, &l->added[i], text);
        if (status == GDN_OK) status = settle_search(l, &l->added[i], text, &room);
    }
    bytes_free(&room);
    TRY(status);
    int32_t twice = added_seal(&l->tok->all);
    if (twice < 0) twice = added_seal(&l->tok->raw);
    if (twice < 0) twice = added_seal(&l->tok->normal);
    return twice < 0 ? GDN_OK : load_bad(l, "added token %d is there twice", twice);
}
