/* published.c: the tensors of published models, by their real names: the loader asks for exactly
 * these. The files are headers over up to 100 GB of hole. */
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

/* All names that `pattern` stands for: each # in turn takes the numbers of the next word ("0-2,4"). */
static void expand(struct header *h, const char *pattern, const char *shape, size_t bytes,
                   const char *numbers)
{
    const char *hash = strchr(pattern, '#');
    char *at, name[200];
    if (!hash) {
        add_tensor(h, pattern, shape, bytes);
        return;
    }
    const char *next = strchr(numbers, ' ');
    for (at = (char *)(size_t)numbers; *at && *at != ' ';) {
        const long first = strtol(at, &at, 10);
        const long last = *at == '-' ? strtol(at + 1, &at, 10) : first;
        for (long i = first; i <= last; i++) {
            snprintf(name, sizeof name, "%.*s%ld%s", (int)(hash - pattern), pattern, i, hash + 1);
            expand(h, name, shape, bytes, next ? next + 1 : "");
        }
        at += *at == ',';
    }
}

/* "model.layers.#.x 40x1x4 0-2,4": a pattern, a shape, and the numbers that stand for each #. */
static void add_line(struct header *h, char *line)
{
    char *shape = strchr(line, ' '), *numbers = strchr(shape + 1, ' ');
    *shape++ = 0;
    if (numbers) *numbers++ = 0;
    size_t bytes = 2;
    for (char *at = shape; *at;) {
        bytes *= strtoul(at, &at, 10);
        if (*at) *at++ = ',';
    }
    expand(h, line, shape, bytes, numbers ? numbers : "");
}

static void read_names(struct header *h, const char *model)
{
    struct gdn_error err = {0};
    char path[512], *text, *rest, *line;
    size_t len;
    snprintf(path, sizeof path, DATA "%s.names", model);
    if (file_read(path, 1 << 16, &text, &len, &err) != GDN_OK) fail_msg("%s", err.text);
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
        skip(); /* a file system that keeps no file of that size, not even an empty one */
    }
}

struct published {
    const char *model, *prefix;
    size_t tensors, bytes; /* of the whole checkpoint, as its index says; 0: no index was found */
    int32_t used, mtp, vision;
};

static void read_config(struct config *c, const char *model)
{
    struct gdn_error err = {0};
    char path[512], *json;
    size_t len;
    snprintf(path, sizeof path, DATA "%s.json", model);
    if (file_read(path, 1 << 16, &json, &len, &err) != GDN_OK ||
        config_parse(c, json, len, model, &err) != GDN_OK)
        fail_msg("%s", err.text);
    mem_give(json);
}

static void open_model(const struct published *p)
{
    struct header h = {0};
    struct config c;
    struct weights w;
    struct gdn_error err = {0};
    char path[] = "/tmp/gdn-published-XXXXXX";
    read_names(&h, p->model);
    assert_int_equal(h.count, p->tensors);
    if (p->bytes > 0) assert_int_equal(h.body, p->bytes);
    read_config(&c, p->model);
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_hole(&h, path);
    const enum gdn_status status = weights_open(&w, &c, path, &err);
    unlink(path);
    bytes_free(&h.json);
    if (status != GDN_OK) fail_msg("%s", err.text);
    assert_string_equal(w.prefix, p->prefix);
    assert_int_equal(w.count, p->used);
    assert_int_equal(w.mtp, p->mtp);
    assert_int_equal(w.vision, p->vision);
    assert_int_equal(w.file_bytes, h.body);
    assert_int_equal(2 * w.parameters, h.body - h.vision - h.mtp);
    assert_true(w.copied_bytes < 20 << 20); /* only what is small was copied */
    weights_close(&w);
}

/* 1,199 tensors: names and total size of the published index. */
static void qwen_27b(void **state)
{
    (void)state;
    open_model(&(struct published){"qwen3.8-27b", "model.language_model.", 1199, 55562855904,
                                   48 * 14 + 16 * 11 + 3, 15, 12 * 27 + 9});
}

/* 22,213 tensors: names and total size of the published index; an expert is three of them. */
static void qwen_25b_pruned(void **state)
{
    (void)state;
    open_model(&(struct published){"qwen3.5-25b-reap-moe", "model.language_model.", 22213,
                                   50182743296, 22213, 0, 0});
}

/* 20,493 tensors; three convolutions are one here. */
static void kimi_48b(void **state)
{
    (void)state;
    open_model(&(struct published){"kimi-linear-48b-a3b", "model.", 20493, 0,
                                   20493 - 2 * 20, 0, 0});
}

static void olmo_7b(void **state)
{
    (void)state;
    open_model(&(struct published){"olmo-hybrid-7b", "model.", 523, 0, 523 - 2 * 24, 0, 0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(qwen_27b),
                                       cmocka_unit_test(qwen_25b_pruned),
                                       cmocka_unit_test(kimi_48b), cmocka_unit_test(olmo_7b)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
