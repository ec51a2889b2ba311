/* The convolution, the gate and the norms of gdn/ops.h: against their formulas in double, gradients
 * against differences, the cpu against the reference; and the founding behaviours S4 that concern
 * the convolution. */
#include "api/ops_lab.h"

static const uint32_t masks[] = {0, GDN_ISA_AVX2, GDN_ISA_AVX2 | GDN_ISA_AVX512, GDN_ISA_ALL};
enum { MASKS = sizeof masks / sizeof *masks };

static double limit_of(int type)
{
    return type == GDN_BF16 ? 4e-3 : type == GDN_F16 ? 5e-4 : type == GDN_F64 ? 1e-13 : 2e-6;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double silu(double x) { return x * sigmoid(x); }

/* n ops of one kind: "ref", then "cpu" by mask. */
enum { DEVICES = 1 + MASKS };
static gdn_ops *device(int i)
{
    return i == 0 ? lab_open("ref", 1, 0) : lab_open("cpu", 1 + i % 2, masks[i - 1]);
}

/* Gradients `x` of the cpu against `y` of the reference. */
static void agree(const char *name, const struct box *x, const struct box *y, double limit)
{
    const double most = box_largest(y), found = box_furthest(x, y);
    if (!(found <= limit * most)) fail_msg("%s: %g apart, need %g of %g", name, found, limit, most);
}

/* <dy, y> as a box says it. */
static double product(const struct box *x, const struct box *y)
{
    double sum = 0;
    for (int64_t i = 0; i < box_count(x); i++) sum += box_get(x, i) * box_get(y, i);
    return sum;
}

/* x + h d, element by element, d from the seed; h = 0 gives <d, grad> only. */
static double nudge(struct box *x, double h, uint64_t seed, const struct box *grad)
{
    struct rng rng = {.seed = seed};
    double told = 0;
    for (int64_t i = 0; i < box_count(x); i++) {
        const double d = rng_normal(&rng);
        told += d * box_get(grad, i);
        if (h != 0) dtype_store(x->a.data, x->type, box_at(x, i), box_get(x, i) + h * d);
    }
    memcpy(x->before, x->block, x->bytes);
    return told;
}

typedef double loss(void *context);
static void slopes(const char *name, struct box *x, const struct box *grad, loss *value,
                   void *context)
{
    const double h = 1e-5, told = nudge(x, h, 77, grad);
    const double above = value(context);
    nudge(x, -2 * h, 77, grad);
    const double found = (above - value(context)) / (2 * h);
    nudge(x, h, 77, grad);
    if (!(fabs(found - told) <= 1e-7 * (1 + fabs(found))))
        fail_msg("%s: difference %.12g, gradient %.12g", name, found, told);
}

/* ---- convolution ----------------------------------------------------------------------------- */

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

/* ---- gate ------------------------------------------------------------------------------------ */

struct gate {
    struct gdn_gate call;
    struct gdn_gate_gradient w;
    struct box a, b, A_log, dt_bias, g, beta, dg, dbeta, da, db, dA_log, ddt_bias;
};

static void gate_open(struct gate *c, const struct gdn_gate *call, int type, int param, int grad,
                      enum layout how, uint64_t seed)
{
    struct rng rng = {.seed = seed};
    const int32_t B = call->B, T = call->T, H = call->Hv, D = call->Dk;
    const int rank = D ? 4 : 3, wide = type == GDN_F64 ? GDN_F64 : GDN_F32;
    *c = (struct gate){.call = *call};
    c->a = box_open(type, how, rank, B, T, H, D);
    c->b = box_open(type, how, 3, B, T, H, 1);
    c->A_log = box_open(param, how == ODD ? ODD : DENSE, 1, H, 1, 1, 1);
    c->dt_bias = box_open(param, how, rank - 2, H, D, 1, 1);
    c->g = box_open(wide, how, rank, B, T, H, D);
    c->beta = box_open(wide, how, 3, B, T, H, 1);
    c->dg = box_open(wide, how, rank, B, T, H, D);
    c->dbeta = box_open(wide, how, 3, B, T, H, 1);
    c->da = box_open(grad, how, rank, B, T, H, D);
    c->db = box_open(grad, how, 3, B, T, H, 1);
    c->dA_log = box_open(grad, DENSE, 1, H, 1, 1, 1);
    c->ddt_bias = box_open(grad, how, rank - 2, H, D, 1, 1);
    struct box *fill[] = {&c->a, &c->b, &c->A_log, &c->dt_bias, &c->dg, &c->dbeta};
    for (int i = 0; i < 6; i++) box_fill(fill[i], &rng, normal);
    c->call.a = c->a.a, c->call.b = c->b.a, c->call.g = c->g.a, c->call.beta = c->beta.a;
    if (seed % 4 != 3) c->call.A_log = c->A_log.a;
    if (seed % 5 != 4) c->call.dt_bias = c->dt_bias.a;
    c->w = (struct gdn_gate_gradient){.g = c->dg.a, .beta = c->dbeta.a, .a = c->da.a, .b = c->db.a};
    if (c->call.A_log.data) c->w.A_log = c->dA_log.a;
    if (c->call.dt_bias.data) c->w.dt_bias = c->ddt_bias.a;
}

static void gate_close(struct gate *c)
{
    struct box *all[] = {&c->a, &c->b, &c->A_log, &c->dt_bias, &c->g, &c->beta, &c->dg, &c->dbeta,
                         &c->da, &c->db, &c->dA_log, &c->ddt_bias};
    for (int i = 0; i < 12; i++) box_close(all[i]);
}

/* g and beta by the formula, as f64. */
static void gate_formula(const struct gate *c, struct box *g, struct box *beta)
{
    const int64_t H = c->call.Hv, D = c->call.Dk ? c->call.Dk : 1;
    const double bound = c->call.lower_bound, scale = c->call.beta_scale;
    *g = box_open(GDN_F64, DENSE, c->g.rank, c->g.dim[0], c->g.dim[1], c->g.dim[2], c->g.dim[3]);
    *beta = box_open(GDN_F64, DENSE, 3, c->b.dim[0], c->b.dim[1], H, 1);
    for (int64_t i = 0; i < box_count(g); i++) {
        const int64_t h = i / D % H, d = i % D;
        const double A = c->call.A_log.data ? exp(box_get(&c->A_log, h)) : 1;
        const double u = box_get(&c->a, i) +
                         (c->call.dt_bias.data ? box_get(&c->dt_bias, h * D + d) : 0);
        ((double *)g->a.data)[i] = bound < 0 ? bound * sigmoid(A * u)
                                             : -A * (u > 20 ? u : log1p(exp(u)));
    }
    for (int64_t i = 0; i < box_count(beta); i++)
        ((double *)beta->a.data)[i] = (scale != 0 ? scale : 1) * sigmoid(box_get(&c->b, i));
}

static struct gdn_gate gate_case(int k)
{
    return (struct gdn_gate){.B = 1 + k % 3, .T = k % 4 == 3 ? 0 : 1 + 23 * (k % 4),
                             .Hv = 1 + k % 5, .Dk = k & 1 ? 0 : 19, .lower_bound = k & 2 ? -5 : 0,
                             .beta_scale = k & 4 ? 2 : 0};
}

static void gate_is_its_formula(void **state)
{
    (void)state;
    for (int i = 0; i < DEVICES; i++) {
        gdn_ops *ops = device(i);
        for (int k = 0; k < 120; k++) {
            struct gate c;
            struct box g, beta;
            const struct gdn_gate call = gate_case(k);
            gate_open(&c, &call,
                      k % 3 == 1   ? GDN_BF16
                      : k % 3 == 2 ? GDN_F16
                                   : GDN_F32,
                      k % 7 == 1 ? GDN_BF16 : GDN_F32, GDN_F32, (enum layout)(k % LAYOUTS),
                      (uint64_t)k);
            gate_formula(&c, &g, &beta);
            FORWARD(gate, ops, &c.call);
            box_written(&c.g), box_written(&c.beta), box_whole(&c.a, false), box_whole(&c.b, false);
            assert_near(&c.g, &g, 2e-6);
            assert_near(&c.beta, &beta, 2e-6);
            box_close(&g), box_close(&beta);
            gate_close(&c);
        }
        gdn_ops_close(ops);
    }
}

static double gate_loss(void *context)
{
    struct gate *c = context;
    struct box g, beta;
    gate_formula(c, &g, &beta);
    const double sum = product(&c->dg, &g) + product(&c->dbeta, &beta);
    box_close(&g), box_close(&beta);
    return sum;
}

static void S2_22_gradients_reach_the_gate_s_parameters(void **state)
{
    (void)state;
    gdn_ops *ref = lab_open("ref", 1, 0);
    for (int k = 0; k < 60; k++) {
        struct gate c;
        const struct gdn_gate call = gate_case(k);
        const enum layout how = (enum layout)(k % LAYOUTS);
        gate_open(&c, &call, GDN_F64, GDN_F64, GDN_F64, how, (uint64_t)k);
        BACKWARD(gate, ref, &c.call, &c.w);
        slopes("da", &c.a, &c.da, gate_loss, &c);
        slopes("db", &c.b, &c.db, gate_loss, &c);
        if (c.w.A_log.data) slopes("dA_log", &c.A_log, &c.dA_log, gate_loss, &c);
        if (c.w.dt_bias.data) slopes("ddt_bias", &c.dt_bias, &c.ddt_bias, gate_loss, &c);
        gate_close(&c);
        for (int i = 1; i < DEVICES; i++) {
            struct gate x, y;
            gdn_ops *ops = device(i);
            gate_open(&x, &call, k & 1 ? GDN_BF16 : GDN_F32, GDN_F32, GDN_F32, how, (uint64_t)k);
            gate_open(&y, &call, k & 1 ? GDN_BF16 : GDN_F32, GDN_F32, GDN_F32, how, (uint64_t)k);
            BACKWARD(gate, ops, &x.call, &x.w);
            BACKWARD(gate, ref, &y.call, &y.w);
            box_written(&x.da), box_written(&x.db);
            agree("da", &x.da, &y.da, 2e-6);
            agree("db", &x.db, &y.db, 2e-6);
            if (x.w.A_log.data) agree("dA_log", &x.dA_log, &y.dA_log, 1e-5);
            if (x.w.dt_bias.data) agree("ddt_bias", &x.ddt_bias, &y.ddt_bias, 2e-6);
            gate_close(&x), gate_close(&y);
            gdn_ops_close(ops);
        }
    }
    gdn_ops_close(ref);
}

/* ---- norms ----------------------------------------------------------------------------------- */

/* The three norms behind one face. */
struct norm {
    int kind; /* 0 l2norm, 1 plain, 2 centred, 3 silu, 4 sigmoid */
    struct gdn_norm call;
    struct gdn_norm_gradient w;
    struct gdn_l2norm unit;
    struct gdn_l2norm_gradient dunit;
    struct box x, z, weight, y, dy, dx, dz, dweight;
};

static void norm_open(struct norm *c, int kind, int32_t B, int32_t T, int32_t H, int32_t D,
                      int type, int grad, enum layout how, uint64_t seed)
{
    struct rng rng = {.seed = seed};
    *c = (struct norm){.kind = kind};
    struct box *row[] = {&c->x, &c->z, &c->y, &c->dy, &c->dx, &c->dz};
    for (int i = 0; i < 6; i++) *row[i] = box_open(i < 3 ? type : grad, how, 4, B, T, H, D);
    c->weight = box_open(type, how == ODD ? ODD : DENSE, 1, D, 1, 1, 1);
    c->dweight = box_open(grad, DENSE, 1, D, 1, 1, 1);
    struct box *fill[] = {&c->x, &c->z, &c->weight, &c->dy};
    for (int i = 0; i < 4; i++) box_fill(fill[i], &rng, normal);
    c->unit = (struct gdn_l2norm){.B = B, .T = T, .H = H, .D = D, .x = c->x.a, .y = c->y.a,
                                  .scale = seed & 1 ? 0.3 : 0, .eps = seed & 2 ? 1e-3 : 0};
    c->dunit = (struct gdn_l2norm_gradient){c->dy.a, c->dx.a};
    c->call = (struct gdn_norm){.B = B, .T = T, .H = H, .D = D, .x = c->x.a, .w = c->weight.a,
                                .y = c->y.a, .eps = seed & 2 ? 1e-3 : 0, .centred = kind == 2,
                                .gate = kind == 3   ? GDN_SILU
                                        : kind == 4 ? GDN_SIGMOID
                                                    : GDN_UNGATED};
    if (kind > 2) c->call.z = c->z.a;
    c->w = (struct gdn_norm_gradient){.y = c->dy.a, .x = c->dx.a, .w = c->dweight.a};
    if (kind > 2) c->w.z = c->dz.a;
}

static void norm_close(struct norm *c)
{
    struct box *all[] = {&c->x, &c->z, &c->weight, &c->y, &c->dy, &c->dx, &c->dz, &c->dweight};
    for (int i = 0; i < 8; i++) box_close(all[i]);
}

static struct box norm_formula(const struct norm *c)
{
    const int64_t D = c->call.D;
    const double eps = c->call.eps != 0 ? c->call.eps : 1e-6;
    struct box y = box_open(GDN_F64, DENSE, 4, c->x.dim[0], c->x.dim[1], c->x.dim[2], D);
    for (int64_t row = 0; row * D < box_count(&y); row++) {
        double squares = 0;
        for (int64_t i = 0; i < D; i++) squares += pow(box_get(&c->x, row * D + i), 2);
        const double r = 1 / sqrt(c->kind ? squares / (double)D + eps : squares + eps);
        for (int64_t i = 0; i < D; i++) {
            const double z = box_get(&c->z, row * D + i), w = box_get(&c->weight, i);
            const double times[] = {c->unit.scale != 0 ? c->unit.scale : 1, w, 1 + w, w * silu(z),
                                    w * sigmoid(z)};
            ((double *)y.a.data)[row * D + i] = box_get(&c->x, row * D + i) * r * times[c->kind];
        }
    }
    return y;
}

static void norm_forward(struct norm *c, gdn_ops *ops)
{
    if (c->kind == 0)
        FORWARD(l2norm, ops, &c->unit);
    else
        FORWARD(norm, ops, &c->call);
}

static void norm_backward(struct norm *c, gdn_ops *ops)
{
    if (c->kind == 0)
        BACKWARD(l2norm, ops, &c->unit, &c->dunit);
    else
        BACKWARD(norm, ops, &c->call, &c->w);
    box_written(&c->dx);
    if (c->kind > 0) box_written(&c->dweight);
    if (c->kind > 2) box_written(&c->dz);
}

static void norms_are_their_formulas(void **state)
{
    (void)state;
    static const int types[] = {GDN_F32, GDN_BF16, GDN_F16};
    for (int i = 0; i < DEVICES; i++) {
        gdn_ops *ops = device(i);
        for (int k = 0; k < 150; k++) {
            struct norm c;
            const int type = types[k % 3];
            norm_open(&c, k % 5, 1 + k % 2, k % 7, 1 + k % 4, k & 8 ? 128 : 1 + k % 40, type,
                      GDN_F32, (enum layout)(k / 5 % LAYOUTS), (uint64_t)k);
            struct box y = norm_formula(&c);
            norm_forward(&c, ops);
            box_written(&c.y), box_whole(&c.x, false), box_whole(&c.z, false);
            assert_near(&c.y, &y, limit_of(type));
            box_close(&y);
            norm_close(&c);
        }
        gdn_ops_close(ops);
    }
}

static double norm_loss(void *context)
{
    struct norm *c = context;
    struct box y = norm_formula(c);
    const double sum = product(&c->dy, &y);
    box_close(&y);
    return sum;
}

static void norm_gradients(void **state)
{
    (void)state;
    gdn_ops *ref = lab_open("ref", 1, 0);
    for (int k = 0; k < 50; k++) {
        struct norm c;
        const enum layout how = (enum layout)(k / 5 % LAYOUTS);
        norm_open(&c, k % 5, 2, 3, 2, 11, GDN_F64, GDN_F64, how, (uint64_t)k);
        norm_backward(&c, ref);
        slopes("dx", &c.x, &c.dx, norm_loss, &c);
        if (c.kind > 0) slopes("dw", &c.weight, &c.dweight, norm_loss, &c);
        if (c.kind > 2) slopes("dz", &c.z, &c.dz, norm_loss, &c);
        norm_close(&c);
        for (int i = 1; i < DEVICES; i++) {
            struct norm x, y;
            gdn_ops *ops = device(i);
            const int type = k & 1 ? GDN_BF16 : GDN_F32;
            norm_open(&x, k % 5, 2, 40, 3, 50, type, GDN_F32, how, (uint64_t)k);
            norm_open(&y, k % 5, 2, 40, 3, 50, type, GDN_F32, how, (uint64_t)k);
            norm_backward(&x, ops);
            norm_backward(&y, ref);
            agree("dx", &x.dx, &y.dx, 2e-6);
            if (x.kind > 0) agree("dw", &x.dweight, &y.dweight, 2e-6);
            if (x.kind > 2) agree("dz", &x.dz, &y.dz, 2e-6);
            norm_close(&x), norm_close(&y);
            gdn_ops_close(ops);
        }
    }
    gdn_ops_close(ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_is_its_formula),
        cmocka_unit_test(conv_gradients),
        cmocka_unit_test(S4_07_and_08_cut_calls_keep_their_tail),
        cmocka_unit_test(S4_11_and_12_fused_is_separate),
        cmocka_unit_test(S4_16_packed_tails_do_not_meet),
        cmocka_unit_test(gate_is_its_formula),
        cmocka_unit_test(S2_22_gradients_reach_the_gate_s_parameters),
        cmocka_unit_test(norms_are_their_formulas),
        cmocka_unit_test(norm_gradients),
    };
    return cmocka_run_group_tests_name("ops_parts", tests, NULL, NULL);
}
