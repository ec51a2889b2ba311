/* gdn-bench-state [FOLDER]: what putting a sequence aside costs, against what the machine can do.
 *
 * The slot has the shape of a 0.8B model at position 512. A copy is held against memcpy of as many
 * bytes, a file against write and fsync of as many bytes in FOLDER (/tmp), each measured in turn
 * with its rival: the two share whatever else the machine is doing. Times are the best of many. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench.h"
#include "state/file.h"

enum { DELTA = 18, ATTN = 6, LAYERS = DELTA + ATTN, POSITION = 512, ROUNDS = 25 };

static double seconds(void) { return bench_seconds(2); }

/* ---- a slot as the engine would leave it ----------------------------------------------------------- */

struct stage {
    struct device *device;
    struct state state;
    struct arena scratch;
    struct snapshot snapshot;
    struct state_record record;
    char *a, *b; /* [snapshot.bytes] */
    int32_t slot;
    char path[4096];
    struct gdn_error err;
};

static void fill(void *data, size_t bytes, enum dtype dtype)
{
    struct rng rng = {.seed = 1};
    const size_t n = bytes / dtype_size(dtype);
    for (size_t i = 0; i < n; i++)
        dtype_store(data, dtype, (int64_t)i, rng_between(&rng, -1, 1));
}

static void fill_slot(struct state *st, int32_t slot)
{
    for (int32_t i = 0; i < st->layers; i++) {
        const struct delta_slots *d = &st->layer[i].delta;
        if (st->layer[i].shape.kind != LAYER_DELTA) continue;
        fill(delta_anchor(d, slot), dtype_size(d->anchor_type) * (size_t)d->anchor_elements,
             d->anchor_type);
        d->base[slot] = POSITION - BLOCK;
    }
}

static void stage_open(struct stage *s, enum dtype compute, const char *folder)
{
    struct layer_shape shape[LAYERS];
    for (int i = 0; i < LAYERS; i++)
        shape[i] = i % 4 == 3 ? (struct layer_shape){.kind = LAYER_ATTN, .Hkv = 2, .D = 256}
                              : (struct layer_shape){.kind = LAYER_DELTA, .Hk = 16, .Hv = 16,
                                                     .Dk = 128, .Dv = 128, .taps = 4};
    const struct state_options o = {.slots = 4, .entries = 2 * BLOCK, .context = 2 * POSITION,
                                    .compute = compute, .anchor = DTYPE_F32};
    *s = (struct stage){0};
    s->device = device_open("cpu", 1, ~0u, &s->err);
    bench_check(s->device &&
                    state_open(&s->state, s->device, shape, LAYERS, &o, &s->err) == GDN_OK &&
                    s->device->arena_open(s->device, &s->scratch, 1 << 24),
                s->err.text);
    s->slot = state_slot_take(&s->state);
    bench_check(state_reserve(&s->state, s->slot, POSITION, &s->err) == GDN_OK, s->err.text);
    state_advance(&s->state, s->slot, POSITION);
    fill_slot(&s->state, s->slot);
    const size_t bytes = snapshot_bytes(&s->state, POSITION, BLOCK);
    s->a = mem_take_dirty(bytes);
    s->b = mem_take_dirty(bytes);
    s->record = (struct state_record){.position = POSITION,
                                      .tokens = mem_take(POSITION * sizeof(int32_t))};
    bench_check(s->a && s->b && s->record.tokens, "no memory");
    memset(s->a, 1, bytes);
    memset(s->b, 2, bytes);
    snprintf(s->path, sizeof s->path, "%s/gdn-bench-state.%ld", folder, (long)getpid());
    const enum gdn_status taken = snapshot_take(&s->snapshot, &s->state, s->slot, &s->scratch, s->a,
                                                &s->err);
    bench_check(taken == GDN_OK, s->err.text);
}

static void stage_close(struct stage *s)
{
    snapshot_release(&s->snapshot, false);
    mem_give(s->a);
    mem_give(s->b);
    mem_give(s->record.tokens);
    s->device->arena_close(s->device, &s->scratch);
    state_close(&s->state);
    device_close(s->device);
}

/* ---- what is timed ------------------------------------------------------------------------------------ */

typedef void work(struct stage *s);

