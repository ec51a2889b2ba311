/* file_lab.h: a state with two sequences, what each looks like as a file, and a folder to save into. */
#ifndef TESTS_STATE_FILE_LAB_H
#define TESTS_STATE_FILE_LAB_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "file_craft.h"
#include "lab.h"

enum { OLD, NEW, FILE_SLOTS = 3 }; /* a slot for each sequence, one to load into */

struct file_lab {
    struct device *device;
    struct state state;
    struct arena scratch;
    struct snapshot snapshot[2];
    struct state_record record[2];
    uint64_t sum[2]; /* file_sum of the slot */
    char *image[2];  /* the file, byte for byte */
    size_t len[2];
    char folder[64], path[80], temp[96];
    struct gdn_error err;
};

/* 3.7 MiB: four blocks. */
static const struct layer_shape file_large[] = {
    {.kind = LAYER_DELTA, .Hk = 8, .Hv = 8, .Dk = 128, .Dv = 128, .taps = 4},
    {.kind = LAYER_DELTA, .Hk = 8, .Hv = 8, .Dk = 128, .Dv = 128, .taps = 4},
    {.kind = LAYER_ATTN, .Hkv = 2, .D = 256},
    {.kind = LAYER_DELTA, .Hk = 8, .Hv = 8, .Dk = 128, .Dv = 128, .taps = 4},
    {.kind = LAYER_DELTA, .Hk = 8, .Hv = 8, .Dk = 128, .Dv = 128, .taps = 4},
};
enum { FILE_LARGE = sizeof file_large / sizeof *file_large };

/* ---- content ------------------------------------------------------------------------------------------ */

static inline void file_fill(void *array, enum dtype dtype, size_t from, size_t n, uint64_t seed)
{
    struct rng rng = {.seed = seed};
    for (size_t i = from; i < from + n; i++)
        dtype_store(array, dtype, (int64_t)i, rng_between(&rng, -2, 2));
}

/* Everything of a sequence of `position` tokens, drawn from the seed. */
static inline void file_sequence(struct file_lab *f, int32_t slot, int32_t position, uint64_t seed)
{
    struct state *st = &f->state;
    if (state_reserve(st, slot, position, &f->err) != GDN_OK) fail_msg("%s", f->err.text);
    state_advance(st, slot, position);
    for (int32_t i = 0; i < st->layers; i++) {
        struct layer_state *l = &st->layer[i];
        const struct delta_slots *d = &l->delta;
        const size_t s = (size_t)slot;
        if (l->shape.kind == LAYER_ATTN) {
            for (int32_t p = 0; p < 2 * position; p++) {
                const size_t row = kv_row_bytes(&l->kv, p % 2) / dtype_size(l->kv.dtype);
                const int32_t page = st->table[slot * st->row_pages + p / 2 / PAGE];
                file_fill(p % 2 ? l->kv.v : l->kv.k, l->kv.dtype,
                          row * (size_t)(page * PAGE + p / 2 % PAGE), row,
                          seed + (uint64_t)(p / 2 + p % 2 * 1000));
            }
            continue;
        }
        const size_t n = (size_t)d->entries, gates = d->channel_gate ? (size_t)d->Dk : 1;
        const size_t k = n * (size_t)(d->Hk * d->Dk), u = n * (size_t)(d->Hv * d->Dv);
        const size_t G = n * (size_t)d->Hv * gates, ring = (size_t)(l->conv.ring * l->conv.C);
        double dense[8 * 128 * 128];
        file_fill(dense, DTYPE_F64, 0, (size_t)(d->Hv * d->Dv * d->Dk), seed + 1);
        st->device->anchor_pack(d, slot, dense);
        file_fill(d->k, d->k_type, s * k, k, seed + 2);
        file_fill(d->u, d->wide_type, s * u, u, seed + 3);
        file_fill(d->G, d->wide_type, s * G, G, seed + 4);
        file_fill(l->conv.x, l->conv.dtype, s * ring, ring, seed + 5);
        d->base[slot] = (position - 1) / BLOCK * BLOCK;
    }
}

