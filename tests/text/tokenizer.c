/* Reading tokenizer.json, and encoding with it. */
#include "text/tokenizer.h"

#include <setjmp.h>
#include <string.h>

#include "text/small.h"

#include "base/file.h"
#include "base/memory.h"
#include "text/decode.h"
#include "text/normal.h"

#define DEMO GDN_SOURCE_DIR "/models/demo"

static struct tokenizer *open_demo(void)
{
    struct tokenizer *tok;
    struct gdn_error err = {0};
    if (tokenizer_open(DEMO, 0, &tok, &err) != GDN_OK) fail_msg("%s", err.text);
    return tok;
}

static void encode(const struct tokenizer *tok, const struct bytes *text,
                   enum tokenizer_control control, struct ids *ids)
{
    struct gdn_error err = {0};
    if (tokenizer_encode(tok, text->at, text->len, control, ids, &err) != GDN_OK)
        fail_msg("%s", err.text);
}

static void reads_the_demo(void **state)
{
    (void)state;
    struct tokenizer *tok = open_demo();
    size_t len;
    assert_int_equal(tokenizer_count(tok), 4096);
    assert_int_equal(tokenizer_find_added(tok, "<|im_start|>", 12), 4085);
    assert_int_equal(tokenizer_find_added(tok, "<|im_start|", 11), -1);
    assert_int_equal(tokenizer_find_added(tok, "the", 3), -1);
    assert_true(tokenizer_is_added(tok, 4094) && !tokenizer_is_special(tok, 4094));
    assert_true(tokenizer_is_added(tok, 4086) && tokenizer_is_special(tok, 4086));
    assert_false(tokenizer_is_added(tok, 0) || tokenizer_is_added(tok, -1));
    assert_false(tokenizer_is_special(tok, 4096));
    assert_memory_equal(tokenizer_bytes(tok, 4094, &len), "<think>", 7);
    assert_int_equal(len, 7);
    assert_memory_equal(tokenizer_bytes(tok, 220, &len), " ", 1);
    assert_null(tokenizer_bytes(tok, 4096, &len));
    assert_int_equal(len, 0);
    assert_null(tokenizer_bytes(tok, -1, &len));
    tokenizer_close(tok);
    tokenizer_close(NULL);
}

/* One line of the vectors: {"text": ..., "ids": [...]}. */
static void check_vector(const struct tokenizer *tok, const char *line, size_t len, int at)
{
    struct json json;
    struct json_token t;
    struct ids ids = {0};
    struct gdn_error err = {0};
    struct bytes back = {0}, room = {0};
    int64_t want;
    size_t text_len, i = 0;
    char *text = mem_take(len + 1);
    const char *normal = text;
    json_open(&json, line, len);
    assert_int_equal(json_next(&json, &t), JSON_OBJECT);
    assert_true(json_next(&json, &t) == JSON_KEY && json_is(&t, "text"));
    assert_int_equal(json_next(&json, &t), JSON_STRING);
    assert_true(json_text(&t, text, len + 1, &text_len));
    assert_true(json_next(&json, &t) == JSON_KEY && json_is(&t, "ids"));
    assert_int_equal(json_next(&json, &t), JSON_ARRAY);
    assert_int_equal(tokenizer_encode(tok, text, text_len, TOKENIZER_WITH_CONTROL, &ids, &err), 0);
    for (; json_next(&json, &t) == JSON_NUMBER; i++) {
        assert_true(json_int(&t, 0, 4095, &want));
        if (i >= ids.len || ids.at[i] != want) fail_msg("line %d: token %zu differs", at, i);
    }
    if (i != ids.len) fail_msg("line %d: %zu tokens, need %zu", at, ids.len, i);
    decode_ids(tok, ids.at, ids.len, false, &back);
    assert_true(normal_nfc(&normal, &text_len, &room));
    assert_int_equal(back.len, text_len);
    if (text_len) assert_memory_equal(back.at, normal, text_len);
    mem_give(text);
    ids_free(&ids);
    bytes_free(&back);
    bytes_free(&room);
}

static void agrees_with_the_tokenizers_package(void **state)
{
    (void)state;
    struct tokenizer *tok = open_demo();
    char *lines;
    size_t len;
    int count = 0;
    assert_int_equal(file_read(GDN_SOURCE_DIR "/tests/text/vectors/demo.jsonl", 1 << 20, &lines,
                               &len, NULL), 0);
    for (char *at = lines, *end; at < lines + len; at = end + 1) {
        end = memchr(at, '\n', (size_t)(lines + len - at));
        assert_non_null(end);
        check_vector(tok, at, (size_t)(end - at), ++count);
    }
    assert_true(count > 400);
    mem_give(lines);
    tokenizer_close(tok);
}

