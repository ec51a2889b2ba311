/* Hostile arguments of gdn/ops.h: every one is refused with a sentence that names it, before a byte
 * is written; sizes at the limits; workspaces a byte too small. Arrays, and the small calls:
 * ops_arrays.c. */
#include "api/ops_lab.h"

#include "base/memory.h"

#include <limits.h>

static const int32_t falling[] = {0, 3, 2, 4}, late[] = {1, 2, 3, 4}, beyond[] = {0, 2, 4, 13};
static const int32_t below[] = {0, -2, 1}, above[] = {0, 4, 1}, fine[] = {2, -1, 0};
static float strange[64];

/* ---- delta ----------------------------------------------------------------------------------- */

typedef void delta_change(struct gdn_delta *c, struct gdn_delta_gradient *w);

#define CHANGE(name, ...)                                                   \
    static void name(struct gdn_delta *c, struct gdn_delta_gradient *w)     \
    {                                                                       \
        (void)c, (void)w;                                                   \
        __VA_ARGS__;                                                        \
    }
CHANGE(negative_B, c->rows.B = -1)
CHANGE(negative_T, c->rows.T = INT_MIN)
CHANGE(too_many_rows, c->rows.B = 1 << 16; c->rows.T = 1 << 16)
CHANGE(no_heads, c->Hk = 0)
CHANGE(negative_heads, c->Hv = -4)
CHANGE(uneven_heads, c->Hk = 3)
CHANGE(no_keys, c->Dk = 0)
CHANGE(wide_values, c->Dv = 1 << 20)
CHANGE(nan_scale, c->scale = NAN)
CHANGE(infinite_scale, c->scale = -INFINITY)
CHANGE(no_q, c->q.data = NULL)
CHANGE(no_k, c->k.data = NULL)
CHANGE(no_v, c->v.data = NULL)
CHANGE(no_o, c->o.data = NULL)
CHANGE(type_4, c->q.type = 4)
CHANGE(type_minus, c->v.type = -1)
CHANGE(double_q, c->q.type = GDN_F64)
CHANGE(half_state, c->S0.type = GDN_F16)
CHANGE(half_new_state, c->S1.type = GDN_F16)
CHANGE(mixed, c->k.type = GDN_BF16)
CHANGE(bf16_gate, c->g.type = GDN_BF16)
CHANGE(narrow_o, c->o.type = GDN_BF16)
CHANGE(odd_q, c->q.data = (char *)c->q.data + 2)
CHANGE(odd_state, c->S1.data = (char *)c->S1.data + 1)
CHANGE(backward_stride, c->q.stride[1] = -16; c->q.stride[0] = 1000)
CHANGE(one_stride_too_many, c->beta.stride[0] = 16; c->beta.stride[1] = 4; c->beta.stride[2] = 1)
CHANGE(huge_stride, c->v.stride[0] = INT64_MAX; c->v.stride[1] = 64; c->v.stride[2] = 16)
CHANGE(far_stride, c->v.stride[0] = INT64_MAX / 8; c->v.stride[1] = 64; c->v.stride[2] = 16)
CHANGE(o_on_itself, c->o.stride[0] = 256; c->o.stride[1] = 60; c->o.stride[2] = 16)
CHANGE(o_heads_together, c->o.stride[0] = 256; c->o.stride[1] = 64; c->o.stride[2] = 8)
CHANGE(o_one_row, c->o.stride[2] = 16; c->o.stride[0] = 64)
CHANGE(states_together, c->S1.stride[0] = 4 * 256; c->S1.stride[1] = 255; c->S1.stride[2] = 16)
CHANGE(starts_fall, c->rows.starts = falling)
CHANGE(starts_late, c->rows.starts = late)
CHANGE(starts_beyond, c->rows.starts = beyond)
CHANGE(slot_below, c->rows.slots = below; c->rows.pool = 4)
CHANGE(slot_above, c->rows.slots = above; c->rows.pool = 4)
CHANGE(no_pool, c->rows.slots = fine)
CHANGE(negative_pool, c->rows.slots = fine; c->rows.pool = -1)

struct refusal {
    delta_change *change;
    enum gdn_status status;
    const char *words[2];
};

