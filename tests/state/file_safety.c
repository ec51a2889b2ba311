/* file_safety.c: what stands at or beside the name: links, other writers, files that change while
 * they are read, and who may read what was written. */
#include <sys/file.h>

#include "file_lab.h"

static enum gdn_status load_path(struct file_lab *f, const char *path, int which)
{
    struct state_record r;
    int32_t slot = -1;
    bool converted;
    error_clear(&f->err);
    const enum gdn_status status = state_load(path, &f->state, f->record[0].model, &slot, &r,
                                              &converted, &f->err);
    assert_int_equal(status, f->err.status);
    if (status != GDN_OK) return status;
    assert_int_equal(file_sum(f, slot), f->sum[which]);
    state_record_free(&r);
    state_slot_give(&f->state, slot);
    return status;
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & (S_IFMT | 07777);
}

static void nobody_else_reads_it(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    const mode_t before = umask(0);
    assert_int_equal(file_save(&f, OLD), GDN_OK);
    assert_int_equal(mode_of(f.path), S_IFREG | 0600);
    assert_int_equal(chmod(f.path, 0644), 0);
    assert_int_equal(file_save(&f, NEW), GDN_OK);
    assert_int_equal(mode_of(f.path), S_IFREG | 0600);
    umask(before);
    file_lab_close(&f);
}

/* Whatever somebody has put in the place of the temporary file is not written to. */
static void nothing_is_written_through_a_plant(void **state)
{
    (void)state;
    char victim[96];
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    file_put(f.path, f.image[OLD], f.len[OLD]);
    snprintf(victim, sizeof victim, "%s/victim", f.folder);
    for (int there = 0; there < 2; there++) {
        if (there) file_put(victim, "mine", 4);
        assert_int_equal(symlink(victim, f.temp), 0);
        assert_int_equal(file_save(&f, NEW), GDN_ERR_IO);
        assert_non_null(strstr(f.err.text, "is in the way"));
        assert_int_equal(mode_of(f.temp) & S_IFMT, S_IFLNK);
        assert_int_equal(file_exists(victim), there);
        assert_int_equal(file_found(&f), OLD);
        assert_int_equal(unlink(f.temp), 0);
    }
    size_t len;
    char *data = file_bytes(victim, &len);
    assert_true(data && len == 4 && memcmp(data, "mine", 4) == 0);
    mem_give(data);
    assert_int_equal(mkfifo(f.temp, 0666), 0);
    assert_int_equal(file_save(&f, NEW), GDN_ERR_IO);
    assert_int_equal(unlink(f.temp), 0);
    assert_int_equal(mkdir(f.temp, 0700), 0);
    assert_int_equal(file_save(&f, NEW), GDN_ERR_IO);
    assert_int_equal(rmdir(f.temp), 0);
    assert_int_equal(file_found(&f), OLD);
    assert_int_equal(file_save(&f, NEW), GDN_OK);
    unlink(victim);
    file_lab_close(&f);
}

/* A name that is a link becomes the file: where the link led is not touched. */
static void a_link_is_replaced(void **state)
{
    (void)state;
    char target[96];
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    snprintf(target, sizeof target, "%s/target", f.folder);
    file_put(target, f.image[OLD], f.len[OLD]);
    assert_int_equal(symlink(target, f.path), 0);
    assert_int_equal(load_path(&f, f.path, OLD), GDN_OK);
    assert_int_equal(file_save(&f, NEW), GDN_OK);
    assert_int_equal(mode_of(f.path), S_IFREG | 0600);
    assert_int_equal(file_found(&f), NEW);
    assert_int_equal(load_path(&f, target, OLD), GDN_OK);
    assert_int_equal(unlink(target), 0);
    file_lab_close(&f);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct file_lab f;
    struct state_record *r = &f.record[NEW];
    file_lab_open(&f, file_small, FILE_SMALL);
    assert_int_equal(load_path(&f, f.path, NEW), GDN_ERR_INPUT);
    assert_int_equal(load_path(&f, f.folder, NEW), GDN_ERR_INPUT);
    error_clear(&f.err);
    assert_int_equal(state_save(f.folder, &f.snapshot[NEW], r, &f.err), GDN_ERR_IO);
    assert_int_equal(mkfifo(f.path, 0600), 0);
    assert_int_equal(load_path(&f, f.path, NEW), GDN_ERR_INPUT);
    assert_int_equal(file_save(&f, NEW), GDN_ERR_IO);
    assert_int_equal(mode_of(f.path), S_IFIFO | 0600);
    char far[5000];
    memset(far, 'a', sizeof far - 1);
    far[sizeof far - 1] = 0;
    error_clear(&f.err);
    assert_int_equal(state_save(far, &f.snapshot[NEW], r, &f.err), GDN_ERR_USAGE);
    snprintf(far, sizeof far, "%s/none/f", f.folder);
    error_clear(&f.err);
    assert_int_equal(state_save(far, &f.snapshot[NEW], r, &f.err), GDN_ERR_IO);
    const struct snapshot empty = {0};
    error_clear(&f.err);
    assert_int_equal(state_save(f.path, &empty, r, &f.err), GDN_ERR_USAGE);
    assert_int_equal(file_entries(&f), 1);
    file_lab_close(&f);
}

