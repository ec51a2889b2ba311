/* Forward calls of delta in gdn/ops.h against the recurrence in double: types, layouts, gates,
 * masks, pools. */
#include "api/ops_lab.h"

#include "base/memory.h"

static const uint32_t masks[] = {0, GDN_ISA_AVX2, GDN_ISA_AVX2 | GDN_ISA_AVX512, GDN_ISA_ALL};
enum { MASKS = sizeof masks / sizeof *masks };

/* ---- any case -------------------------------------------------------------------------------- */

static double limit_of(int type)
{
    return type == GDN_BF16 ? 4e-3 : type == GDN_F16 ? 5e-4 : type == GDN_F64 ? 1e-13 : 2e-6;
}

/* The call on this context gives what the formula says, in every byte that it may write. */
static void proves(gdn_ops *ops, const struct delta_shape *s, uint64_t seed, double limit)
{
    struct delta_case c;
    struct box o, S1;
    delta_open(&c, s, seed);
    lab_delta(&c, &o, &S1);
    FORWARD(delta, ops, &c.call);
    delta_inputs_whole(&c);
    box_written(&c.o);
    box_whole(&c.S1, true);
    assert_near(&c.o, &o, fmax(limit, limit_of(s->wide_o ? GDN_F32 : s->act)));
    if (!s->rows.slots) assert_near(&c.S1, &S1, fmax(limit, limit_of(s->state)));
    box_close(&o);
    box_close(&S1);
    delta_close(&c);
}

static void proves_everywhere(const struct delta_shape *s, uint64_t seed)
{
    gdn_ops *ref = lab_open("ref", 1, 0);
    proves(ref, s, seed, 0);
    gdn_ops_close(ref);
    for (int i = 0; i < MASKS; i++) {
        gdn_ops *ops = lab_open("cpu", 1 + i % 3, masks[i]);
        proves(ops, s, seed, 0);
        gdn_ops_close(ops);
    }
}

static const int32_t ragged[] = {0, 5, 5, 6, 40, 40, 57};
static const uint8_t ragged_mask[60] = {1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                        1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                        0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1};
static const struct gdn_rows lengths = {.B = 6, .T = 60, .starts = ragged};
static const struct gdn_rows masked = {.B = 6, .T = 60, .starts = ragged, .mask = ragged_mask};
static const struct gdn_rows square = {.B = 3, .T = 20, .mask = ragged_mask};

static void every_layout(void **state)
{
    (void)state;
    const struct gdn_rows *rows[] = {&lengths, &masked, &square,
                                     &(struct gdn_rows){.B = 3, .T = 20},
                                     &(struct gdn_rows){.B = 60, .T = 1}};
    for (int i = 0; i < 5; i++)
        for (int how = 0; how < LAYOUTS; how++)
            for (int channel = 0; channel < 2; channel++)
                proves_everywhere(&(struct delta_shape){.rows = *rows[i], .Hk = 2, .Hv = 4,
                                                        .Dk = 12, .Dv = 20,
                                                        .layout = (enum layout)how,
                                                        .channel_gate = channel},
                                  (uint64_t)(i * 10 + how));
}

static void every_option(void **state)
{
    (void)state;
    static const int types[] = {GDN_F32, GDN_BF16, GDN_F16};
    for (int i = 0; i < 64; i++) {
        const int act = types[i % 3];
        const struct delta_shape s = {
            .rows = i & 1 ? masked : lengths, .Hk = 1 + (i >> 1 & 1), .Hv = 2, .Dk = i & 2 ? 32 : 7,
            .Dv = i & 4 ? 64 : 33, .act = act, .gate = i & 8 ? act : GDN_F32,
            .state = i & 16 ? GDN_BF16 : GDN_F32, .channel_gate = i & 32, .l2norm = i & 4,
            .no_gate = i % 5 == 0, .no_beta = i % 7 == 0, .no_state = i % 11 == 0,
            .wide_o = i % 13 == 0, .scale = i % 3 == 0 ? 1.0 : i % 3 == 1 ? 0.0 : -0.3,
            .layout = (enum layout)(i % LAYOUTS)};
        proves_everywhere(&s, (uint64_t)i);
    }
}

