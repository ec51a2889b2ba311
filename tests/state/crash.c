/* crash.c: power cuts. The calls of one save are recorded; then every moment of it is taken as the
 * last, and what had not been synced by then is kept, lost, reordered or torn, as a disk may do it.
 * Each image must load as the old state or the new one, or be refused: never as anything else. */
#include "file_lab.h"

enum { STEPS = 64 };

struct step {
    enum file_call call;
    bool folder; /* a sync of the folder, not of the file */
    size_t at, len; /* a write: these bytes of the new file */
};

struct trace {
    struct file_lab *lab;
    struct step step[STEPS];
    int n;
    size_t written;
};

static void record(void *context, const struct file_event *e)
{
    struct trace *t = context;
    const bool temp = strcmp(e->path, t->lab->temp) == 0;
    if (e->call != FILE_WRITE && e->call != FILE_SYNC && e->call != FILE_RENAME) return;
    assert_true(t->n < STEPS);
    struct step *step = &t->step[t->n++];
    *step = (struct step){.call = e->call, .folder = !temp};
    if (e->call != FILE_WRITE) return;
    assert_true(temp && t->written + e->len <= t->lab->len[NEW]);
    assert_memory_equal(t->lab->image[NEW] + t->written, e->data, e->len);
    step->at = t->written;
    step->len = e->len;
    t->written += e->len;
}

static void trace_save(struct trace *t, struct file_lab *f)
{
    *t = (struct trace){.lab = f};
    file_put(f->path, f->image[OLD], f->len[OLD]);
    file_watch(record, t);
    const enum gdn_status status = file_save(f, NEW);
    file_watch(NULL, NULL);
    assert_int_equal(status, GDN_OK);
    assert_int_equal(t->written, f->len[NEW]);
}

/* ---- what a disk may have kept -------------------------------------------------------------------------- */

enum order { IN_ORDER, ANY_ORDER };

/* How one image comes about. */
struct fate {
    int last;           /* calls that were made */
    enum order order;   /* of what reached the disk unsynced */
    size_t sector;      /* what is written whole or not at all */
    double kept;        /* the share of it */
    int ground;         /* under what was never written: zeros, old bytes, or others */
    bool long_as_told;  /* the length may be on the disk before the bytes */
    bool linked;        /* a rename that is not synced took place */
    struct rng rng;
};

static void lay_ground(const struct file_lab *f, const struct fate *x, char *disk, size_t len)
{
    memset(disk, x->ground == 2 ? 0xa5 : 0, len);
    if (x->ground == 1) memcpy(disk, f->image[OLD], len < f->len[OLD] ? len : f->len[OLD]);
}

/* The writes of the trace up to x->last, the first `synced` calls of them whole. Returns the length. */
static size_t lay_writes(const struct trace *t, struct fate *x, int synced, char *disk)
{
    size_t len = 0;
    const double share = 1.25 * rng_unit(&x->rng); /* in order: what stands before this; 1: all */
    for (int i = 0; i < x->last; i++) {
        const struct step *step = &t->step[i];
        if (step->call != FILE_WRITE) continue;
        for (size_t at = step->at; at < step->at + step->len;) {
            const size_t next = (at / x->sector + 1) * x->sector, end = step->at + step->len;
            const size_t stop = next < end ? next : end;
            const bool kept = i < synced ||
                              (x->order == IN_ORDER ? (double)at < share * (double)t->written
                                                    : rng_unit(&x->rng) < x->kept);
            if (kept) memcpy(disk + at, t->lab->image[NEW] + at, stop - at);
            if (kept || x->long_as_told) len = stop;
            at = stop;
        }
    }
    return len;
}

enum { SKIP_FILE_SYNC = 1, SKIP_FOLDER_SYNC = 2 };

/* The file that stands under the name after this fate: bytes in `disk`, or the old file. */
static const char *after_crash(const struct trace *t, struct fate *x, int skip, char *disk,
                               size_t *len)
{
    const struct file_lab *f = t->lab;
    int synced = 0;
    bool renamed = false, settled = false;
    for (int i = 0; i < x->last; i++) {
        const struct step *step = &t->step[i];
        if (step->call == FILE_RENAME) renamed = true;
        if (step->call != FILE_SYNC) continue;
        if (!step->folder && !(skip & SKIP_FILE_SYNC)) synced = i;
        if (step->folder && !(skip & SKIP_FOLDER_SYNC)) settled = renamed;
    }
    if (!settled && !(renamed && x->linked)) {
        *len = f->len[OLD];
        return f->image[OLD];
    }
    lay_ground(f, x, disk, f->len[NEW]);
    *len = lay_writes(t, x, synced, disk);
    return disk;
}

struct tally {
    int images, found[2], refused, last_is_old;
};

