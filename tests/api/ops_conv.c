/* The convolution of gdn/ops.h: against its formula in double, gradients against differences, the
 * cpu against the reference; and the founding behaviours S4 that concern it. */
#include "api/ops_parts.h"

struct conv {
    struct gdn_conv call;
    struct gdn_conv_gradient w;
    struct box x, taps, tail, y, last;                   /* last: tail_out */
    struct box dy, dlast, dx, dtaps, dtail;
    gdn_ops *ops;
};

static void conv_open(struct conv *c, struct gdn_rows rows, int32_t C, int32_t W, int type,
                      int grad, bool plain, enum layout how, uint64_t seed)
{
    struct rng rng = {.seed = seed};
    const int64_t B = rows.starts ? 1 : rows.B, N = rows.slots ? rows.pool : rows.B;
    *c = (struct conv){.call = {.rows = rows, .C = C, .W = W, .plain = plain}};
    struct box *row[] = {&c->x, &c->y, &c->dy, &c->dx}, *tap[] = {&c->taps, &c->dtaps};
    struct box *tail[] = {&c->tail, &c->last, &c->dlast, &c->dtail};
    for (int i = 0; i < 4; i++) *row[i] = box_open(i < 2 ? type : grad, how, 3, B, rows.T, C, 1);
    for (int i = 0; i < 2; i++) *tap[i] = box_open(i < 1 ? type : grad, how, 2, C, W, 1, 1);
    for (int i = 0; i < 4; i++) *tail[i] = box_open(i < 2 ? type : grad, how, 3, N, W - 1, C, 1);
    struct box *fill[] = {&c->x, &c->taps, &c->tail, &c->dy, &c->dlast};
    for (int i = 0; i < 5; i++) box_fill(fill[i], &rng, normal);
    c->call.x = c->x.a, c->call.w = c->taps.a, c->call.tail_in = c->tail.a;
    c->call.y = c->y.a, c->call.tail_out = c->last.a;
    c->w = (struct gdn_conv_gradient){c->dy.a, c->dlast.a, c->dx.a, c->dtaps.a, c->dtail.a};
}

static void conv_close(struct conv *c)
{
    struct box *all[] = {&c->x, &c->taps, &c->tail, &c->y, &c->last,
                         &c->dy, &c->dlast, &c->dx, &c->dtaps, &c->dtail};
    for (int i = 0; i < 10; i++) box_close(all[i]);
}

/* Input `back` rows before the sequence's present rows, which are row[0..n-1]. */
static double conv_input(const struct conv *c, int64_t state, const int64_t *row, int64_t i,
                         int64_t ch)
{
    const int64_t C = c->call.C, W = c->call.W;
    if (i >= 0) return box_get(&c->x, row[i] * C + ch);
    return c->call.tail_in.data ? box_get(&c->tail, (state * (W - 1) + W - 1 + i) * C + ch) : 0;
}

/* y and tail_out by the formula, as f64. */
static void conv_formula(const struct conv *c, struct box *y, struct box *last)
{
    const struct gdn_rows *r = &c->call.rows;
    const int64_t C = c->call.C, W = c->call.W;
    int64_t row[256];
    *y = box_open(GDN_F64, DENSE, 3, c->x.dim[0], c->x.dim[1], C, 1);
    *last = box_open(GDN_F64, DENSE, 3, c->last.dim[0], W - 1, C, 1);
    memset(y->a.data, 0, (size_t)box_count(y) * sizeof(double));
    for (int32_t b = 0; b < r->B; b++) {
        const int64_t state = r->slots ? r->slots[b] : b;
        int64_t n = 0;
        for (int64_t t = lab_begin(r, b); t < lab_begin(r, b + 1); t++)
            if (!r->mask || r->mask[t]) row[n++] = t;
        for (int64_t i = 0; state >= 0 && i < n * C; i++) {
            double sum = 0;
            for (int64_t j = 0; j < W; j++)
                sum += box_get(&c->taps, i % C * W + j) *
                       conv_input(c, state, row, i / C - (W - 1) + j, i % C);
            ((double *)y->a.data)[row[i / C] * C + i % C] = c->call.plain ? sum : silu(sum);
        }
        for (int64_t i = 0; state >= 0 && i < (W - 1) * C; i++)
            ((double *)last->a.data)[state * (W - 1) * C + i] =
                conv_input(c, state, row, n - (W - 1) + i / C, i % C);
    }
}

