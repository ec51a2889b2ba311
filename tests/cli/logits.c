/* gdn logits: what stands in the file, and that cuts, batches and threads do not change a bit. */
#include "cli/program.h"

#include <math.h>

#include "formats/safetensors.h"

#define GOLDEN TINY "/golden.safetensors"
enum { IDS = 150, VOCAB = 256, WIDTH = 40, LAYERS = 4 };

static void open_file(struct safetensors *st, const char *path)
{
    struct gdn_error err = {0};
    if (safetensors_open(st, path, &err) != GDN_OK) fail_msg("%s", err.text);
}

static const float *tensor(const struct safetensors *st, const char *name, int64_t rows,
                           int64_t width)
{
    const struct st_entry *e = safetensors_find(st, name);
    if (!e) fail_msg("no %s", name);
    assert_int_equal(e->dtype, ST_F32);
    assert_int_equal(e->rank, 2);
    assert_int_equal(e->shape[0], rows);
    assert_int_equal(e->shape[1], width);
    return (const float *)(const void *)e->data;
}

/* The ids of the golden file, first..first+n-1, as text. */
static void put_ids(const char *name, int first, int n, const char *gap)
{
    struct safetensors st;
    open_file(&st, GOLDEN);
    const struct st_entry *e = safetensors_find(&st, "ids");
    assert_non_null(e);
    assert_true(e->dtype == ST_I64 || e->dtype == ST_I32);
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    for (int i = first; i < first + n; i++) {
        int32_t id;
        memcpy(&id, e->data + (size_t)i * st_dtype_size(e->dtype), sizeof id);
        fprintf(file, "%s%d", i > first ? gap : "", id);
    }
    fclose(file);
    safetensors_close(&st);
}

static int make_ids(void **state)
{
    if (make_work(state) != 0) return -1;
    put_ids("ids", 0, IDS, "\n");
    put_ids("commas", 0, IDS, ", ");
    put_ids("other", 30, 70, " ");
    went_well(gdn("logits", TINY, "--ids", "ids", "--out", "plain"));
    assert_string_equal(ran.out, "");
    return 0;
}

/* This run writes exactly the bytes of "plain". */
#define same_as_plain(...)                                                              \
    do {                                                                                \
        went_well(gdn_in("ids", "logits", TINY, "--out", "again", __VA_ARGS__));        \
        files_equal("plain", "again", __LINE__);                                        \
    } while (0)

static void files_equal(const char *a, const char *b, int line)
{
    size_t n, m;
    char *left = get(a, &n), *right = get(b, &m);
    if (n != m || memcmp(left, right, n) != 0) fail_msg("line %d: %s and %s differ", line, a, b);
    mem_give(left);
    mem_give(right);
}

static void nothing_changes_a_bit(void **state)
{
    (void)state;
    same_as_plain("--ids", "ids");
    same_as_plain("--ids", "-");
    same_as_plain("--ids", "commas");
    same_as_plain("--ids", "ids", "--exact");
    same_as_plain("--ids", "ids", "--cuts", "1");
    same_as_plain("--ids", "ids", "--cuts", "1,5,16");
    same_as_plain("--ids", "ids", "--cuts", "17 2 31");
    same_as_plain("--ids", "ids", "--cuts", "1000");
    same_as_plain("--ids", "ids", "--threads", "1");
    same_as_plain("--ids", "ids", "--threads", "2");
    same_as_plain("--ids", "ids", "--ctx", "150");
    same_as_plain("--ids", "ids", "--batch-with", "other");
    same_as_plain("--ids", "ids", "--batch-with", "other", "--cuts", "3,1,20");
    same_as_plain("--ids", "ids", "--batch-with", "ids", "--cuts", "64");
    same_as_plain("--ids", "ids", "--compute", "f32", "--state-dtype", "f32", "--device", "cpu");
}