static const char *opened; /* the first name that is opened */

static void first_open(void *context, const struct file_event *e)
{
    (void)context;
    if (e->call == FILE_OPEN && !opened) opened = strdup(e->path);
}

/* What is synced in the end is the folder of the name. */
static void syncs_folder_of(const char *path, const char *want)
{
    struct file_out out;
    opened = NULL;
    file_watch(first_open, NULL);
    const enum gdn_status status = file_create(&out, path, NULL);
    file_watch(NULL, NULL);
    assert_string_equal(opened, want);
    free((void *)(size_t)opened);
    if (status == GDN_OK) file_abandon(&out);
}

static void a_name_without_a_folder(void **state)
{
    (void)state;
    char back[4096];
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    assert_non_null(getcwd(back, sizeof back));
    assert_int_equal(chdir(f.folder), 0);
    assert_int_equal(state_save("f", &f.snapshot[NEW], &f.record[NEW], &f.err), GDN_OK);
    syncs_folder_of("f", ".");
    syncs_folder_of("/f/", "/f"); /* no such folder: it is opened first, and nothing is made */
    syncs_folder_of(f.path, f.folder);
    assert_int_equal(chdir(back), 0);
    assert_int_equal(file_found(&f), NEW);
    assert_int_equal(file_entries(&f), 1);
    file_lab_close(&f);
}

/* ---- two writers ----------------------------------------------------------------------------------------- */

static void one_writer_at_a_time(void **state)
{
    (void)state;
    struct file_out out;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    assert_int_equal(file_create(&out, f.path, &f.err), GDN_OK);
    file_write(&out, f.image[OLD], f.len[OLD]);
    assert_int_equal(file_save(&f, NEW), GDN_ERR_REFUSED);
    assert_non_null(strstr(f.err.text, "another process is writing it now"));
    assert_int_equal(file_commit(&out, &f.err), GDN_OK);
    assert_int_equal(file_found(&f), OLD);
    assert_int_equal(file_save(&f, NEW), GDN_OK);
    assert_int_equal(file_entries(&f), 1);
    file_lab_close(&f);
}

/* Another process acts at the worst moment: before the n-th call of ours. */
static struct {
    int64_t in;
    void (*act)(void);
    struct file_lab *lab;
    int fd;
} other;

static void meanwhile(void *context, const struct file_event *e)
{
    (void)context, (void)e;
    if (--other.in == 0) other.act();
}

/* It takes our new file for one that was left, and removes it; then again, with the lock held on. */
static void remove_ours(void)
{
    const int fd = open(other.lab->temp, O_WRONLY);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) unlink(other.lab->temp);
    if (fd >= 0) close(fd);
}

static void remove_ours_slowly(void)
{
    other.fd = open(other.lab->temp, O_WRONLY);
    if (other.fd >= 0 && flock(other.fd, LOCK_EX | LOCK_NB) == 0) unlink(other.lab->temp);
}

/* It has removed what was left, and writes its own under the same name. */
static struct file_out theirs;

static void begin_theirs(void)
{
    file_watch(NULL, NULL);
    if (file_create(&theirs, other.lab->path, NULL) != GDN_OK) theirs.stream = NULL;
    file_write(&theirs, other.lab->image[OLD], other.lab->len[OLD] / 2);
}

