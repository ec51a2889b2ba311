/* The safetensors reader: each rule of the format broken once, files cut anywhere, memory refused
 * at every take, and the bound on what a header may cost. */
#include "formats/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "base/rng.h"

/* A file in a block of exactly its size, so that a sanitizer sees one byte read too far. */
struct image {
    unsigned char *at;
    size_t len;
};

static struct image image_of(uint64_t header_len, const char *header, size_t text_len,
                             size_t data_len)
{
    struct image image = {.len = 8 + text_len + data_len};
    image.at = malloc(image.len);
    assert_non_null(image.at);
    bytes_put_u64(image.at, header_len);
    memcpy(image.at + 8, header, text_len);
    for (size_t i = 0; i < data_len; i++) image.at[8 + text_len + i] = (unsigned char)i;
    return image;
}

static enum gdn_status parse(struct safetensors *st, struct image image, struct gdn_error *err)
{
    int64_t before = mem_counted().live_blocks;
    error_clear(err);
    enum gdn_status status = safetensors_parse(st, image.at, image.len, "m.safetensors", err);
    assert_int_equal(status, err->status);
    if (status != GDN_OK) assert_int_equal(mem_counted().live_blocks, before);
    return status;
}

static void refused(struct image image, enum gdn_status want, const char *part)
{
    struct safetensors st;
    struct gdn_error err = {0};
    enum gdn_status status = parse(&st, image, &err);
    free(image.at);
    if (status == want && strstr(err.text, part) && strncmp(err.text, "m.safetensors: ", 15) == 0)
        return;
    fail_msg("found %d %s, need %d ...%s...", (int)status, err.text, (int)want, part);
}

/* A header and data bytes must give GDN_ERR_INPUT and a sentence with `part`. */
static void bad(const char *header, size_t data_len, const char *part)
{
    size_t n = strlen(header);
    refused(image_of(n, header, n, data_len), GDN_ERR_INPUT, part);
}

static const char good_header[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"a\\nb\"},"
    "\"w.b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
    "\"w.a\":{\"shape\":[],\"data_offsets\":[0,4],\"dtype\":\"F32\"},"
    "\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[16,16]},"
    "\"\\u00e9\":{\"dtype\":\"BOOL\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[16,17]}}   ";

static struct image good_image(void)
{
    return image_of(sizeof good_header - 1, good_header, sizeof good_header - 1, 17);
}

static void reads_a_good_file(void **state)
{
    (void)state;
    struct safetensors st;
    struct gdn_error err = {0};
    struct image image = good_image();
    assert_int_equal(parse(&st, image, &err), GDN_OK);
    assert_int_equal(st.count, 4);
    assert_string_equal(st.entries[0].name, "w.b");
    assert_string_equal(st.entries[3].name, "\xc3\xa9");
    const struct st_entry *b = safetensors_find(&st, "w.b");
    assert_ptr_equal(b, &st.entries[0]);
    assert_int_equal(b->dtype, ST_BF16);
    assert_int_equal(b->rank, 2);
    assert_true(b->shape[0] == 2 && b->shape[1] == 3);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(b->data[0], 4);
    assert_int_equal(safetensors_offset(&st, b), 8 + sizeof good_header - 1 + 4);
    assert_int_equal(safetensors_find(&st, "none")->bytes, 0);
    assert_int_equal(safetensors_find(&st, "\xc3\xa9")->rank, 8);
    assert_null(safetensors_find(&st, "w"));
    assert_null(safetensors_find(&st, ""));
    char text[8];
    assert_true(safetensors_metadata(&st, "note", text, sizeof text));
    assert_string_equal(text, "a\nb");
    assert_false(safetensors_metadata(&st, "note", text, 3));
    assert_false(safetensors_metadata(&st, "absent", text, sizeof text));
    assert_string_equal(st.path, "m.safetensors");
    safetensors_close(&st);
    safetensors_close(&st);
    free(image.at);
}

static void reads_an_empty_file(void **state)
{
    (void)state;
    struct safetensors st;
    struct gdn_error err = {0};
    struct image image = image_of(2, "{}", 2, 0);
    char text[8];
    assert_int_equal(parse(&st, image, &err), GDN_OK);
    assert_int_equal(st.count, 0);
    assert_null(safetensors_find(&st, "x"));
    assert_false(safetensors_metadata(&st, "x", text, sizeof text));
    safetensors_close(&st);
    free(image.at);
}

static void knows_every_dtype(void **state)
{
    (void)state;
    for (int i = 0; i < ST_DTYPES; i++) {
        struct safetensors st;
        struct gdn_error err = {0};
        struct bytes header = {0};
        size_t size = st_dtype_size((enum st_dtype)i);
        bytes_addf(&header, "{\"x\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,%zu]}}",
                   st_dtype_name((enum st_dtype)i), 3 * size);
        struct image image = image_of(header.len, header.at, header.len, 3 * size);
        assert_int_equal(parse(&st, image, &err), GDN_OK);
        assert_int_equal(st.entries[0].dtype, i);
        safetensors_close(&st);
        free(image.at);
        bytes_free(&header);
    }
    const char *foreign = "{\"x\":{\"dtype\":\"F8_E8M0\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    refused(image_of(strlen(foreign), foreign, strlen(foreign), 1), GDN_ERR_UNSUPPORTED,
            "tensor \"x\": dtype F8_E8M0 is not supported");
    bad("{\"x\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "found \"f32\"");
}