static const struct refusal refusals[] = {
    {negative_B, GDN_ERR_USAGE, {"rows.B: found -1", "0 to"}},
    {negative_T, GDN_ERR_USAGE, {"rows.T: found -2147483648", "0 to"}},
    {too_many_rows, GDN_ERR_USAGE, {"rows.B * rows.T: found 4294967296", "1073741824"}},
    {no_heads, GDN_ERR_USAGE, {"Hk: found 0", "1 to"}},
    {negative_heads, GDN_ERR_USAGE, {"Hv: found -4", "1 to"}},
    {uneven_heads, GDN_ERR_USAGE, {"Hv: found 4", "multiple of Hk (3)"}},
    {no_keys, GDN_ERR_USAGE, {"Dk: found 0", "1 to"}},
    {wide_values, GDN_ERR_USAGE, {"Dv: found 1048576", "to 16384"}},
    {nan_scale, GDN_ERR_USAGE, {"scale: found", "finite"}},
    {infinite_scale, GDN_ERR_USAGE, {"scale: found -inf", "finite"}},
    {no_q, GDN_ERR_USAGE, {"q.data: found NULL", "384 elements"}},
    {no_k, GDN_ERR_USAGE, {"k.data: found NULL", "384"}},
    {no_v, GDN_ERR_USAGE, {"v.data: found NULL", "768"}},
    {no_o, GDN_ERR_USAGE, {"o.data: found NULL", "768"}},
    {type_4, GDN_ERR_USAGE, {"q.type: found 4", "f32, bf16 or f16"}},
    {type_minus, GDN_ERR_USAGE, {"v.type: found -1", "need f32"}},
    {double_q, GDN_ERR_USAGE, {"q.type: found f64", "f32, bf16 or f16"}},
    {half_state, GDN_ERR_USAGE, {"S0.type: found f16", "f32 or bf16"}},
    {half_new_state, GDN_ERR_USAGE, {"S1.type: found f16", "f32 or bf16"}},
    {mixed, GDN_ERR_USAGE, {"k.type: found bf16", "need f32"}},
    {bf16_gate, GDN_ERR_USAGE, {"g.type: found bf16", "need f32"}},
    {narrow_o, GDN_ERR_USAGE, {"o.type: found bf16", "need f32"}},
    {odd_q, GDN_ERR_USAGE, {"q.data: found 0x", "multiple of 4"}},
    {odd_state, GDN_ERR_USAGE, {"S1.data: found 0x", "multiple of 4"}},
    {backward_stride, GDN_ERR_USAGE, {"q.stride[1]: found -16", "0 or more"}},
    {one_stride_too_many, GDN_ERR_USAGE, {"beta.stride[2]: found 1", "need 0"}},
    {huge_stride, GDN_ERR_USAGE, {"v: its strides", "address space"}},
    {far_stride, GDN_ERR_USAGE, {"v: its strides", "address space"}},
    {o_on_itself, GDN_ERR_USAGE, {"o: found a stride of 60", "at least 64"}},
    {o_heads_together, GDN_ERR_USAGE, {"o: found a stride of 8", "at least 16"}},
    {o_one_row, GDN_ERR_USAGE, {"o: found a stride of 0", "at least 16"}},
    {states_together, GDN_ERR_USAGE, {"S1: found a stride of 255", "at least 256"}},
    {starts_fall, GDN_ERR_USAGE, {"rows.starts[2]: found 2", "3 to 4"}},
    {starts_late, GDN_ERR_USAGE, {"rows.starts[0]: found 1", "need 0"}},
    {starts_beyond, GDN_ERR_USAGE, {"rows.starts[3]: found 13", "to 4"}},
    {slot_below, GDN_ERR_USAGE, {"rows.slots[1]: found -2", "-1 to 3"}},
    {slot_above, GDN_ERR_USAGE, {"rows.slots[1]: found 4", "-1 to 3"}},
    {no_pool, GDN_ERR_USAGE, {"rows.slots[0]: found 2", "-1 to -1"}},
    {negative_pool, GDN_ERR_USAGE, {"rows.pool: found -1", "0 to"}},
};

CHANGE(gradient_of_no_g, c->g.data = NULL)
CHANGE(gradient_of_no_beta, c->beta.data = NULL)
CHANGE(gradient_of_no_state, c->S0.data = NULL)
CHANGE(gradient_of_a_pool, c->rows.slots = fine; c->rows.pool = 3)
CHANGE(narrow_dq, w->q.type = GDN_BF16)
CHANGE(narrow_dout, w->o.type = GDN_F16)
CHANGE(half_dS1, w->S1.type = GDN_F16)
CHANGE(dk_on_itself, w->k.stride[0] = 128; w->k.stride[1] = 8; w->k.stride[2] = 16)
CHANGE(odd_dS0, w->S0.data = (char *)w->S0.data + 2)

