/* Little-endian numbers and the growing text. */
#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/memory.h"

static void reads_and_writes_little_endian(void **state)
{
    (void)state;
    static const unsigned char file[] = {0xff, 1, 2, 3, 4, 5, 6, 7, 0x88};
    unsigned char back[9] = {0xff};
    assert_true(bytes_u64(file + 1) == UINT64_C(0x8807060504030201));
    bytes_put_u64(back + 1, UINT64_C(0x8807060504030201));
    assert_memory_equal(file, back, sizeof file);
}

static void grows(void **state)
{
    (void)state;
    struct bytes b = {0};
    char want[1001];
    for (size_t i = 0; i < 1000; i++) {
        want[i] = (char)('a' + i % 26);
        bytes_add(&b, &want[i], 1);
        assert_int_equal(b.len, i + 1);
        assert_int_equal(b.at[b.len], 0);
    }
    want[1000] = 0;
    assert_string_equal(b.at, want);
    bytes_addf(&b, "%d-%s", 12, "x");
    assert_string_equal(b.at + 1000, "12-x");
    bytes_add(&b, NULL, 0);
    assert_int_equal(b.len, 1004);
    bytes_free(&b);
    assert_null(b.at);
}

static void remembers_a_failure(void **state)
{
    (void)state;
    struct bytes b = {0};
    bytes_add_text(&b, "kept");
    mem_fail_after(1, false);
    char large[200] = {0};
    bytes_add(&b, large, sizeof large);
    assert_true(b.failed);
    bytes_add_text(&b, "x");
    assert_string_equal(b.at, "kept");
    bytes_free(&b);
    bytes_add(&b, "x", SIZE_MAX);
    assert_true(b.failed);
    bytes_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_little_endian),
        cmocka_unit_test(grows),
        cmocka_unit_test(remembers_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