/* One number for all that a slot remembers; two of the same sequence are equal. */
static inline uint64_t file_sum(struct file_lab *f, int32_t slot)
{
    struct state *st = &f->state;
    struct snapshot s;
    /* Zeroed: nothing is written between its parts. */
    char *memory = mem_take(snapshot_bytes(st, st->slot[slot].position, BLOCK));
    assert_non_null(memory);
    if (snapshot_take(&s, st, slot, &f->scratch, memory, &f->err) != GDN_OK)
        fail_msg("%s", f->err.text);
    const size_t first = snapshot_first(&s);
    uint64_t sum = hash64(s.memory + first, s.bytes - first, (uint64_t)s.position);
    for (int32_t i = 0; i < st->layers; i++) {
        const struct kv_pages *kv = &st->layer[i].kv;
        for (int32_t p = 0; kv->k && p < 2 * s.position; p++) {
            const size_t row = kv_row_bytes(kv, p % 2);
            const char *data = p % 2 ? kv->v : kv->k;
            if (data)
                sum = hash64(data + row * (size_t)(s.page[p / 2 / PAGE] * PAGE + p / 2 % PAGE), row,
                             sum);
        }
    }
    snapshot_release(&s, false);
    mem_give(memory);
    return sum;
}

/* One number for every byte there is: all slots and pages, whoever has them. */
static inline uint64_t file_sum_all(const struct file_lab *f)
{
    const struct state *st = &f->state;
    const size_t slots = (size_t)st->slots, pages = (size_t)st->pages;
    uint64_t sum = hash64(st->slot, sizeof *st->slot * slots, 0);
    sum = hash64(st->table, sizeof *st->table * slots * (size_t)st->row_pages, sum);
    sum = hash64(st->shared, sizeof *st->shared * pages, sum);
    sum = hash64(st->anchor_row, sizeof *st->anchor_row * slots, sum);
    for (int32_t i = 0; i < st->layers; i++) {
        const struct layer_state *l = &st->layer[i];
        const struct delta_slots *d = &l->delta;
        if (l->shape.kind == LAYER_ATTN) {
            sum = hash64(l->kv.k, PAGE * pages * kv_row_bytes(&l->kv, false), sum);
            if (l->kv.v) sum = hash64(l->kv.v, PAGE * pages * kv_row_bytes(&l->kv, true), sum);
            continue;
        }
        const size_t n = slots * (size_t)d->entries, wide = dtype_size(d->wide_type);
        sum = hash64(d->anchor, lab_anchors(l) * dtype_size(d->anchor_type), sum);
        sum = hash64(d->k, n * (size_t)(d->Hk * d->Dk) * dtype_size(d->k_type), sum);
        sum = hash64(d->u, n * (size_t)(d->Hv * d->Dv) * wide, sum);
        sum = hash64(d->G, n * (size_t)(d->Hv * (d->channel_gate ? d->Dk : 1)) * wide, sum);
        sum = hash64(d->base, sizeof *d->base * slots, sum);
        sum = hash64(l->conv.x, lab_ring(l) * dtype_size(l->conv.dtype), sum);
    }
    return sum;
}

/* ---- files ---------------------------------------------------------------------------------------------- */

/* What stands under the name, in mem_take memory; NULL when nothing does. */
static inline char *file_bytes(const char *path, size_t *len)
{
    char *data;
    return file_read(path, 1 << 30, &data, len, NULL) == GDN_OK ? data : NULL;
}

/* Puts bytes there without the code that is tested. */
static inline void file_put(const char *path, const void *data, size_t len)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    assert_int_equal(close(fd), 0);
}

/* OLD, NEW or -1 for anything else; -2 for nothing at all. */
static inline int file_found(const struct file_lab *f)
{
    size_t len;
    char *data = file_bytes(f->path, &len);
    int found = data ? -1 : -2;
    for (int i = 0; data && i < 2; i++)
        if (len == f->len[i] && memcmp(data, f->image[i], len) == 0) found = i;
    mem_give(data);
    return found;
}

static inline int file_entries(const struct file_lab *f)
{
    int n = -2;
    DIR *dir = opendir(f->folder);
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n;
}

static inline enum gdn_status file_save(struct file_lab *f, int which)
{
    error_clear(&f->err);
    return state_save(f->path, &f->snapshot[which], &f->record[which], &f->err);
}

/* Loads an image and says what it is: OLD, NEW, -1 refused. Anything else fails the test. The slot is
 * given back. */