/* Any widths, and heads in groups of 3; the sizes that models have. */
static void every_width(void **state)
{
    (void)state;
    static const int32_t widths[][2] = {{1, 1}, {1, 5}, {3, 1}, {31, 33}, {64, 64}, {96, 192},
                                        {128, 128}, {100, 70}};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int channel = 0; channel < 2; channel++)
            proves_everywhere(&(struct delta_shape){.rows = lengths, .Hk = 2, .Hv = 6,
                                                    .Dk = widths[i][0], .Dv = widths[i][1],
                                                    .channel_gate = channel, .l2norm = true}, i);
    for (int channel = 0; channel < 2; channel++)
        proves_everywhere(&(struct delta_shape){.rows = {.B = 1, .T = 20}, .Hk = 1, .Hv = 1,
                                                .Dk = 256, .Dv = 224, .channel_gate = channel}, 9);
}

/* Whole calls in double on "ref": nothing between the caller and the sums is narrower. */
static void double_is_double(void **state)
{
    (void)state;
    gdn_ops *ref = lab_open("ref", 1, 0);
    for (int i = 0; i < 8; i++)
        proves(ref,
               &(struct delta_shape){.rows = i & 1 ? masked : lengths, .Hk = 1, .Hv = 2, .Dk = 9,
                                     .Dv = 6, .act = GDN_F64, .gate = GDN_F64, .state = GDN_F64,
                                     .l2norm = i & 2, .channel_gate = i & 4},
               3, 1e-13);
    gdn_ops_close(ref);
}

/* More sequences than are handled at once (GROUP). */
static void many_sequences(void **state)
{
    (void)state;
    static int32_t starts[601];
    for (int32_t b = 0; b < 600; b++) starts[b + 1] = starts[b] + b % 4;
    const struct gdn_rows rows = {.B = 600, .T = starts[600] + 7, .starts = starts};
    proves_everywhere(&(struct delta_shape){.rows = rows, .Hk = 1, .Hv = 2, .Dk = 4, .Dv = 3,
                                            .l2norm = true}, 1);
    const struct gdn_rows decode = {.B = 600, .T = 1};
    proves_everywhere(&(struct delta_shape){.rows = decode, .Hk = 1, .Hv = 2, .Dk = 4, .Dv = 3}, 2);
}

static void empty_calls(void **state)
{
    (void)state;
    static const int32_t zeros[4] = {0};
    static const uint8_t none[6] = {0};
    const struct gdn_rows rows[] = {{.B = 0, .T = 5},
                                    {.B = 3, .T = 0},
                                    {.B = 3, .T = 4, .starts = zeros},
                                    {.B = 0, .T = 4, .starts = zeros},
                                    {.B = 2, .T = 3, .mask = none}};
    for (int i = 0; i < 5; i++)
        for (int wide = 0; wide < 2; wide++)
            proves_everywhere(&(struct delta_shape){.rows = rows[i], .Hk = 1, .Hv = 2, .Dk = 4,
                                                    .Dv = 3, .state = wide ? GDN_F32 : GDN_BF16},
                              1);
}

/* ---- rows that are not there ----------------------------------------------------------------- */

static bool same_row(const struct box *x, int64_t xr, const struct box *y, int64_t yr)
{
    const int64_t width = x->dim[2] * x->dim[3];
    for (int64_t i = 0; i < width; i++) {
        const double a = box_get(x, xr * width + i), b = box_get(y, yr * width + i);
        if (memcmp(&a, &b, sizeof a) != 0) return false;
    }
    return true;
}

/* A masked batch against the same rows packed without the masked ones: equal in bits. */
static void masked_is_compacted(void **state)
{
    (void)state;
    static int32_t starts[7], row[60];
    int32_t n = 0;
    for (int b = 0; b < 6; b++) {
        for (int32_t r = ragged[b]; r < ragged[b + 1]; r++)
            if (ragged_mask[r]) row[n++] = r;
        starts[b + 1] = n;
    }
    for (int i = 0; i < 8; i++) {
        const struct delta_shape s = {.rows = masked, .Hk = 1, .Hv = 2, .Dk = 32, .Dv = 32,
                                      .act = i & 1 ? GDN_BF16 : GDN_F32, .l2norm = i & 2,
                                      .channel_gate = i & 4};
        struct delta_shape packed = s;
        struct delta_case c, p;
        packed.rows = (struct gdn_rows){.B = 6, .T = n, .starts = starts};
        delta_open(&c, &s, 4);
        delta_open(&p, &packed, 5);
        struct box *from[] = {&c.q, &c.k, &c.v, &c.g, &c.beta},
                   *to[] = {&p.q, &p.k, &p.v, &p.g, &p.beta};
        for (int k = 0; k < 5; k++) {
            const int64_t width = box_count(to[k]) / n;
            for (int64_t e = 0; e < box_count(to[k]); e++)
                box_set(to[k], e, box_get(from[k], row[e / width] * width + e % width));
        }
        box_copy(&p.S0, &c.S0);
        gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
        FORWARD(delta, ops, &c.call);
        FORWARD(delta, ops, &p.call);
        gdn_ops_close(ops);
        assert_true(box_same(&c.S1, &p.S1));
        for (int32_t r = 0; r < n; r++) assert_true(same_row(&c.o, row[r], &p.o, r));
        for (int64_t r = 0; r < 60; r++)
            for (int64_t e = 0; (r >= ragged[6] || !ragged_mask[r]) && e < 64; e++)
                assert_true(box_get(&c.o, r * 64 + e) == 0);
        delta_close(&c);
        delta_close(&p);
    }
}

