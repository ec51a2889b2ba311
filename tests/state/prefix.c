/* prefix.c: which kept state serves a list of tokens, against trying every position; and where the
 * computing of a list stops. */
#include <stdlib.h>

#include "state/prefix.h"
#include "store_lab.h"

/* ---- reach ----------------------------------------------------------------------------------- */

/* The farthest position that is not behind what agrees, lies within the log, and leaves a token to
 * run unless the distribution is there. */
static int32_t reach_slowly(int32_t position, int32_t length, int32_t agreed, int32_t n, bool ready)
{
    int32_t best = 0;
    for (int32_t p = 1; p <= n; p++) {
        if (p > agreed || p > position || p < position - length) continue;
        if (p == n && !(ready && position == n)) continue;
        best = p;
    }
    return best;
}

static void reach(void **state)
{
    (void)state;
    for (int32_t position = 0; position <= 20; position++)
        for (int32_t length = 0; length <= position; length++)
            for (int32_t n = 0; n <= 22; n++)
                for (int32_t agreed = 0; agreed <= position && agreed <= n; agreed++)
                    for (int ready = 0; ready < 2; ready++)
                        assert_int_equal(prefix_reach(position, length, agreed, n, ready),
                                         reach_slowly(position, length, agreed, n, ready));
}

static void agreed(void **state)
{
    (void)state;
    const int32_t a[] = {1, 2, 3, 4}, b[] = {1, 2, 9, 4, 5};
    assert_int_equal(prefix_agreed(a, 4, b, 5), 2);
    assert_int_equal(prefix_agreed(a, 4, b, 2), 2);
    assert_int_equal(prefix_agreed(a, 1, b, 5), 1);
    assert_int_equal(prefix_agreed(a, 0, b, 5), 0);
    assert_int_equal(prefix_agreed(a, 4, a, 4), 4);
}

/* ---- finding --------------------------------------------------------------------------------- */

static void finds(void **state)
{
    (void)state;
    struct bench *b = bench_open((int64_t)1 << 30, MOST);
    int32_t list[600];
    struct prefix_found f = prefix_find(&b->store, b->tokens[0], 5);
    assert_int_equal(f.entry, -1);
    assert_int_equal(f.position, 0);
    grow(b, 0, 100, 1);
    const int32_t first = put(b, 0, STORE_MESSAGE);
    grow(b, 0, 400, 2);
    const int32_t second = put(b, 0, STORE_MESSAGE);
    memcpy(list, b->tokens[0], sizeof list);
    for (int32_t n = 1; n <= 600; n++) {
        /* 500 has 4 entries in its log, 100 as well. */
        f = prefix_find(&b->store, list, n);
        const int32_t want = n > 500 ? 500 : n == 500 ? 500 : n > 496 ? n - 1
                           : n > 100 ? 100 : n == 100 ? 100 : n > 96 ? n - 1 : 0;
        assert_int_equal(f.position, want);
        assert_int_equal(f.agreed, n < 500 ? n : 500);
        assert_int_equal(f.entry, want == 0 ? -1 : want <= 100 ? first : second);
    }
    list[498] += 1; /* within the log of the second */
    f = prefix_find(&b->store, list, 600);
    assert_int_equal(f.entry, second);
    assert_int_equal(f.position, 498);
    list[300] += 1;
    f = prefix_find(&b->store, list, 600);
    assert_int_equal(f.entry, first);
    assert_int_equal(f.position, 100);
    assert_int_equal(f.agreed, 300);
    list[0] += 1;
    f = prefix_find(&b->store, list, 600);
    assert_int_equal(f.entry, -1);
    assert_int_equal(f.agreed, 0);
    bench_close(b);
}

/* ---- stops ----------------------------------------------------------------------------------- */

enum { LONG = 30000 };

static int stops(const unsigned char *mark, int32_t from, int32_t n, struct prefix_stop *list)
{
    int count = 0;
    while (from < n) {
        const struct prefix_stop s = prefix_next(mark, from, n);
        assert_true(s.position > from && s.position <= n);
        from = s.position;
        list[count++] = s;
    }
    return count;
}

static void distances(void **state)
{
    (void)state;
    static unsigned char mark[LONG + 1];
    static struct prefix_stop s[LONG];
    for (int32_t n = 1; n <= LONG; n = n * 3 + 1) {
        const int count = stops(mark, 0, n, s);
        assert_int_equal(s[count - 1].position, n);
        assert_int_equal(s[count - 1].kind, STORE_MESSAGE);
        for (int i = 0; i + 1 < count; i++) {
            const int32_t gap = s[i].position - (i ? s[i - 1].position : 0);
            assert_int_equal(s[i].kind, STORE_DISTANCE);
            assert_true(gap >= store_spacing(n - s[i].position) && gap <= STORE_FAR);
            if (n - s[i].position < STORE_SPANS * STORE_MIDDLE - STORE_MIDDLE)
                assert_int_equal(gap, STORE_NEAR);
        }
    }
}

static void marked(void **state)
{
    (void)state;
    static unsigned char mark[LONG + 1];
    static struct prefix_stop s[LONG];
    /* One in each block is enough, the last; the end serves its own block. */
    mark[20] = PREFIX_MESSAGE;
    mark[30] = PREFIX_THINKING;
    mark[32] = PREFIX_THINKING;
    mark[33] = PREFIX_THINKING;
    mark[50] = PREFIX_MESSAGE;
    int count = stops(mark, 0, 60, s);
    assert_int_equal(count, 3);
    assert_int_equal(s[0].position, 32);
    assert_int_equal(s[0].kind, STORE_MESSAGE);
    assert_int_equal(s[1].position, 33);
    assert_int_equal(s[1].kind, STORE_THINKING);
    assert_int_equal(s[2].position, 60);
    count = stops(mark, 33, 64, s);
    assert_int_equal(count, 1 + 0);
    assert_int_equal(s[0].position, 64);
    /* Short messages far behind the end share stops; each near the end has its own. */
    for (int32_t p = 1; p < LONG; p++) mark[p] = p % 40 ? PREFIX_NONE : PREFIX_MESSAGE;
    count = stops(mark, 0, LONG, s);
    for (int i = 1; i < count; i++) {
        const int32_t behind = LONG - s[i].position, gap = s[i].position - s[i - 1].position;
        assert_true(s[i].position % 40 == 0 || s[i].position == LONG);
        if (behind > STORE_NEAR)
            assert_true(gap >= store_spacing(behind) / 4 && gap <= store_spacing(behind));
    }
    assert_true(count < 150);
    for (int i = count - 4; i < count - 1; i++)
        assert_int_equal(s[i + 1].position - s[i].position, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reach), cmocka_unit_test(agreed),    cmocka_unit_test(finds),
        cmocka_unit_test(distances), cmocka_unit_test(marked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
