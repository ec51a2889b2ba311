/* The writer: what it writes is what the reference writes; nothing appears unless it is whole. */
#include "formats/safetensors_write.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"

static char folder[64], path[128];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gdn-write-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return file_join(path, sizeof path, folder, "m.safetensors") ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when a temporary file was left */
}

static void round_trips_in_pieces(void **state)
{
    (void)state;
    struct st_writer w;
    struct safetensors st;
    struct gdn_error err = {0};
    char text[16];
    assert_int_equal(st_write_create(&w, path, &err), GDN_OK);
    st_write_metadata(&w, "by", "gdn \"x\"");
    st_write_metadata(&w, "format", "pt");
    st_write_declare(&w, "empty", ST_F32, 2, (const int64_t[]){0, 7});
    st_write_declare(&w, "logits", ST_F32, 2, (const int64_t[]){3, 5});
    st_write_declare(&w, "scalar", ST_U8, 0, NULL);
    st_write_declare(&w, "\xc3\xa9\"", ST_BF16, 1, (const int64_t[]){2});
    assert_int_equal(st_write_header(&w, &err), GDN_OK);
    float row[5];
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < 5; i++) row[i] = (float)(10 * t + i);
        st_write_data(&w, 1, row, 8);
        st_write_data(&w, 1, NULL, 0);
        st_write_data(&w, 1, row + 2, 12);
    }
    st_write_data(&w, 2, "\x7f", 1);
    st_write_data(&w, 3, "abcd", 4);
    assert_false(file_exists(path));
    assert_int_equal(st_write_commit(&w, &err), GDN_OK);

    assert_int_equal(safetensors_open(&st, path, &err), GDN_OK);
    assert_int_equal(st.count, 4);
    assert_true(safetensors_metadata(&st, "by", text, sizeof text));
    assert_string_equal(text, "gdn \"x\"");
    const struct st_entry *logits = safetensors_find(&st, "logits");
    assert_true(logits->rank == 2 && logits->shape[0] == 3 && logits->shape[1] == 5);
    assert_int_equal(safetensors_offset(&st, logits) % 8, 0);
    for (size_t i = 0; i < 15; i++) {
        float v;
        memcpy(&v, logits->data + 4 * i, 4);
        assert_true(v == (float)(10 * (i / 5) + i % 5));
    }
    assert_int_equal(safetensors_find(&st, "scalar")->data[0], 0x7f);
    assert_memory_equal(safetensors_find(&st, "\xc3\xa9\"")->data, "abcd", 4);
    safetensors_close(&st);
}

/* A file of the reference implementation, read and written again, has the same bytes. */
static void writes_what_the_reference_writes(void **state)
{
    (void)state;
    const char *source = GDN_SOURCE_DIR "/tests/golden/q35-r1-tied/model.safetensors";
    struct safetensors st;
    struct st_writer w;
    struct gdn_error err = {0};
    assert_int_equal(safetensors_open(&st, source, &err), GDN_OK);
    assert_int_equal(st_write_create(&w, path, &err), GDN_OK);
    st_write_metadata(&w, "format", "pt");
    for (size_t i = 0; i < st.count; i++)
        st_write_declare(&w, st.entries[i].name, st.entries[i].dtype, st.entries[i].rank,
                         st.entries[i].shape);
    assert_int_equal(st_write_header(&w, &err), GDN_OK);
    for (size_t i = 0; i < st.count; i++)
        st_write_data(&w, i, st.entries[i].data, st.entries[i].bytes);
    assert_int_equal(st_write_commit(&w, &err), GDN_OK);
    struct file_map copy;
    assert_int_equal(file_map_open(&copy, path, &err), GDN_OK);
    assert_int_equal(copy.len, st.len);
    assert_memory_equal(copy.data, st.data, st.len);
    file_map_close(&copy);
    safetensors_close(&st);
}

static void writes_an_empty_file(void **state)
{
    (void)state;
    struct st_writer w;
    struct safetensors st;
    struct gdn_error err = {0};
    assert_int_equal(st_write_create(&w, path, &err), GDN_OK);
    assert_int_equal(st_write_commit(&w, &err), GDN_OK);
    st_write_abandon(&w);
    assert_int_equal(safetensors_open(&st, path, &err), GDN_OK);
    assert_int_equal(st.count, 0);
    safetensors_close(&st);
}

/* Gives the tensors a [2] and b [3] of bytes the data that is asked for. */
static void data_fails(size_t first, size_t a, size_t second, size_t b, const char *part)
{
    struct st_writer w;
    struct gdn_error err = {0};
    assert_int_equal(st_write_create(&w, path, &err), GDN_OK);
    st_write_declare(&w, "a", ST_U8, 1, (const int64_t[]){2});
    st_write_declare(&w, "b", ST_U8, 1, (const int64_t[]){3});
    assert_int_equal(st_write_header(&w, &err), GDN_OK);
    st_write_data(&w, first, "123456", a);
    st_write_data(&w, second, "123456", b);
    enum gdn_status status = st_write_commit(&w, &err);
    if (status != GDN_ERR_INTERNAL || !strstr(err.text, part))
        fail_msg("found %d %s, need %s", (int)status, err.text, part);
    assert_false(file_exists(path));
}