/* NaN where nothing should look: masked rows, rows of nobody, absent sequences, slots not named. */
static void absent_rows_are_not_read(void **state)
{
    (void)state;
    static const int32_t slots[] = {3, 0, -1, 4, 1, 5};
    struct gdn_rows rows = masked;
    rows.slots = slots;
    rows.pool = 8;
    const struct delta_shape s = {.rows = rows, .Hk = 1, .Hv = 2, .Dk = 8, .Dv = 5, .l2norm = true};
    struct delta_case c;
    struct box o, S1;
    delta_open(&c, &s, 6);
    lab_delta(&c, &o, &S1);
    struct box *all[] = {&c.q, &c.k, &c.v, &c.g, &c.beta};
    for (int64_t r = 0; r < 60; r++) {
        const bool absent = r >= ragged[6] || !ragged_mask[r] || r == 5; /* row 5: slot -1 */
        for (int k = 0; absent && k < 5; k++) {
            const int64_t width = box_count(all[k]) / 60;
            for (int64_t e = 0; e < width; e++) box_set(all[k], r * width + e, NAN);
        }
    }
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    FORWARD(delta, ops, &c.call);
    gdn_ops_close(ops);
    box_written(&c.o);
    assert_near(&c.o, &o, 2e-6);
    box_close(&o);
    box_close(&S1);
    delta_close(&c);
}

/* ---- pools of states ------------------------------------------------------------------------- */

/* States in place in a pool, in any order, some sequences absent or empty: those named have the
 * state of their sequence (which an empty one keeps), the others their old bytes. */
