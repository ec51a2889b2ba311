/* The merging of one word, against the definition: of all pairs the one of lowest rank, of equals
 * the leftmost, until none is left. */
#include "text/bpe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/rng.h"
#include "text/hash.h"

enum { LETTERS = 5, MERGES = 60, WORD_MAX = 300, MIB = 1 << 20 };

/* A random set of merges over five letters; ids 256 and up, in order of rank. */
struct random_merges {
    uint32_t left[MERGES], right[MERGES];
    struct bpe bpe;
};

static void open_random(struct random_merges *m, uint64_t seed)
{
    struct rng rng = {seed, 0};
    assert_true(bpe_open(&m->bpe, MERGES));
    for (int i = 0; i < 256; i++) m->bpe.byte_id[i] = i;
    for (uint32_t i = 0; i < MERGES;) {
        uint32_t side[2];
        for (int k = 0; k < 2; k++) {
            uint32_t pick = (uint32_t)rng_below(&rng, LETTERS + i);
            side[k] = pick < LETTERS ? 'a' + pick : 256 + pick - LETTERS;
        }
        /* Every third merge has a later place than what it makes would suggest. */
        uint32_t rank1 = i % 3 == 0 ? MERGES * 2 - i : i + 1;
        struct bpe_merge merge = {side[0], side[1], 256 + i, rank1};
        enum bpe_added done = bpe_add(&m->bpe, merge);
        if (done == BPE_TWICE) continue;
        assert_int_equal(done, BPE_ADDED);
        m->left[i] = side[0];
        m->right[i++] = side[1];
    }
}

static int find(const struct random_merges *m, int32_t left, int32_t right)
{
    for (int i = 0; i < MERGES; i++) {
        if (m->left[i] == (uint32_t)left && m->right[i] == (uint32_t)right) return i;
    }
    return -1;
}

static int rank(int merge) { return merge % 3 == 0 ? MERGES * 2 - merge : merge + 1; }

static size_t by_definition(const struct random_merges *m, const unsigned char *word, size_t len,
                            int32_t *ids)
{
    for (size_t i = 0; i < len; i++) ids[i] = word[i];
    for (;;) {
        int best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < len; i++) {
            int merge = find(m, ids[i], ids[i + 1]);
            if (merge >= 0 && (best < 0 || rank(merge) < rank(best))) {
                best = merge;
                at = i;
            }
        }
        if (best < 0) return len;
        ids[at] = 256 + best;
        len--;
        memmove(ids + at + 1, ids + at + 2, (len - at - 1) * sizeof *ids);
    }
}

static void merges_as_defined(void **state)
{
    (void)state;
    struct rng rng = {7, 0};
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct random_merges m;
        struct bpe_work work;
        struct ids ids = {0};
        open_random(&m, seed);
        assert_true(bpe_work_open(&work, seed % 2 == 0));
        for (int round = 0; round < 60; round++) {
            unsigned char word[WORD_MAX];
            int32_t want[WORD_MAX];
            size_t len = 1 + (size_t)rng_below(&rng, round % 2 ? 12 : WORD_MAX);
            for (size_t i = 0; i < len; i++)
                word[i] = (unsigned char)('a' + rng_below(&rng, LETTERS));
            size_t count = by_definition(&m, word, len, want);
            /* Twice: the second time it may be remembered. */
            for (int again = 0; again < 2; again++) {
                ids.len = 0;
                assert_true(bpe_encode(&m.bpe, &work, word, len, &ids));
                assert_int_equal(ids.len, count);
                assert_memory_equal(ids.at, want, count * sizeof *want);
            }
        }
        bpe_work_close(&work);
        bpe_close(&m.bpe);
        ids_free(&ids);
    }
}

static void refuses_a_pair_twice(void **state)
{
    (void)state;
    struct bpe bpe;
    assert_true(bpe_open(&bpe, 2));
    assert_int_equal(bpe_add(&bpe, (struct bpe_merge){1, 2, 3, 1}), BPE_ADDED);
    assert_int_equal(bpe_add(&bpe, (struct bpe_merge){1, 2, 4, 2}), BPE_TWICE);
    assert_int_equal(bpe_add(&bpe, (struct bpe_merge){2, 1, 4, 2}), BPE_ADDED);
    bpe_close(&bpe);
}

/* Pairs chosen to fall into one place of the table end in a refusal, not in a slow load. */
static void refuses_crowds(void **state)
{
    (void)state;
    struct bpe bpe;
    uint32_t tried = 0, added = 0;
    enum bpe_added done = BPE_ADDED;
    assert_true(bpe_open(&bpe, 1 << 16));
    for (; done == BPE_ADDED; tried++) {
        uint64_t place = hash_mix(tried ^ UINT64_C(0x9e3779b97f4a7c15),
                                  UINT64_C(0xbf58476d1ce4e5b9));
        if ((place & bpe.mask) != 0) continue;
        done = bpe_add(&bpe, (struct bpe_merge){0, tried, 1, ++added});
    }
    assert_int_equal(done, BPE_CROWDED);
    assert_in_range(added, 2, HASH_PROBE_MAX + 1);
    bpe_close(&bpe);
}

static double seconds_of(const struct bpe *bpe, const unsigned char *word, size_t len)
{
    struct timespec begin, end;
    struct bpe_work work;
    struct ids ids = {0};
    assert_true(bpe_work_open(&work, false));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    assert_true(bpe_encode(bpe, &work, word, len, &ids));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    bpe_work_close(&work);
    ids_free(&ids);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

/* A word of a mebibyte is no trap: twice the length takes at most 2.3 times as long. */
static void long_words_cost_their_length(void **state)
{
    (void)state;
    struct random_merges m;
    unsigned char *word = mem_take(2 * MIB);
    open_random(&m, 3);
    for (int kind = 0; kind < 3; kind++) {
        double best = 1e9;
        for (size_t i = 0; i < 2 * MIB; i++)
            word[i] = (unsigned char)('a' + (kind == 0   ? 0
                                             : kind == 1 ? i % 2
                                                         : i * i / 7 % LETTERS));
        for (int round = 0; round < 12 && best > 2.3; round++) {
            double once = seconds_of(&m.bpe, word, MIB), twice = seconds_of(&m.bpe, word, 2 * MIB);
            if (twice / once < best) best = twice / once;
        }
        if (best > 2.3) fail_msg("kind %d: twice the length takes %.2f times as long", kind, best);
    }
    mem_give(word);
    bpe_close(&m.bpe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_as_defined),
        cmocka_unit_test(refuses_a_pair_twice),
        cmocka_unit_test(refuses_crowds),
        cmocka_unit_test(long_words_cost_their_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
