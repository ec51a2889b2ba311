/* published.c: the tensors of the published Qwen3.8-27B, by their real names: weights.c asks for
 * exactly these. The file is a header over 55 GB of hole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/weights.h"

#define DATA GDN_SOURCE_DIR "/tests/model/data/"

struct header {
    struct bytes json;
    size_t count, body, vision, mtp; /* tensors; bytes of all, of vision and of MTP tensors */
};

static void add_tensor(struct header *h, const char *name, const char *shape, size_t bytes)
{
    bytes_addf(&h->json, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
               h->count ? "," : "{", name, shape, h->body, h->body + bytes);
    h->body += bytes;
    h->count++;
    if (strncmp(name, "model.visual.", 13) == 0) h->vision += bytes;
    if (strncmp(name, "mtp.", 4) == 0) h->mtp += bytes;
}

/* "model.layers.#.x 40x1x4 0-2,4": a pattern, a shape, and the numbers that stand for #. */
static void add_line(struct header *h, char *line)
{
    char *shape = strchr(line, ' '), *numbers = strchr(shape + 1, ' '), *at, name[200];
    *shape++ = 0;
    if (numbers) *numbers++ = 0;
    size_t bytes = 2;
    for (at = shape; *at;) {
        bytes *= strtoul(at, &at, 10);
        if (*at) *at++ = ',';
    }
    if (!numbers) {
        add_tensor(h, line, shape, bytes);
        return;
    }
    char *hash = strchr(line, '#');
    *hash = 0;
    for (at = numbers; *at;) {
        const long first = strtol(at, &at, 10);
        const long last = *at == '-' ? strtol(at + 1, &at, 10) : first;
        for (long i = first; i <= last; i++) {
            snprintf(name, sizeof name, "%s%ld%s", line, i, hash + 1);
            add_tensor(h, name, shape, bytes);
        }
        if (*at) at++;
    }
}

static void read_names(struct header *h)
{
    struct gdn_error err = {0};
    char *text, *rest, *line;
    size_t len;
    if (file_read(DATA "qwen3.8-27b.names", 1 << 16, &text, &len, &err) != GDN_OK)
        fail_msg("%s", err.text);
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        add_line(h, line);
    bytes_add_text(&h->json, "}");
    while (h->json.len % 8) bytes_add_text(&h->json, " "); /* what lies aligned is not copied */
    mem_give(text);
}

static void write_hole(const struct header *h, const char *path)
{
    unsigned char len[8];
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    bytes_put_u64(len, h->json.len);
    assert_int_equal(fwrite(len, 1, 8, file), 8);
    assert_int_equal(fwrite(h->json.at, 1, h->json.len, file), h->json.len);
    assert_int_equal(fclose(file), 0);
    if (truncate(path, (off_t)(8 + h->json.len + h->body)) != 0) {
        unlink(path);
        skip(); /* a file system that keeps no file of 55 GB, not even an empty one */
    }
}

static void opens_27b(void **state)
{
    (void)state;
    struct header h = {0};
    struct config c;
    struct weights w;
    struct gdn_error err = {0};
    char path[] = "/tmp/gdn-27b-XXXXXX";
    char *json;
    size_t len;
    read_names(&h);
    assert_int_equal(h.count, 1199);
    assert_int_equal(h.body, 55562855904); /* total_size of the published index */
    assert_int_equal(file_read(DATA "qwen3.8-27b.json", 1 << 16, &json, &len, &err), GDN_OK);
    assert_int_equal(config_parse(&c, json, len, "qwen3.8-27b.json", &err), GDN_OK);
    mem_give(json);
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_hole(&h, path);
    const enum gdn_status status = weights_open(&w, &c, path, &err);
    unlink(path);
    bytes_free(&h.json);
    if (status != GDN_OK) fail_msg("%s", err.text);
    assert_string_equal(w.prefix, "model.language_model.");
    assert_int_equal(w.count, 48 * 14 + 16 * 11 + 3);
    assert_int_equal(w.mtp, 15);
    assert_int_equal(w.vision, 12 * 27 + 9);
    assert_int_equal(w.file_bytes, h.body);
    assert_int_equal(2 * w.parameters, h.body - h.vision - h.mtp);
    /* Only what is small was copied. */
    assert_true(w.copied_bytes < 20 << 20);
    weights_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(opens_27b)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
