/* Tokenizers in the files of real models. The base vocabulary of Qwen2 and Qwen3 follows from its
 * merges: the bytes in the order of their alphabet, then what each merge makes. Written as
 * vocab.json with merges.txt and as tiktoken.model, it must give the ids that llama.cpp publishes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "text/decode.h"
#include "text/utf8.h"

#define DATA GDN_SOURCE_DIR "/tests/data/tokenizers/"
#define SEPARATOR "\n__ggml_vocab_test__\n"
#define ADDED(id, text) "\"" #id "\":{\"content\":\"" text "\",\"special\":true}"

enum { VOCAB = 151643 };

static char folder[64];
static struct bytes merges;

/* ---- writing the files --------------------------------------------------------------------------- */

static void put_file(const char *name, const char *text, size_t len)
{
    char path[512];
    struct file_out out;
    assert_true(file_join(path, sizeof path, folder, name));
    if (!text) {
        remove(path);
        return;
    }
    assert_int_equal(file_create(&out, path, NULL), GDN_OK);
    file_write(&out, text, len);
    assert_int_equal(file_commit(&out, NULL), GDN_OK);
}

static void put_text(const char *name, const char *text) { put_file(name, text, strlen(text)); }

static int open_folder(void **state)
{
    (void)state;
    char piece[65536];
    FILE *pipe = popen("xz -dc " DATA "qwen2-merges.txt.xz", "r");
    if (!pipe) return -1;
    for (size_t n; (n = fread(piece, 1, sizeof piece, pipe)) > 0;) bytes_add(&merges, piece, n);
    strcpy(folder, "/tmp/gdn-files-XXXXXX");
    return pclose(pipe) == 0 && mkdtemp(folder) ? 0 : -1;
}

static int close_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                        "tiktoken.model", "tokenizer.json", "added_tokens.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) put_file(names[i], NULL, 0);
    bytes_free(&merges);
    return rmdir(folder);
}

/* The letters of the 256 bytes, in the order of their ids. */
static uint32_t letter_of(int id)
{
    if (id < 94) return (uint32_t)id + 33;
    if (id < 106) return (uint32_t)id - 94 + 161;
    return id < 188 ? (uint32_t)id - 106 + 174 : (uint32_t)id - 188 + 256;
}

static void each_token(void (*put)(struct bytes *out, const char *text, size_t len, int id),
                       struct bytes *out)
{
    int id = 0;
    for (; id < 256; id++) {
        char text[4];
        put(out, text, utf8_put(text, letter_of(id)), id);
    }
    for (const char *at = merges.at, *end; *at; at = end + 1, id++) {
        char text[1024];
        size_t n = 0;
        end = strchr(at, '\n');
        for (const char *c = at; c < end; c++)
            if (*c != ' ') text[n++] = *c;
        put(out, text, n, id);
    }
    assert_int_equal(id, VOCAB);
}

static void put_json(struct bytes *out, const char *text, size_t len, int id)
{
    bytes_add_text(out, id ? "," : "{");
    json_put_string(out, text, len);
    bytes_addf(out, ":%d", id);
}

/* A token's letters are its bytes written in the alphabet; then these in base64. */
static void put_rank(struct bytes *out, const char *text, size_t len, int id)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char bytes[1026] = {0};
    size_t n = 0, step;
    for (size_t i = 0; i < len; i += step) {
        const uint32_t c = utf8_read((const unsigned char *)text + i, &step);
        int byte = (int)c;
        if (c >= 256) byte = c < 289 ? (int)c - 256 : c < 323 ? (int)c - 289 + 127 : 173;
        bytes[n++] = (unsigned char)byte;
    }
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t bits = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        char four[5] = {letters[bits >> 18], letters[bits >> 12 & 63],
                        i + 1 < n ? letters[bits >> 6 & 63] : '=',
                        i + 2 < n ? letters[bits & 63] : '=', 0};
        bytes_add_text(out, four);
    }
    bytes_addf(out, " %d\n", id);
    memset(bytes, 0, sizeof bytes);
}

static void write_pair(const char *config)
{
    struct bytes json = {0};
    each_token(put_json, &json);
    bytes_add_text(&json, "}");
    put_file("vocab.json", json.at, json.len);
    put_file("merges.txt", merges.at, merges.len);
    put_text("tokenizer_config.json", config);
    put_file("tiktoken.model", NULL, 0);
    bytes_free(&json);
}

static void write_ranks(const char *config)
{
    struct bytes text = {0};
    each_token(put_rank, &text);
    put_file("tiktoken.model", text.at, text.len);
    put_text("tokenizer_config.json", config);
    put_file("vocab.json", NULL, 0);
    put_file("merges.txt", NULL, 0);
    bytes_free(&text);
}