static inline int file_load(struct file_lab *f, const void *data, size_t len)
{
    int32_t slot = -1;
    struct state_record r;
    bool converted = true;
    error_clear(&f->err);
    const enum gdn_status status = state_load_memory("f", data, len, &f->state, f->record[0].model,
                                                     &slot, &r, &converted, &f->err);
    assert_int_equal(status, f->err.status);
    if (status != GDN_OK) {
        assert_true(slot == -1 && !r.tokens && f->err.text[0]);
        return -1;
    }
    const uint64_t sum = file_sum(f, slot);
    const int which = r.position == f->record[OLD].position ? OLD : NEW;
    const struct state_record *want = &f->record[which];
    assert_false(converted);
    assert_int_equal(r.position, want->position);
    assert_int_equal(sum, f->sum[which]);
    assert_memory_equal(r.tokens, want->tokens, sizeof *r.tokens * (size_t)r.position);
    assert_int_equal(r.best_count, want->best_count);
    assert_memory_equal(r.best_ids, want->best_ids, sizeof *r.best_ids * (size_t)r.best_count);
    assert_memory_equal(r.best_values, want->best_values,
                        sizeof *r.best_values * (size_t)r.best_count);
    state_record_free(&r);
    state_slot_give(&f->state, slot);
    return which;
}

/* ---- open and close ---------------------------------------------------------------------------------------- */

static inline void file_record(struct state_record *r, int32_t position, int32_t best)
{
    *r = (struct state_record){.position = position, .best_count = best,
                               .best_lse = 1.5f + (float)position};
    memset(r->model, FILE_MODEL, sizeof r->model);
    r->tokens = mem_take((size_t)position * sizeof *r->tokens);
    assert_non_null(r->tokens);
    for (int32_t i = 0; i < position; i++) r->tokens[i] = position + 3 * i;
    for (int32_t i = 0; i < best; i++) {
        r->best_ids[i] = 5 + i;
        r->best_values[i] = (float)(position - i);
    }
}

static const struct state_options file_options = {.slots = FILE_SLOTS, .entries = 32,
                                                  .context = 256, .compute = DTYPE_F32,
                                                  .anchor = DTYPE_F32};

/* Sequences of 21 and 80 tokens: logs of 5 and 16 entries. */
static inline void file_lab_open_as(struct file_lab *f, const struct layer_shape *shape,
                                    int32_t layers, const char *device,
                                    const struct state_options *options)
{
    const int32_t position[2] = {21, 80};
    *f = (struct file_lab){0};
    /* In memory where there is such a place: syncs are counted here, not waited for. */
    snprintf(f->folder, sizeof f->folder, "%s/gdn-state-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/f", f->folder);
    snprintf(f->temp, sizeof f->temp, "%s.gdn-tmp", f->path);
    f->device = device_open(device, 1, ~0u, &f->err);
    assert_non_null(f->device);
    if (state_open(&f->state, f->device, shape, layers, options, &f->err) != GDN_OK)
        fail_msg("%s", f->err.text);
    assert_true(f->device->arena_open(f->device, &f->scratch, 1 << 20));
    for (int i = 0; i < 2; i++) {
        const int32_t slot = state_slot_take(&f->state);
        assert_int_equal(slot, i);
        file_sequence(f, slot, position[i], 100 * (uint64_t)(i + 1));
        file_record(&f->record[i], position[i], 3 * i);
        f->sum[i] = file_sum(f, slot);
        if (snapshot_take(&f->snapshot[i], &f->state, slot, &f->scratch, NULL, &f->err) != GDN_OK ||
            file_save(f, i) != GDN_OK)
            fail_msg("%s", f->err.text);
        f->image[i] = file_bytes(f->path, &f->len[i]);
        assert_non_null(f->image[i]);
    }
    assert_int_equal(unlink(f->path), 0);
}

static inline void file_lab_open(struct file_lab *f, const struct layer_shape *shape, int32_t layers)
{
    file_lab_open_as(f, shape, layers, "cpu", &file_options);
}

static inline void file_lab_close(struct file_lab *f)
{
    for (int i = 0; i < 2; i++) {
        snapshot_release(&f->snapshot[i], true);
        mem_give(f->record[i].tokens);
        mem_give(f->image[i]);
    }
    f->device->arena_close(f->device, &f->scratch);
    state_close(&f->state);
    device_close(f->device);
    unlink(f->path);
    unlink(f->temp);
    assert_int_equal(rmdir(f->folder), 0);
}

#endif