static void copy_memory(struct stage *s) { memcpy(s->b, s->a, s->snapshot.bytes); }

static void take(struct stage *s)
{
    struct snapshot made;
    bench_check(snapshot_take(&made, &s->state, s->slot, &s->scratch, s->b, &s->err) == GDN_OK,
         s->err.text);
    pages_let_go(&s->state, made.page, made.pages);
}

static int32_t restored;

static void restore(struct stage *s)
{
    restored = -1;
    bench_check(snapshot_restore(&s->snapshot, &s->state, &restored, POSITION, &s->err) == GDN_OK,
         s->err.text);
}

static void give_restored(struct stage *s) { state_slot_give(&s->state, restored); }

/* The slot that goes is zeroed: as many bytes again, and those of its unused entries. */
static void restore_over(struct stage *s)
{
    bench_check(snapshot_restore(&s->snapshot, &s->state, &s->slot, POSITION, &s->err) == GDN_OK,
         s->err.text);
}

static void copy_new(struct stage *s)
{
    char *made = mem_take_dirty(s->snapshot.bytes);
    bench_check(made != NULL, "no memory");
    memcpy(made, s->a, s->snapshot.bytes);
    mem_give(made);
}

static void take_new(struct stage *s)
{
    struct snapshot made;
    bench_check(snapshot_take(&made, &s->state, s->slot, &s->scratch, NULL, &s->err) == GDN_OK,
         s->err.text);
    pages_let_go(&s->state, made.page, made.pages);
    mem_give(made.memory);
}

static void save(struct stage *s)
{
    bench_check(state_save(s->path, &s->snapshot, &s->record, &s->err) == GDN_OK, s->err.text);
}

static int64_t file_bytes(struct stage *s)
{
    struct state_summary sum;
    save(s);
    bench_check(state_verify(s->path, &sum, &s->err) == GDN_OK, s->err.text);
    return sum.bytes;
}

static size_t plain_bytes;

/* As many bytes as the file, from memory that is there, over a file that is there. */
static void plain(struct stage *s)
{
    char temp[sizeof s->path + 8];
    snprintf(temp, sizeof temp, "%s.plain", s->path);
    const int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    bench_check(fd >= 0, "cannot create a file");
    for (size_t at = 0; at < plain_bytes; at += 1 << 20) {
        const size_t left = plain_bytes - at, n = left < 1 << 20 ? left : 1 << 20;
        const char *from = s->a + at % (s->snapshot.bytes - (1 << 20));
        bench_check(write(fd, from, n) == (ssize_t)n, "write");
    }
    bench_check(fsync(fd) == 0 && close(fd) == 0 && rename(temp, s->path) == 0, "write");
}

/* All of the file into new memory. */
static void read_plain(struct stage *s)
{
    char *data;
    size_t len;
    bench_check(file_read(s->path, plain_bytes, &data, &len, &s->err) == GDN_OK, s->err.text);
    mem_give(data);
}

static void load(struct stage *s)
{
    int32_t slot;
    bool converted;
    struct state_record r;
    const enum gdn_status loaded = state_load(s->path, &s->state, s->record.model, &slot, &r,
                                              &converted, &s->err);
    bench_check(loaded == GDN_OK, s->err.text);
    state_record_free(&r);
    state_slot_give(&s->state, slot);
}

static void fork_slot(struct stage *s)
{
    const int32_t fork = state_fork(&s->state, s->slot);
    bench_check(fork >= 0, "no slot");
    state_slot_give(&s->state, fork);
}

struct contest {
    const char *name, *against;
    work *mine, *after, *rival; /* after: not timed */
    int want;                   /* per cent of the rival's rate; 0: only told */
};

static double seconds_of(struct stage *s, work *do_it)
{
    const double before = seconds();
    if (do_it) do_it(s);
    return seconds() - before;
}

/* Seconds of the best of ROUNDS, each round in turn with its rival. */
static void race(struct stage *s, const struct contest *c, double *best, double *rival_best)
{
    *best = *rival_best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        const double mine = seconds_of(s, c->mine);
        if (c->after) c->after(s);
        const double rival = seconds_of(s, c->rival);
        if (mine < *best) *best = mine;
        if (rival < *rival_best) *rival_best = rival;
    }
}

