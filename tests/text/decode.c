/* Ids into text, all at once and as they come. */
#include "text/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "text/small.h"

#include "base/rng.h"
#include "text/utf8.h"

/* The tokens of `small` are the bytes: id 0xE4 is the byte E4. */
static void check_stream(const struct tokenizer *tok, const int32_t *ids, size_t count)
{
    struct decoder decoder;
    struct bytes got = {0}, raw = {0}, want = {0};
    bytes_add_text(&got, "");
    decoder_open(&decoder, tok, false);
    for (size_t i = 0; i < count; i++) {
        size_t before = got.len, len;
        const char *bytes = tokenizer_bytes(tok, ids[i], &len);
        bytes_add(&raw, bytes, len);
        decoder_push(&decoder, ids[i], &got);
        /* Whole code points only, and no more held back than a begin of one. */
        assert_int_equal(utf8_good_len(got.at + before, got.len - before), got.len - before);
        assert_in_range(decoder.tail_len, 0, 3);
    }
    decoder_flush(&decoder, &got);
    utf8_add_repaired(&want, raw.at, raw.len);
    assert_int_equal(got.len, want.len);
    if (got.len) assert_memory_equal(got.at, want.at, got.len);
    bytes_free(&got);
    bytes_free(&raw);
    bytes_free(&want);
}

static void never_gives_half_a_code_point(void **state)
{
    (void)state;
    struct tokenizer *tok = small_open(&(struct small){0}, 0);
    static const uint8_t likely[] = {0xE4, 0xB8, 0xAD, 0xF0, 0x9F, 0x98, 0x80, 0xC3, 0xA9, 0xED,
                                     0xA0, 0xF4, 0x90, 0xE0, 0xFF, 'x'};
    struct rng rng = {5, 0};
    for (int round = 0; round < 20000; round++) {
        int32_t ids[24];
        size_t count = (size_t)rng_below(&rng, 24);
        for (size_t i = 0; i < count; i++) {
            ids[i] = round % 2 ? likely[rng_below(&rng, sizeof likely)]
                               : (int32_t)rng_below(&rng, 260);
        }
        check_stream(tok, ids, count);
    }
    tokenizer_close(tok);
}

static void push(struct decoder *decoder, int32_t id, const char *want)
{
    struct bytes out = {0};
    bytes_add_text(&out, "");
    decoder_push(decoder, id, &out);
    assert_string_equal(out.at, want);
    bytes_free(&out);
}

static void gives_text_as_soon_as_it_is_sure(void **state)
{
    (void)state;
    struct tokenizer *tok = small_open(&(struct small){0}, 0);
    struct decoder decoder;
    struct bytes out = {0};
    decoder_open(&decoder, tok, false);
    push(&decoder, 256, "ab");
    push(&decoder, 0xE4, "");
    push(&decoder, 0xB8, "");
    push(&decoder, 0xAD, "\xE4\xB8\xAD");
    push(&decoder, 0xF0, "");
    push(&decoder, 0x9F, "");
    push(&decoder, 'x', UTF8_REPLACEMENT "x");
    push(&decoder, 0x80, UTF8_REPLACEMENT);
    push(&decoder, 0xE4, "");
    push(&decoder, 0xE4, UTF8_REPLACEMENT);
    push(&decoder, -1, "");
    push(&decoder, 260, "");
    decoder_flush(&decoder, &out);
    assert_string_equal(out.at, UTF8_REPLACEMENT);
    decoder_flush(&decoder, &out);
    assert_int_equal(out.len, 3);
    push(&decoder, 0xB8, UTF8_REPLACEMENT);
    bytes_free(&out);
    tokenizer_close(tok);
}

static void leaves_out_special_tokens(void **state)
{
    (void)state;
    struct small s = {.added = SMALL_ADDED ",{\"id\":260,\"content\":\"<t>\",\"special\":false}"};
    struct tokenizer *tok = small_open(&s, 0);
    const int32_t ids[] = {259, 'a', 260, 0xC3, 259, 0xA9};
    struct bytes with = {0}, without = {0};
    decode_ids(tok, ids, 6, false, &with);
    decode_ids(tok, ids, 6, true, &without);
    assert_string_equal(with.at, "<s>a<t>" UTF8_REPLACEMENT "<s>" UTF8_REPLACEMENT);
    assert_string_equal(without.at, "a<t>\xC3\xA9");
    bytes_free(&with);
    bytes_free(&without);
    tokenizer_close(tok);
}

static void repairs_by_maximal_parts(void **state)
{
    (void)state;
    /* The examples of Unicode 3.9: E1 80, E2, F0 91 92, F1 BF; surrogates byte by byte. */
    static const struct {
        const char *bad;
        size_t parts;
    } cases[] = {{"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF", 4}, {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82", 8},
                 {"\xED\xA0\x80", 3},                     {"\xF4\x91\x92\x93\xFF", 5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes out = {0};
        utf8_add_repaired(&out, cases[i].bad, strlen(cases[i].bad));
        utf8_add_repaired(&out, "\x41", 1);
        assert_int_equal(out.len, 3 * cases[i].parts + 1);
        assert_int_equal(utf8_good_len(out.at, out.len), out.len);
        bytes_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_gives_half_a_code_point),
        cmocka_unit_test(gives_text_as_soon_as_it_is_sure),
        cmocka_unit_test(leaves_out_special_tokens),
        cmocka_unit_test(repairs_by_maximal_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
