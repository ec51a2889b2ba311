/* file_damage.h: a large file, damaged at random n times: always refused, nothing else touched. */
#ifndef TESTS_STATE_FILE_DAMAGE_H
#define TESTS_STATE_FILE_DAMAGE_H

#include "file_lab.h"

/* Bytes from..to-1 of the copy are what they were. */
static inline void damage_undo(const struct file_lab *f, char *copy, size_t from, size_t to)
{
    if (to > f->len[NEW]) to = f->len[NEW];
    if (from < to) memcpy(copy + from, f->image[NEW] + from, to - from);
}

struct damage {
    size_t from[2], to[2]; /* what it may have changed */
    size_t len;            /* of the file */
};

static inline size_t damage_at(const struct file_lab *f, struct rng *rng)
{
    const size_t len = f->len[NEW];
    /* Now and then in what everything else hangs on: the first bytes and the last. */
    const size_t kind = rng_below(rng, 8);
    if (kind == 0) return rng_below(rng, 256);
    if (kind == 1) return len - 1 - rng_below(rng, 64);
    return rng_below(rng, len);
}

static inline struct damage damage_make(const struct file_lab *f, char *copy, struct rng *rng)
{
    const size_t len = f->len[NEW], at = damage_at(f, rng), other = damage_at(f, rng);
    const size_t room = len - (at > other ? at : other);
    size_t n = (size_t)1 << rng_below(rng, 17);
    struct damage d = {.from = {at, other}, .len = len};
    if (n > room) n = room;
    switch (rng_below(rng, 6)) {
    case 0: /* bits flip */
        for (int i = 0; i < 1 + (int)rng_below(rng, 8); i++) {
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
        for (size_t i = 0; i < n; i++) {
            const char swap = copy[at + i];
            copy[at + i] = copy[other + i];
            copy[other + i] = swap;
        }
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

static inline void damage_large(int times)
{
    struct file_lab f;
    struct rng rng = {.seed = 11};
    int refused = 0, nothing = 0;
    file_lab_open(&f, file_large, FILE_LARGE);
    const size_t len = f.len[NEW];
    assert_true(len > 3 << 20);
    const uint64_t before = file_sum_all(&f);
    char *copy = mem_take(len);
    assert_non_null(copy);
    damage_undo(&f, copy, 0, len);
    for (int i = 0; i < times; i++) {
        const struct damage d = damage_make(&f, copy, &rng);
        if (d.len == len && memcmp(copy, f.image[NEW], len) == 0)
            nothing++; /* zeros over zeros: no damage */
        else if (file_load(&f, copy, d.len) < 0)
            refused++;
        else
            fail_msg("damage %d was not seen", i);
        damage_undo(&f, copy, d.from[0], d.to[0]);
        damage_undo(&f, copy, d.from[1], d.to[1]);
        if (i % 1000 == 999) assert_int_equal(file_sum_all(&f), before);
    }
    assert_int_equal(refused + nothing, times);
    assert_true(nothing < times / 10);
    assert_int_equal(file_sum_all(&f), before);
    assert_int_equal(file_load(&f, copy, len), NEW);
    mem_give(copy);
    file_lab_close(&f);
}

#endif
