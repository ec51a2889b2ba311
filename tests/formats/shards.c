/* A model's weights in one or many files, and an index that lies. */
#include "formats/shards.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "formats/safetensors_write.h"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[256];
    assert_true(file_join(path, sizeof path, folder, name));
    return path;
}

static void put_text(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A file with a tensor of one byte for every letter; the byte is the letter. */
static void put_tensors(const char *name, const char *letters)
{
    struct st_writer w;
    struct gdn_error err = {0};
    assert_int_equal(st_write_create(&w, in_folder(name), &err), GDN_OK);
    for (const char *c = letters; *c; c++)
        st_write_declare(&w, (const char[]){*c, 0}, ST_U8, 0, NULL);
    assert_int_equal(st_write_header(&w, &err), GDN_OK);
    for (size_t i = 0; letters[i]; i++) st_write_data(&w, i, &letters[i], 1);
    assert_int_equal(st_write_commit(&w, &err), GDN_OK);
}

static void put_index(const char *map)
{
    char text[1000];
    snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":5},\"weight_map\":{%s}}", map);
    put_text("model.safetensors.index.json", text);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gdn-shards-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') unlink(in_folder(e->d_name));
    closedir(dir);
    return rmdir(folder);
}

static void opens(const char *path, const char *letters, size_t files)
{
    struct shards shards;
    struct gdn_error err = {0};
    enum gdn_status status = shards_open(&shards, path, &err);
    if (status != GDN_OK) fail_msg("%s", err.text);
    assert_int_equal(shards.count, strlen(letters));
    assert_int_equal(shards.file_count, files);
    for (size_t i = 0; letters[i]; i++) {
        const struct shard_tensor *tensor = shards_find(&shards, (const char[]){letters[i], 0});
        assert_ptr_equal(tensor, &shards.tensors[i]);
        assert_int_equal(tensor->entry->data[0], letters[i]);
        assert_ptr_equal(safetensors_find(tensor->file, tensor->entry->name), tensor->entry);
    }
    assert_null(shards_find(&shards, "absent"));
    assert_null(shards_find(&shards, ""));
    shards_close(&shards);
    shards_close(&shards);
}

static void refused(const char *path, enum gdn_status want, const char *part)
{
    struct shards shards;
    struct gdn_error err = {0};
    int64_t before = mem_counted().live_blocks;
    enum gdn_status status = shards_open(&shards, path, &err);
    assert_int_equal(mem_counted().live_blocks, before);
    if (status != want || err.status != want || !strstr(err.text, part))
        fail_msg("found %d %s, need %d ...%s...", (int)status, err.text, (int)want, part);
}

static void index_refused(const char *map, const char *part)
{
    put_index(map);
    refused(folder, GDN_ERR_INPUT, part);
}

static void opens_one_file(void **state)
{
    (void)state;
    put_tensors("model.safetensors", "cab");
    opens(folder, "cab", 1);
    opens(in_folder("model.safetensors"), "cab", 1);
    /* An index left beside a whole file is not looked at, as in transformers. */
    put_index("\"x\":\"gone.safetensors\"");
    opens(folder, "cab", 1);
    put_tensors("other.safetensors", "zy");
    opens(in_folder("other.safetensors"), "zy", 1);
}

static void opens_shards(void **state)
{
    (void)state;
    put_tensors("m-1.safetensors", "ca");
    put_tensors("m-2.safetensors", "db");
    put_index("\"d\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\","
              "\"b\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\"");
    opens(folder, "cadb", 2);
}

static void opens_a_reference_model(void **state)
{
    (void)state;
    struct shards shards;
    struct gdn_error err = {0};
    assert_int_equal(shards_open(&shards, GDN_SOURCE_DIR "/tests/golden/q35-r4-odd", &err), GDN_OK);
    assert_int_equal(shards.file_count, 2);
    const struct shard_tensor *embed = shards_find(&shards, "model.embed_tokens.weight");
    assert_non_null(embed);
    assert_ptr_equal(embed->file, &shards.files[0]);
    assert_int_equal(embed->entry->dtype, ST_F32);
    shards_close(&shards);
}

static void refuses_an_index_that_lies(void **state)
{
    (void)state;
    put_tensors("m-1.safetensors", "a");
    put_tensors("m-2.safetensors", "b");
    index_refused("\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"c\":\"m-2.safetensors\"",
                  "tensor \"c\" is listed for m-2.safetensors, which does not have it");
    index_refused("\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"",
                  "tensor \"b\" is listed for m-1.safetensors, which does not have it");
    index_refused("\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\"",
                  "tensor \"a\" is listed for m-2.safetensors and lies in m-1.safetensors");
    index_refused("\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\"",
                  "tensor \"a\" is listed twice");
    index_refused("\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"", "m-3.safetensors: cannot");
    put_tensors("m-2.safetensors", "bc");
    index_refused("\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"",
                  "tensor \"c\" lies in m-2.safetensors and is not listed");
    put_tensors("m-2.safetensors", "ba");
    index_refused("\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"",
                  "m-2.safetensors: tensor \"a\" lies also in ");
    put_text("m-2.safetensors", "damaged");
    index_refused("\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"",
                  "m-2.safetensors: found 7 bytes");
}

static void lets_only_plain_file_names_through(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", ".", "..", ".hidden", "../m.safetensors", "a/m.safetensors", "/etc/passwd",
        "a\\\\b", "a\\u0000b", "a b", "a\\nb", "\xc3\xa9", "..\\\\m", "%2e%2e", "~", "a:b",
    };
    char map[400];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(map, sizeof map, "\"a\":\"%s\"", names[i]);
        index_refused(map, "a file name must be 1 to 128 letters");
    }
    for (int n = 128; n <= 129; n++) {
        snprintf(map, sizeof map, "\"a\":\"%0*d\"", n, 0);
        index_refused(map, n > 128 ? "a file name must be" : "cannot open");
    }
}

