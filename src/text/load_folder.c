/* load_folder.c: tokenizers that stand in several files: vocab.json with merges.txt (GPT-2 and
 * Qwen2 of old), or tiktoken.model (Kimi); tokenizer_config.json tells the added tokens and the
 * pattern, added_tokens.json the former where that is older. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "text/load.h"
#include "text/show.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

/* ---- vocab.json and merges.txt --------------------------------------------------------------- */

/* The next line; false at the end of the text. */
static bool next_line(struct load_text *text, struct load_text *line)
{
    if (text->len == 0) return false;
    const char *newline = memchr(text->at, '\n', text->len);
    const size_t len = newline ? (size_t)(newline - text->at) : text->len;
    const size_t step = len + (newline != NULL);
    *line = (struct load_text){text->at, len};
    if (len > 0 && text->at[len - 1] == '\r') line->len--;
    text->at += step;
    text->len -= step;
    return true;
}

static enum gdn_status read_merges_text(struct loader *l, struct load_text text)
{
    struct load_text line;
    for (l->line = 1; next_line(&text, &line); l->line++) {
        if (line.len == 0 ||
            (l->line == 1 && line.len >= 9 && memcmp(line.at, "#version:", 9) == 0))
            continue;
        const size_t good = utf8_good_len(line.at, line.len);
        if (good < line.len) return load_bad(l, "byte %zu of the line: need UTF-8", good + 1);
        TRY(load_merge(l, line.at, line.len));
    }
    TRY(load_settle_merges(l));
    l->line = 0;
    return GDN_OK;
}

static enum gdn_status read_vocab_text(struct loader *l, struct load_text text)
{
    struct json_token token;
    json_open(&l->json, text.at, text.len);
    TRY(load_vocab(l));
    return load_next(l, &token);
}

static enum gdn_status read_pair(struct loader *l, struct load_text vocab, struct load_text merges)
{
    enum gdn_status status = read_vocab_text(l, vocab);
    if (status != GDN_OK) {
        error_prefix(l->err, "vocab.json");
        return status;
    }
    status = read_merges_text(l, merges);
    if (status != GDN_OK) error_prefix(l->err, "merges.txt");
    return status;
}

enum gdn_status load_pair(struct load_text vocab, struct load_text merges, struct load_text config,
                          struct load_text added, unsigned flags, struct tokenizer *tok,
                          struct gdn_error *err)
{
    struct loader l = {.err = err, .flags = flags, .tok = tok};
    alphabet_open(&l.alphabet);
    enum gdn_status status = read_pair(&l, vocab, merges);
    if (status == GDN_OK) status = load_config(&l, config, added);
    return load_end(&l, status);
}

/* ---- tiktoken.model -------------------------------------------------------------------------- */