static const struct refusal gradient_refusals[] = {
    {gradient_of_no_g, GDN_ERR_USAGE, {"gradient.g.data: found an array", "g is not given"}},
    {gradient_of_no_beta, GDN_ERR_USAGE, {"gradient.beta.data", "beta is not given"}},
    {gradient_of_no_state, GDN_ERR_USAGE, {"gradient.S0.data", "S0 is not given"}},
    {gradient_of_a_pool, GDN_ERR_USAGE, {"rows.slots", "no gradient"}},
    {narrow_dq, GDN_ERR_USAGE, {"gradient.q.type: found bf16", "need f32"}},
    {narrow_dout, GDN_ERR_USAGE, {"gradient.o.type: found f16", "need f32"}},
    {half_dS1, GDN_ERR_USAGE, {"gradient.S1.type: found f16", "f32 or bf16"}},
    {dk_on_itself, GDN_ERR_USAGE, {"gradient.k: found a stride of", "overlap itself"}},
    {odd_dS0, GDN_ERR_USAGE, {"gradient.S0.data: found 0x", "multiple of 4"}},
    {nan_scale, GDN_ERR_USAGE, {"scale", "finite"}},
    {no_v, GDN_ERR_USAGE, {"v.data", "NULL"}},
};

struct whole {
    struct delta_case c;
    struct gdn_delta_gradient w;
    struct box out[8];
};

static const struct delta_shape shape = {.rows = {.B = 3, .T = 4}, .Hk = 2, .Hv = 4, .Dk = 16,
                                         .Dv = 16};

static void whole_open(struct whole *x)
{
    struct rng rng = {.seed = 2};
    *x = (struct whole){0};
    delta_open(&x->c, &shape, 1);
    const struct box *like[8] = {&x->c.q, &x->c.k, &x->c.v, &x->c.g, &x->c.beta, &x->c.S0, &x->c.o,
                                 &x->c.S1};
    struct gdn_array *to[8] = {&x->w.q, &x->w.k, &x->w.v, &x->w.g, &x->w.beta, &x->w.S0, &x->w.o,
                               &x->w.S1};
    for (int i = 0; i < 8; i++) {
        x->out[i] = box_open(GDN_F32, DENSE, like[i]->rank, like[i]->dim[0], like[i]->dim[1],
                             like[i]->dim[2], like[i]->dim[3]);
        if (i >= 6) box_fill(&x->out[i], &rng, normal);
        *to[i] = x->out[i].a;
    }
}

static void whole_untouched(const struct whole *x)
{
    delta_inputs_whole(&x->c);
    box_whole(&x->c.o, false);
    box_whole(&x->c.S1, false);
    for (int i = 0; i < 8; i++) box_whole(&x->out[i], false);
}

static void whole_close(struct whole *x)
{
    delta_close(&x->c);
    for (int i = 0; i < 8; i++) box_close(&x->out[i]);
}

static void refused(enum gdn_status found, const struct gdn_error *err, const struct refusal *r)
{
    if (found != r->status || err->status != r->status || !strstr(err->text, r->words[0]) ||
        !strstr(err->text, r->words[1]))
        fail_msg("found %d \"%s\", need \"%s .. %s\"", (int)found, err->text, r->words[0],
                 r->words[1]);
}

static void every_refusal_has_its_sentence(void **state)
{
    (void)state;
    static char room[1 << 22];
    const size_t n = sizeof refusals / sizeof *refusals;
    const size_t all = n + sizeof gradient_refusals / sizeof *gradient_refusals;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (size_t i = 0; i < all; i++) {
        const bool back = i >= n;
        const struct refusal *r = back ? &gradient_refusals[i - n] : &refusals[i];
        struct whole x;
        struct gdn_error err[3] = {{0}};
        size_t bytes = 77;
        whole_open(&x);
        struct gdn_delta call = x.c.call;
        struct gdn_delta_gradient w = x.w;
        r->change(&call, &w);
        refused(gdn_delta_workspace(ops, &call, back ? &w : NULL, &bytes, &err[0]), &err[0], r);
        assert_int_equal(bytes, 0);
        if (back)
            refused(gdn_delta_backward(ops, &call, &w, room, sizeof room, &err[1]), &err[1], r);
        else
            refused(gdn_delta_forward(ops, &call, room, sizeof room, &err[1]), &err[1], r);
        if (back)
            assert_int_equal(gdn_delta_backward(ops, &call, &w, room, sizeof room, NULL),
                             r->status);
        else
            assert_int_equal(gdn_delta_forward(ops, &call, room, sizeof room, NULL), r->status);
        whole_untouched(&x);
        whole_close(&x);
    }
    gdn_ops_close(ops);
}