static void crash(struct trace *t, int rounds, int skip, struct tally *tally)
{
    struct file_lab *f = t->lab;
    char *disk = mem_take(f->len[NEW]);
    assert_non_null(disk);
    struct rng rng = {.seed = (uint64_t)skip};
    for (int last = 0; last <= t->n; last++)
        for (int i = 0; i < rounds; i++) {
            struct fate x = {.last = last, .order = i % 2 ? ANY_ORDER : IN_ORDER,
                             .sector = i / 2 % 2 ? 512 : 4096, .ground = i / 4 % 3,
                             .long_as_told = i / 12 % 2, .linked = i / 24 % 4 > 0,
                             .kept = 1.25 * rng_unit(&rng), .rng = {.seed = rng_u64(&rng)}};
            size_t len;
            const char *image = after_crash(t, &x, skip, disk, &len);
            const int found = file_load(f, image, len);
            tally->images++;
            if (found < 0)
                tally->refused++;
            else
                tally->found[found]++;
            if (last == t->n && found != NEW) tally->last_is_old++;
        }
    mem_give(disk);
}

static void untouched(struct file_lab *f, const struct mem_count *memory)
{
    assert_int_equal(mem_counted().live_bytes, memory->live_bytes);
    for (int i = 0; i < 2; i++) assert_int_equal(file_sum(f, i), f->sum[i]);
}

/* ---- the tests ----------------------------------------------------------------------------------------------- */

/* With a disk that keeps its word nothing is ever refused, and a save that has returned is kept. */
static void protocol_holds(struct trace *t, int rounds, struct tally *sum)
{
    struct tally honest = {0};
    crash(t, rounds, 0, &honest);
    assert_int_equal(honest.refused, 0);
    assert_int_equal(honest.last_is_old, 0);
    assert_true(honest.found[OLD] > 0 && honest.found[NEW] > 0);
    sum->images += honest.images;
}

/* With one that does not, or without our syncs, the file may be lost, and that is seen. It is also
 * how we know that the images above could have been bad. */
static void lies_are_seen(struct trace *t, int rounds, struct tally *sum)
{
    struct tally torn = {0}, late = {0};
    crash(t, rounds, SKIP_FILE_SYNC, &torn);
    crash(t, rounds / 2, SKIP_FOLDER_SYNC, &late);
    assert_true(torn.refused > torn.images / 20 && torn.found[OLD] > 0 && torn.found[NEW] > 0);
    assert_true(late.last_is_old > 0 && late.refused == 0);
    sum->images += torn.images + late.images;
}

static void a_small_file(void **state)
{
    (void)state;
    struct file_lab f;
    struct trace t;
    struct tally sum = {0};
    file_lab_open(&f, file_small, FILE_SMALL);
    trace_save(&t, &f);
    const struct mem_count memory = mem_counted();
    protocol_holds(&t, 480, &sum);
    lies_are_seen(&t, 960, &sum);
    assert_true(sum.images >= 10000);
    untouched(&f, &memory);
    file_lab_close(&f);
}

/* Four blocks. */
static void a_large_file(void **state)
{
    (void)state;
    struct file_lab f;
    struct trace t;
    struct tally sum = {0};
    file_lab_open(&f, file_large, FILE_LARGE);
    trace_save(&t, &f);
    assert_true(t.n >= 9);
    const struct mem_count memory = mem_counted();
    protocol_holds(&t, 12, &sum);
    lies_are_seen(&t, 24, &sum);
    untouched(&f, &memory);
    file_lab_close(&f);
}

/* Not our protocol at all: the new file written over the old one, cut off anywhere. */
static void old_and_new_mixed(void **state)
{
    (void)state;
    int found[2] = {0}, refused = 0;
    struct rng rng = {.seed = 5};
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    const size_t most = f.len[OLD] > f.len[NEW] ? f.len[OLD] : f.len[NEW];
    char *disk = mem_take(most);
    for (int i = 0; i < 3000; i++) {
        const size_t sector = i % 2 ? 512 : 64, len = f.len[i / 2 % 2];
        const double share = i % 10 == 9 ? 1 : i % 10 == 8 ? 0 : rng_unit(&rng);
        memset(disk, 0, most);
        for (size_t at = 0; at < len; at += sector) {
            const int from = rng_unit(&rng) < share ? NEW : OLD;
            const size_t left = at < f.len[from] ? f.len[from] - at : 0;
            memcpy(disk + at, f.image[from] + at, left < sector ? left : sector);
        }
        const int got = file_load(&f, disk, len);
        if (got < 0)
            refused++;
        else
            found[got]++;
    }
    assert_true(found[OLD] > 0 && found[NEW] > 0 && refused > 2000);
    mem_give(disk);
    file_lab_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_file),
        cmocka_unit_test(a_large_file),
        cmocka_unit_test(old_and_new_mixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
