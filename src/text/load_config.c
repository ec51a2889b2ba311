/* load_config.c: what stands beside a vocabulary: tokenizer_config.json tells the added tokens and
 * the pattern, added_tokens.json the former where the files are older. */
#include <string.h>

#include "base/memory.h"
#include "text/load.h"
#include "text/tokenizer.h"

enum { WORD = 40 };

/* ---- tokenizer_config.json ------------------------------------------------------------------- */

/* "151643": {"content": ..., "special": ...} */
static enum gdn_status read_decoder(struct loader *l)
{
    struct json_token key;
    bool more;
    TRY(load_expect(l, JSON_OBJECT, "added_tokens_decoder", &key));
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) return GDN_OK;
        const struct json_token number = {JSON_NUMBER, key.text, key.len, false};
        int64_t id = -1;
        const bool digits = key.len > 0 && strspn(key.text, "0123456789") >= key.len;
        if (!digits || !json_int(&number, 0, TOKENIZER_VOCAB_MAX - 1, &id))
            return load_bad(l, "added_tokens_decoder: need ids from 0 to %d as keys",
                            TOKENIZER_VOCAB_MAX - 1);
        struct json_token token;
        TRY(load_expect(l, JSON_OBJECT, "an added token", &token));
        TRY(load_added_token(l, (int32_t)id));
    }
}

struct config {
    char class[WORD];
    struct bytes special; /* the texts of special tokens, each behind a zero byte */
    char *pattern; /* of pretokenize_regex; NULL: none given */
    size_t pattern_len;
};

static enum gdn_status read_pattern(struct loader *l, struct config *config)
{
    struct json_token token;
    TRY(load_expect(l, JSON_STRING, "pretokenize_regex", &token));
    if (config->pattern) return load_bad(l, "pretokenize_regex: is there twice");
    config->pattern = mem_take(token.len + 1);
    if (!config->pattern ||
        !json_text(&token, config->pattern, token.len + 1, &config->pattern_len))
        return load_no_memory(l);
    return GDN_OK;
}

static enum gdn_status add_special(struct loader *l, struct config *config,
                                   const struct json_token *token)
{
    char text[TOKENIZER_TOKEN_MAX + 1];
    size_t len;
    if (!json_text(token, text, sizeof text, &len))
        return load_bad(l, "a special token of more than %d bytes", TOKENIZER_TOKEN_MAX);
    bytes_add(&config->special, "", 1);
    bytes_add_text(&config->special, text);
    return config->special.failed ? load_no_memory(l) : GDN_OK;
}

/* Texts, or objects with a "content", alone or in a list; whatever else there is says nothing. */
static enum gdn_status read_special(struct loader *l, struct config *config)
{
    struct json_token token;
    bool content = true;
    const int depth = l->json.depth;
    do {
        TRY(load_next(l, &token));
        if (token.kind == JSON_STRING && content) TRY(add_special(l, config, &token));
        content = token.kind != JSON_KEY || json_is(&token, "content");
    } while (l->json.depth > depth);
    return GDN_OK;
}

static bool is_special_key(const struct json_token *key)
{
    static const char *const names[] = {"bos_token", "eos_token", "pad_token", "unk_token",
                                        "additional_special_tokens"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_is(key, names[i])) return true;
    return false;
}

static enum gdn_status read_config(struct loader *l, struct config *config)
{
    struct json_token key;
    bool more, unused;
    TRY(load_expect(l, JSON_OBJECT, "tokenizer_config.json", &key));
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) break;
        if (json_is(&key, "added_tokens_decoder")) {
            TRY(read_decoder(l));
        } else if (json_is(&key, "tokenizer_class")) {
            TRY(load_word(l, "tokenizer_class", config->class, sizeof config->class));
        } else if (json_is(&key, "pretokenize_regex")) {
            TRY(read_pattern(l, config));
        } else if (is_special_key(&key)) {
            TRY(read_special(l, config));
        } else if (json_is(&key, "add_prefix_space")) {
            TRY(load_bool(l, "add_prefix_space", &unused));
            if (unused) return load_unsupported(l, "add_prefix_space", "true", "false");
        } else {
            TRY(load_skip(l, &key));
        }
    }
    return load_next(l, &key);
}

/* What transformers does for a class of tokenizers. */
static const struct class {
    const char *name, *pattern;
    bool nfc;
} classes[] = {
    {"Qwen2Tokenizer", "qwen2", true},
    {"Qwen2TokenizerFast", "qwen2", true},
    {"GPT2Tokenizer", "gpt-2", false},
    {"GPT2TokenizerFast", "gpt-2", false},
    {"TikTokenTokenizer", "kimi", false},
};

