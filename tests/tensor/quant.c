/* Quantised rows: what a code may be off by, what is refused, and that every way to read a row gives
 * the same numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "tensor/quant.h"
#include "tensor/tensor.h"

enum { MOST_K = 200, EDGE = 8 };
static const enum dtype types[] = {DTYPE_Q8, DTYPE_Q4};

struct row {
    enum dtype dtype;
    int64_t K;
    float x[MOST_K], back[MOST_K];
    /* One byte off every natural place, poison on both sides. */
    unsigned char room[EDGE + 1 + MOST_K * 2 + EDGE];
};

static unsigned char *place(struct row *r) { return r->room + EDGE + 1; }

static bool store(struct row *r)
{
    const size_t bytes = (size_t)quant_row_bytes(r->dtype, r->K);
    memset(r->room, 0xa5, sizeof r->room);
    const bool stored = quant_store(place(r), r->dtype, r->x, r->K);
    for (int i = 0; i < EDGE; i++) {
        assert_int_equal(r->room[i + 1], 0xa5);
        assert_int_equal(place(r)[bytes + (size_t)i], 0xa5);
    }
    if (stored) {
        for (int64_t k = 0; k < MOST_K; k++) r->back[k] = -77;
        quant_load_f32(r->back, place(r), r->dtype, r->K, 0, r->K);
        for (int64_t k = r->K; k < MOST_K; k++) assert_true(r->back[k] == -77);
    }
    return stored;
}

/* Half a step, and the rounding of the value to bf16, 2^-8 of it. */
static void check_bound(const struct row *r)
{
    const struct quant_row q = quant_row_at(place((struct row *)(size_t)r), r->dtype, r->K);
    for (int64_t k = 0; k < r->K; k++) {
        const double step = (double)quant_f16(q.scale, k / QUANT_BLOCK), x = (double)r->x[k];
        const double error = fabs((double)r->back[k] - x);
        const double bound = step / 2 * (1 + 0x1p-7) + fabs(x) * 0x1p-8 + 0x1p-149;
        if (error > bound)
            fail_msg("%s, K %lld, value %lld: %g became %g", dtype_name(r->dtype), (long long)r->K,
                     (long long)k, x, (double)r->back[k]);
    }
}

/* The step is what the range needs, and the next smaller f16 would not do. */
static void check_scale(const struct row *r)
{
    const struct quant_row q = quant_row_at(place((struct row *)(size_t)r), r->dtype, r->K);
    for (int64_t b = 0; b < quant_blocks(r->K); b++) {
        const int64_t end = (b + 1) * QUANT_BLOCK < r->K ? (b + 1) * QUANT_BLOCK : r->K;
        double low = 1e9, high = -1e9;
        for (int64_t k = b * QUANT_BLOCK; k < end; k++) {
            low = fmin(low, (double)r->x[k]);
            high = fmax(high, (double)r->x[k]);
        }
        const double step = (double)quant_f16(q.scale, b);
        const bool q8 = r->dtype == DTYPE_Q8;
        const double need = q8 ? fmax(fabs(low), fabs(high)) / 127
                               : (high - (double)quant_f16(q.minimum, b)) / 15;
        assert_true(step >= need * (1 - 1e-6));
        assert_true(step <= need * (1 + 0x1p-10 + 1e-6) + 0x1p-24);
        if (!q8) assert_true((double)quant_f16(q.minimum, b) <= low);
    }
}

static void each(void (*law)(struct row *r))
{
    static const int64_t K[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 95, 96, 100, 128, 160, 200};
    for (int t = 0; t < 2; t++)
        for (size_t i = 0; i < sizeof K / sizeof *K; i++) {
            struct row r = {.dtype = types[t], .K = K[i]};
            law(&r);
        }
}

static void random_rows(struct row *r)
{
    static const float sizes[] = {1, 1e-3f, 1e-6f, 1e-9f, 1e-30f, 1e-42f, 3e3f};
    struct rng rng = {.seed = (uint64_t)r->K};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int shift = 0; shift < 2; shift++) {
            for (int64_t k = 0; k < r->K; k++)
                r->x[k] = sizes[s] * ((float)rng_normal(&rng) + 4 * (float)shift);
            assert_true(store(r));
            check_bound(r);
            check_scale(r);
        }
}

static void within_half_a_step(void **state)
{
    (void)state;
    each(random_rows);
}

