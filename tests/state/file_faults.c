/* file_faults.c: every system call of saving and loading fails in turn, once and from then on, and
 * then two of them: an error that says so, the old file to the byte, nothing left behind, and the
 * sequences that live on untouched. */
#include "file_lab.h"

enum { MOST = 400 };

/* The calls since the last start, 1 = the first. */
static struct {
    struct {
        enum file_call call;
        bool on_name; /* of the file or its folder, not of the temporary file */
    } at[MOST];
    int n;
    const char *name;
} seen;

static void note(void *context, const struct file_event *e)
{
    (void)context;
    assert_true(++seen.n < MOST);
    seen.at[seen.n].call = e->call;
    seen.at[seen.n].on_name = strcmp(e->path, seen.name) == 0;
}

/* Where the first call of a kind stood; 0: nowhere. */
static int where(enum file_call call)
{
    for (int i = 1; i <= seen.n; i++)
        if (seen.at[i].call == call) return i;
    return 0;
}

/* What must be the same after as before. */
struct before {
    struct mem_count memory;
    uint64_t sum;
    int fd;
};

static int lowest_fd(void)
{
    const int fd = open("/dev/null", O_RDONLY);
    assert_true(fd >= 0);
    close(fd);
    return fd;
}

static struct before look(const struct file_lab *f)
{
    return (struct before){mem_counted(), file_sum_all(f), lowest_fd()};
}

static void same(const struct file_lab *f, const struct before *b)
{
    assert_int_equal(mem_counted().live_blocks, b->memory.live_blocks);
    assert_int_equal(mem_counted().live_bytes, b->memory.live_bytes);
    assert_int_equal(lowest_fd(), b->fd);
    assert_int_equal(file_sum_all(f), b->sum);
}

struct fault {
    int64_t n; /* the n-th call */
    int code;
    bool forever;
    int64_t then; /* and the then-th after it; 0: none */
};

static struct fault at_hand;

static void note_and_fail(void *context, const struct file_event *e)
{
    note(context, e);
    if (seen.n == at_hand.n + at_hand.then) file_fail_after(1, at_hand.code, at_hand.forever);
}

static bool failed(int i, const struct fault *x)
{
    return i == x->n || (x->forever && i > x->n) || (x->then > 0 && i == x->n + x->then);
}

static void begin(const struct file_lab *f, const struct fault *x)
{
    seen.n = 0;
    seen.name = f->path;
    at_hand = *x;
    file_watch(x->then > 0 ? note_and_fail : note, NULL);
    file_fail_after(x->n, x->code, x->forever);
}

static void end(void)
{
    file_fail_after(0, 0, false);
    file_watch(NULL, NULL);
}

/* ---- saving -------------------------------------------------------------------------------------------- */

static void check_error(const struct file_lab *f, enum gdn_status status)
{
    assert_int_equal(status, f->err.status);
    if (status == GDN_OK) return;
    if (status != GDN_ERR_IO && (status != GDN_ERR_MEMORY || !strstr(f->err.text, "stream")))
        fail_msg("status %d: %s", (int)status, f->err.text);
    assert_non_null(strstr(f->err.text, f->folder));
    if (at_hand.code > 0) assert_non_null(strstr(f->err.text, strerror(at_hand.code)));
}

/* One save under a fault, over an old file or none; false when it ended before its n-th call. */
static bool save_once(struct file_lab *f, const struct fault *x, bool over)
{
    const int before = over ? OLD : -2;
    if (over)
        file_put(f->path, f->image[OLD], f->len[OLD]);
    else
        unlink(f->path);
    const struct before b = look(f);
    bool left = file_exists(f->temp), late = false;
    begin(f, x);
    const enum gdn_status status = file_save(f, NEW);
    end();
    same(f, &b);
    check_error(f, status);
    const int rename_at = where(FILE_RENAME), found = file_found(f);
    for (int i = 1; i <= seen.n; i++) {
        left = left || (seen.at[i].call == FILE_UNLINK && failed(i, x) && x->code > 0);
        late = late || (seen.at[i].call == FILE_SYNC && seen.at[i].on_name && failed(i, x));
    }
    if (status != GDN_OK && late && rename_at > 0)
        assert_non_null(strstr(f->err.text, "written whole"));
    assert_int_equal(found, status == GDN_OK || (late && rename_at > 0) ? NEW : before);
    /* Only these two may fail and the save be whole: without a lock O_EXCL still keeps others off, and
     * what is closed was synced. */
    if (x->then == 0 && x->code > 0 && x->code != EINTR && seen.n >= x->n &&
        seen.at[x->n].call != FILE_LOCK && seen.at[x->n].call != FILE_CLOSE)
        assert_int_not_equal(status, GDN_OK);
    if (!left) assert_false(file_exists(f->temp));
    assert_int_equal(file_entries(f), (found >= 0) + file_exists(f->temp));
    return seen.n >= x->n + x->then;
}