static void refuses_a_bad_length(void **state)
{
    (void)state;
    for (size_t n = 0; n < 8; n++) {
        struct image image = {.at = calloc(1, n ? n : 1), .len = n};
        refused(image, GDN_ERR_INPUT, "need at least 8");
    }
    refused(image_of(0, "{}", 2, 0), GDN_ERR_INPUT, "does not begin with {");
    refused(image_of(3, "{}", 2, 0), GDN_ERR_INPUT, "only 2 bytes follow");
    refused(image_of(ST_HEADER_BYTES, "{}", 2, 0), GDN_ERR_INPUT, "only 2 bytes follow");
    refused(image_of(ST_HEADER_BYTES + 1, "{}", 2, 0), GDN_ERR_INPUT, "need at most 100000000");
    refused(image_of(UINT64_MAX, "{}", 2, 0), GDN_ERR_INPUT, "need at most");
    refused(image_of(UINT64_MAX - 7, "{}", 2, 0), GDN_ERR_INPUT, "need at most");
    refused(image_of(1, "{}", 2, 0), GDN_ERR_INPUT, "not JSON");
}

static void refuses_a_bad_header(void **state)
{
    (void)state;
    bad(" {}", 0, "does not begin with {");
    bad("[]", 0, "does not begin with {");
    bad("{}x", 0, "byte 10: the header is not JSON: nothing may follow");
    bad("{}{}", 0, "not JSON");
    bad("{", 0, "not JSON");
    bad("{\"a\xff\":1}", 0, "byte 11: the header is not JSON: this is not UTF-8");
    bad("{\"a\":1}", 0, "tensor \"a\": description: found a number, need an object");
    bad("{\"a\":[]}", 0, "found an array, need an object");
    bad("{\"a\":{}}", 0, "dtype is missing");
    bad("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0, "shape is missing");
    bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0, "data_offsets is missing");
    bad("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 0, "found \"dtype\" twice");
    bad("{\"a\":{\"type\":\"U8\"}}", 0, "found a field \"type\"");
    bad("{\"a\":{\"dtype\":8}}", 0, "dtype: found a number, need a text");
    bad("{\"__metadata__\":[]}", 0, "__metadata__: found an array, need an object");
    bad("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: found a number, need a text");
    bad("{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", 0, "__metadata__: found an object");
    bad("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ twice");
    bad("{\"a\\u0000b\":{}}", 0, "control character");
    bad("{\"a\\u001b[2J\":{}}", 0, "control character");
}

