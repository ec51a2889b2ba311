/* The founding behaviours (S0 state in the activations' type, S1 bf16 states, S4 calls on a
 * populated cache) as they show in dense calls of gdn/ops.h; the gradients' are in ops_backward.c,
 * the convolution's in ops_conv.c. */
#include "api/ops_lab.h"

static const uint32_t masks[] = {0, GDN_ISA_AVX2, GDN_ISA_AVX2 | GDN_ISA_AVX512, GDN_ISA_ALL};
enum { MASKS = sizeof masks / sizeof *masks };

static double limit_of(int type) { return type == GDN_BF16 ? 4e-3 : 2e-6; }

/* Opens the case, makes the call with the oracle beside it. */
struct trial {
    struct delta_case c;
    struct box o, S1;
};

static void trial_make(struct trial *t, gdn_ops *ops, const struct delta_shape *s, uint64_t seed)
{
    delta_open(&t->c, s, seed);
    lab_delta(&t->c, &t->o, &t->S1);
    FORWARD(delta, ops, &t->c.call);
    box_written(&t->c.o);
    box_whole(&t->c.S1, true);
}

static void trial_close(struct trial *t)
{
    box_close(&t->o);
    box_close(&t->S1);
    delta_close(&t->c);
}

static const struct delta_shape bf16_on_f32 = {.rows = {.B = 2, .T = 20}, .Hk = 2, .Hv = 4,
                                               .Dk = 32, .Dv = 64, .act = GDN_BF16,
                                               .state = GDN_F32, .l2norm = true};

/* ---- S0: two types in one call --------------------------------------------------------------- */

static void S0_01_activations_and_state_have_their_own_types(void **state)
{
    (void)state;
    for (int i = 0; i < MASKS; i++) {
        struct trial t;
        gdn_ops *ops = lab_open("cpu", 2, masks[i]);
        trial_make(&t, ops, &bf16_on_f32, 1);
        assert_near(&t.c.S1, &t.S1, 2e-6);
        trial_close(&t);
        gdn_ops_close(ops);
    }
}

static void S0_02_and_04_each_output_in_its_type_and_bytes(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    for (int i = 0; i < 4; i++) {
        struct trial t;
        struct delta_shape s = bf16_on_f32;
        s.act = i & 1 ? GDN_BF16 : GDN_F32;
        s.state = i & 2 ? GDN_BF16 : GDN_F32;
        trial_make(&t, ops, &s, 2); /* boxes of exactly these types, with canaries around */
        assert_near(&t.c.o, &t.o, limit_of(s.act));
        assert_near(&t.c.S1, &t.S1, limit_of(s.state));
        trial_close(&t);
    }
    gdn_ops_close(ops);
}

static void S0_03_an_f32_state_holds_what_bf16_cannot(void **state)
{
    (void)state;
    struct trial t;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    struct delta_shape s = bf16_on_f32;
    s.rows.T = 1;
    trial_make(&t, ops, &s, 3);
    int64_t fine = 0;
    for (int64_t i = 0; i < box_count(&t.c.S1); i++)
        fine += (f32_bits((float)box_get(&t.c.S1, i)) & 0xffff) != 0;
    assert_true((double)fine > 0.99 * (double)box_count(&t.c.S1));
    trial_close(&t);
    gdn_ops_close(ops);
}

static void S0_05_mixed_activations_are_refused_any_state_is_not(void **state)
{
    (void)state;
    static const int types[] = {GDN_F32, GDN_BF16, GDN_F16};
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    struct delta_case c;
    delta_open(&c, &bf16_on_f32, 4);
    for (int i = 0; i < 243; i++) {
        const int q = types[i % 3], k = types[i / 3 % 3], v = types[i / 9 % 3];
        const int g = types[i / 27 % 3], o = types[i / 81];
        struct gdn_delta call = c.call;
        struct gdn_error err = {0};
        size_t bytes;
        call.q.type = q, call.k.type = k, call.v.type = v, call.g.type = g, call.o.type = o;
        call.S0.type = i & 1 ? GDN_BF16 : GDN_F32;
        call.S1.type = i & 2 ? GDN_BF16 : GDN_F32;
        const bool fits = q == k && k == v && (g == q || g == GDN_F32) && (o == q || o == GDN_F32);
        assert_int_equal(gdn_delta_workspace(ops, &call, NULL, &bytes, &err),
                         fits ? GDN_OK : GDN_ERR_USAGE);
        if (!fits) assert_non_null(strstr(err.text, ".type: found "));
    }
    delta_close(&c);
    gdn_ops_close(ops);
}

