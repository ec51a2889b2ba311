/* What a tokenizer.json may not be: each part that is damaged or not known, refused by name. */
#include "text/tokenizer.h"

#include <setjmp.h>
#include <string.h>

#include "text/small.h"

#include "base/memory.h"
#include "text/decode.h"
#include "text/hash.h"

struct refusal {
    struct small small;
    enum gdn_status status;
    const char *says;
};

#define NO GDN_ERR_UNSUPPORTED
#define BAD GDN_ERR_INPUT
#define LETTERS_32 "abcdefghijklmnopqrstuvwxyzabcdef"
#define LETTERS_1024                                                                             \
    LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32      \
    LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32      \
    LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32      \
    LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32 LETTERS_32

static const struct refusal refusals[] = {
    {{.normalizer = "{\"type\":\"NFKC\"}"}, NO, "NFKC"},
    {{.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[]}"}, NO, "Sequence"},
    {{.normalizer = "{}"}, BAD, "normalizer"},
    {{.normalizer = "3"}, BAD, "normalizer"},
    {{.pre_tokenizer = "null"}, NO, "null"},
    {{.pre_tokenizer = "[]"}, BAD, "pre_tokenizer"},
    {{.pre_tokenizer = "{\"type\":\"Whitespace\"}"}, NO, "Whitespace"},
    {{.pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"}, NO, "prefix_space"},
    {{.pre_tokenizer = "{\"type\":\"ByteLevel\",\"use_regex\":false}"}, NO, "use_regex"},
    {{.pre_tokenizer = "{\"type\":\"ByteLevel\",\"use_regex\":1}"}, BAD, "true or false"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[]}"}, NO, "number of steps"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},"
                       "{\"type\":\"ByteLevel\",\"use_regex\":false}]}"}, NO, "Digits"},
    {{.pre_tokenizer = SMALL_SPLIT("a+", SMALL_ISOLATED)}, NO, "\"a+\""},
    {{.pre_tokenizer = SMALL_SPLIT("a+", SMALL_ISOLATED)}, NO, "allow-any-pattern"},
    {{.pre_tokenizer = SMALL_SPLIT("\\\\p{N}", "\"behavior\":\"Removed\",\"invert\":false")}, NO,
     "Removed"},
    {{.pre_tokenizer = SMALL_SPLIT("\\\\p{N}", "\"behavior\":\"Isolated\",\"invert\":true")}, NO,
     "inverted"},
    {{.pre_tokenizer = SMALL_SPLIT("a", "\"pattern\":{\"Regex\":\"b\"}")}, BAD, "twice"},
    {{.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"}}"}, NO, "Regex"},
    {{.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\",\"b\":1}}"}, BAD,
     "one key"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{},{},{},{},{}]}"}, NO, "long"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[3]}"}, BAD, "objects"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[],\"pretokenizers\":[]}"}, BAD,
     "twice"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"},"
                       "{\"type\":\"ByteLevel\",\"new\":[]}]}"}, NO, "after a Split"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                       SMALL_ISOLATED "},{\"type\":\"ByteLevel\",\"use_regex\":false}]}"}, BAD,
     "no pattern"},
    {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"},"
                       "{\"type\":\"Digits\"}]}"}, NO, "Digits"},
    {{.type = "WordPiece"}, NO, "WordPiece"},
    {{.model = "\"dropout\":0.1,"}, NO, "dropout"},
    {{.model = "\"byte_fallback\":true,"}, NO, "byte_fallback"},
    {{.model = "\"ignore_merges\":true,"}, NO, "ignore_merges"},
    {{.model = "\"end_of_word_suffix\":\"</w>\","}, NO, "end_of_word_suffix"},
    {{.model = "\"something_new\":1,"}, NO, "something_new"},
    {{.model = "\"vocab\":{},"}, BAD, "byte 0x00"},
    {{.model = "\"merges\":[],"}, BAD, "twice"},
    {{.before = "\"model\":{\"type\":\"BPE\",\"merges\":[]},"}, BAD, "vocab and merges"},
    {{.before = "\"post_processor\":{\"type\":\"TemplateProcessing\"},"}, NO, "TemplateProcessing"},
    {{.before = "\"decoder\":{\"type\":\"Metaspace\"},"}, NO, "Metaspace"},
    {{.before = "\"normalizer\":null,"}, BAD, "twice"},
    {{.without_byte = 0x80}, BAD, "byte 0x80"},
    {{.vocab = SMALL_VOCAB ",\"abc\":260"}, BAD, "\"abc\" is there twice"},
    {{.vocab = SMALL_VOCAB ",\"x y\":260,\"x y\":261"}, BAD, "\"x y\" is there twice"},
    {{.vocab = SMALL_VOCAB ",\"xy\":257"}, BAD, "two tokens"},
    {{.vocab = SMALL_VOCAB ",\"xy\":300"}, BAD, "id 300"},
    {{.vocab = SMALL_VOCAB ",\"xy\":-1"}, BAD, "\"xy\""},
    {{.vocab = SMALL_VOCAB ",\"xy\":2000000"}, BAD, "\"xy\""},
    {{.vocab = SMALL_VOCAB ",\"xy\":26e1"}, BAD, "\"xy\""},
    {{.vocab = SMALL_VOCAB ",\"xy\":\"260\""}, BAD, "number"},
    {{.vocab = SMALL_VOCAB ",\"\":260"}, BAD, "0 bytes"},
    {{.vocab = SMALL_VOCAB ",\"" LETTERS_1024 "a\":260"}, BAD, "1025 bytes"},
    {{.merges = "[\"a\",\"\\n\"]"}, BAD, "\"\\x0A\" is not in the vocabulary"},
    {{.merges = "[\"a\",\"zz\"]"}, BAD, "\"zz\" is not in the vocabulary"},
    {{.merges = "[\"b\",\"c\"]"}, BAD, "makes \"bc\""},
    {{.merges = "\"a b" LETTERS_1024 LETTERS_1024 LETTERS_1024 LETTERS_1024 "\\u0061\""}, BAD,
     "too long"},
    {{.merges = "[\"" LETTERS_1024 LETTERS_1024 "\\u0061\",\"b\"]"}, BAD, "more than 1024"},
    {{.merges = "[\"a\",\"b\"],\"a b\""}, BAD, "merge 1 is there twice"},
    {{.merges = "\"ab\""}, BAD, "two tokens"},
    {{.merges = "\"a \""}, BAD, "0 bytes"},
    {{.merges = "\"a b c\""}, BAD, "\"b c\""},
    {{.merges = "[\"a\"]"}, BAD, "string"},
    {{.merges = "[\"a\",\"b\",\"c\"]"}, BAD, "more than two"},
    {{.merges = "7"}, BAD, "merge 0"},
    {{.added = "{\"id\":259,\"content\":\"<s>\",\"lstrip\":true}"}, NO, "lstrip"},
    {{.added = "{\"id\":259,\"content\":\"<s>\",\"rstrip\":true}"}, NO, "rstrip"},
    {{.added = "{\"id\":259,\"content\":\"<s>\",\"single_word\":true}"}, NO, "single_word"},
    {{.added = "{\"content\":\"<s>\"}"}, BAD, "id and content"},
    {{.added = "{\"id\":2000000,\"content\":\"<s>\"}"}, BAD, "1999999"},
    {{.added = "{\"id\":259}"}, BAD, "id and content"},
    {{.added = "{\"id\":259,\"content\":\"\"}"}, BAD, "0 bytes"},
    {{.added = "{\"id\":259,\"content\":\"" LETTERS_1024 "a\"}"}, BAD, "1025 bytes"},
    {{.added = "{\"id\":260,\"content\":\"<s>\"}"}, BAD, "id 260"},
    {{.added = "{\"id\":3,\"content\":\"<s>\"}"}, BAD, "id"},
    {{.added = "{\"id\":4,\"content\":\"abc\"}"}, BAD, "257"},
    {{.added = "{\"id\":257,\"content\":\"abc\",\"special\":true}"}, NO, "abc"},
    {{.added = "{\"id\":97,\"content\":\"a\",\"special\":true}"}, NO, "a"},
    {{.added = SMALL_ADDED "," SMALL_ADDED}, BAD, "259 is there twice"},
    {{.added = "5"}, BAD, "added_tokens"},
};

