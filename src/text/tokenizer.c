#include "text/tokenizer.h"

#include "base/file.h"
#include "base/memory.h"
#include "text/normal.h"
#include "text/parts.h"
#include "text/utf8.h"

/* From here on remembering words pays for clearing the memory of them. */
enum { REMEMBER_FROM = 2048 };

enum { TEXTS_MAX = 4 };

struct source {
    struct load_text text[TEXTS_MAX];
    unsigned flags;
};

typedef enum gdn_status load_parts(const struct source *source, struct tokenizer *tok,
                                   struct gdn_error *err);

static enum gdn_status load_from_json(const struct source *s, struct tokenizer *tok,
                                      struct gdn_error *err)
{
    return load_json(s->text[0].at, s->text[0].len, s->flags, tok, err);
}

static enum gdn_status load_from_pair(const struct source *s, struct tokenizer *tok,
                                      struct gdn_error *err)
{
    return load_pair(s->text[0], s->text[1], s->text[2], s->text[3], s->flags, tok,
                     err);
}

static enum gdn_status load_from_ranks(const struct source *s, struct tokenizer *tok,
                                       struct gdn_error *err)
{
    return load_tiktoken(s->text[0], s->text[1], s->flags, tok, err);
}

/* The files a tokenizer may stand in, the first ones that are there. */
static const struct files {
    const char *name[TEXTS_MAX + 1];
    int needed; /* the files behind these may be missing */
    load_parts *load;
} known_files[] = {
    {{"tokenizer.json"}, 1, load_from_json},
    {{"vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"}, 3,
     load_from_pair},
    {{"tiktoken.model", "tokenizer_config.json"}, 2, load_from_ranks},
};

static enum gdn_status build(load_parts *load, const struct source *source,
                             struct tokenizer **out, struct gdn_error *err)
{
    struct tokenizer *tok = mem_take(sizeof *tok);
    if (!tok) return error_set(err, GDN_ERR_MEMORY, "no memory for the tokenizer");
    enum gdn_status status = load(source, tok, err);
    if (status != GDN_OK)
        tokenizer_close(tok);
    else
        *out = tok;
    return status;
}

enum gdn_status tokenizer_parse(const char *json, size_t len, unsigned flags,
                                struct tokenizer **out, struct gdn_error *err)
{
    const struct source source = {.text = {{json, len}}, .flags = flags};
    *out = NULL;
    if (len > TOKENIZER_FILE_MAX)
        return error_set(err, GDN_ERR_INPUT, "found %zu bytes, need at most %d", len,
                         TOKENIZER_FILE_MAX);
    return build(load_from_json, &source, out, err);
}

static const struct files *find_files(const char *folder)
{
    char path[4096];
    for (size_t i = 0; i < sizeof known_files / sizeof *known_files; i++)
        if (file_join(path, sizeof path, folder, known_files[i].name[0]) && file_exists(path))
            return &known_files[i];
    return NULL;
}

bool tokenizer_is_in(const char *folder) { return find_files(folder) != NULL; }

static enum gdn_status open_folder(const char *folder, const struct files *files, unsigned flags,
                                   struct tokenizer **tok, struct gdn_error *err)
{
    struct source source = {.flags = flags};
    char path[4096], *text[TEXTS_MAX] = {NULL};
    enum gdn_status status = GDN_OK;
    for (int i = 0; files->name[i] && status == GDN_OK; i++) {
        if (!file_join(path, sizeof path, folder, files->name[i]))
            status = error_set(err, GDN_ERR_USAGE, "%.200s...: the name is too long", folder);
        else if (i < files->needed || file_exists(path))
            status = file_read(path, TOKENIZER_FILE_MAX, &text[i], &source.text[i].len, err);
        source.text[i].at = text[i];
    }
    if (status == GDN_OK) {
        status = build(files->load, &source, tok, err);
        if (status != GDN_OK) error_prefix(err, "%s", files->name[1] ? folder : path);
    }
    for (int i = 0; i < TEXTS_MAX; i++) mem_give(text[i]);
    return status;
}

enum gdn_status tokenizer_open(const char *path, unsigned flags, struct tokenizer **tok,
                               struct gdn_error *err)
{
    char *json;
    size_t len;
    *tok = NULL;
    if (file_is_folder(path)) {
        const struct files *files = find_files(path);
        return open_folder(path, files ? files : &known_files[0], flags, tok, err);
    }
    TRY(file_read(path, TOKENIZER_FILE_MAX, &json, &len, err));
    enum gdn_status status = tokenizer_parse(json, len, flags, tok, err);
    mem_give(json);
    if (status != GDN_OK) error_prefix(err, "%s", path);
    return status;
}

void tokenizer_close(struct tokenizer *tok)
{
    if (!tok) return;
    bytes_free(&tok->text);
    mem_give(tok->tokens);
    bpe_close(&tok->bpe);
    split_close(tok->split);
    added_close(&tok->raw);
    added_close(&tok->normal);
    added_close(&tok->all);
    added_close(&tok->words);
    mem_give(tok);
}