static struct tokenizer *open_tokenizer(void)
{
    struct tokenizer *tok;
    struct gdn_error err = {0};
    if (tokenizer_open(folder, 0, &tok, &err) != GDN_OK) fail_msg("%s", err.text);
    return tok;
}

/* ---- the vectors --------------------------------------------------------------------------------- */

static bool is_right(const struct tokenizer *tok, const char *text, size_t len, const char **ids)
{
    struct ids got = {0};
    struct bytes back = {0};
    bool right = true;
    assert_int_equal(tokenizer_encode(tok, text, len, TOKENIZER_PLAIN, &got, NULL), GDN_OK);
    for (size_t i = 0; i < got.len; i++) {
        char *end;
        const long want = strtol(*ids, &end, 10);
        right = right && end > *ids && want == got.at[i];
        *ids = end;
    }
    while (**ids == ' ') ++*ids;
    right = right && **ids == '\n';
    *ids = strchr(*ids, '\n') + 1;
    decode_ids(tok, got.at, got.len, false, &back);
    if (right) assert_memory_equal(back.at, text, len);
    bytes_free(&back);
    ids_free(&got);
    return right;
}

/* How many lines of a published vector file differ. */
static int count_wrong(const struct tokenizer *tok, const char *texts, const char *ids, int lines)
{
    char *text, *want;
    size_t text_len, want_len;
    int wrong = 0, count = 0;
    assert_int_equal(file_read(texts, 1 << 20, &text, &text_len, NULL), GDN_OK);
    assert_int_equal(file_read(ids, 1 << 20, &want, &want_len, NULL), GDN_OK);
    const char *line = want;
    for (char *at = text; at; count++) {
        char *end = strstr(at, SEPARATOR);
        const size_t len = end ? (size_t)(end - at) : (size_t)(text + text_len - at);
        /* Behind the last separator stands nothing, and no line of ids. */
        if (!end && len == 0) break;
        wrong += !is_right(tok, at, len, &line);
        at = end ? end + strlen(SEPARATOR) : NULL;
    }
    assert_int_equal(count, lines);
    mem_give(text);
    mem_give(want);
    return wrong;
}

#define QWEN35                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{L}\\\\p{M}]+|\\\\p{N}" \
    "| ?[^\\\\s\\\\p{L}\\\\p{M}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN2                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}"       \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define CONFIG(class, more)                                                              \
    "{\"tokenizer_class\":\"" class "\"," more "\"added_tokens_decoder\":{"              \
    ADDED(151643, "<|endoftext|>") "," ADDED(151644, "<|im_start|>") "," ADDED(151645, "<|im_end|>") "}}"

static void vocab_and_merges(void **state)
{
    (void)state;
    write_pair(CONFIG("Qwen2Tokenizer", ""));
    struct tokenizer *tok = open_tokenizer();
    assert_int_equal(tokenizer_count(tok), VOCAB + 3);
    assert_int_equal(tokenizer_find_added(tok, "<|im_end|>", 10), 151645);
    assert_true(tokenizer_is_special(tok, 151643));
    assert_int_equal(count_wrong(tok, DATA "qwen2.inp", DATA "qwen2.out", 46), 0);
    tokenizer_close(tok);
    /* The published ids are those of a runtime that does not bring text into normal form: three
     * lines have accents of their own. */
    write_pair(CONFIG("Qwen2TokenizerFast", "\"pretokenize_regex\":\"" QWEN35 "\","));
    tok = open_tokenizer();
    assert_int_equal(count_wrong(tok, DATA "qwen35.inp", DATA "qwen35.out", 50), 3);
    tokenizer_close(tok);
}