static const int32_t starts[] = {0, 9, 9, 10, 12, 40};
static const uint8_t mask[45] = {1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1,
                                 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1,
                                 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1};
static const int32_t slots[] = {2, 3, -1, 0, 5};
static const struct gdn_rows forms[] = {
    {.B = 5, .T = 45, .starts = starts}, {.B = 5, .T = 45, .starts = starts, .mask = mask},
    {.B = 3, .T = 15, .mask = mask}, {.B = 5, .T = 9}, {.B = 30, .T = 1},
    {.B = 5, .T = 45, .starts = starts, .mask = mask, .slots = slots, .pool = 6}, {.B = 0, .T = 3}};
enum { FORMS = sizeof forms / sizeof *forms };

static void conv_is_its_formula(void **state)
{
    (void)state;
    static const int types[] = {GDN_F32, GDN_BF16, GDN_F16};
    for (int i = 0; i < DEVICES; i++) {
        gdn_ops *ops = device(i);
        for (int k = 0; k < FORMS * 24; k++) {
            struct conv c;
            struct box y, last;
            const int type = types[k / 3 % 3];
            conv_open(&c, forms[k % FORMS], k & 1 ? 67 : 600, 1 + k % 5, type, GDN_F32, k & 2,
                      (enum layout)(k % LAYOUTS), (uint64_t)k);
            conv_formula(&c, &y, &last);
            FORWARD(conv, ops, &c.call);
            box_written(&c.y);
            box_whole(&c.last, true);
            box_whole(&c.x, false), box_whole(&c.taps, false), box_whole(&c.tail, false);
            assert_near(&c.y, &y, limit_of(type));
            for (int64_t e = 0; e < box_count(&last); e++) {
                const double want = box_get(&last, e);
                if (!isnan(want)) assert_true(box_get(&c.last, e) == want);
            }
            box_close(&y), box_close(&last);
            conv_close(&c);
        }
        gdn_ops_close(ops);
    }
}

static double conv_loss(void *context)
{
    struct conv *c = context;
    struct box y, last;
    conv_formula(c, &y, &last);
    const double sum = product(&c->dy, &y) + product(&c->dlast, &last);
    box_close(&y), box_close(&last);
    return sum;
}

static void conv_gradients(void **state)
{
    (void)state;
    gdn_ops *ref = lab_open("ref", 1, 0);
    for (int k = 0; k < 5 * 8; k++) {
        struct conv c;
        const enum layout how = (enum layout)(k % LAYOUTS);
        conv_open(&c, forms[k % 5], 5, 1 + k % 4, GDN_F64, GDN_F64, k & 2, how, (uint64_t)k);
        BACKWARD(conv, ref, &c.call, &c.w);
        box_written(&c.dx), box_written(&c.dtaps), box_written(&c.dtail);
        slopes("dx", &c.x, &c.dx, conv_loss, &c);
        slopes("dw", &c.taps, &c.dtaps, conv_loss, &c);
        slopes("dtail", &c.tail, &c.dtail, conv_loss, &c);
        conv_close(&c);
        for (int i = 1; i < DEVICES; i++) {
            struct conv x, y;
            gdn_ops *ops = device(i);
            conv_open(&x, forms[k % 5], 70, 1 + k % 4, k & 1 ? GDN_BF16 : GDN_F32, GDN_F32, k & 2,
                      how, 3);
            conv_open(&y, forms[k % 5], 70, 1 + k % 4, k & 1 ? GDN_BF16 : GDN_F32, GDN_F32, k & 2,
                      how, 3);
            BACKWARD(conv, ops, &x.call, &x.w);
            BACKWARD(conv, ref, &y.call, &y.w);
            box_written(&x.dx), box_written(&x.dtaps), box_written(&x.dtail);
            agree("dx", &x.dx, &y.dx, 2e-6);
            agree("dw", &x.dtaps, &y.dtaps, 2e-6);
            agree("dtail", &x.dtail, &y.dtail, 2e-6);
            conv_close(&x), conv_close(&y);
            gdn_ops_close(ops);
        }
    }
    gdn_ops_close(ref);
}