int32_t tokenizer_count(const struct tokenizer *tok) { return (int32_t)tok->count; }

const char *tokenizer_bytes(const struct tokenizer *tok, int32_t id, size_t *len)
{
    *len = 0;
    if (id < 0 || (size_t)id >= tok->count) return NULL;
    *len = tok->tokens[id].len;
    return tok->text.at + tok->tokens[id].at;
}

int32_t tokenizer_find_added(const struct tokenizer *tok, const char *text, size_t len)
{
    return added_exact(&tok->all, text, len);
}

int32_t tokenizer_search_added(const struct tokenizer *tok, const char *text, size_t len,
                               size_t *begin, size_t *end)
{
    return added_search(&tok->all, text, len, begin, end);
}

static bool has_flag(const struct tokenizer *tok, int32_t id, int flag)
{
    return id >= 0 && (size_t)id < tok->count && (tok->tokens[id].flags & flag) != 0;
}

bool tokenizer_is_added(const struct tokenizer *tok, int32_t id)
{
    return has_flag(tok, id, TOKEN_ADDED);
}

bool tokenizer_is_special(const struct tokenizer *tok, int32_t id)
{
    return has_flag(tok, id, TOKEN_SPECIAL);
}

/* One call of tokenizer_encode. */
struct encoder {
    const struct tokenizer *tok;
    enum tokenizer_control control;
    struct split_run *run;
    struct bpe_work work;
    struct bytes normal;
    struct ids *ids;
    struct gdn_error *err;
};

static enum gdn_status no_memory(struct encoder *e, size_t len)
{
    return error_set(e->err, GDN_ERR_MEMORY, "no memory to encode %zu bytes of text", len);
}

/* Text in normal form and without control tokens. */
static enum gdn_status encode_words(struct encoder *e, const char *text, size_t len)
{
    const struct added *words = &e->tok->words;
    for (size_t at = 0, end; at < len; at = end) {
        TRY(split_next(e->run, text, len, at, &end, e->err));
        const int32_t id = words->count > 0 ? added_exact(words, text + at, end - at) : -1;
        const unsigned char *word = (const unsigned char *)text + at;
        if (id >= 0 ? !ids_add(e->ids, id)
                    : !bpe_encode(&e->tok->bpe, &e->work, word, end - at, e->ids))
            return no_memory(e, end - at);
    }
    return GDN_OK;
}

typedef enum gdn_status encode_part(struct encoder *e, const char *text, size_t len);

/* Cuts the tokens of `added` out of the text, and gives what lies between to `part`. */
static enum gdn_status encode_around(struct encoder *e, const struct added *added,
                                     const char *text, size_t len, encode_part *part)
{
    if (e->control == TOKENIZER_PLAIN || added->count == 0) return part(e, text, len);
    for (size_t at = 0, begin, end; at < len; at = end) {
        begin = at;
        int32_t id = added_search(added, text, len, &begin, &end);
        if (begin > at) TRY(part(e, text + at, begin - at));
        if (id >= 0 && !ids_add(e->ids, id)) return no_memory(e, len);
    }
    return GDN_OK;
}

static enum gdn_status encode_raw(struct encoder *e, const char *text, size_t len)
{
    if (e->tok->nfc && !normal_nfc(&text, &len, &e->normal)) return no_memory(e, len);
    return encode_around(e, &e->tok->normal, text, len, encode_words);
}

static enum gdn_status encode_text(struct encoder *e, const char *text, size_t len)
{
    e->run = split_run_open(e->tok->split);
    if (!e->run || !bpe_work_open(&e->work, len >= REMEMBER_FROM)) return no_memory(e, len);
    return encode_around(e, &e->tok->raw, text, len, encode_raw);
}

enum gdn_status tokenizer_encode(const struct tokenizer *tok, const char *text, size_t len,
                                 enum tokenizer_control control, struct ids *ids,
                                 struct gdn_error *err)
{
    struct encoder e = {.tok = tok, .control = control, .ids = ids, .err = err};
    struct bytes repaired = {0};
    size_t before = ids->len;
    if (len > TOKENIZER_TEXT_MAX)
        return error_set(err, GDN_ERR_INPUT, "a text of %zu bytes, need at most %d", len,
                         TOKENIZER_TEXT_MAX);
    if (len == 0) return GDN_OK;
    if (utf8_good_len(text, len) < len) {
        utf8_add_repaired(&repaired, text, len);
        if (repaired.failed) {
            bytes_free(&repaired);
            return no_memory(&e, len);
        }
        text = repaired.at;
        len = repaired.len;
    }
    enum gdn_status status = encode_text(&e, text, len);
    if (status != GDN_OK) ids->len = before;
    split_run_close(e.run);
    bpe_work_close(&e.work);
    bytes_free(&e.normal);
    bytes_free(&repaired);
    return status;
}
