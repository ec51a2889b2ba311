/* file_damage.c: a file that is not what was written is refused, whatever has changed. */
#include "file_damage.h"

/* Every byte with every other value in it. */
static void every_byte(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    for (int which = 0; which < 2; which++) {
        unsigned char *image = (unsigned char *)f.image[which];
        const uint64_t before = file_sum_all(&f);
        for (size_t i = 0; i < f.len[which]; i++) {
            /* All 255 in what is read by itself; in the rest each bit. */
            const bool edge = i < 256 || i + 32 > f.len[which];
            for (int x = 1; x < 256; x += edge ? 1 : x) {
                image[i] = (unsigned char)(image[i] ^ x);
                if (file_load(&f, image, f.len[which]) >= 0)
                    fail_msg("byte %zu with %02x", i, image[i]);
                image[i] = (unsigned char)(image[i] ^ x);
            }
        }
        assert_int_equal(file_sum_all(&f), before);
        assert_int_equal(file_load(&f, image, f.len[which]), which);
    }
    file_lab_close(&f);
}

static void every_length(void **state)
{
    (void)state;
    struct file_lab f;
    file_lab_open(&f, file_small, FILE_SMALL);
    const size_t len = f.len[NEW];
    const uint64_t before = file_sum_all(&f);
    for (size_t i = 0; i < len; i++) {
        char *cut = mem_take_dirty(i); /* of its own: a sanitizer sees what is read behind it */
        memcpy(cut, f.image[NEW], i);
        assert_int_equal(file_load(&f, cut, i), -1);
        mem_give(cut);
    }
    char *more = mem_take(len + 64);
    for (size_t n = 1; n <= 64; n++)
        for (int how = 0; how < 3; how++) { /* zeros, the first bytes again, the last again */
            memcpy(more, f.image[NEW], len);
            memset(more + len, 0, n);
            if (how > 0) memcpy(more + len, f.image[NEW] + (how == 1 ? 0 : len - n), n);
            assert_int_equal(file_load(&f, more, len + n), -1);
        }
    mem_give(more);
    assert_int_equal(file_sum_all(&f), before);
    file_lab_close(&f);
}

/* The same through the file system, and verify says what load says. */
static void on_disk_too(void **state)
{
    (void)state;
    struct file_lab f;
    struct state_summary sum;
    file_lab_open(&f, file_small, FILE_SMALL);
    const uint64_t before = file_sum_all(&f);
    for (size_t i = 0; i < f.len[NEW]; i += 7) {
        const bool flip = i % 2;
        f.image[NEW][i] = (char)(f.image[NEW][i] ^ (flip ? 0x10 : 0));
        file_put(f.path, f.image[NEW], flip ? f.len[NEW] : i);
        f.image[NEW][i] = (char)(f.image[NEW][i] ^ (flip ? 0x10 : 0));
        struct state_record r;
        int32_t slot = -1;
        bool converted;
        error_clear(&f.err);
        assert_int_equal(state_verify(f.path, &sum, &f.err), GDN_ERR_INPUT);
        assert_non_null(strstr(f.err.text, f.path));
        assert_true(sum.bytes == 0 && sum.record.position == 0);
        error_clear(&f.err);
        assert_int_equal(state_load(f.path, &f.state, f.record[NEW].model, &slot, &r, &converted,
                                    &f.err), GDN_ERR_INPUT);
        assert_true(slot == -1 && !r.tokens);
    }
    assert_int_equal(file_sum_all(&f), before);
    file_lab_close(&f);
}

static void a_large_file_at_random(void **state)
{
    (void)state;
    damage_large(500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte),
        cmocka_unit_test(every_length),
        cmocka_unit_test(on_disk_too),
        cmocka_unit_test(a_large_file_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