static void keeps_user_text_from_control(void **state)
{
    (void)state;
    struct tokenizer *tok = open_demo();
    struct bytes text = {0};
    struct ids ids = {0};
    for (int32_t id = 0; id < tokenizer_count(tok); id++) {
        size_t len;
        const char *token = tokenizer_bytes(tok, id, &len);
        if (tokenizer_is_added(tok, id)) bytes_add(&text, token, len);
    }
    encode(tok, &text, TOKENIZER_WITH_CONTROL, &ids);
    assert_int_equal(ids.len, 12);
    ids.len = 0;
    encode(tok, &text, TOKENIZER_PLAIN, &ids);
    for (size_t i = 0; i < ids.len; i++) assert_false(tokenizer_is_added(tok, ids.at[i]));
    bytes_free(&text);
    ids_free(&ids);
    tokenizer_close(tok);
}

static void repairs_bad_bytes(void **state)
{
    (void)state;
    struct tokenizer *tok = small_open(&(struct small){0}, 0);
    check_ids(tok, "", 0, TOKENIZER_PLAIN, -1);
    check_ids(tok, "\xFF" "ab", 3, TOKENIZER_PLAIN, 0xEF, 0xBF, 0xBD, 256, -1);
    check_ids(tok, "\xE4\xB8", 2, TOKENIZER_PLAIN, 0xEF, 0xBF, 0xBD, -1);
    check_ids(tok, "a\0b", 3, TOKENIZER_PLAIN, 'a', 0, 'b', -1);
    tokenizer_close(tok);
}

static void matches_added_tokens(void **state)
{
    (void)state;
    /* Raw and normalised ones; one inside another; one whose text NFC changes. */
    struct small s = {.added = SMALL_ADDED ",{\"id\":260,\"content\":\"<s>>\",\"special\":true},"
                               "{\"id\":261,\"content\":\"e\\u0301\",\"normalized\":true},"
                               "{\"id\":262,\"content\":\"\xC3\xA9!\"}"};
    struct tokenizer *tok = small_open(&s, 0);
    size_t len;
    check_ids(tok, "<s>", 3, TOKENIZER_WITH_CONTROL, 259, -1);
    check_ids(tok, "<s>", 3, TOKENIZER_PLAIN, '<', 's', '>', -1);
    check_ids(tok, "<s>><s", 6, TOKENIZER_WITH_CONTROL, 260, '<', 's', -1);
    check_ids(tok, "<<s>>>", 6, TOKENIZER_WITH_CONTROL, '<', 260, '>', -1);
    check_ids(tok, "e\xCC\x81", 3, TOKENIZER_WITH_CONTROL, 261, -1);
    check_ids(tok, "\xC3\xA9", 2, TOKENIZER_WITH_CONTROL, 261, -1);
    check_ids(tok, "\xC3\xA9!", 3, TOKENIZER_WITH_CONTROL, 262, -1);
    check_ids(tok, "e\xCC\x81!", 4, TOKENIZER_WITH_CONTROL, 261, '!', -1);
    check_ids(tok, "e\xCC\x81", 3, TOKENIZER_PLAIN, 0xC3, 0xA9, -1);
    /* It stands for its own text, though each letter of it could stand for a byte. */
    assert_memory_equal(tokenizer_bytes(tok, 262, &len), "\xC3\xA9!", 3);
    assert_int_equal(len, 3);
    tokenizer_close(tok);
}

static void takes_either_form_of_merges(void **state)
{
    (void)state;
    const struct small forms[] = {
        {.merges = "\"a b\",\"ab c\",\"\xC4\xA0 a\""},
        {.merges = "\"a b\",[\"ab\",\"c\"],\"\\u0120 \\u0061\""},
        {.merges_first = true},
        {.model = "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\","
                  "\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":false,"
                  "\"ignore_merges\":false,"},
        {.normalizer = "null"},
        {.vocab = ",\"\\u0061b\":256,\"abc\":257,\"\\u0120a\":258"},
        {.vocab = SMALL_VOCAB ",\"<s>\":259"},
        {.vocab = SMALL_VOCAB ",\"a b\":260,\"\xE2\x82\xAC\":261"},
        {.pre_tokenizer = SMALL_SPLIT("\\\\p{N}|[^\\\\p{N}]+", SMALL_ISOLATED)},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tokenizer *tok = small_open(&forms[i], TOKENIZER_ANY_PATTERN);
        check_ids(tok, "abcab a", 7, TOKENIZER_PLAIN, 257, 256, 258, -1);
        tokenizer_close(tok);
    }
}