#define U8(shape, offsets) \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void refuses_bad_numbers(void **state)
{
    (void)state;
    bad(U8("[-1]", "[0,0]"), 0, "shape: found -1, need a whole number");
    bad(U8("[1.0]", "[0,1]"), 1, "shape: found 1.0, need a whole number");
    bad(U8("[1e0]", "[0,1]"), 1, "shape: found 1e0");
    bad(U8("[9223372036854775808]", "[0,0]"), 0, "shape: found 9223372036854775808");
    bad(U8("[18446744073709551617]", "[0,1]"), 1, "shape: found 18446744073709551617");
    bad(U8("[\"1\"]", "[0,1]"), 1, "shape: found a text, need a number");
    bad(U8("[[1]]", "[0,1]"), 1, "shape: found an array, need a number");
    bad(U8("{}", "[0,1]"), 1, "shape: found an object, need an array");
    bad(U8("1", "[0,1]"), 1, "shape: found a number, need an array");
    bad(U8("[1]", "[]"), 1, "data_offsets: found a ], need a number");
    bad(U8("[1]", "[0]"), 1, "data_offsets: found a ], need a number");
    bad(U8("[1]", "[0,1,1]"), 1, "data_offsets after two numbers: found a number, need a ]");
    bad(U8("[1]", "[-1,0]"), 1, "data_offsets: found -1");
    bad(U8("[1]", "[0,18446744073709551616]"), 1, "data_offsets: found 18446744073709551616");
    bad(U8("[1]", "[null,1]"), 1, "data_offsets: found null");
    bad(U8("[1]", "\"0,1\""), 1, "data_offsets: found a text, need an array");
    bad(U8("[1]", "[1,0]"), 1, "found [1, 0], need begin <= end");
    bad(U8("[1]", "[0,2]"), 2, "found 2 bytes, need 1");
    bad(U8("[2]", "[0,1]"), 1, "found 1 bytes, need 2");
    bad(U8("[0]", "[0,1]"), 1, "found 1 bytes, need 0");
    bad(U8("[]", "[0,0]"), 0, "found 0 bytes, need 1");
    bad(U8("[2]", "[0,2]"), 1, "ends at byte 2 of the data and the file has only 1");
    bad(U8("[9223372036854775807]", "[0,9223372036854775807]"), 0, "the file has only 0");
    /* Products that wrap to what the offsets say. */
    bad(U8("[4294967296,4294967296]", "[0,0]"), 0, "does not fit 64 bits");
    bad(U8("[4294967297,4294967297,0]", "[0,0]"), 0, "does not fit 64 bits");
    bad("{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693953],\"data_offsets\":[0,8]}}", 8,
        "does not fit 64 bits");
}

static void limits_rank_and_name(void **state)
{
    (void)state;
    bad(U8("[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "more than 8 dimensions");
    for (size_t n = ST_NAME_BYTES; n <= ST_NAME_BYTES + 1; n++) {
        struct safetensors st;
        struct gdn_error err = {0};
        struct bytes header = {0};
        bytes_add_text(&header, "{\"");
        for (size_t i = 0; i < n; i++) bytes_add_text(&header, i % 7 ? "x" : "\\u0078");
        bytes_add_text(&header, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        struct image image = image_of(header.len, header.at, header.len, 0);
        assert_int_equal(parse(&st, image, &err), n > ST_NAME_BYTES ? GDN_ERR_INPUT : GDN_OK);
        if (n > ST_NAME_BYTES) assert_non_null(strstr(err.text, "more than 256 bytes"));
        safetensors_close(&st);
        free(image.at);
        bytes_free(&header);
    }
}

#define TWO(a, b)                                                         \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" a "},"     \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" b "}}"

static void refuses_overlaps_and_holes(void **state)
{
    (void)state;
    bad(TWO("[0,2]", "[0,2]"), 2, "tensor \"b\" begins inside tensor \"a\"");
    bad(TWO("[0,2]", "[1,3]"), 3, "tensor \"b\" begins inside tensor \"a\"");
    bad(TWO("[1,3]", "[0,2]"), 3, "tensor \"a\" begins inside tensor \"b\"");
    bad(TWO("[0,2]", "[3,5]"), 5, "a hole of 1 bytes before tensor \"b\"");
    bad(TWO("[1,3]", "[3,5]"), 5, "a hole of 1 bytes before tensor \"a\"");
    bad(TWO("[0,2]", "[2,4]"), 5, "1 bytes behind the last tensor");
    bad("{}", 1, "1 bytes behind the last tensor");
    bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
        "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}",
        2, "tensor \"z\" begins inside tensor \"a\"");
    bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
        "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
        2, "found tensor \"a\" twice, at bytes");
    struct safetensors st;
    struct gdn_error err = {0};
    const char *swapped = TWO("[2,4]", "[0,2]");
    struct image image = image_of(strlen(swapped), swapped, strlen(swapped), 4);
    assert_int_equal(parse(&st, image, &err), GDN_OK);
    assert_int_equal(safetensors_find(&st, "b")->data[0], 0);
    safetensors_close(&st);
    free(image.at);
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    struct image whole = good_image();
    for (size_t n = 0; n < whole.len; n++) {
        struct image cut = {.at = malloc(n ? n : 1), .len = n};
        assert_non_null(cut.at);
        memcpy(cut.at, whole.at, n);
        refused(cut, GDN_ERR_INPUT, "");
    }
    free(whole.at);
}

/* Whatever a changed byte makes of the file: a refusal, or tensors that lie inside of it. */
static void survives_changed_bytes(void **state)
{
    (void)state;
    struct rng rng = {.seed = 3};
    struct image image = good_image();
    for (int i = 0; i < 20000; i++) {
        struct safetensors st;
        struct gdn_error err = {0};
        unsigned char *at = image.at + rng_below(&rng, 8 + sizeof good_header - 1), old = *at;
        *at = (unsigned char)"{}[]\",:0123456789\xff"[rng_below(&rng, 18)];
        if (parse(&st, image, &err) == GDN_OK) {
            for (size_t k = 0; k < st.count; k++) {
                const struct st_entry *entry = &st.entries[k];
                assert_true(safetensors_offset(&st, entry) + entry->bytes <= st.len);
            }
            safetensors_close(&st);
        }
        *at = old;
    }
    free(image.at);
}

/* The cheapest header for `count` tensors; in memory that is not counted. */
static struct image many(size_t count)
{
    char *header = malloc(64 * count + 2);
    assert_non_null(header);
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += (size_t)sprintf(header + len,
                               "%c\"%zx\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                               i ? ',' : '{', i);
    header[len++] = '}';
    struct image image = image_of(len, header, len, 0);
    free(header);
    return image;
}

/* The first test: every peak before is below the bound that is asked for. */
static void bounds_its_memory(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 100, 10000, ST_TENSORS};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct safetensors st;
        struct gdn_error err = {0};
        struct image image = many(counts[i]);
        int64_t live = mem_counted().live_bytes;
        assert_int_equal(parse(&st, image, &err), GDN_OK);
        assert_int_equal(st.count, counts[i]);
        int64_t peak = mem_counted().peak_bytes - live;
        assert_in_range(peak, 1, 2 * (image.len - 8) + (1 << 20));
        assert_non_null(safetensors_find(&st, "0"));
        safetensors_close(&st);
        free(image.at);
    }
    refused(many(ST_TENSORS + 1), GDN_ERR_INPUT, "more than 100000 tensors");
}

