/* load_merges.c: the merges of a tokenizer. They name their tokens by text, and each look into a
 * large vocabulary waits for memory: merges are looked up in groups, so that the waits overlap. */
#include <string.h>

#include "base/memory.h"
#include "text/load.h"
#include "text/show.h"
#include "text/tokenizer.h"

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

/* ---- a group --------------------------------------------------------------------------------- */

static const char *text_at(const struct loader *l, size_t at) { return l->group.text.at + at; }

static enum gdn_status part_id(struct loader *l, const struct merge_part *part, uint32_t *id)
{
    char shown[64];
    const char *text = text_at(l, part->at);
    const struct vocab_entry *entry =
        part->raw ? NULL : vocab_find_hashed(&l->vocab, part->hash, text, part->len);
    if (!entry)
        return load_bad(l, "merge %zu: \"%s\" is not in the vocabulary", l->merge_count,
                        show_bytes(shown, sizeof shown, text_at(l, part->file_at),
                                   part->file_len));
    *id = (uint32_t)entry->id;
    return GDN_OK;
}

static enum gdn_status settle_one(struct loader *l, const struct merge_text *merge)
{
    char shown[64];
    uint32_t left = 0, right = 0;
    TRY(part_id(l, &merge->part[0], &left));
    TRY(part_id(l, &merge->part[1], &right));
    const char *whole = text_at(l, merge->part[0].at);
    const size_t len = merge->part[0].len + merge->part[1].len;
    struct vocab_entry *entry = vocab_find_near(&l->vocab, &l->merge_hint, whole, len);
    if (entry) return load_add_merge(l, left, right, entry, (uint32_t)l->merge_count + 1);
    return load_bad(l, "merge %zu makes \"%s\", which is not in the vocabulary", l->merge_count,
                    show_bytes(shown, sizeof shown, whole, len));
}

/* Messages tell the place of the merge, not of the end of its group. */
static enum gdn_status settle_group(struct loader *l)
{
    struct merge_group *g = &l->group;
    const struct json here = l->json;
    const size_t line = l->line;
    if (g->text.failed) return load_no_memory(l);
    for (size_t i = 0; i < 2 * g->count; i++)
        vocab_fetch_entry(&l->vocab, g->merge[i / 2].part[i % 2].hash);
    for (size_t i = 0; i < g->count; i++) {
        l->json.at = g->merge[i].place;
        l->line = g->merge[i].line;
        TRY(settle_one(l, &g->merge[i]));
    }
    l->json = here;
    l->line = line;
    g->count = g->text.len = 0;
    return GDN_OK;
}

/* ---- merges as they are read ----------------------------------------------------------------- */

/* Both parts as bytes, one behind the other; then as the file writes them. */
static enum gdn_status add_texts(struct loader *l, const char *const text[2], const size_t len[2])
{
    struct merge_group *g = &l->group;
    struct merge_text *merge = &g->merge[g->count];
    struct written w;
    *merge = (struct merge_text){.place = l->json.at, .line = l->line};
    for (int i = 0; i < 2; i++) {
        TRY(load_written(l, text[i], len[i], &w));
        merge->part[i] = (struct merge_part){.at = g->text.len, .len = w.len, .raw = w.raw,
                                             .hash = vocab_hash(w.text, w.len)};
        bytes_add(&g->text, w.text, w.len);
        vocab_fetch_slot(&l->vocab, merge->part[i].hash);
    }
    for (int i = 0; i < 2; i++) {
        merge->part[i].file_at = g->text.len;
        merge->part[i].file_len = len[i];
        bytes_add(&g->text, text[i], len[i]);
    }
    return ++g->count < MERGE_GROUP ? GDN_OK : settle_group(l);
}

/* "a b": the alphabet has no space, so that the first one is the border. */
enum gdn_status load_merge(struct loader *l, const char *text, size_t len)
{
    const char *space = memchr(text, ' ', len);
    if (!space) return load_bad(l, "merge %zu: need two tokens", l->merge_count + l->group.count);
    const size_t first = (size_t)(space - text);
    return add_texts(l, (const char *const[]){text, space + 1},
                     (const size_t[]){first, len - first - 1});
}

static enum gdn_status read_text(struct loader *l, const struct json_token *token)
{
    char room[2 * WRITTEN_MAX + 2];
    size_t len;
    if (!token->escaped) return load_merge(l, token->text, token->len);
    if (json_text(token, room, sizeof room, &len)) return load_merge(l, room, len);
    return load_bad(l, "merge %zu: too long", l->merge_count + l->group.count);
}

/* ["a", "b"], behind its opening bracket. */
static enum gdn_status read_pair(struct loader *l)
{
    char room[2][WRITTEN_MAX + 1];
    const char *text[2];
    size_t len[2];
    struct json_token token;
    bool more;
    for (int i = 0; i < 2; i++) {
        TRY(load_expect(l, JSON_STRING, "a part of a merge", &token));
        TRY(load_token_text(l, &token, room[i], &text[i], &len[i]));
    }
    TRY(load_item(l, &token, &more));
    if (more)
        return load_bad(l, "merge %zu: more than two tokens", l->merge_count + l->group.count);
    return add_texts(l, text, len);
}

enum gdn_status load_merges(struct loader *l)
{
    struct json_token token;
    bool more;
    TRY(load_expect(l, JSON_ARRAY, "merges", &token));
    for (;;) {
        TRY(load_item(l, &token, &more));
        if (!more) break;
        if (token.kind == JSON_STRING)
            TRY(read_text(l, &token));
        else if (token.kind == JSON_ARRAY)
            TRY(read_pair(l));
        else
            return load_bad(l, "merge %zu: need a string or a pair",
                            l->merge_count + l->group.count);
    }
    return load_settle_merges(l);
}

enum gdn_status load_settle_merges(struct loader *l)
{
    int32_t byte_id[256];
    TRY(settle_group(l));
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