static void nothing_at_all(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    struct gdn_error err = {0};
    struct whole x;
    size_t bytes;
    char byte;
    whole_open(&x);
    assert_int_equal(gdn_delta_workspace(NULL, &x.c.call, NULL, &bytes, &err), GDN_ERR_USAGE);
    assert_non_null(strstr(err.text, "ops: found NULL"));
    assert_int_equal(gdn_delta_workspace(ops, NULL, NULL, &bytes, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_delta_workspace(ops, &x.c.call, NULL, NULL, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_delta_forward(ops, NULL, &byte, 1, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_delta_backward(ops, &x.c.call, NULL, &byte, 1, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_conv_forward(ops, NULL, &byte, 1, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_gate_forward(ops, NULL, &byte, 1, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_l2norm_forward(ops, NULL, &byte, 1, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_norm_forward(ops, NULL, &byte, 1, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_ops_isa(NULL), 0);
    gdn_ops_close(NULL);
    whole_untouched(&x);
    whole_close(&x);
    gdn_ops_close(ops);
}

static void contexts(void **state)
{
    (void)state;
    struct gdn_error err = {0};
    gdn_ops *ops = (gdn_ops *)&err;
    assert_int_equal(gdn_ops_open("tpu", 1, 0, &ops, &err), GDN_ERR_USAGE);
    assert_non_null(strstr(err.text, "tpu"));
    assert_null(ops);
    err = (struct gdn_error){0};
    assert_int_equal(gdn_ops_open("cpu", -1, 0, &ops, &err), GDN_ERR_USAGE);
    assert_non_null(strstr(err.text, "threads: found -1"));
    assert_int_equal(gdn_ops_open("cpu", 1025, 0, &ops, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_ops_open("cpu", 1, 0, NULL, NULL), GDN_ERR_USAGE);
    assert_int_equal(gdn_ops_open(NULL, 2, GDN_ISA_ALL, &ops, NULL), GDN_OK);
    gdn_ops_close(ops);
    for (int64_t fail = 1; fail <= 4; fail++) {
        err = (struct gdn_error){0};
        mem_fail_after(fail, false);
        const enum gdn_status found = gdn_ops_open("cpu", 2, GDN_ISA_ALL, &ops, &err);
        mem_fail_after(0, false);
        assert_true(found == (fail <= 4 ? GDN_ERR_MEMORY : GDN_OK));
        assert_true(err.text[0] != 0);
        assert_null(ops);
    }
}

/* ---- workspaces ------------------------------------------------------------------------------ */

static void refused_for_space(enum gdn_status found, const struct gdn_error *err, const char *words)
{
    assert_int_equal(found, GDN_ERR_USAGE);
    if (!strstr(err->text, words)) fail_msg("found \"%s\", need \"%s\"", err->text, words);
}

static void a_byte_too_small(void **state)
{
    (void)state;
    const char *devices[] = {"ref", "cpu"};
    for (int i = 0; i < 4; i++) {
        gdn_ops *ops = lab_open(devices[i % 2], 2, GDN_ISA_ALL);
        struct whole x;
        struct gdn_error err[3] = {{0}};
        size_t bytes;
        whole_open(&x);
        x.c.call.l2norm = i / 2;
        assert_int_equal(gdn_delta_workspace(ops, &x.c.call, NULL, &bytes, &err[0]), GDN_OK);
        assert_true(bytes > 0);
        struct bench w = bench_open(bytes - 1);
        char need[64];
        snprintf(need, sizeof need, "workspace: found %zu bytes, need %zu", bytes - 1, bytes);
        refused_for_space(gdn_delta_forward(ops, &x.c.call, w.at, bytes - 1, &err[0]), &err[0],
                          need);
        refused_for_space(gdn_delta_forward(ops, &x.c.call, NULL, bytes, &err[1]), &err[1],
                          "workspace: found NULL");
        bench_close(&w);
        assert_int_equal(gdn_delta_workspace(ops, &x.c.call, &x.w, &bytes, NULL), GDN_OK);
        w = bench_open(bytes - 1);
        refused_for_space(gdn_delta_backward(ops, &x.c.call, &x.w, w.at, bytes - 1, &err[2]),
                          &err[2], "workspace: found");
        bench_close(&w);
        whole_untouched(&x);
        whole_close(&x);
        gdn_ops_close(ops);
    }
}

/* At any address. */
static void any_address(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    struct whole x;
    size_t bytes;
    whole_open(&x);
    x.c.call.l2norm = true;
    assert_int_equal(gdn_delta_workspace(ops, &x.c.call, &x.w, &bytes, NULL), GDN_OK);
    for (size_t shift = 0; shift < 70; shift++) {
        unsigned char *room = malloc(bytes + shift);
        assert_int_equal(gdn_delta_backward(ops, &x.c.call, &x.w, room + shift, bytes, NULL),
                         GDN_OK);
        free(room);
    }
    whole_close(&x);
    gdn_ops_close(ops);
}

/* At the limits of every argument a size is still found or refused, never wrapped. */
static void huge_sizes(void **state)
{
    (void)state;
    for (int device = 0; device < 2; device++) {
        gdn_ops *ops = lab_open(device ? "cpu" : "ref", 1, GDN_ISA_ALL);
        struct gdn_delta c = {.rows = {.B = 1, .T = 1 << 30}, .Hk = 1 << 14, .Hv = 1 << 14,
                              .Dk = 1 << 14, .Dv = 1 << 14, .q.data = strange, .k.data = strange,
                              .v.data = strange, .g.data = strange, .o.data = strange,
                              .channel_gate = true, .l2norm = true};
        struct gdn_error err = {0};
        size_t bytes;
        const struct gdn_delta_gradient w = {
            .o.data = strange, .q.data = strange, .k.data = strange};
        assert_int_equal(gdn_delta_workspace(ops, &c, NULL, &bytes, NULL), GDN_OK);
        assert_true(bytes > (size_t)1 << 60); /* 2^58 elements of q and of k, of length 1 */
        if (device == 0) { /* of 8 bytes, and as many for each gradient: over 2^63 */
            assert_int_equal(gdn_delta_workspace(ops, &c, &w, &bytes, &err), GDN_ERR_MEMORY);
            assert_non_null(strstr(err.text, "address space"));
            assert_int_equal(bytes, 0);
        }
        c.Hk = c.Hv = 64;
        assert_int_equal(gdn_delta_workspace(ops, &c, NULL, &bytes, NULL), GDN_OK);
        assert_true(bytes > (size_t)1 << 50);
        c.rows.T = 1;
        c.rows.B = 1 << 30;
        assert_int_equal(gdn_delta_workspace(ops, &c, NULL, &bytes, NULL), GDN_OK);
        gdn_ops_close(ops);
    }
}

/* S2-09 and S2-10: the backward keeps states at chunk edges, not of every row. */
static void S2_09_and_10_memory_of_the_backward(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    struct gdn_delta c = {.rows = {.B = 1, .T = 1024}, .Hk = 1, .Hv = 1, .Dk = 128, .Dv = 128,
                          .q.data = strange, .k.data = strange, .v.data = strange,
                          .g.data = strange, .beta.data = strange};
    const struct gdn_delta_gradient w = {.o.data = strange, .q.data = strange, .k.data = strange,
                                         .v.data = strange, .g.data = strange,
                                         .beta.data = strange};
    size_t some, more;
    assert_int_equal(gdn_delta_workspace(ops, &c, &w, &some, NULL), GDN_OK);
    c.rows.T = 2048;
    assert_int_equal(gdn_delta_workspace(ops, &c, &w, &more, NULL), GDN_OK);
    const size_t state_bytes = 128 * 128 * 4, row_bytes = 128 * 4;
    assert_true(more - some <= 1024 / 64 * state_bytes + 1024 * 8 * row_bytes);
    gdn_ops_close(ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_refusal_has_its_sentence),
        cmocka_unit_test(nothing_at_all),
        cmocka_unit_test(contexts),
        cmocka_unit_test(a_byte_too_small),
        cmocka_unit_test(any_address),
        cmocka_unit_test(huge_sizes),
        cmocka_unit_test(S2_09_and_10_memory_of_the_backward),
    };
    return cmocka_run_group_tests_name("ops_arguments", tests, NULL, NULL);
}
