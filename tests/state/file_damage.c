/* file_damage.c: a file that is not what was written is refused, whatever has changed. */
#include "file_lab.h"

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

/* ---- a large file, damaged at random -------------------------------------------------------------------- */

/* Bytes from..to-1 of the copy are what they were. */
static void damage_undo(const struct file_lab *f, char *copy, size_t from, size_t to)
{
    if (to > f->len[NEW]) to = f->len[NEW];
    if (from < to) memcpy(copy + from, f->image[NEW] + from, to - from);
}

struct damage {
    size_t from[2], to[2]; /* what it may have changed */
    size_t len;            /* of the file */
};

static size_t damage_at(const struct file_lab *f, struct rng *rng)
{
    const size_t len = f->len[NEW];
    /* Now and then in what everything else hangs on: the first bytes and the last. */
    const size_t kind = rng_below(rng, 8);
    if (kind == 0) return rng_below(rng, 256);
    if (kind == 1) return len - 1 - rng_below(rng, 64);
    return rng_below(rng, len);
}

static void swap(char *a, char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char c = a[i];
        a[i] = b[i];
        b[i] = c;
    }
}

static struct damage damage_make(const struct file_lab *f, char *copy, struct rng *rng)
{
    const size_t len = f->len[NEW], at = damage_at(f, rng), other = damage_at(f, rng);
    const size_t room = len - (at > other ? at : other);
    size_t n = (size_t)1 << rng_below(rng, 17);
    struct damage d = {.from = {at, other}, .len = len};
    const int flips = 1 + (int)rng_below(rng, 8);
    if (n > room) n = room;
    switch (rng_below(rng, 6)) {
    case 0: /* bits flip */
        for (int i = 0; i < flips; i++) {
            const size_t p = at + rng_below(rng, n);
            copy[p] = (char)(copy[p] ^ 1 << rng_below(rng, 8));
        }
        break;
    case 1: /* a range is zeros */
        memset(copy + at, 0, n);
        break;
    case 2: /* a piece of the file stands in another's place, or of the old file */
        memmove(copy + at, rng_below(rng, 2) ? copy + other : f->image[OLD] + other % 1000, n);
        break;
    case 3: /* two pieces have changed places */
        swap(copy + at, copy + other, n);
        break;
    case 4: /* the end is missing */
        d.len = at;
        break;
    default: /* a piece is missing, and the rest has moved up */
        memmove(copy + at, copy + at + n, len - at - n);
        d.len = len - n;
        n = len - at;
    }
    d.to[0] = at + n;
    d.to[1] = other + n;
    return d;
}

static void a_large_file_at_random(void **state)
{
    enum { TIMES = 10000 };
    (void)state;
    struct file_lab f;
    struct rng rng = {.seed = 11};
    int refused = 0;
    file_lab_open(&f, file_large, FILE_LARGE);
    const size_t len = f.len[NEW];
    assert_true(len > 3 << 20);
    const uint64_t before = file_sum_all(&f);
    char *copy = mem_take(len);
    assert_non_null(copy);
    damage_undo(&f, copy, 0, len);
    for (int i = 0; refused < TIMES; i++) {
        const struct damage d = damage_make(&f, copy, &rng);
        const bool none = d.len == len && memcmp(copy, f.image[NEW], len) == 0;
        if (!none && file_load(&f, copy, d.len) >= 0) fail_msg("damage %d was not seen", i);
        refused += !none;
        damage_undo(&f, copy, d.from[0], d.to[0]);
        damage_undo(&f, copy, d.from[1], d.to[1]);
        if (i % 1000 == 999) assert_int_equal(file_sum_all(&f), before);
    }
    for (size_t a = 0; a < 3; a++)
        for (size_t b = a + 1; b < 3; b++) { /* whole blocks: each hash is right, but of another */
            const size_t first = sizeof(struct file_prologue), block = STATE_FILE_BLOCK;
            swap(copy + first + a * block, copy + first + b * block, block);
            assert_int_equal(file_load(&f, copy, len), -1);
            swap(copy + first + a * block, copy + first + b * block, block);
        }
    assert_int_equal(file_sum_all(&f), before);
    assert_int_equal(file_load(&f, copy, len), NEW);
    mem_give(copy);
    file_lab_close(&f);
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