static void pool_in_place(void **state)
{
    (void)state;
    static const int32_t slots[][6] = {{0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {2, 3, -1, 6, 0, 1},
                                       {-1, -1, -1, -1, -1, -1}, {6, 0, 1, -1, 3, 4}};
    for (int i = 0; i < 5 * 4 * 3; i++) {
        const struct gdn_rows even = {.B = 6, .T = 5};
        struct gdn_rows rows = i % 3 == 0 ? even : i % 3 == 1 ? masked : lengths;
        rows.slots = slots[i % 5];
        rows.pool = 7;
        const struct delta_shape s = {.rows = rows, .Hk = 1, .Hv = 2, .Dk = 32, .Dv = 40,
                                      .l2norm = true, .state = i & 2 ? GDN_BF16 : GDN_F32,
                                      .layout = (enum layout)(i / 3 % LAYOUTS)};
        struct delta_case c;
        struct box o, S1, old;
        delta_open(&c, &s, 8);
        lab_delta(&c, &o, &S1);
        old = box_open(s.state, DENSE, 4, 7, 2, 40, 32);
        box_copy(&old, &c.S0);
        c.call.S1 = c.call.S0;
        gdn_ops *ops = lab_open(i % 7 ? "cpu" : "ref", 2, masks[i % MASKS]);
        FORWARD(delta, ops, &c.call);
        gdn_ops_close(ops);
        box_written(&c.o);
        box_whole(&c.S0, true);
        assert_near(&c.o, &o, 2e-6);
        for (int32_t slot = 0; slot < 7; slot++) {
            bool used = false;
            for (int b = 0; b < 6; b++) used = used || rows.slots[b] == slot;
            for (int64_t e = slot * 2560; e < (slot + 1) * 2560; e++) {
                const double found = box_get(&c.S0, e), was = box_get(&old, e);
                if (!used) assert_true(found == was);
                const double want = box_get(&S1, e);
                if (used)
                    assert_true(fabs(found - want) <= (i & 2 ? 4e-3 : 2e-6) * fabs(want) + 2e-6);
            }
        }
        box_close(&o);
        box_close(&S1);
        box_close(&old);
        delta_close(&c);
    }
}

/* ---- the same bits --------------------------------------------------------------------------- */

/* Threads, layout, neighbours and the address of the workspace do not matter. */
static void same_bits_however(void **state)
{
    (void)state;
    const struct delta_shape s = {
        .rows = lengths, .Hk = 2, .Hv = 4, .Dk = 64, .Dv = 64, .l2norm = true};
    struct delta_case first;
    delta_open(&first, &s, 9);
    gdn_ops *one = lab_open("cpu", 1, GDN_ISA_ALL);
    FORWARD(delta, one, &first.call);
    for (int how = 0; how < LAYOUTS; how++) {
        struct delta_shape other = s;
        struct delta_case c;
        other.layout = (enum layout)how;
        delta_open(&c, &other, 9);
        gdn_ops *ops = lab_open("cpu", 1 + how, GDN_ISA_ALL);
        FORWARD(delta, ops, &c.call);
        gdn_ops_close(ops);
        assert_true(box_same(&c.o, &first.o) && box_same(&c.S1, &first.S1));
        delta_close(&c);
    }
    gdn_ops_close(one);
    delta_close(&first);
}

/* Cut at a multiple of 16 rows, with an f32 state: two calls are one in bits. */
static void cut_calls_chain(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        const int32_t T = 70, cut = 16 * (1 + i % 3);
        const bool channel = i >= 3;
        struct delta_case c;
        delta_open(&c,
                   &(struct delta_shape){.rows = {.B = 1, .T = T}, .Hk = 1, .Hv = 2, .Dk = 32,
                                         .Dv = 32, .l2norm = true, .channel_gate = channel},
                   11);
        struct box o = box_open(GDN_F32, DENSE, 4, 1, T, 2, 32);
        struct box S = box_open(GDN_F32, DENSE, 4, 1, 2, 32, 32);
        gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
        FORWARD(delta, ops, &c.call);
        struct gdn_delta part = c.call;
        part.rows.T = cut;
        part.o = o.a;
        part.S1 = S.a;
        FORWARD(delta, ops, &part);
        const int64_t wide = channel ? 32 : 1;
        float *q = c.q.a.data, *k = c.k.a.data, *v = c.v.a.data, *g = c.g.a.data,
              *beta = c.beta.a.data;
        part.q.data = q + cut * 32, part.k.data = k + cut * 32, part.v.data = v + cut * 64;
        part.g.data = g + cut * 2 * wide, part.beta.data = beta + cut * 2;
        part.o.data = (float *)o.a.data + cut * 64;
        part.S0 = part.S1 = S.a;
        part.rows.T = T - cut;
        FORWARD(delta, ops, &part);
        gdn_ops_close(ops);
        assert_true(box_same(&o, &c.o) && box_same(&S, &c.S1));
        box_close(&o);
        box_close(&S);
        delta_close(&c);
    }
}

/* No call takes memory. */
static void calls_take_nothing(void **state)
{
    (void)state;
    struct delta_case c;
    struct gdn_error err = {0};
    size_t bytes;
    delta_open(&c, &(struct delta_shape){.rows = masked, .Hk = 1, .Hv = 2, .Dk = 16, .Dv = 16,
                                         .l2norm = true, .layout = HEADS_FIRST}, 12);
    gdn_ops *ops = lab_open("cpu", 3, GDN_ISA_ALL);
    const int64_t before = mem_counted().takes;
    assert_int_equal(gdn_delta_workspace(ops, &c.call, NULL, &bytes, &err), GDN_OK);
    struct bench w = bench_open(bytes);
    assert_int_equal(gdn_delta_forward(ops, &c.call, w.at, bytes, &err), GDN_OK);
    assert_int_equal(mem_counted().takes, before);
    bench_close(&w);
    gdn_ops_close(ops);
    delta_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout), cmocka_unit_test(every_option),
        cmocka_unit_test(every_width), cmocka_unit_test(double_is_double),
        cmocka_unit_test(many_sequences), cmocka_unit_test(empty_calls),
        cmocka_unit_test(masked_is_compacted), cmocka_unit_test(absent_rows_are_not_read),
        cmocka_unit_test(pool_in_place), cmocka_unit_test(same_bits_however),
        cmocka_unit_test(cut_calls_chain), cmocka_unit_test(calls_take_nothing),
    };
    return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
