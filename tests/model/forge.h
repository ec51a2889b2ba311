/* forge.h: a checkpoint taken apart, changed tensor by tensor, and put together in a new folder. */
#ifndef TESTS_MODEL_FORGE_H
#define TESTS_MODEL_FORGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "formats/safetensors_write.h"
#include "formats/shards.h"
#include "model/forward.h"

enum { FORGE_ROOM = 200 };

struct forged {
    char name[ST_NAME_BYTES];
    enum st_dtype dtype;
    int rank;
    int64_t shape[ST_RANK];
    const void *data;
    size_t bytes;
};

struct forge {
    char folder[64];
    struct config config; /* of the original; tests may change it */
    struct shards from;
    struct forged list[FORGE_ROOM];
    size_t count;
};

static inline const char *forge_path(const struct forge *f, const char *name)
{
    static char path[256];
    assert_true(file_join(path, sizeof path, f->folder, name));
    return path;
}

/* `model`: a folder of tests/golden. */
static inline void forge_open(struct forge *f, const char *model)
{
    struct gdn_error err = {0};
    char path[512];
    *f = (struct forge){.folder = "/tmp/gdn-forge-XXXXXX"};
    assert_non_null(mkdtemp(f->folder));
    snprintf(path, sizeof path, "%s/tests/golden/%s", GDN_SOURCE_DIR, model);
    if (config_open(&f->config, path, &err) != GDN_OK ||
        shards_open(&f->from, path, &err) != GDN_OK)
        fail_msg("%s", err.text);
    assert_true(f->from.count < FORGE_ROOM - 20);
    for (size_t i = 0; i < f->from.count; i++) {
        const struct st_entry *e = f->from.tensors[i].entry;
        struct forged *t = &f->list[f->count++];
        *t = (struct forged){.dtype = e->dtype, .rank = e->rank, .data = e->data,
                             .bytes = e->bytes};
        strcpy(t->name, e->name);
        memcpy(t->shape, e->shape, sizeof t->shape);
    }
}

static inline void forge_close(struct forge *f)
{
    unlink(forge_path(f, "model.safetensors"));
    assert_int_equal(rmdir(f->folder), 0);
    shards_close(&f->from);
}

static inline struct forged *forge_find(struct forge *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->list[i].name, name) == 0) return &f->list[i];
    fail_msg("no tensor %s to change", name);
    return NULL;
}

static inline void forge_drop(struct forge *f, const char *name)
{
    struct forged *t = forge_find(f, name);
    *t = f->list[--f->count];
}

/* A tensor of zeros. */
static inline struct forged *forge_add(struct forge *f, const char *name, enum st_dtype dtype,
                                       int64_t length)
{
    static const unsigned char zeros[1 << 16];
    assert_true(f->count < FORGE_ROOM);
    struct forged *t = &f->list[f->count++];
    *t = (struct forged){.dtype = dtype, .rank = 1, .shape = {length}, .data = zeros,
                         .bytes = (size_t)length * st_dtype_size(dtype)};
    assert_true(t->bytes <= sizeof zeros && strlen(name) < sizeof t->name);
    strcpy(t->name, name);
    return t;
}

/* Every name that begins with `from` begins with `to`. */
static inline void forge_rename(struct forge *f, const char *from, const char *to)
{
    for (size_t i = 0; i < f->count; i++) {
        char old[ST_NAME_BYTES];
        strcpy(old, f->list[i].name);
        if (strncmp(old, from, strlen(from)) != 0) continue;
        const int n = snprintf(f->list[i].name, ST_NAME_BYTES, "%s%s", to, old + strlen(from));
        assert_true(n > 0 && n < ST_NAME_BYTES);
    }
}

static inline void forge_write(struct forge *f)
{
    struct st_writer w;
    struct gdn_error err = {0};
    if (st_write_create(&w, forge_path(f, "model.safetensors"), &err) != GDN_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < f->count; i++) {
        const struct forged *t = &f->list[i];
        st_write_declare(&w, t->name, t->dtype, t->rank, t->shape);
    }
    st_write_header(&w, NULL);
    for (size_t i = 0; i < f->count; i++) st_write_data(&w, i, f->list[i].data, f->list[i].bytes);
    if (st_write_commit(&w, &err) != GDN_OK) fail_msg("%s", err.text);
}

static inline void forge_accepted(struct forge *f, struct weights *w)
{
    struct gdn_error err = {0};
    forge_write(f);
    if (weights_open(w, &f->config, f->folder, &err) != GDN_OK) fail_msg("%s", err.text);
}

/* The sentence, whose parts are the file, the tensor or field, what was found and what was needed;
 * and nothing is left open. */
static inline void forge_refused(struct forge *f, enum gdn_status want, const char *tensor,
                                 const char *found, const char *need)
{
    struct weights w;
    struct gdn_error err = {0};
    forge_write(f);
    const int64_t live = mem_counted().live_blocks;
    const enum gdn_status got = weights_open(&w, &f->config, f->folder, &err);
    assert_int_equal(mem_counted().live_blocks, live);
    if (got != want || err.status != want || !strstr(err.text, f->folder) ||
        !strstr(err.text, tensor) || !strstr(err.text, found) || !strstr(err.text, need))
        fail_msg("found %d %s, need %d ...%s...%s...%s", (int)got, err.text, (int)want, tensor,
                 found, need);
}

/* ---- what a model computes ------------------------------------------------------------------- */

enum { FORGE_TOKENS = 9 };

/* Logits of FORGE_TOKENS tokens from an empty past, [FORGE_TOKENS, vocab] in mem_take memory. */
static inline float *forge_logits(const struct config *c, const struct weights *w)
{
    struct gdn_error err = {0};
    struct device *device = device_open("cpu", 1, ~0u, &err);
    assert_non_null(device);
    int32_t ids[FORGE_TOKENS], rows[FORGE_TOKENS];
    for (int32_t i = 0; i < FORGE_TOKENS; i++) {
        ids[i] = (i * 37 + 5) % c->vocab;
        rows[i] = i;
    }
    struct arena data, meta;
    assert_true(arena_open(&data, 1u << 28) && arena_open(&meta, 1u << 24));
    const struct rows all = {.B = 1, .T = FORGE_TOKENS, .start = (int32_t[]){0, FORGE_TOKENS},
                             .pos = (int32_t[]){0}};
    struct pass pass = {.device = device, .data = &data, .meta = &meta, .rows = &all,
                        .compute = DTYPE_F32};
    struct layer_call calls[64];
    assert_true(c->layers <= 64);
    struct forward forward = {.weights = w, .ids = ids, .calls = calls};
    struct tensor *hidden = forward_run(&pass, &forward);
    struct tensor *logits = forward_logits(&pass, w, hidden, rows, FORGE_TOKENS);
    assert_int_equal(pass_status(&pass), GDN_OK);
    const size_t bytes = sizeof(float) * FORGE_TOKENS * (size_t)c->vocab;
    float *out = mem_take(bytes);
    assert_non_null(out);
    memcpy(out, logits->data, bytes);
    arena_close(&data);
    arena_close(&meta);
    device_close(device);
    return out;
}

#endif