static void row(struct stage *s, const struct contest *c, double bytes)
{
    double best, other;
    race(s, c, &best, &other);
    printf("%-26s %7.2f ms %7.2f GB/s   %-20s %7.2f ms %7.2f GB/s   %4.0f %%", c->name, 1e3 * best,
           1e-9 * bytes / best, c->against, 1e3 * other, 1e-9 * bytes / other, 100 * other / best);
    if (c->want) printf("  (must be %d)", c->want);
    printf("\n");
}

/* ---- lengths ---------------------------------------------------------------------------------------------- */

/* Nanoseconds of one call, over many. */
static void lengths(struct stage *s, int32_t position)
{
    enum { CALLS = 200000 };
    struct state *st = &s->state;
    st->slot[s->slot].position = position;
    for (int32_t i = 0; i < st->layers; i++)
        if (st->layer[i].delta.base) st->layer[i].delta.base[s->slot] = position - BLOCK;
    const double t0 = seconds();
    for (int i = 0; i < CALLS; i++) {
        bench_check(state_rewind(st, s->slot, 5, &s->err) == GDN_OK, s->err.text);
        st->slot[s->slot].position += 5;
    }
    const double t1 = seconds();
    for (int i = 0; i < CALLS; i++) {
        state_drafted(st, s->slot, 8);
        bench_check(state_commit(st, s->slot, 5) == 5, "commit");
        st->slot[s->slot].position -= 5;
    }
    const double t2 = seconds();
    printf("position %4d: rewind %5.1f ns, commit %5.1f ns\n", position, 1e9 * (t1 - t0) / CALLS,
           1e9 * (t2 - t1) / CALLS);
}

/* Bytes of anchors among those that a fork copies within the device. */
static struct stage *counted;
static size_t copied, copied_anchors;

static void count_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    copied += bytes;
    for (int32_t i = 0; i < counted->state.layers; i++) {
        const struct delta_slots *d = &counted->state.layer[i].delta;
        const char *anchor = d->anchor, *at = from;
        const size_t all = dtype_size(d->anchor_type) * (size_t)d->anchor_elements *
                           (size_t)d->slots;
        if (anchor && at >= anchor && at < anchor + all) copied_anchors += bytes;
    }
    memcpy(to, from, bytes);
}

static void forks(struct stage *s)
{
    void (*copy)(struct device *, void *, const void *, size_t) = s->device->copy;
    double best, none;
    copied = copied_anchors = 0;
    counted = s;
    s->device->copy = count_copy;
    fork_slot(s);
    s->device->copy = copy;
    race(s, &(struct contest){.mine = fork_slot}, &best, &none);
    printf("fork and give back: %.2f ms, %.1f MB copied, %zu bytes of anchors\n", 1e3 * best,
           1e-6 * (double)copied, copied_anchors);
    bench_check(copied_anchors == 0, "a fork copied an anchor");
}

static void all(struct stage *s)
{
    static const struct contest memory[] = {
        {"snapshot", "memcpy", take, NULL, copy_memory, 70},
        {"restore", "memcpy", restore, give_restored, copy_memory, 70},
        {"restore, old slot zeroed", "memcpy", restore_over, NULL, copy_memory, 0},
        {"snapshot, new memory", "memcpy, new memory", take_new, NULL, copy_new, 0},
    };
    static const struct contest disk[] = {
        {"save", "write and fsync", save, NULL, plain, 60},
        {"load, slot given back", "read", load, NULL, read_plain, 0},
    };
    const double bytes = (double)s->snapshot.bytes, file = (double)file_bytes(s);
    plain_bytes = (size_t)file;
    printf("compute %s: snapshot %.1f MB, file %.1f MB\n", dtype_name(s->state.compute),
           1e-6 * bytes, 1e-6 * file);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) row(s, &memory[i], bytes);
    row(s, &disk[0], file);
    save(s);
    row(s, &disk[1], file);
    forks(s);
    for (int32_t position = 16; position <= 1024; position *= 4) lengths(s, position);
}

int main(int argc, char **argv)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    for (int t = 0; t < 2; t++) {
        struct stage s;
        stage_open(&s, types[t], argc > 1 ? argv[1] : "/tmp");
        all(&s);
        unlink(s.path);
        stage_close(&s);
    }
    return 0;
}