static void refuses_wrong_data(void **state)
{
    (void)state;
    data_fails(0, 1, 0, 0, "tensor \"a\": found 1 bytes of data, need 2");
    data_fails(0, 2, 0, 0, "tensor \"b\": found 0 bytes of data, need 3");
    data_fails(0, 2, 1, 2, "tensor \"b\": found 2 bytes of data, need 3");
    data_fails(0, 3, 1, 2, "tensor \"a\": found 3 bytes of data, need 2");
    data_fails(0, 2, 1, 4, "tensor \"b\": found 4 bytes of data, need 3");
    data_fails(0, 1, 1, 3, "found data for tensor 1, need tensor 0 of 2");
    data_fails(0, 2, 0, 1, "found data for tensor 0, need tensor 1 of 2");
    data_fails(0, 2, 2, 1, "found data for tensor 2, need tensor 1 of 2");
}

static void declare_fails(const char *name, int rank, const int64_t *shape, const char *part)
{
    struct st_writer w;
    struct gdn_error err = {0};
    assert_int_equal(st_write_create(&w, path, &err), GDN_OK);
    st_write_declare(&w, "a", ST_U8, 1, (const int64_t[]){2});
    st_write_declare(&w, name, ST_F32, rank, shape);
    assert_int_equal(st_write_header(&w, &err), GDN_ERR_USAGE);
    if (!strstr(err.text, part)) fail_msg("found %s, need %s", err.text, part);
    assert_int_equal(st_write_commit(&w, NULL), GDN_ERR_USAGE);
    assert_false(file_exists(path));
}

static void refuses_wrong_declarations(void **state)
{
    (void)state;
    char name[ST_NAME_BYTES + 2] = {0};
    memset(name, 'n', sizeof name - 1);
    static const int64_t ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    declare_fails("a", 1, ones, "tensor \"a\" is declared twice");
    declare_fails(name, 1, ones, "is not a name for a tensor");
    declare_fails("b\n", 1, ones, "is not a name for a tensor");
    declare_fails("__metadata__", 1, ones, "is not a name for a tensor");
    declare_fails("b", 9, ones, "found rank 9");
    declare_fails("b", -1, ones, "found rank -1");
    declare_fails("b", 1, (const int64_t[]){-1}, "does not fit");
    declare_fails("b", 2, (const int64_t[]){INT64_MAX, 3}, "does not fit");
    declare_fails("b", 1, (const int64_t[]){INT64_MAX / 2}, "too long");
}

static void refuses_a_late_declaration(void **state)
{
    (void)state;
    struct st_writer w;
    struct gdn_error err = {0};
    assert_int_equal(st_write_create(&w, path, &err), GDN_OK);
    assert_int_equal(st_write_header(&w, &err), GDN_OK);
    st_write_declare(&w, "a", ST_U8, 0, NULL);
    assert_int_equal(st_write_commit(&w, &err), GDN_ERR_INTERNAL);
    assert_non_null(strstr(err.text, "declared after the header"));
}

static void limits_the_tensors(void **state)
{
    (void)state;
    for (int n = ST_TENSORS; n <= ST_TENSORS + 1; n++) {
        struct st_writer w;
        struct gdn_error err = {0};
        assert_int_equal(st_write_create(&w, path, &err), GDN_OK);
        for (int i = 0; i < n; i++) {
            char name[16];
            snprintf(name, sizeof name, "%d", i);
            st_write_declare(&w, name, ST_U8, 1, (const int64_t[]){0});
        }
        assert_int_equal(st_write_commit(&w, &err), n > ST_TENSORS ? GDN_ERR_USAGE : GDN_OK);
    }
}

static enum gdn_status write_some(struct gdn_error *err)
{
    struct st_writer w;
    TRY(st_write_create(&w, path, err));
    st_write_metadata(&w, "format", "pt");
    for (int i = 0; i < 40; i++) {
        char name[30] = "a tensor with number xx";
        name[21] = (char)('0' + i / 10);
        name[22] = (char)('0' + i % 10);
        st_write_declare(&w, name, ST_U8, 1, (const int64_t[]){1});
    }
    for (size_t i = 0; i < 40; i++) {
        if (i == 0) st_write_header(&w, err);
        st_write_data(&w, i, "x", 1);
    }
    return st_write_commit(&w, err);
}

static void survives_refused_memory(void **state)
{
    (void)state;
    int64_t before = mem_counted().live_blocks;
    for (int forever = 0; forever < 2; forever++) {
        enum gdn_status status = GDN_ERR_MEMORY;
        for (int n = 1; status == GDN_ERR_MEMORY; n++) {
            struct gdn_error err = {0};
            mem_fail_after(n, forever);
            status = write_some(&err);
            mem_fail_after(0, false);
            assert_int_equal(status, err.status);
            assert_int_equal(mem_counted().live_blocks, before);
            assert_int_equal(file_exists(path), status == GDN_OK);
        }
        assert_int_equal(status, GDN_OK);
        unlink(path);
    }
}

static void says_when_it_cannot_create(void **state)
{
    (void)state;
    struct st_writer w;
    struct gdn_error err = {0};
    assert_int_equal(st_write_create(&w, "/tmp/does/not/exist", &err), GDN_ERR_IO);
    st_write_metadata(&w, "a", "b");
    st_write_declare(&w, "a", ST_U8, 0, NULL);
    st_write_data(&w, 0, "x", 1);
    assert_int_equal(st_write_commit(&w, NULL), GDN_ERR_IO);
    st_write_abandon(&w);
}

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(round_trips_in_pieces),      IN_FOLDER(writes_what_the_reference_writes),
        IN_FOLDER(writes_an_empty_file),       IN_FOLDER(refuses_wrong_data),
        IN_FOLDER(refuses_wrong_declarations), IN_FOLDER(survives_refused_memory),
        IN_FOLDER(says_when_it_cannot_create),
        IN_FOLDER(refuses_a_late_declaration), IN_FOLDER(limits_the_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