static void sweep_save(struct file_lab *f, int code, bool forever)
{
    for (int over = 0; over < 2; over++) {
        struct fault x = {.n = 1, .code = code, .forever = forever};
        while (save_once(f, &x, over)) x.n++;
        assert_true(x.n > 12);
        /* What a failure may have left is in nobody's way. */
        assert_int_equal(file_save(f, NEW), GDN_OK);
        assert_int_equal(file_found(f), NEW);
        assert_int_equal(file_entries(f), 1);
    }
}

static void every_call_of_a_save(void **state)
{
    (void)state;
    static const int code[] = {EIO, ENOSPC, EDQUOT, EMFILE, FILE_SHORT};
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (size_t c = 0; c < sizeof code / sizeof *code; c++)
        for (int forever = 0; forever < 2; forever++) sweep_save(&f, code[c], forever);
    sweep_save(&f, EINTR, false);
    file_lab_close(&f);
}

/* More than one block: a fault in the midst of the payload. */
static void every_call_of_a_long_save(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_large, FILE_LARGE);
    for (int forever = 0; forever < 2; forever++) {
        struct fault x = {.n = 1, .code = ENOSPC, .forever = forever};
        while (save_once(&f, &x, true)) x.n++;
        assert_true(x.n > 16);
    }
    file_lab_close(&f);
}

/* The second fault strikes while the first is being cleaned up, or in what went on. */
static void two_faults(void **state)
{
    (void)state;
    static const int code[] = {EIO, EINTR, FILE_SHORT};
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (size_t c = 0; c < sizeof code / sizeof *code; c++)
        for (int64_t n = 1, most = 1; most > 0; n++) {
            struct fault x = {.n = n, .code = code[c], .then = 1};
            while (save_once(&f, &x, true)) x.then++;
            most = x.then - 1;
        }
    file_lab_close(&f);
}

/* A file that a dead writer has left is removed by the next save, whichever call of that fails. */
static void faults_while_removing_what_was_left(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (int forever = 0; forever < 2; forever++) {
        struct fault x = {.n = 1, .code = EIO, .forever = forever};
        bool more = true;
        while (more) {
            file_put(f.path, f.image[OLD], f.len[OLD]);
            file_put(f.temp, "half", 4);
            const struct before b = look(&f);
            begin(&f, &x);
            const enum gdn_status status = file_save(&f, NEW);
            end();
            same(&f, &b);
            check_error(&f, status);
            const bool renamed = where(FILE_RENAME) > 0 && !failed(where(FILE_RENAME), &x);
            assert_int_equal(file_found(&f), renamed ? NEW : OLD);
            more = seen.n >= x.n++;
        }
        assert_int_equal(file_entries(&f), 1);
    }
    file_lab_close(&f);
}

/* ---- loading ------------------------------------------------------------------------------------------------- */

enum reader { LOAD, VERIFY, READERS };

static enum gdn_status read_as(struct file_lab *f, enum reader reader)
{
    struct state_record r;
    struct state_summary sum;
    int32_t slot = -1;
    bool converted;
    error_clear(&f->err);
    if (reader == VERIFY) return state_verify(f->path, &sum, &f->err);
    const enum gdn_status status = state_load(f->path, &f->state, f->record[NEW].model, &slot, &r,
                                              &converted, &f->err);
    mem_fail_after(0, false);
    assert_int_equal(status == GDN_OK, slot >= 0);
    if (status != GDN_OK) return status;
    assert_int_equal(file_sum(f, slot), f->sum[NEW]);
    state_slot_give(&f->state, slot);
    state_record_free(&r);
    return status;
}

static void sweep_load(struct file_lab *f, enum reader reader, int code, bool forever)
{
    struct fault x = {.n = 1, .code = code, .forever = forever};
    bool more = true;
    while (more) {
        const struct before b = look(f);
        begin(f, &x);
        const enum gdn_status status = read_as(f, reader);
        end();
        check_error(f, status);
        if (status != GDN_OK) same(f, &b);
        assert_int_equal(lowest_fd(), b.fd);
        assert_int_equal(mem_counted().live_bytes, b.memory.live_bytes);
        const bool harmless = code == FILE_SHORT || code == EINTR || seen.n < x.n ||
                              seen.at[x.n].call == FILE_CLOSE;
        assert_int_equal(status == GDN_OK, harmless);
        more = seen.n >= x.n++;
    }
    assert_true(x.n > 6);
    for (int i = 0; i < 2; i++) assert_int_equal(file_sum(f, i), f->sum[i]);
    assert_int_equal(file_found(f), NEW);
}

static void every_call_of_a_load(void **state)
{
    (void)state;
    static const int code[] = {EIO, EMFILE, ENOMEM, FILE_SHORT};
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    assert_int_equal(file_save(&f, NEW), GDN_OK);
    for (enum reader r = 0; r < READERS; r++) {
        for (size_t c = 0; c < sizeof code / sizeof *code; c++)
            for (int forever = 0; forever < 2; forever++) sweep_load(&f, r, code[c], forever);
        sweep_load(&f, r, EINTR, false);
    }
    file_lab_close(&f);
}