/* Three bytes for four letters; false when it is not base64. */
static bool base64_read(const char *at, size_t len, char *out, size_t *out_len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t count = 0, n = 0;
    while (len > 0 && at[len - 1] == '=' && count++ < 2) len--;
    if ((len + count) % 4 != 0) return false;
    for (size_t i = 0; i < len; i++) {
        const char *letter = at[i] ? strchr(letters, at[i]) : NULL;
        if (!letter) return false;
        bits = bits << 6 | (uint32_t)(letter - letters);
        if (i % 4 > 0) out[n++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    *out_len = n;
    return true;
}

/* "aGVsbG8= 1234" */
static enum gdn_status read_rank(struct loader *l, struct load_text line)
{
    char bytes[TOKENIZER_TOKEN_MAX + 4], shown[48];
    size_t len;
    int64_t id;
    const char *space = memchr(line.at, ' ', line.len);
    const size_t first = space ? (size_t)(space - line.at) : 0;
    const struct json_token number = {JSON_NUMBER, line.at + first + 1, line.len - first - 1,
                                      false};
    if (!space || first > TOKENIZER_TOKEN_MAX || !base64_read(line.at, first, bytes, &len) ||
        len == 0 || number.len == 0 || strspn(number.text, "0123456789") < number.len ||
        !json_int(&number, 0, TOKENIZER_VOCAB_MAX - 1, &id))
        return load_bad(l, "found \"%s\", need a token in base64, a blank and its rank",
                        show_bytes(shown, sizeof shown, line.at, line.len));
    switch (vocab_add(&l->vocab, bytes, len, false, (int32_t)id)) {
    case VOCAB_ADDED: return GDN_OK;
    case VOCAB_TWICE:
        return load_bad(l, "token \"%s\" is there twice",
                        show_bytes(shown, sizeof shown, line.at, line.len));
    case VOCAB_CROWDED: return load_bad(l, "the tokens were made to collide");
    case VOCAB_NO_MEMORY: break;
    }
    return load_no_memory(l);
}

/* Whatever two tokens make a third when they meet is merged, lowest rank of the third first. */
static enum gdn_status merge_by_rank(struct loader *l)
{
    const struct vocab *vocab = &l->vocab;
    for (size_t i = 0; i < vocab->count; i++) {
        struct vocab_entry *whole = &vocab->entries[i];
        for (size_t cut = 1; cut < whole->len; cut++) {
            const char *text = vocab->text.at + whole->at;
            const struct vocab_entry *left = vocab_find(vocab, text, cut, false);
            const struct vocab_entry *right =
                left ? vocab_find(vocab, text + cut, whole->len - cut, false) : NULL;
            if (!right) continue;
            TRY(load_add_merge(l, (uint32_t)left->id, (uint32_t)right->id, whole,
                               (uint32_t)whole->id + 1));
        }
    }
    return load_settle_merges(l);
}

/* Ids between the last rank and the last added token that nobody names are reserved. */
static enum gdn_status fill_gaps(struct loader *l, int32_t first)
{
    int32_t last = first - 1;
    for (size_t i = 0; i < l->added_count; i++)
        if (l->added[i].id > last) last = l->added[i].id;
    if (last < first) return GDN_OK;
    bool *named = mem_take((size_t)(last - first) + 1);
    if (!named) return load_no_memory(l);
    enum gdn_status status = GDN_OK;
    for (size_t i = 0; i < l->added_count; i++)
        if (l->added[i].id >= first) named[l->added[i].id - first] = true;
    for (int32_t id = first; id <= last && status == GDN_OK; id++) {
        char text[40];
        snprintf(text, sizeof text, "<|reserved_token_%d|>", id);
        if (!named[id - first]) status = load_added_text(l, text, strlen(text), id, true);
    }
    mem_give(named);
    return status;
}

/* Fills tok->words. */
static enum gdn_status find_words(struct tokenizer *tok, size_t count, struct gdn_error *err)
{
    struct bpe_work work;
    struct ids ids = {0};
    bool good = bpe_work_open(&work, false);
    for (size_t id = 0; id < count && good; id++) {
        const struct token *token = &tok->tokens[id];
        const char *text = tok->text.at + token->at;
        ids.len = 0;
        good = bpe_encode(&tok->bpe, &work, (const unsigned char *)text, token->len, &ids);
        if (good && ids.len != 1) good = added_add(&tok->words, text, token->len, (int32_t)id);
    }
    bpe_work_close(&work);
    ids_free(&ids);
    added_seal(&tok->words);
    return good ? GDN_OK : error_set(err, GDN_ERR_MEMORY, "no memory for the tokenizer");
}

static enum gdn_status read_ranks(struct loader *l, struct load_text text)
{
    struct load_text line;
    for (l->line = 1; next_line(&text, &line); l->line++)
        if (line.len > 0) TRY(read_rank(l, line));
    TRY(load_bytes(l));
    TRY(merge_by_rank(l));
    l->line = 0;
    return GDN_OK;
}

enum gdn_status load_tiktoken(struct load_text ranks, struct load_text config, unsigned flags,
                              struct tokenizer *tok, struct gdn_error *err)
{
    struct loader l = {.err = err, .flags = flags, .tok = tok};
    alphabet_open(&l.alphabet);
    enum gdn_status status = read_ranks(&l, ranks);
    if (status != GDN_OK) error_prefix(err, "tiktoken.model");
    const int32_t first = (int32_t)l.vocab.count;
    if (status == GDN_OK) status = load_config(&l, config, (struct load_text){0});
    if (status == GDN_OK) status = fill_gaps(&l, first);
    TRY(load_end(&l, status));
    return find_words(tok, (size_t)first, err);
}