static void refuses_an_index_that_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "the text ends"},
        {"[]", "must be an object"},
        {"{}", "weight_map is missing"},
        {"{\"weight_map\":[]}", "weight_map: need an object"},
        {"{\"weight_map\":{\"a\":1}}", "need a file name"},
        {"{\"weight_map\":{\"a\":{}}}", "need a file name"},
        {"{\"weight_map\":{},\"weight_map\":{}}", "weight_map twice"},
        {"{\"weight_map\":{\"a\\u0000\":\"f\"}}", "control character"},
        {"{\"weight_map\":{\"a\":\"f\"}} x", "nothing may follow"},
        {"{\"metadata\":[[[,\"weight_map\":{}}", "byte 15: a value is needed"},
        {"{\"weight_map\":{\"a\":\"f\"", "the text ends"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_text("model.safetensors.index.json", cases[i].text);
        refused(folder, GDN_ERR_INPUT, cases[i].part);
    }
    put_text("model.safetensors.index.json", "{\"weight_map\":{}}");
    opens(folder, "", 0);
}

static void limits_the_files(void **state)
{
    (void)state;
    for (int n = SHARDS_FILES; n <= SHARDS_FILES + 1; n++) {
        struct bytes text = {0};
        bytes_add_text(&text, "{\"weight_map\":{");
        for (int i = 0; i < n; i++) bytes_addf(&text, "%s\"%d\":\"f%d\"", i ? "," : "", i, i);
        bytes_add_text(&text, "}}");
        put_text("model.safetensors.index.json", text.at);
        bytes_free(&text);
        refused(folder, GDN_ERR_INPUT, n > SHARDS_FILES ? "too many files" : "cannot open");
    }
}

static void limits_the_tensors(void **state)
{
    (void)state;
    for (int n = SHARDS_TENSORS; n <= SHARDS_TENSORS + 1; n++) {
        struct bytes text = {0};
        bytes_add_text(&text, "{\"weight_map\":{");
        for (int i = 0; i < n; i++) bytes_add_text(&text, i ? ",\"\":\"f\"" : "\"\":\"f\"");
        bytes_add_text(&text, "}}");
        put_text("model.safetensors.index.json", text.at);
        bytes_free(&text);
        refused(folder, GDN_ERR_INPUT, n > SHARDS_TENSORS ? "too many tensors" : "cannot open");
    }
}

static void refuses_paths_that_are_too_long(void **state)
{
    (void)state;
    char path[4096] = {0};
    size_t n = strlen(folder);
    memset(path, '/', sizeof path - 1);
    memcpy(path, folder, n);
    refused(path, GDN_ERR_INPUT, "too long");
    /* Room for the one name, not for the longer one; then for both, not for the file's. */
    path[sizeof path - 1 - strlen("model.safetensors")] = 0;
    refused(path, GDN_ERR_INPUT, "too long");
    put_index("\"a\":\"a-file-with-a-name-that-is-longer-than-that-of-the-index\"");
    path[sizeof path - 1 - strlen("model.safetensors.index.json")] = 0;
    refused(path, GDN_ERR_INPUT, "too long");
}

static void never_reads_pickles(void **state)
{
    (void)state;
    refused(folder, GDN_ERR_INPUT, "neither model.safetensors nor");
    static const char *const names[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                        "consolidated.00.pth", "model.pt", "model.ckpt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        put_text(names[i], "PK");
        refused(folder, GDN_ERR_UNSUPPORTED, names[i]);
        refused(folder, GDN_ERR_UNSUPPORTED, "convert it to safetensors");
        refused(in_folder(names[i]), GDN_ERR_UNSUPPORTED, "convert it to safetensors");
        unlink(in_folder(names[i]));
    }
    refused(in_folder("absent.bin"), GDN_ERR_INPUT, "cannot open");
    put_text("pytorch_model.bin", "PK");
    put_tensors("model.safetensors", "a");
    opens(folder, "a", 1);
}

static void sweep(const char *path)
{
    int64_t before = mem_counted().live_blocks;
    for (int forever = 0; forever < 2; forever++) {
        enum gdn_status status = GDN_ERR_MEMORY;
        for (int n = 1; status == GDN_ERR_MEMORY; n++) {
            struct shards shards;
            struct gdn_error err = {0};
            mem_fail_after(n, forever);
            status = shards_open(&shards, path, &err);
            mem_fail_after(0, false);
            assert_int_equal(status, err.status);
            if (status == GDN_OK) shards_close(&shards);
            assert_int_equal(mem_counted().live_blocks, before);
        }
        assert_int_equal(status, GDN_OK);
    }
}

static void survives_refused_memory(void **state)
{
    (void)state;
    put_tensors("m-1.safetensors", "ca");
    put_tensors("m-2.safetensors", "db");
    put_index("\"d\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\","
              "\"b\":\"m-2.safetensors\",\"c\":\"m-1.safetensors\"");
    sweep(folder);
    sweep(in_folder("m-1.safetensors"));
}

int main(void)
{
#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(opens_one_file),
        IN_FOLDER(opens_shards),
        cmocka_unit_test(opens_a_reference_model),
        IN_FOLDER(refuses_an_index_that_lies),
        IN_FOLDER(lets_only_plain_file_names_through),
        IN_FOLDER(refuses_an_index_that_is_none),
        IN_FOLDER(limits_the_files),
        IN_FOLDER(limits_the_tensors),
        IN_FOLDER(refuses_paths_that_are_too_long),
        IN_FOLDER(never_reads_pickles),
        IN_FOLDER(survives_refused_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