static void against(struct file_lab *f, void (*act)(void), bool left)
{
    bool more = true;
    for (int64_t n = 1; more; n++) {
        file_put(f->path, f->image[OLD], f->len[OLD]);
        if (left) file_put(f->temp, "half", 4);
        other.in = n;
        other.act = act;
        other.lab = f;
        other.fd = -1;
        theirs = (struct file_out){0};
        file_watch(meanwhile, NULL);
        const enum gdn_status status = file_save(f, NEW);
        file_watch(NULL, NULL);
        more = other.in <= 0;
        if (other.fd >= 0) close(other.fd);
        /* Never half of theirs, and nothing of ours unless we said so. */
        assert_int_equal(file_found(f), status == GDN_OK ? NEW : OLD);
        assert_true(status == GDN_OK || status == GDN_ERR_REFUSED || status == GDN_ERR_IO);
        if (theirs.stream) {
            file_write(&theirs, f->image[OLD] + f->len[OLD] / 2,
                       f->len[OLD] - f->len[OLD] / 2);
            assert_int_equal(file_commit(&theirs, &f->err), GDN_OK);
            assert_int_equal(file_found(f), OLD);
        }
        assert_int_equal(file_save(f, NEW), GDN_OK);
        assert_int_equal(file_entries(f), 1);
    }
}

static void writers_that_meet(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (int left = 0; left < 2; left++) {
        against(&f, remove_ours, left);
        against(&f, remove_ours_slowly, left);
        against(&f, begin_theirs, left);
    }
    file_lab_close(&f);
}

/* ---- files that change while they are read ----------------------------------------------------------------- */

static int64_t cut_to; /* the length at the next read */

static void cut(void *context, const struct file_event *e)
{
    (void)context;
    if (e->call == FILE_READ && cut_to >= 0) assert_int_equal(truncate(e->path, cut_to), 0);
}

static void a_file_that_shrinks(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    const uint64_t before = file_sum_all(&f);
    for (cut_to = 0; cut_to < (int64_t)f.len[NEW]; cut_to++) {
        file_put(f.path, f.image[NEW], f.len[NEW]);
        file_watch(cut, NULL);
        const enum gdn_status status = load_path(&f, f.path, NEW);
        file_watch(NULL, NULL);
        assert_int_equal(status, GDN_ERR_IO);
        assert_non_null(strstr(f.err.text, "became shorter"));
    }
    assert_int_equal(file_sum_all(&f), before);
    file_lab_close(&f);
}

static void replace(void *context, const struct file_event *e)
{
    struct file_lab *f = context;
    char name[96];
    if (e->call != FILE_READ) return;
    snprintf(name, sizeof name, "%s/other", f->folder);
    file_put(name, f->image[NEW], f->len[NEW]);
    assert_int_equal(rename(name, f->path), 0);
}

/* The file that was opened is the one that is read, whatever is saved meanwhile. */
static void a_file_that_is_replaced(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    file_put(f.path, f.image[OLD], f.len[OLD]);
    file_watch(replace, &f);
    assert_int_equal(load_path(&f, f.path, OLD), GDN_OK);
    file_watch(NULL, NULL);
    assert_int_equal(load_path(&f, f.path, NEW), GDN_OK);
    file_lab_close(&f);
}

static int reads;

static void count_reads(void *context, const struct file_event *e)
{
    (void)context;
    reads += e->call == FILE_READ;
    assert_true(e->len <= 64);
}

/* A terabyte that is none of ours is not read to its end, nor is there memory taken for it. */
static void a_foreign_file_costs_64_bytes(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (int ours = 0; ours < 2; ours++) {
        file_put(f.path, ours ? f.image[NEW] : "GGUF", ours ? f.len[NEW] : 4);
        assert_int_equal(truncate(f.path, (off_t)1 << 40), 0);
        reads = 0;
        file_watch(count_reads, NULL);
        const enum gdn_status status = load_path(&f, f.path, NEW);
        file_watch(NULL, NULL);
        assert_int_equal(status, GDN_ERR_INPUT);
        assert_int_equal(reads, 1);
    }
    file_lab_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_else_reads_it),
        cmocka_unit_test(nothing_is_written_through_a_plant),
        cmocka_unit_test(a_link_is_replaced),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_name_without_a_folder),
        cmocka_unit_test(one_writer_at_a_time),
        cmocka_unit_test(writers_that_meet),
        cmocka_unit_test(a_file_that_shrinks),
        cmocka_unit_test(a_file_that_is_replaced),
        cmocka_unit_test(a_foreign_file_costs_64_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