/* q, k and v in one call, or in three on windows of the same arrays: the same bits. */
static void S4_11_and_12_fused_is_separate(void **state)
{
    (void)state;
    struct conv one, three;
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    const struct gdn_rows rows = {.B = 2, .T = 9};
    conv_open(&one, rows, 96, 4, GDN_F32, GDN_F32, false, DENSE, 5);
    conv_open(&three, rows, 96, 4, GDN_F32, GDN_F32, false, DENSE, 5);
    FORWARD(conv, ops, &one.call);
    for (int32_t first = 0, part = 0; part < 3; first += 16 << part, part++) {
        struct gdn_conv call = three.call;
        struct gdn_array *row[] = {&call.x, &call.y, &call.tail_in, &call.tail_out};
        call.C = part < 2 ? 16 << part : 48;
        for (int i = 0; i < 4; i++) {
            row[i]->data = (float *)row[i]->data + first;
            row[i]->stride[0] = i < 2 ? 9 * 96 : 3 * 96, row[i]->stride[1] = 96;
        }
        call.w.data = (float *)call.w.data + first * 4;
        FORWARD(conv, ops, &call);
    }
    assert_true(box_same(&one.y, &three.y) && box_same(&one.last, &three.last));
    conv_close(&one), conv_close(&three);
    gdn_ops_close(ops);
}

/* Any cut of a sequence, tails handed on in place: outputs and tail as from one call, in bits. So a
 * call shorter than the taps mixes old and new, and outputs of the context never appear. */
static void S4_07_and_08_cut_calls_keep_their_tail(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    struct rng rng = {.seed = 6};
    for (int k = 0; k < 40; k++) {
        struct conv whole, parts;
        const struct gdn_rows rows = {.B = 1, .T = 40};
        conv_open(&whole, rows, 33, 4, GDN_F32, GDN_F32, k & 1, DENSE, 7);
        conv_open(&parts, rows, 33, 4, GDN_F32, GDN_F32, k & 1, DENSE, 7);
        FORWARD(conv, ops, &whole.call);
        struct gdn_conv call = parts.call;
        call.tail_out = call.tail_in;
        for (int32_t at = 0; at < 40; at += call.rows.T) {
            const int32_t left = 40 - at, most = left < 5 ? left : 5;
            call.rows.T = 1 + (int32_t)rng_below(&rng, (uint64_t)most);
            call.x.data = (float *)parts.x.a.data + at * 33;
            call.y.data = (float *)parts.y.a.data + at * 33;
            FORWARD(conv, ops, &call);
        }
        assert_true(box_same(&whole.y, &parts.y) && box_same(&whole.last, &parts.tail));
        conv_close(&whole), conv_close(&parts);
    }
    gdn_ops_close(ops);
}

/* S4-16 for the convolution: a neighbour's NaN stays its own. */
static void S4_16_packed_tails_do_not_meet(void **state)
{
    (void)state;
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    for (int sick = 0; sick < 5; sick++) {
        struct conv c;
        struct box y, last;
        conv_open(&c, forms[0], 20, 4, GDN_F32, GDN_F32, false, DENSE, 8);
        conv_formula(&c, &y, &last);
        for (int e = 0; e < 60; e++) box_set(&c.tail, sick * 60 + e, NAN);
        for (int r = starts[sick] * 20; r < starts[sick + 1] * 20; r++) box_set(&c.x, r, NAN);
        FORWARD(conv, ops, &c.call);
        for (int64_t i = 0; i < 45 * 20; i++)
            if (i / 20 < starts[sick] || i / 20 >= starts[sick + 1])
                assert_true(fabs(box_get(&c.y, i) - box_get(&y, i)) < 1e-5);
        for (int64_t i = 0; i < 300; i++)
            if (i / 60 != sick) assert_true(box_get(&c.last, i) == box_get(&last, i));
        box_close(&y), box_close(&last);
        conv_close(&c);
    }
    gdn_ops_close(ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_is_its_formula),
        cmocka_unit_test(conv_gradients),
        cmocka_unit_test(S4_07_and_08_cut_calls_keep_their_tail),
        cmocka_unit_test(S4_11_and_12_fused_is_separate),
        cmocka_unit_test(S4_16_packed_tails_do_not_meet),
    };
    return cmocka_run_group_tests_name("ops_conv", tests, NULL, NULL);
}