static void S0_06_sums_are_f32_whatever_is_stored(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (int type = GDN_F32; type <= GDN_F16; type++) {
        if (type == GDN_F64) continue;
        struct trial t;
        struct delta_shape s = bf16_on_f32;
        s.act = s.gate = type;
        s.rows.T = 200;
        s.wide_o = true;
        trial_make(&t, ops, &s, 5);
        assert_near(&t.c.S1, &t.S1, 2e-6);
        assert_near(&t.c.o, &t.o, 2e-6);
        trial_close(&t);
    }
    gdn_ops_close(ops);
}

/* Every device, instruction set and form. A device that this list does not know must not open. */
static void S0_07_every_variant(void **state)
{
    (void)state;
    static const uint8_t mask[40] = {[0] = 1, [3] = 1, [4] = 1, [20] = 1, [39] = 1};
    static const int32_t slots[] = {1, 0}, token[] = {0, 1, 2};
    const struct gdn_rows forms[] = {{.B = 2, .T = 1},
                                     {.B = 2, .T = 20},
                                     {.B = 2, .T = 20, .mask = mask},
                                     {.B = 2, .T = 20, .slots = slots, .pool = 2},
                                     {.B = 2, .T = 2, .starts = token},
                                     {.B = 2, .T = 130}};
    for (int i = 0; i <= MASKS; i++) {
        gdn_ops *ops = i < MASKS ? lab_open("cpu", 2, masks[i]) : lab_open("ref", 1, 0);
        for (int form = 0; form < 6 * 2; form++) {
            struct trial t;
            struct delta_shape s = bf16_on_f32;
            s.rows = forms[form / 2];
            s.channel_gate = form % 2;
            trial_make(&t, ops, &s, 6);
            assert_near(&t.c.S1, &t.S1, 2e-6);
            trial_close(&t);
        }
        gdn_ops_close(ops);
    }
    gdn_ops *other;
    assert_int_not_equal(gdn_ops_open("cuda", 1, ~0u, &other, NULL), GDN_OK);
    assert_null(other);
}

static void S0_08_portable_code_agrees_with_the_fast_path(void **state)
{
    (void)state;
    struct trial slow;
    gdn_ops *portable = lab_open("cpu", 1, 0);
    struct delta_shape s = bf16_on_f32;
    s.act = GDN_F32;
    s.rows.T = 100;
    trial_make(&slow, portable, &s, 7);
    for (int i = 1; i < MASKS; i++) {
        struct trial t;
        gdn_ops *ops = lab_open("cpu", 1, masks[i]);
        trial_make(&t, ops, &s, 7);
        assert_near(&t.c.o, &slow.c.o, 2e-6);
        assert_near(&t.c.S1, &slow.c.S1, 2e-6);
        trial_close(&t);
        gdn_ops_close(ops);
    }
    trial_close(&slow);
    gdn_ops_close(portable);
}

/* The same numbers as bf16 and as f32 activations give the same f32 state in bits: nothing on the
 * way, the decay least of all, was rounded to the activations' type. */
static void S0_09_decay_stays_f32_beside_bf16(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (int channel = 0; channel < 2; channel++) {
        struct delta_case half, full;
        struct delta_shape s = bf16_on_f32;
        s.rows.T = 50;
        s.channel_gate = channel;
        delta_open(&half, &s, 8);
        s.act = GDN_F32;
        delta_open(&full, &s, 9);
        box_copy(&full.q, &half.q);
        box_copy(&full.k, &half.k);
        box_copy(&full.v, &half.v);
        box_copy(&full.g, &half.g);
        box_copy(&full.beta, &half.beta);
        box_copy(&full.S0, &half.S0);
        FORWARD(delta, ops, &half.call);
        FORWARD(delta, ops, &full.call);
        assert_true(box_same(&half.S1, &full.S1));
        assert_near(&half.o, &full.o, 4e-3);
        delta_close(&half);
        delta_close(&full);
    }
    gdn_ops_close(ops);
}