static enum gdn_status set_class(struct loader *l, const struct config *config)
{
    const struct class *class = NULL;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(config->class, classes[i].name) == 0) class = &classes[i];
    if (!class)
        return load_unsupported(l, "tokenizer_class", config->class[0] ? config->class : "none",
                                "Qwen2Tokenizer, GPT2Tokenizer or TikTokenTokenizer");
    l->tok->nfc = class->nfc;
    if (!config->pattern) return split_open_known(class->pattern, &l->tok->split, l->err);
    return split_open(config->pattern, config->pattern_len, l->flags & TOKENIZER_ANY_PATTERN,
                      &l->tok->split, l->err);
}

/* ---- added_tokens.json ----------------------------------------------------------------------- */

/* The added tokens so far by id: the place of each plus one, 0 for none. */
struct known {
    uint32_t *index;
    int32_t last;
};

static enum gdn_status known_open(struct loader *l, struct known *known)
{
    *known = (struct known){.last = -1};
    for (size_t i = 0; i < l->added_count; i++)
        if (l->added[i].id > known->last) known->last = l->added[i].id;
    known->index = mem_take_array((size_t)known->last + 1, sizeof *known->index);
    if (!known->index) return load_no_memory(l);
    for (size_t i = 0; i < l->added_count; i++)
        known->index[l->added[i].id] = (uint32_t)i + 1;
    return GDN_OK;
}

static bool is_known(const struct loader *l, const struct known *known, const char *text,
                     size_t len, int64_t id)
{
    if (id > known->last || known->index[id] == 0) return false;
    const struct load_added *a = &l->added[known->index[id] - 1];
    return a->len == len && memcmp(l->added_text.at + a->at, text, len) == 0;
}

static bool is_special(const struct config *config, const char *text)
{
    const struct bytes *all = &config->special;
    for (size_t at = 1; at < all->len; at += strlen(all->at + at) + 1)
        if (strcmp(all->at + at, text) == 0) return true;
    return false;
}

/* {"<|im_start|>": 151644}: the form before added_tokens_decoder, which has the last word. */
static enum gdn_status read_added_list(struct loader *l, const struct config *config,
                                       const struct known *known)
{
    struct json_token key, value;
    char text[TOKENIZER_TOKEN_MAX + 1];
    size_t len;
    int64_t id;
    bool more;
    TRY(load_expect(l, JSON_OBJECT, "added tokens", &key));
    for (;;) {
        TRY(load_key(l, &key, &more));
        if (!more) break;
        if (!json_text(&key, text, sizeof text, &len) || len == 0)
            return load_bad(l, "an added token of %zu bytes, need 1 to %d", key.len,
                            TOKENIZER_TOKEN_MAX);
        TRY(load_expect(l, JSON_NUMBER, "the id of an added token", &value));
        if (!json_int(&value, 0, TOKENIZER_VOCAB_MAX - 1, &id))
            return load_bad(l, "the id of an added token: need 0 to %d", TOKENIZER_VOCAB_MAX - 1);
        if (!is_known(l, known, text, len, id))
            TRY(load_added_text(l, text, len, (int32_t)id, is_special(config, text)));
    }
    return load_next(l, &key);
}

static enum gdn_status read_added(struct loader *l, struct config *config)
{
    struct known known;
    TRY(known_open(l, &known));
    const enum gdn_status status = read_added_list(l, config, &known);
    mem_give(known.index);
    return status;
}

/* ---- both ------------------------------------------------------------------------------------ */

static enum gdn_status read_text(struct loader *l, struct load_text text, const char *name,
                                 struct config *config,
                                 enum gdn_status (*read)(struct loader *l, struct config *config))
{
    json_open(&l->json, text.at, text.len);
    const enum gdn_status status = read(l, config);
    if (status != GDN_OK) error_prefix(l->err, "%s", name);
    return status;
}

static enum gdn_status read_whole_config(struct loader *l, struct config *config)
{
    TRY(read_config(l, config));
    return set_class(l, config);
}

enum gdn_status load_config(struct loader *l, struct load_text text, struct load_text added)
{
    struct config config = {0};
    enum gdn_status status =
        read_text(l, text, "tokenizer_config.json", &config, read_whole_config);
    if (status == GDN_OK && added.at)
        status = read_text(l, added, "added_tokens.json", &config, read_added);
    mem_give(config.pattern);
    bytes_free(&config.special);
    return status;
}