static void last_rows(void **state)
{
    (void)state;
    struct safetensors all, some;
    open_file(&all, "plain");
    const float *want = tensor(&all, "logits", IDS, VOCAB);
    static const int counts[] = {1, 7, 150};
    for (int i = 0; i < 3; i++) {
        char n[16];
        snprintf(n, sizeof n, "%d", counts[i]);
        went_well(gdn("logits", TINY, "--ids", "ids", "--out", "some", "--last", n, "--cuts",
                      "5,146"));
        open_file(&some, "some");
        assert_memory_equal(tensor(&some, "logits", counts[i], VOCAB),
                            want + (IDS - counts[i]) * VOCAB,
                            (size_t)counts[i] * VOCAB * sizeof *want);
        assert_int_equal(some.count, 1);
        safetensors_close(&some);
    }
    safetensors_close(&all);
}

/* Rows of the golden file against ours. */
static void compare(const struct safetensors *golden, const struct safetensors *ours,
                    const char *name, const char *golden_name, int64_t width)
{
    const struct st_entry *rows = safetensors_find(golden, "rows");
    assert_non_null(rows);
    const float *want = tensor(golden, golden_name, rows->shape[0], width);
    const float *found = tensor(ours, name, IDS, width);
    for (int64_t i = 0; i < rows->shape[0]; i++) {
        int32_t row;
        memcpy(&row, rows->data + (size_t)i * st_dtype_size(rows->dtype), sizeof row);
        for (int64_t j = 0; j < width; j++) {
            const double apart = fabs((double)want[i * width + j] - (double)found[row * width + j]);
            if (!(apart <= 2e-4)) fail_msg("%s row %d column %lld: %g apart", name, row,
                                           (long long)j, apart);
        }
    }
}

static void hidden_states(void **state)
{
    (void)state;
    struct safetensors golden, ours;
    open_file(&golden, GOLDEN);
    static const char *const cuts[] = {"1000", "1,16,2"};
    for (int c = 0; c < 2; c++) {
        went_well(gdn("logits", TINY, "--ids", "ids", "--out", "deep", "--hidden", "--cuts",
                      cuts[c]));
        open_file(&ours, "deep");
        assert_int_equal(ours.count, LAYERS + 2);
        assert_int_equal(safetensors_offset(&ours, &ours.entries[0]) % 8, 0);
        compare(&golden, &ours, "logits", "exact.logits", VOCAB);
        for (int i = 0; i <= LAYERS; i++) {
            char name[32];
            snprintf(name, sizeof name, "hidden.%d", i);
            compare(&golden, &ours, name, name, WIDTH);
        }
        safetensors_close(&ours);
    }
    safetensors_close(&golden);
}

/* Other arithmetic is other numbers, near these. */
static void types_and_devices(void **state)
{
    (void)state;
    struct safetensors plain, other;
    open_file(&plain, "plain");
    const float *want = tensor(&plain, "logits", IDS, VOCAB);
    static const struct {
        const char *option, *value;
        double least, most;
    } cases[] = {{"--device", "ref", 0, 1e-3},
                 {"--compute", "bf16", 1e-3, 1},
                 {"--state-dtype", "bf16", 1e-4, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        went_well(gdn("logits", TINY, "--ids", "ids", "--out", "o", cases[c].option,
                      cases[c].value));
        open_file(&other, "o");
        const float *found = tensor(&other, "logits", IDS, VOCAB);
        double apart = 0;
        for (int i = 0; i < IDS * VOCAB; i++)
            apart = fmax(apart, fabs((double)want[i] - (double)found[i]));
        if (apart < cases[c].least || apart > cases[c].most)
            fail_msg("%s %s: %g apart", cases[c].option, cases[c].value, apart);
        safetensors_close(&other);
    }
    setenv("GDN_STATE_BF16", "1", 1);
    went_well(gdn("logits", TINY, "--ids", "ids", "--out", "again"));
    files_equal("o", "again", __LINE__);
    same_as_plain("--ids", "ids", "--state-dtype", "f32");
    unsetenv("GDN_STATE_BF16");
    safetensors_close(&plain);
}

static void nothing_is_left_beside(void **state)
{
    (void)state;
    assert_int_equal(count_files(".tmp"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_a_bit), cmocka_unit_test(last_rows),
        cmocka_unit_test(hidden_states),         cmocka_unit_test(types_and_devices),
        cmocka_unit_test(nothing_is_left_beside),
    };
    return cmocka_run_group_tests(tests, make_ids, drop_work);
}