/* One entry of a state, read with q and written with k and v: it stands at [j, d], o at j. */
static void S0_12_a_state_is_value_by_key(void **state)
{
    (void)state;
    enum { Dk = 5, Dv = 3 };
    for (int device = 0; device < 2; device++) {
        gdn_ops *ops = lab_open(device ? "cpu" : "ref", 1, GDN_ISA_ALL);
        for (int j = 0; j < Dv; j++)
            for (int d = 0; d < Dk; d++) {
                float q[Dk] = {0}, k[Dk] = {0}, v[Dv] = {0}, S[Dv * Dk] = {0}, o[Dv], S1[Dv * Dk];
                q[d] = 1;
                S[j * Dk + d] = 2;
                struct gdn_delta call = {.rows = {.B = 1, .T = 1}, .Hk = 1, .Hv = 1, .Dk = Dk,
                                         .Dv = Dv, .q.data = q, .k.data = k, .v.data = v,
                                         .S0.data = S, .o.data = o, .S1.data = S1, .scale = 1};
                FORWARD(delta, ops, &call);
                for (int i = 0; i < Dv; i++) assert_true(o[i] == (i == j ? 2 : 0));
                assert_memory_equal(S, S1, sizeof S);
                k[d] = v[j] = 1;
                call.S0.data = NULL;
                FORWARD(delta, ops, &call);
                for (int i = 0; i < Dv * Dk; i++) assert_true(S1[i] == (i == j * Dk + d ? 1 : 0));
            }
        gdn_ops_close(ops);
    }
}

/* ---- S1: a bf16 state ------------------------------------------------------------------------ */

/* T rows one call each, the state handed on in its type; o has all rows. */
static void step_by_step(gdn_ops *ops, struct delta_case *c)
{
    const int32_t T = c->call.rows.T;
    struct gdn_delta one = c->call;
    one.rows.T = 1;
    for (int32_t t = 0; t < T; t++) {
        one.q.data = (float *)c->q.a.data + (int64_t)t * c->call.Hk * c->call.Dk;
        one.k.data = (float *)c->k.a.data + (int64_t)t * c->call.Hk * c->call.Dk;
        one.v.data = (float *)c->v.a.data + (int64_t)t * c->call.Hv * c->call.Dv;
        one.g.data = (float *)c->g.a.data + t * c->call.Hv;
        one.beta.data = (float *)c->beta.a.data + t * c->call.Hv;
        one.o.data = (float *)c->o.a.data + (int64_t)t * c->call.Hv * c->call.Dv;
        FORWARD(delta, ops, &one);
        one.S0 = one.S1;
    }
}

static const struct delta_shape rollout = {.rows = {.B = 1, .T = 16}, .Hk = 2, .Hv = 4, .Dk = 64,
                                           .Dv = 64, .state = GDN_BF16, .l2norm = true};

static void S1_11_a_call_rounds_its_state_once(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct trial once;
        struct delta_case often;
        trial_make(&once, ops, &rollout, seed);
        delta_open(&often, &rollout, seed);
        step_by_step(ops, &often);
        const double together = box_distance(&once.c.S1, &once.S1);
        const double apart = box_distance(&often.S1, &once.S1);
        if (!(together < apart)) fail_msg("one call %g, sixteen %g", together, apart);
        for (int64_t i = 0; i < box_count(&once.S1); i++) /* the f32 result, rounded once */
            assert_true(fabs(box_get(&once.c.S1, i) - box_get(&once.S1, i)) <=
                        0.00391 * fabs(box_get(&once.S1, i)) + 1e-6);
        delta_close(&often);
        trial_close(&once);
    }
    gdn_ops_close(ops);
}