/* Before added_tokens_decoder there was added_tokens.json, and what is special stood in the config. */
static void added_tokens_of_old(void **state)
{
    (void)state;
    static const char old[] =
        "{\"tokenizer_class\":\"Qwen2Tokenizer\",\"eos_token\":{\"content\":\"<|im_end|>\","
        "\"lstrip\":false,\"x\":\"<think>\"},\"pad_token\":null,\"bos_token\":\"<|endoftext|>\","
        "\"additional_special_tokens\":[\"<|im_start|>\"]}";
    write_pair(old);
    put_text("added_tokens.json", "{\"<|im_end|>\": 151645, \"<|endoftext|>\": 151643,"
             "\"<|im_start|>\": 151644, \"<think>\": 151646}");
    struct tokenizer *tok = open_tokenizer();
    assert_int_equal(tokenizer_count(tok), VOCAB + 4);
    static const char *const texts[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"};
    for (int i = 0; i < 4; i++) {
        const int32_t id = tokenizer_find_added(tok, texts[i], strlen(texts[i]));
        assert_int_equal(id, 151643 + i);
        assert_int_equal(tokenizer_is_special(tok, id), i < 3);
    }
    assert_int_equal(count_wrong(tok, DATA "qwen2.inp", DATA "qwen2.out", 46), 0);
    tokenizer_close(tok);
    /* Beside the newer form it adds what that has not; the same once more changes nothing. */
    put_text("tokenizer_config.json", CONFIG("Qwen2Tokenizer", ""));
    tok = open_tokenizer();
    assert_int_equal(tokenizer_count(tok), VOCAB + 4);
    assert_true(tokenizer_is_special(tok, 151645));
    tokenizer_close(tok);
    static const char *const wrong[][2] = {
        {"[]", "added_tokens.json: byte 1: added tokens: need an object"},
        {"{\"<x>\":-1}", "the id of an added token: need 0 to 1999999"},
        {"{\"\":151646}", "an added token of 0 bytes"},
        {"{\"<x>\":151646", "added_tokens.json: byte "},
        {"{\"<x>\":151643}", "151643"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct gdn_error err = {0};
        put_text("added_tokens.json", wrong[i][0]);
        assert_int_not_equal(tokenizer_open(folder, 0, &tok, &err), GDN_OK);
        if (!strstr(err.text, wrong[i][1])) fail_msg("%zu: %s", i, err.text);
    }
    put_file("added_tokens.json", NULL, 0);
}

static void ranks(void **state)
{
    (void)state;
    write_ranks(CONFIG("TikTokenTokenizer", "\"pretokenize_regex\":\"" QWEN2 "\","));
    struct tokenizer *tok = open_tokenizer();
    assert_int_equal(tokenizer_count(tok), VOCAB + 3);
    assert_int_equal(count_wrong(tok, DATA "qwen2.inp", DATA "qwen2.out", 46), 0);
    tokenizer_close(tok);
    write_ranks(CONFIG("TikTokenTokenizer", "\"pretokenize_regex\":\"" QWEN35 "\","));
    tok = open_tokenizer();
    assert_int_equal(count_wrong(tok, DATA "qwen35.inp", DATA "qwen35.out", 50), 0);
    tokenizer_close(tok);
}

/* ---- refusals ------------------------------------------------------------------------------------ */

static void refuse(const char *says)
{
    struct tokenizer *tok;
    struct gdn_error err = {0};
    assert_int_not_equal(tokenizer_open(folder, 0, &tok, &err), GDN_OK);
    assert_null(tok);
    if (!strstr(err.text, says)) fail_msg("%s", err.text);
}

static void refuses_by_file_and_line(void **state)
{
    (void)state;
    static const char *const configs[][2] = {
        {CONFIG("LlamaTokenizer", ""), "tokenizer_config.json: tokenizer_class: found Llama"},
        {"{}", "tokenizer_config.json: tokenizer_class: found none"},
        {"[]", "tokenizer_config.json: byte "},
        {CONFIG("Qwen2Tokenizer", "\"pretokenize_regex\":\"(a+)+$\","), "is not a known one"},
        {"{\"added_tokens_decoder\":{\"x\":{}}}", "need ids from 0 to 1999999 as keys"},
    };
    write_ranks("{}");
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        put_text("tokenizer_config.json", configs[i][0]);
        refuse(configs[i][1]);
    }
    put_text("tiktoken.model", "IQ== 0\nIg=x 1\n");
    refuse("tiktoken.model: line 2: found \"Ig=x 1\"");
    put_text("tiktoken.model", "IQ== 0\n");
    refuse("tiktoken.model: line 2: vocab: no token for byte 0x00");
    put_file("tokenizer_config.json", NULL, 0);
    refuse("tokenizer_config.json");
    write_pair(CONFIG("Qwen2Tokenizer", ""));
    put_text("merges.txt", "#version: 0.2\na b\nab\n");
    refuse("merges.txt: line 3: merge 1: need two tokens");
    put_text("merges.txt", "a b\na b\xC3");
    refuse("merges.txt: line 2: byte 4 of the line: need UTF-8");
    put_text("vocab.json", "{\"a\": 0");
    refuse("vocab.json: byte 7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_and_merges),
        cmocka_unit_test(added_tokens_of_old),
        cmocka_unit_test(ranks),
        cmocka_unit_test(refuses_by_file_and_line),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