static void refuses(void **state)
{
    (void)state;
    struct bytes json = {0};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        struct gdn_error err = {0};
        struct tokenizer *tok;
        small_json(&json, &r->small);
        int64_t live = mem_counted().live_blocks;
        enum gdn_status status = tokenizer_parse(json.at, json.len, 0, &tok, &err);
        assert_int_equal(mem_counted().live_blocks, live);
        assert_null(tok);
        if (status != r->status || err.status != r->status || !strstr(err.text, r->says))
            fail_msg("refusal %zu, need \"%s\": %d %s", i, r->says, (int)status, err.text);
    }
    bytes_free(&json);
}

/* Tokens chosen to fall into one place of the table: one in 4,096 does. */
static void refuses_tokens_made_to_collide(void **state)
{
    (void)state;
    struct bytes vocab = {0}, json = {0};
    struct tokenizer *tok;
    struct gdn_error err = {0};
    int id = 259;
    for (uint32_t i = 0; id < 259 + HASH_PROBE_MAX + 8; i++) {
        char text[8] = {0};
        for (int k = 0; k < 6; k++) text[k] = (char)('a' + (i >> 4 * k & 15));
        if ((hash_bytes(text, 6) & 4095) == 0) bytes_addf(&vocab, ",\"%s\":%d", text, id++);
    }
    small_json(&json, &(struct small){.vocab = vocab.at, .merges = "", .added = ""});
    assert_int_equal(tokenizer_parse(json.at, json.len, 0, &tok, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "collide"));
    bytes_free(&vocab);
    bytes_free(&json);
}

