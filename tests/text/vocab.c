/* The table a tokenizer file is read into, and the alphabet of bytes. */
#include "text/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "text/hash.h"

static void finds_what_was_added(void **state)
{
    (void)state;
    struct vocab vocab = {0};
    char text[16];
    assert_null(vocab_find(&vocab, "a", 1, false));
    for (int i = 0; i < 5000; i++) {
        size_t len = (size_t)snprintf(text, sizeof text, "t%d", i);
        assert_int_equal(vocab_add(&vocab, text, len, i % 2, i), VOCAB_ADDED);
        assert_int_equal(vocab_add(&vocab, text, len, i % 2, i), VOCAB_TWICE);
    }
    for (int i = 0; i < 5000; i++) {
        size_t len = (size_t)snprintf(text, sizeof text, "t%d", i);
        assert_int_equal(vocab_find(&vocab, text, len, i % 2)->id, i);
        assert_null(vocab_find(&vocab, text, len, !(i % 2)));
    }
    vocab_close(&vocab);
}

/* Texts chosen to fall into one place of the table end in a refusal, not in a slow load. */
static void refuses_crowds(void **state)
{
    (void)state;
    struct vocab vocab = {0};
    enum vocab_added done = VOCAB_ADDED;
    for (uint32_t i = 0; done == VOCAB_ADDED; i++) {
        if ((hash_bytes(&i, sizeof i) & 4095) == 0)
            done = vocab_add(&vocab, (const char *)&i, sizeof i, false, 0);
    }
    assert_int_equal(done, VOCAB_CROWDED);
    assert_in_range(vocab.count, HASH_PROBE_MAX - 1, HASH_PROBE_MAX + 1);
    vocab_close(&vocab);
}

static void reads_the_alphabet(void **state)
{
    (void)state;
    struct alphabet alphabet;
    bool seen[256] = {false};
    char text[2], out[4];
    size_t len;
    alphabet_open(&alphabet);
    for (int c = 0; c < ALPHABET_END; c++) {
        text[0] = (char)(c < 0x80 ? c : 0xC0 | c >> 6);
        text[1] = (char)(0x80 | (c & 0x3F));
        if (!alphabet_read(&alphabet, text, c < 0x80 ? 1 : 2, out, &len)) continue;
        assert_int_equal(len, 1);
        assert_false(seen[(unsigned char)out[0]]);
        seen[(unsigned char)out[0]] = true;
    }
    for (int byte = 0; byte < 256; byte++) assert_true(seen[byte]);
    assert_true(alphabet_read(&alphabet, "a\xC4\xA0\xC4\x80", 5, out, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(out, "a \0", 3);
    assert_false(alphabet_read(&alphabet, "a b", 3, out, &len));
    assert_false(alphabet_read(&alphabet, "\xC5\x84", 2, out, &len));
    assert_false(alphabet_read(&alphabet, "\xE2\x82\xAC", 3, out, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added),
        cmocka_unit_test(refuses_crowds),
        cmocka_unit_test(reads_the_alphabet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