/* "Removed" is "Isolated" where the pieces cover the text, which is not known of other patterns. */
static void takes_removed_where_it_is_isolated(void **state)
{
    (void)state;
    static const char rest[] = "\"behavior\":\"Removed\",\"invert\":true";
    struct bytes json = {0};
    struct tokenizer *tok;
    char pre[600];
    snprintf(pre, sizeof pre, SMALL_SPLIT("%s", "%s"),
             "'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|"
             "\\\\s+(?!\\\\S)|\\\\s+", rest);
    tok = small_open(&(struct small){.pre_tokenizer = pre}, 0);
    check_ids(tok, "abc a", 5, TOKENIZER_PLAIN, 257, 258, -1);
    tokenizer_close(tok);
    snprintf(pre, sizeof pre, SMALL_SPLIT("%s", "%s"), "a+", rest);
    small_json(&json, &(struct small){.pre_tokenizer = pre});
    assert_int_equal(tokenizer_parse(json.at, json.len, TOKENIZER_ANY_PATTERN, &tok, NULL),
                     GDN_ERR_UNSUPPORTED);
    bytes_free(&json);
}

static void names_the_file(void **state)
{
    (void)state;
    struct tokenizer *tok;
    struct gdn_error err = {0};
    assert_int_equal(tokenizer_open("/nowhere/tokenizer.json", 0, &tok, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "/nowhere/tokenizer.json"));
    error_clear(&err);
    assert_int_equal(tokenizer_open(GDN_SOURCE_DIR "/tests/text", 0, &tok, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "tests/text/tokenizer.json"));
    error_clear(&err);
    assert_int_equal(tokenizer_open(DEMO "/config.json", 0, &tok, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "config.json"));
    error_clear(&err);
    char *path = mem_take(5000);
    for (size_t i = 0; i < 4090; i++) path[i] = "/."[i % 2];
    assert_int_equal(tokenizer_open(path, 0, &tok, &err), GDN_ERR_USAGE);
    mem_give(path);
}

/* Text that uses every part of the encoder: repair, added tokens, NFC, long words, memory. */
static void make_hard_text(struct bytes *text)
{
    for (int i = 0; i < 100; i++) {
        bytes_add_text(text, "The <|im_start|>caf\xC3\xA9 cafe\xCC\x81 \xFF 123\n\n");
        for (int k = 0; k < i; k++) bytes_add_text(text, "on\xCC\x81\xCC\xA3");
    }
    for (int k = 0; k < 300; k++) bytes_add_text(text, "\xCC\x81\xCC\xA3");
}

/* Each take of memory fails in turn, once or from then on: an error or, where the part can be done
 * without (machine code for the pattern), a whole tokenizer; never a leak. */
static void survives_failing_opens(void **state)
{
    (void)state;
    struct mem_count before = mem_counted();
    tokenizer_close(open_demo());
    int64_t takes = mem_counted().takes - before.takes;
    assert_true(takes > 30);
    for (int64_t n = 1; n <= 2 * takes; n++) {
        struct tokenizer *tok = NULL;
        struct gdn_error err = {0};
        mem_fail_after((n + 1) / 2, n % 2 == 0);
        enum gdn_status status = tokenizer_open(DEMO, 0, &tok, &err);
        mem_fail_after(0, false);
        assert_int_equal(err.status, status);
        if (status == GDN_OK)
            check_ids(tok, "the man", 7, TOKENIZER_PLAIN, 948, 454, -1);
        else
            assert_true(status == GDN_ERR_MEMORY && !tok);
        tokenizer_close(tok);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
}

static void survives_failing_encodes(void **state)
{
    (void)state;
    struct tokenizer *tok = open_demo();
    struct bytes text = {0};
    struct ids ids = {0};
    make_hard_text(&text);
    struct mem_count before = mem_counted();
    encode(tok, &text, TOKENIZER_WITH_CONTROL, &ids);
    int64_t takes = mem_counted().takes - before.takes;
    ids_free(&ids);
    assert_true(takes > 30);
    for (int64_t n = 1; n <= 2 * takes; n++) {
        struct gdn_error err = {0};
        mem_fail_after((n + 1) / 2, n % 2 == 0);
        enum gdn_status status =
            tokenizer_encode(tok, text.at, text.len, TOKENIZER_WITH_CONTROL, &ids, &err);
        mem_fail_after(0, false);
        assert_true(status == GDN_ERR_MEMORY && err.status == status && ids.len == 0);
        ids_free(&ids);
        assert_int_equal(mem_counted().live_blocks, before.live_blocks);
    }
    bytes_free(&text);
    tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_demo),
        cmocka_unit_test(agrees_with_the_tokenizers_package),
        cmocka_unit_test(keeps_user_text_from_control),
        cmocka_unit_test(repairs_bad_bytes),
        cmocka_unit_test(matches_added_tokens),
        cmocka_unit_test(takes_either_form_of_merges),
        cmocka_unit_test(takes_removed_where_it_is_isolated),
        cmocka_unit_test(names_the_file),
        cmocka_unit_test(survives_failing_opens),
        cmocka_unit_test(survives_failing_encodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
