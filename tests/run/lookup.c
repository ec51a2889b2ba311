/* lookup.c: what is guessed from where the last tokens stood before. */
#include "run/lookup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

enum { ROOM = 16 };

static void guessed(const int32_t *tokens, int32_t n, int32_t most, const int32_t *want,
                    int32_t count)
{
    int32_t out[ROOM];
    memset(out, 0xff, sizeof out);
    assert_int_equal(lookup_draft(tokens, n, most, out), count);
    assert_memory_equal(out, want, sizeof *want * (size_t)count);
    for (int32_t i = count; i < ROOM; i++) assert_int_equal(out[i], -1);
}

static void by_hand(void **state)
{
    (void)state;
    static const int32_t none[1] = {0};
    /* One token alike is too little; so is nothing. */
    guessed((int32_t[]){1, 2, 3, 1}, 4, 8, none, 0);
    guessed((int32_t[]){1}, 1, 8, none, 0);
    guessed((int32_t[]){1, 1}, 2, 8, none, 0);
    /* 1 2 stood before; no more is guessed than was alike, or than is asked for. */
    guessed((int32_t[]){1, 2, 3, 4, 5, 1, 2}, 7, 8, (int32_t[]){3, 4}, 2);
    guessed((int32_t[]){1, 2, 3, 4, 5, 1, 2}, 7, 1, (int32_t[]){3}, 1);
    guessed((int32_t[]){1, 2, 3, 4, 5, 1, 2}, 7, 0, none, 0);
    /* The longer likeness wins over the later; of two of one length the later. */
    guessed((int32_t[]){9, 1, 2, 7, 7, 8, 1, 2, 6, 6, 9, 1, 2}, 13, 3, (int32_t[]){7, 7, 8}, 3);
    guessed((int32_t[]){1, 2, 7, 7, 1, 2, 6, 6, 1, 2}, 10, 2, (int32_t[]){6, 6}, 2);
    /* A circle is followed beyond the end. */
    guessed((int32_t[]){5, 6, 7, 5, 6, 7, 5, 6, 7}, 9, 6, (int32_t[]){5, 6, 7, 5, 6, 7}, 6);
    guessed((int32_t[]){4, 4, 4, 4}, 4, 8, (int32_t[]){4, 4, 4}, 3);
}

/* Slowly: every earlier end, its likeness, and the best of them. */
static int32_t slowly(const int32_t *tokens, int32_t n, int32_t most, int32_t *out)
{
    int32_t best = 1, from = 0;
    for (int32_t end = 1; end < n; end++) {
        int32_t length = 0;
        while (length < 16 && length < end && tokens[end - 1 - length] == tokens[n - 1 - length])
            length++;
        if (length >= 2 && length >= best) {
            best = length;
            from = end;
        }
    }
    if (best < 2) return 0;
    int32_t line[400];
    memcpy(line, tokens, sizeof *line * (size_t)n);
    int32_t count = most < best ? most : best;
    for (int32_t i = 0; i < count; i++) line[n + i] = line[from + i];
    memcpy(out, line + n, sizeof *out * (size_t)count);
    return count;
}

static void random_texts(void **state)
{
    (void)state;
    struct rng rng = {.seed = 4};
    int found = 0;
    for (int round = 0; round < 20000; round++) {
        int32_t tokens[200], want[ROOM];
        const int32_t n = 1 + (int32_t)rng_below(&rng, 200);
        const int32_t kinds = 2 + (int32_t)rng_below(&rng, 9);
        for (int32_t i = 0; i < n; i++)
            tokens[i] = i > 20 && rng_below(&rng, 4) ? tokens[i - 17]
                                                     : (int32_t)rng_below(&rng, (uint64_t)kinds);
        const int32_t most = (int32_t)rng_below(&rng, ROOM + 1);
        const int32_t count = slowly(tokens, n, most, want);
        guessed(tokens, n, most, want, count);
        found += count > 2;
    }
    assert_true(found > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(random_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