/* Merges are looked up in groups; what is wrong with one is said of that one, with its place. */
static void tells_the_place_of_a_merge(void **state)
{
    (void)state;
    struct bytes json = {0}, merges = {0}, vocab = {0};
    for (int i = 0; i < 100; i++) {
        bytes_addf(&vocab, ",\"%c%c\":%d", 'a' + i % 10, 'A' + i / 10, 256 + i);
        bytes_addf(&merges, "%s[\"%c\",\"%c\"]", i ? "," : "", i == 77 ? 'z' : 'a' + i % 10,
                   'A' + i / 10);
    }
    small_json(&json, &(struct small){.vocab = vocab.at, .merges = merges.at, .added = ""});
    struct tokenizer *tok;
    struct gdn_error err = {0};
    char want[80];
    assert_int_equal(tokenizer_parse(json.at, json.len, 0, &tok, &err), GDN_ERR_INPUT);
    const char *place = strstr(json.at, "[\"z\",");
    snprintf(want, sizeof want, "byte %td: merge 77 makes \"zH\"", place + 9 - json.at);
    if (!strstr(err.text, want)) fail_msg("%s, need \"%s\"", err.text, want);
    bytes_free(&json);
    bytes_free(&merges);
    bytes_free(&vocab);
}

static void takes_what_is_at_the_limit(void **state)
{
    (void)state;
    struct small s = {.vocab = SMALL_VOCAB ",\"" LETTERS_1024 "\":260"};
    struct tokenizer *tok = small_open(&s, 0);
    struct bytes text = {0};
    struct ids ids = {0};
    size_t len;
    tokenizer_bytes(tok, 260, &len);
    assert_int_equal(len, TOKENIZER_TOKEN_MAX);
    decode_ids(tok, (const int32_t[]){0xE4, 0xB8, 260}, 3, false, &text);
    assert_int_equal(text.len, 3 + TOKENIZER_TOKEN_MAX);
    bytes_free(&text);
    assert_int_equal(tokenizer_encode(tok, "", (size_t)TOKENIZER_TEXT_MAX + 1, TOKENIZER_PLAIN,
                                      &ids, NULL), GDN_ERR_INPUT);
    tokenizer_close(tok);
    assert_int_equal(tokenizer_parse("", (size_t)TOKENIZER_FILE_MAX + 1, 0, &tok, NULL), BAD);
}

static void refuses_every_cut(void **state)
{
    (void)state;
    struct bytes json = {0};
    struct tokenizer *tok;
    small_json(&json, &(struct small){0});
    for (size_t len = 0; len < json.len; len++)
        assert_int_equal(tokenizer_parse(json.at, len, 0, &tok, NULL), GDN_ERR_INPUT);
    bytes_add_text(&json, "x");
    assert_int_equal(tokenizer_parse(json.at, json.len, 0, &tok, NULL), GDN_ERR_INPUT);
    bytes_free(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_tokens_made_to_collide),
        cmocka_unit_test(tells_the_place_of_a_merge),
        cmocka_unit_test(takes_what_is_at_the_limit),
        cmocka_unit_test(refuses_every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