/* Models are mapped, not read. */
static void every_call_of_a_mapping(void **state)
{
    (void)state;
    struct file_map map;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    file_put(f.path, f.image[NEW], f.len[NEW]);
    for (int forever = 0; forever < 2; forever++) {
        struct fault x = {.n = 1, .code = ENOMEM, .forever = forever};
        for (bool more = true; more; x.n++) {
            const struct before b = look(&f);
            error_clear(&f.err);
            begin(&f, &x);
            const enum gdn_status status = file_map_open(&map, f.path, &f.err);
            end();
            more = seen.n >= x.n;
            check_error(&f, status);
            assert_int_equal(status == GDN_OK, !more || seen.at[x.n].call == FILE_CLOSE);
            if (status == GDN_OK) assert_memory_equal(map.data, f.image[NEW], f.len[NEW]);
            assert_int_equal(status == GDN_OK, map.data != NULL);
            file_map_close(&map);
            same(&f, &b);
        }
        assert_int_equal(x.n, 6); /* open, fstat, mmap, close; and one that passed */
    }
    file_lab_close(&f);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static enum gdn_status save_new(struct file_lab *f) { return file_save(f, NEW); }
static enum gdn_status load_new(struct file_lab *f) { return read_as(f, LOAD); }
static enum gdn_status verify_new(struct file_lab *f) { return read_as(f, VERIFY); }

static enum gdn_status aside_and_back(struct file_lab *f)
{
    struct snapshot s;
    int32_t slot = -1;
    error_clear(&f->err);
    TRY(snapshot_take(&s, &f->state, OLD, &f->scratch, NULL, &f->err));
    assert_int_equal(snapshot_restore(&s, &f->state, &slot, s.position, &f->err), GDN_OK);
    mem_fail_after(0, false);
    assert_int_equal(file_sum(f, slot), f->sum[OLD]);
    state_slot_give(&f->state, slot);
    snapshot_release(&s, true);
    return GDN_OK;
}

/* The n-th allocation fails, or all from it on; there are `sites`. */
static void sweep_memory(struct file_lab *f, enum gdn_status (*act)(struct file_lab *f), int before,
                         int sites, bool forever)
{
    for (int n = 1; n <= sites + 1; n++) {
        file_put(f->path, f->image[before], f->len[before]);
        const struct before b = look(f);
        mem_fail_after(n, forever);
        const enum gdn_status status = act(f);
        mem_fail_after(0, false);
        assert_int_equal(status, n <= sites ? GDN_ERR_MEMORY : GDN_OK);
        assert_int_equal(status, f->err.status);
        assert_int_equal(mem_counted().live_bytes, b.memory.live_bytes);
        assert_int_equal(file_entries(f), 1);
        if (status == GDN_OK) continue;
        same(f, &b);
        assert_int_equal(file_found(f), before);
    }
    for (int i = 0; i < 2; i++) assert_int_equal(file_sum(f, i), f->sum[i]);
}

static void every_allocation(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (int forever = 0; forever < 2; forever++) {
        sweep_memory(&f, save_new, OLD, 4, forever);
        sweep_memory(&f, load_new, NEW, 4, forever);
        sweep_memory(&f, verify_new, NEW, 2, forever);
        sweep_memory(&f, aside_and_back, OLD, 1, forever);
    }
    file_lab_close(&f);
}

/* A device that has failed gives no numbers that could be sealed, and none that could be taken up. */
static void a_failed_device(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    file_put(f.path, f.image[OLD], f.len[OLD]);
    const struct before b = look(&f);
    f.device->status = GDN_ERR_DEVICE;
    assert_int_equal(file_save(&f, NEW), GDN_ERR_DEVICE);
    assert_int_equal(f.err.status, GDN_ERR_DEVICE);
    same(&f, &b);
    assert_int_equal(read_as(&f, LOAD), GDN_ERR_DEVICE);
    f.device->status = GDN_OK;
    assert_int_equal(file_found(&f), OLD);
    assert_int_equal(file_entries(&f), 1);
    for (int i = 0; i < 2; i++) assert_int_equal(file_sum(&f, i), f.sum[i]);
    assert_int_equal(file_load(&f, f.image[NEW], f.len[NEW]), NEW);
    file_lab_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_of_a_save),
        cmocka_unit_test(every_call_of_a_long_save),
        cmocka_unit_test(two_faults),
        cmocka_unit_test(faults_while_removing_what_was_left),
        cmocka_unit_test(every_call_of_a_load),
        cmocka_unit_test(every_call_of_a_mapping),
        cmocka_unit_test(every_allocation),
        cmocka_unit_test(a_failed_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