/* What a header claims is checked before it is paid for. */
static void takes_nothing_for_a_bad_header(void **state)
{
    (void)state;
    struct safetensors st;
    struct gdn_error err = {0};
    struct image image = many(10000);
    image.at[image.len - 5] = 'x';
    int64_t before = mem_counted().takes;
    assert_int_equal(parse(&st, image, &err), GDN_ERR_INPUT);
    assert_int_equal(mem_counted().takes, before + 1); /* the path */
    free(image.at);
}

static void survives_refused_memory(void **state)
{
    (void)state;
    struct image image = good_image();
    int64_t before = mem_counted().live_blocks;
    for (int forever = 0; forever < 2; forever++) {
        enum gdn_status status = GDN_ERR_MEMORY;
        int n = 0;
        while (status == GDN_ERR_MEMORY) {
            struct safetensors st;
            struct gdn_error err = {0};
            mem_fail_after(++n, forever);
            status = parse(&st, image, &err);
            mem_fail_after(0, false);
            if (status == GDN_OK) safetensors_close(&st);
            assert_int_equal(mem_counted().live_blocks, before);
        }
        assert_int_equal(status, GDN_OK);
        assert_int_equal(n, 6); /* path, entries, names, by_name, spare; then it passes */
    }
    free(image.at);
}

static void keeps_messages_short(void **state)
{
    (void)state;
    struct safetensors st;
    struct gdn_error err = {0};
    char path[1000] = {0};
    memset(path, 'p', sizeof path - 1);
    memcpy(path + sizeof path - 6, "/file", 5);
    struct image image = image_of(2, "{}", 2, 1);
    assert_int_equal(safetensors_parse(&st, image.at, image.len, path, &err), GDN_ERR_INPUT);
    assert_non_null(strstr(err.text, "p/file: byte 10: 1 bytes behind"));
    free(image.at);
    error_clear(&err);
    assert_int_equal(safetensors_open(&st, "/tmp/does/not/exist", &err), GDN_ERR_INPUT);
    safetensors_close(&st);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_its_memory),
        cmocka_unit_test(takes_nothing_for_a_bad_header),
        cmocka_unit_test(reads_a_good_file),
        cmocka_unit_test(reads_an_empty_file),     cmocka_unit_test(knows_every_dtype),
        cmocka_unit_test(refuses_a_bad_length),    cmocka_unit_test(refuses_a_bad_header),
        cmocka_unit_test(refuses_bad_numbers),     cmocka_unit_test(limits_rank_and_name),
        cmocka_unit_test(refuses_overlaps_and_holes),
        cmocka_unit_test(refuses_every_truncation), cmocka_unit_test(survives_changed_bytes),
        cmocka_unit_test(survives_refused_memory), cmocka_unit_test(keeps_messages_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