static void extreme_rows(struct row *r)
{
    memset(r->x, 0, sizeof r->x);
    assert_true(store(r));
    for (int64_t k = 0; k < r->K; k++) assert_true(r->back[k] == 0);
    /* One number far above the others. */
    r->x[r->K / 2] = 60000;
    assert_true(store(r));
    check_bound(r);
    r->x[r->K / 2] = -65504;
    assert_true(store(r));
    check_bound(r);
    /* Below what f16 can tell: one step is 2^-24. */
    for (int64_t k = 0; k < r->K; k++) r->x[k] = -1e-40f;
    assert_true(store(r));
    check_bound(r);
    for (int64_t k = 0; k < r->K; k++) r->x[k] = 1e-40f;
    assert_true(store(r));
    check_bound(r);
}

static void extreme_values(void **state)
{
    (void)state;
    each(extreme_rows);
}

static void refuse_rows(struct row *r)
{
    const float bad[] = {NAN, INFINITY, -INFINITY, r->dtype == DTYPE_Q8 ? 8.4e6f : 65600, -3e38f};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int64_t k = 0; k < r->K; k++) r->x[k] = 1;
        r->x[r->K - 1] = bad[i];
        assert_false(store(r));
        for (size_t b = 0; b < sizeof r->room; b++) assert_int_equal(r->room[b], 0xa5);
    }
    for (int64_t k = 0; k < r->K; k++) r->x[k] = 1;
    r->x[0] = r->dtype == DTYPE_Q8 ? 8.3e6f : 65504;
    assert_true(store(r));
    check_bound(r);
}

static void what_fits_no_block(void **state)
{
    (void)state;
    each(refuse_rows);
}

/* Values made the slow way: the formulas of quant.h in double, rounded once to f32, then to bf16. */
static float formula(const struct row *r, int64_t k)
{
    const unsigned char *code = place((struct row *)(size_t)r);
    const struct quant_row q = quant_row_at(code, r->dtype, r->K);
    const int64_t b = k / 32, i = k % 32;
    const double scale = (double)quant_f16(q.scale, b);
    double x;
    if (r->dtype == DTYPE_Q8) {
        const int byte = code[k];
        x = scale * (byte < 128 ? byte : byte - 256);
    } else {
        const int byte = code[16 * b + i % 16], nibble = i < 16 ? byte & 15 : byte >> 4;
        x = scale * nibble + (double)quant_f16(q.minimum, b);
    }
    return bf16_to_f32(f32_to_bf16((float)x));
}

static void read_rows(struct row *r)
{
    struct rng rng = {.seed = 7 + (uint64_t)r->K};
    float part[MOST_K];
    uint16_t half[MOST_K + 1];
    for (int64_t k = 0; k < r->K; k++) r->x[k] = (float)rng_normal(&rng);
    assert_true(store(r));
    for (int64_t k = 0; k < r->K; k++) {
        assert_true(r->back[k] == formula(r, k));
        assert_true(r->back[k] == quant_value(place(r), r->dtype, r->K, k));
    }
    for (int64_t from = 0; from < r->K; from += QUANT_BLOCK)
        for (int64_t n = 1; n <= r->K - from; n++) {
            half[n] = 0x1234;
            quant_load_bf16(half, place(r), r->dtype, r->K, from, n);
            quant_load_f32(part, place(r), r->dtype, r->K, from, n);
            assert_int_equal(half[n], 0x1234);
            for (int64_t k = 0; k < n; k++) {
                assert_true(bf16_to_f32(half[k]) == r->back[from + k]);
                assert_true(part[k] == r->back[from + k]);
            }
        }
}

static void one_value_however_read(void **state)
{
    (void)state;
    each(read_rows);
}

static void rows_of_a_tensor(void **state)
{
    (void)state;
    unsigned char data[3 * 4 * 68];
    struct tensor t = tensor_over(data, DTYPE_Q8, 3, (int64_t[]){3, 4, 40});
    assert_int_equal(t.stride[2], 1);
    assert_int_equal(t.stride[1], 68); /* two blocks */
    assert_int_equal(t.stride[0], 4 * 68);
    assert_int_equal(tensor_elements(&t), 480);
    assert_ptr_equal(tensor_at(&t, 2 * t.stride[0] + t.stride[1]), data + 9 * 68);
    t = tensor_over(data, DTYPE_Q4, 2, (int64_t[]){3, 64});
    assert_int_equal(t.stride[0], 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(within_half_a_step), cmocka_unit_test(extreme_values),
        cmocka_unit_test(what_fits_no_block), cmocka_unit_test(one_value_however_read),
        cmocka_unit_test(rows_of_a_tensor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