static double cosine(const struct box *x, const struct box *y, int64_t first)
{
    double xy = 0, xx = 0, yy = 0;
    for (int64_t i = first; i < box_count(x); i++) {
        xy += box_get(x, i) * box_get(y, i);
        xx += box_get(x, i) * box_get(x, i);
        yy += box_get(y, i) * box_get(y, i);
    }
    return xy / sqrt(xx * yy);
}

static void S1_13_a_rollout_with_a_bf16_state_stays_near(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct delta_case half, full;
        struct delta_shape s = rollout;
        s.no_state = true;
        delta_open(&half, &s, seed);
        s.state = GDN_F32;
        delta_open(&full, &s, seed);
        step_by_step(ops, &half);
        step_by_step(ops, &full);
        assert_true(cosine(&half.S1, &full.S1, 0) >= 0.99);
        assert_true(cosine(&half.o, &full.o, box_count(&half.o) / 16 * 15) >= 0.99);
        delta_close(&half);
        delta_close(&full);
    }
    gdn_ops_close(ops);
}

/* ---- S4: calls on a state that is there ------------------------------------------------------ */

/* Row i of a call of n rows, step by step, and from S0: the length picks nothing but speed. */
static void S4_09_and_10_length_does_not_change_results(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 2, 3, 16, 17, 63, 64, 65, 128, 300};
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct trial whole;
        struct delta_case steps;
        struct delta_shape s = {
            .rows = {.B = 1, .T = sizes[i]}, .Hk = 1, .Hv = 2, .Dk = 64, .Dv = 64, .l2norm = true};
        trial_make(&whole, ops, &s, 20 + i);
        delta_open(&steps, &s, 20 + i);
        step_by_step(ops, &steps);
        assert_near(&steps.o, &whole.c.o, 2e-6);
        assert_near(&steps.S1, &whole.c.S1, 2e-6);
        steps.call.fast = true;
        FORWARD(delta, ops, &steps.call);
        assert_near(&steps.o, &whole.c.o, 6e-3);
        assert_near(&steps.S1, &whole.c.S1, 6e-3);
        delta_close(&steps);
        trial_close(&whole);
    }
    gdn_ops_close(ops);
}

static void S4_13_no_state_is_a_state_of_zeros(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    struct delta_case with, without;
    struct delta_shape s = {.rows = {.B = 2, .T = 30}, .Hk = 1, .Hv = 2, .Dk = 32, .Dv = 32};
    delta_open(&with, &s, 30);
    s.no_state = true;
    delta_open(&without, &s, 30);
    for (int64_t i = 0; i < box_count(&with.S0); i++) box_set(&with.S0, i, 0);
    FORWARD(delta, ops, &with.call);
    FORWARD(delta, ops, &without.call);
    assert_true(box_same(&with.o, &without.o) && box_same(&with.S1, &without.S1));
    delta_close(&with);
    delta_close(&without);
    gdn_ops_close(ops);
}

/* Padding on either side, NaN inside it, and states: each row of the batch as in its own call. */
static void S4_15_padded_rows_of_a_batch(void **state)
{
    (void)state;
    enum { B = 4, T = 24 };
    static const int32_t first[B] = {0, 3, 0, 23}, last[B] = {24, 24, 10, 24};
    static uint8_t mask[B * T];
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++) mask[b * T + t] = t >= first[b] && t < last[b];
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    struct delta_case c;
    delta_open(&c, &(struct delta_shape){.rows = {.B = B, .T = T, .mask = mask}, .Hk = 1, .Hv = 2,
                                         .Dk = 16, .Dv = 8, .l2norm = true}, 31);
    for (int r = 0; r < B * T; r++)
        for (int e = 0; !mask[r] && e < 16; e++)
            box_set(&c.k, r * 16 + e, NAN), box_set(&c.v, r * 16 + e, NAN);
    FORWARD(delta, ops, &c.call);
    box_written(&c.o);
    for (int b = 0; b < B; b++) {
        const int64_t row = b * T + first[b], n = last[b] - first[b];
        float o[T * 16], S1[2 * 8 * 16];
        struct gdn_delta own = c.call;
        own.rows = (struct gdn_rows){.B = 1, .T = (int32_t)n};
        own.q.data = (float *)c.q.a.data + row * 16, own.k.data = (float *)c.k.a.data + row * 16;
        own.v.data = (float *)c.v.a.data + row * 16, own.g.data = (float *)c.g.a.data + row * 2;
        own.beta.data = (float *)c.beta.a.data + row * 2;
        own.S0.data = (float *)c.S0.a.data + b * 256;
        own.o.data = o, own.S1.data = S1;
        FORWARD(delta, ops, &own);
        assert_memory_equal(o, (float *)c.o.a.data + row * 16, (size_t)n * 16 * sizeof *o);
        assert_memory_equal(S1, (float *)c.S1.a.data + b * 256, sizeof S1);
    }
    delta_close(&c);
    gdn_ops_close(ops);
}

/* A NaN in one sequence of a packed row never reaches another. */
static void S4_16_packed_sequences_do_not_meet(void **state)
{
    (void)state;
    static const int32_t starts[] = {0, 1, 18, 18, 40};
    gdn_ops *ops = lab_open("cpu", 3, GDN_ISA_ALL);
    for (int sick = 0; sick < 4; sick++) {
        struct delta_case c;
        struct box o, S1;
        delta_open(&c, &(struct delta_shape){.rows = {.B = 4, .T = 40, .starts = starts}, .Hk = 1,
                                             .Hv = 2, .Dk = 16, .Dv = 8, .l2norm = true}, 32);
        lab_delta(&c, &o, &S1);
        for (int32_t r = starts[sick]; r < starts[sick + 1]; r++) box_set(&c.v, r * 16, NAN);
        box_set(&c.S0, sick * 256, NAN);
        FORWARD(delta, ops, &c.call);
        for (int64_t i = 0; i < box_count(&o); i++)
            if (i / 16 < starts[sick] || i / 16 >= starts[sick + 1])
                assert_true(fabs(box_get(&c.o, i) - box_get(&o, i)) < 1e-5);
        for (int64_t i = 0; i < box_count(&S1); i++)
            if (i / 256 != sick) assert_true(fabs(box_get(&c.S1, i) - box_get(&S1, i)) < 1e-5);
        box_close(&o);
        box_close(&S1);
        delta_close(&c);
    }
    gdn_ops_close(ops);
}

static void S4_17_a_first_call_of_one_row(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (int history = 0; history < 2; history++) {
        struct trial t;
        const struct delta_shape s = {
            .rows = {.B = 2, .T = 1}, .Hk = 1, .Hv = 2, .Dk = 32, .Dv = 32, .no_state = !history};
        trial_make(&t, ops, &s, 33);
        assert_near(&t.c.o, &t.o, 2e-6);
        assert_near(&t.c.S1, &t.S1, 2e-6);
        trial_close(&t);
    }
    gdn_ops_close(ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S0_01_activations_and_state_have_their_own_types),
        cmocka_unit_test(S0_02_and_04_each_output_in_its_type_and_bytes),
        cmocka_unit_test(S0_03_an_f32_state_holds_what_bf16_cannot),
        cmocka_unit_test(S0_05_mixed_activations_are_refused_any_state_is_not),
        cmocka_unit_test(S0_06_sums_are_f32_whatever_is_stored),
        cmocka_unit_test(S0_07_every_variant),
        cmocka_unit_test(S0_08_portable_code_agrees_with_the_fast_path),
        cmocka_unit_test(S0_09_decay_stays_f32_beside_bf16),
        cmocka_unit_test(S0_12_a_state_is_value_by_key),
        cmocka_unit_test(S1_11_a_call_rounds_its_state_once),
        cmocka_unit_test(S1_13_a_rollout_with_a_bf16_state_stays_near),
        cmocka_unit_test(S4_09_and_10_length_does_not_change_results),
        cmocka_unit_test(S4_13_no_state_is_a_state_of_zeros),
        cmocka_unit_test(S4_15_padded_rows_of_a_batch),
        cmocka_unit_test(S4_16_packed_sequences_do_not_meet),
        cmocka_unit_test(S4_17_a_first_call_of_one_row),
    };
    return cmocka_run_group_tests_name("ops_founding", tests, NULL, NULL);
}
