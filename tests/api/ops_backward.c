/* Gradients through the delta calls of gdn/ops.h: against differences of the recurrence in double,
 * and the cpu against the reference; with the founding behaviours S2 that concern them. */
#include "api/ops_lab.h"

enum { INPUTS = 6 };

/* A forward case, what is known of the loss, and a box for every gradient. */
struct loss {
    struct delta_case c;
    struct gdn_delta_gradient w;
    struct box o, S1, grad[INPUTS]; /* of q k v g beta S0 */
};

static struct box *input(struct delta_case *c, int i)
{
    struct box *all[INPUTS] = {&c->q, &c->k, &c->v, &c->g, &c->beta, &c->S0};
    return all[i];
}

static struct gdn_array *wanted(struct loss *l, int i)
{
    struct gdn_array *all[INPUTS] = {&l->w.q, &l->w.k, &l->w.v, &l->w.g, &l->w.beta, &l->w.S0};
    return all[i];
}

static bool given(const struct delta_case *c, int i)
{
    const struct gdn_delta *d = &c->call;
    return i < 3 || (i == 3 ? d->g.data : i == 4 ? d->beta.data : d->S0.data) != NULL;
}

static struct box like(const struct box *b, int type, enum layout how)
{
    return box_open(type, how, b->rank, b->dim[0], b->dim[1], b->dim[2], b->dim[3]);
}

/* `type` of the gradients; dO has the size `scale`. */
static void loss_open(struct loss *l, const struct delta_shape *s, int type, double scale,
                      uint64_t seed)
{
    struct rng rng = {.seed = seed + 1000};
    *l = (struct loss){0};
    delta_open(&l->c, s, seed);
    l->o = like(&l->c.o, type, s->layout);
    l->S1 = like(&l->c.S1, type, s->layout);
    box_fill(&l->o, &rng, normal);
    box_fill(&l->S1, &rng, normal);
    for (int64_t i = 0; i < box_count(&l->o); i++) box_set(&l->o, i, scale * box_get(&l->o, i));
    for (int64_t i = 0; i < box_count(&l->S1); i++) box_set(&l->S1, i, scale * box_get(&l->S1, i));
    l->w.o = l->o.a;
    l->w.S1 = l->S1.a;
    for (int i = 0; i < INPUTS; i++) {
        l->grad[i] = like(input(&l->c, i), type, s->layout);
        if (given(&l->c, i)) *wanted(l, i) = l->grad[i].a;
    }
}

static void loss_close(struct loss *l)
{
    delta_close(&l->c);
    box_close(&l->o);
    box_close(&l->S1);
    for (int i = 0; i < INPUTS; i++) box_close(&l->grad[i]);
}

static void run(struct loss *l, gdn_ops *ops)
{
    BACKWARD(delta, ops, &l->c.call, &l->w);
    delta_inputs_whole(&l->c);
    box_whole(&l->o, false);
    box_whole(&l->S1, false);
    for (int i = 0; i < INPUTS; i++)
        if (given(&l->c, i)) box_written(&l->grad[i]);
}

static void run_on(struct loss *l, const char *device, int threads)
{
    gdn_ops *ops = lab_open(device, threads, GDN_ISA_ALL);
    run(l, ops);
    gdn_ops_close(ops);
}

/* q of length 1 too. */
static void make_unit(struct box *b, int32_t D)
{
    for (int64_t i = 0; i < box_count(b); i += D) {
        double squares = 0;
        for (int32_t d = 0; d < D; d++) squares += pow(box_get(b, i + d), 2);
        for (int32_t d = 0; d < D; d++)
            dtype_store(b->a.data, b->type, box_at(b, i + d), box_get(b, i + d) / sqrt(squares));
    }
    memcpy(b->before, b->block, b->bytes);
}

static const int32_t starts[] = {0, 7, 7, 8, 30};
static const uint8_t mask[33] = {1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1,
                                 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1};
static const struct gdn_rows ragged = {.B = 4, .T = 33, .starts = starts};
static const struct gdn_rows masked = {.B = 4, .T = 33, .starts = starts, .mask = mask};
static const struct gdn_rows square = {.B = 3, .T = 11, .mask = mask};

/* ---- differences ----------------------------------------------------------------------------- */

static double loss_value(struct loss *l)
{
    struct box o, S1;
    double sum = 0;
    lab_delta(&l->c, &o, &S1);
    for (int64_t i = 0; i < box_count(&o); i++) sum += box_get(&o, i) * box_get(&l->o, i);
    for (int64_t i = 0; i < box_count(&S1); i++) sum += box_get(&S1, i) * box_get(&l->S1, i);
    box_close(&o);
    box_close(&S1);
    return sum;
}

/* Along random directions, one input at a time. */
static void differences(struct loss *l, int i, uint64_t seed)
{
    struct rng rng = {.seed = seed};
    struct box *x = input(&l->c, i);
    const int64_t n = box_count(x);
    double *was = malloc((size_t)n * sizeof *was), *to = malloc((size_t)n * sizeof *to), told = 0;
    const double h = 1e-5;
    for (int64_t e = 0; e < n; e++) {
        was[e] = box_get(x, e);
        to[e] = rng_normal(&rng);
        told += to[e] * box_get(&l->grad[i], e);
        box_set(x, e, was[e] + h * to[e]);
    }
    const double above = loss_value(l);
    for (int64_t e = 0; e < n; e++) box_set(x, e, was[e] - h * to[e]);
    const double found = (above - loss_value(l)) / (2 * h);
    for (int64_t e = 0; e < n; e++) box_set(x, e, was[e]);
    if (!(fabs(found - told) <= 1e-7 * (1 + fabs(found))))
        fail_msg("input %d: difference %.12g, gradient %.12g", i, found, told);
    free(was);
    free(to);
}

static void S2_11_and_13_all_gradients_are_the_slopes(void **state)
{
    (void)state;
    gdn_ops *ref = lab_open("ref", 1, 0);
    const struct gdn_rows *rows[] = {&ragged, &masked, &square};
    for (int i = 0; i < 48; i++) {
        struct loss l;
        const struct delta_shape s = {.rows = *rows[i % 3], .Hk = 1 + i % 2,
                                      .Hv = 2 + 2 * (i / 6 % 2), .Dk = 5, .Dv = 3, .act = GDN_F64,
                                      .gate = GDN_F64, .state = GDN_F64, .channel_gate = i & 4,
                                      .l2norm = i & 8, .no_gate = i % 7 == 6, .no_beta = i % 5 == 4,
                                      .no_state = i % 9 == 8, .scale = i & 16 ? 0.7 : 0,
                                      .layout = (enum layout)(i % LAYOUTS)};
        loss_open(&l, &s, GDN_F64, 1, (uint64_t)i);
        run(&l, ref);
        for (int k = 0; k < INPUTS; k++)
            if (given(&l.c, k)) differences(&l, k, (uint64_t)i);
        loss_close(&l);
    }
    gdn_ops_close(ref);
}

/* ---- the cpu against the reference ----------------------------------------------------------- */

/* The largest error of each gradient, relative to its largest entry (or absolute). */
static void agree(const struct delta_shape *s, int type, double scale, double limit, bool absolute,
                  uint64_t seed)
{
    struct loss cpu, ref;
    loss_open(&cpu, s, type, scale, seed);
    loss_open(&ref, s, type, scale, seed);
    make_unit(&cpu.c.q, s->Dk);
    make_unit(&ref.c.q, s->Dk);
    run_on(&cpu, "cpu", 2);
    run_on(&ref, "ref", 1);
    for (int i = 0; i < INPUTS; i++) {
        if (!given(&cpu.c, i)) continue;
        const double most = absolute ? 1 : box_largest(&ref.grad[i]);
        const double need = limit * (i == 3 && limit < 1e-5 && !absolute ? 5 : 1); /* dg 1e-5 */
        const double found = box_furthest(&cpu.grad[i], &ref.grad[i]) / (most > 0 ? most : 1);
        if (!(found <= need)) fail_msg("gradient %d: %g apart, need %g", i, found, need);
    }
    loss_close(&cpu);
    loss_close(&ref);
}

static void the_cpu_agrees(void **state)
{
    (void)state;
    const struct gdn_rows *rows[] = {&ragged, &masked, &square};
    for (int i = 0; i < 60; i++) {
        const int act = i % 4 == 3 ? GDN_BF16 : GDN_F32;
        const struct delta_shape s = {.rows = *rows[i % 3], .Hk = 1 + i % 2, .Hv = 2,
                                      .Dk = i & 1 ? 32 : 7, .Dv = i & 2 ? 33 : 16, .act = act,
                                      .channel_gate = i & 4, .l2norm = i & 8, .no_gate = i % 7 == 6,
                                      .no_beta = i % 5 == 4, .no_state = i % 9 == 8,
                                      .scale = i & 16 ? 0.7 : 0,
                                      .state = i & 32 ? GDN_BF16 : GDN_F32,
                                      .layout = (enum layout)(i % LAYOUTS)};
        agree(&s, GDN_F32, 1, 2e-6, false, (uint64_t)i);
    }
}

static const struct {
    int32_t B, T, Hk, Hv, Dk, Dv;
    int act;
    bool channel;
} source[] = {{2, 96, 2, 4, 64, 32, GDN_F32, false}, {3, 70, 2, 4, 32, 16, GDN_F32, false},
              {2, 130, 4, 4, 96, 64, GDN_BF16, false}, {2, 96, 4, 4, 64, 64, GDN_F32, true},
              {2, 130, 4, 4, 128, 128, GDN_BF16, true}};

/* The shapes of the source: 1e-7 (column gates 2.4e-7) absolute in fp32 with dO of size 1/(T Dv);
 * for bf16, the gradients rounded to bf16. */
static void S2_14_and_15_the_shapes_of_the_source(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof source / sizeof *source; i++) {
        const struct delta_shape s = {
            .rows = {.B = source[i].B, .T = source[i].T}, .Hk = source[i].Hk, .Hv = source[i].Hv,
            .Dk = source[i].Dk, .Dv = source[i].Dv, .act = source[i].act,
            .gate = source[i].act, .channel_gate = source[i].channel};
        const double scale = 1.0 / ((double)s.rows.T * s.Dv);
        agree(&s, GDN_F32, 1, 2e-6, false, i);
        if (s.act == GDN_F32) {
            agree(&s, GDN_F32, scale, s.channel_gate ? 2.4e-7 : 1e-7, true, i);
        } else if (!s.channel_gate) {
            struct delta_shape half = s;
            half.state = GDN_BF16; /* so is its gradient; both are rounded: one step apart */
            agree(&half, GDN_BF16, 1, 0x1p-8, false, i);
        }
    }
}

static void S2_17_to_20_groups_chunks_short_rows_both_gates(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 2, 15, 16, 17, 63, 64, 65, 70, 96, 130, 171};
    for (int i = 0; i < 24; i++) {
        const struct delta_shape s = {.rows = {.B = 1 + i % 4, .T = lengths[i / 2]},
                                      .Hk = 1 + i % 2, .Hv = 3 * (1 + i % 2), .Dk = 16, .Dv = 8,
                                      .channel_gate = i % 2};
        agree(&s, GDN_F32, 1, 2e-6, false, (uint64_t)i);
    }
}

/* ---- bits ------------------------------------------------------------------------------------ */

static const struct delta_shape plain = {
    .rows = {.B = 3, .T = 70}, .Hk = 2, .Hv = 4, .Dk = 32, .Dv = 16, .l2norm = true};

/* Each of the sequences `which` of a batch, run alone: the same gradients in bits. */
static void alone(gdn_ops *ops, const struct delta_shape *s, int type, const int32_t *which, int n)
{
    struct loss whole;
    loss_open(&whole, s, type, 1, 3);
    run(&whole, ops);
    for (int w = 0; w < n; w++) {
        struct loss own;
        struct delta_shape one = *s;
        one.rows.B = 1;
        loss_open(&own, &one, type, 1, 4);
        for (int i = 0; i < INPUTS + 2; i++) {
            struct box *to = i < INPUTS ? input(&own.c, i) : i == INPUTS ? &own.o : &own.S1;
            struct box *from = i < INPUTS ? input(&whole.c, i) : i == INPUTS ? &whole.o : &whole.S1;
            for (int64_t e = 0; e < box_count(to); e++)
                box_set(to, e, box_get(from, which[w] * box_count(to) + e));
        }
        run(&own, ops);
        for (int i = 0; i < INPUTS; i++)
            for (int64_t e = 0; e < box_count(&own.grad[i]); e++)
                assert_true(box_get(&own.grad[i], e) ==
                            box_get(&whole.grad[i], which[w] * box_count(&own.grad[i]) + e));
        loss_close(&own);
    }
    loss_close(&whole);
}

/* Also where sequences are more than are handled at once (GROUP), and states are converted. */
static void S2_16_a_row_of_the_batch_is_its_own_run(void **state)
{
    (void)state;
    static const int32_t all[] = {0, 1, 2}, some[] = {0, 255, 256, 299};
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    for (int channel = 0; channel < 2; channel++) {
        struct delta_shape s = plain;
        s.channel_gate = channel;
        alone(ops, &s, GDN_F32, all, 3);
        s.rows = (struct gdn_rows){.B = 300, .T = 2};
        s.Dk = s.Dv = 8;
        s.act = s.gate = s.state = GDN_BF16;
        alone(ops, &s, GDN_F32, some, 4);
        alone(ops, &s, GDN_BF16, some, 4);
    }
    gdn_ops_close(ops);
}

/* The gradients of a masked batch are those of its rows alone, in bits, and 0 elsewhere. */
static void S2_23_masked_gradients_are_those_of_the_rows_alone(void **state)
{
    (void)state;
    static int32_t packed_starts[5], row[33];
    int32_t n = 0;
    for (int b = 0; b < 4; b++) {
        for (int32_t r = starts[b]; r < starts[b + 1]; r++)
            if (mask[r]) row[n++] = r;
        packed_starts[b + 1] = n;
    }
    gdn_ops *ops = lab_open("cpu", 2, GDN_ISA_ALL);
    for (int channel = 0; channel < 2; channel++) {
        struct delta_shape s = plain;
        struct loss l, p;
        s.channel_gate = channel;
        s.rows = masked;
        loss_open(&l, &s, GDN_F32, 1, 5);
        s.rows = (struct gdn_rows){.B = 4, .T = n, .starts = packed_starts};
        loss_open(&p, &s, GDN_F32, 1, 6);
        for (int i = 0; i < INPUTS; i++) {
            struct box *to = i < 5 ? input(&p.c, i) : &p.o, *from = i < 5 ? input(&l.c, i) : &l.o;
            const int64_t width = box_count(to) / n;
            for (int64_t e = 0; e < box_count(to); e++)
                box_set(to, e, box_get(from, row[e / width] * width + e % width));
        }
        box_copy(&p.c.S0, &l.c.S0);
        box_copy(&p.S1, &l.S1);
        run(&l, ops);
        run(&p, ops);
        assert_true(box_same(&l.grad[5], &p.grad[5]));
        for (int i = 0; i < 5; i++) {
            const int64_t width = box_count(&p.grad[i]) / n;
            double sum = 0, packed_sum = 0;
            for (int64_t e = 0; e < box_count(&p.grad[i]); e++) {
                assert_true(box_get(&p.grad[i], e) ==
                            box_get(&l.grad[i], row[e / width] * width + e % width));
                packed_sum += fabs(box_get(&p.grad[i], e));
            }
            for (int64_t e = 0; e < box_count(&l.grad[i]); e++) sum += fabs(box_get(&l.grad[i], e));
            assert_true(fabs(sum - packed_sum) <= 1e-9 * sum);
        }
        loss_close(&l);
        loss_close(&p);
    }
    gdn_ops_close(ops);
}

static void S2_28_and_29_the_same_bits_every_time(void **state)
{
    (void)state;
    struct loss first;
    loss_open(&first, &plain, GDN_F32, 1, 7);
    run_on(&first, "cpu", 1);
    for (int again = 0; again < 20; again++) {
        struct loss l;
        struct delta_shape s = plain;
        s.layout = (enum layout)(again % LAYOUTS);
        loss_open(&l, &s, GDN_F32, 1, 7);
        run_on(&l, "cpu", 1 + again % 4);
        for (int i = 0; i < INPUTS; i++) assert_true(box_same(&l.grad[i], &first.grad[i]));
        loss_close(&l);
    }
    loss_close(&first);
}

/* Gradients that are not wanted change nothing in those that are; narrower ones are rounded. */
static void any_of_the_gradients(void **state)
{
    (void)state;
    struct loss all;
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    struct delta_shape s = plain;
    s.act = s.gate = s.state = GDN_BF16;
    loss_open(&all, &s, GDN_F32, 1, 8);
    run(&all, ops);
    for (int want = 0; want < 64; want++) {
        struct loss some;
        loss_open(&some, &s, want % 3 ? GDN_F32 : GDN_BF16, 1, 8);
        box_close(&some.o), box_close(&some.S1);
        some.o = like(&all.o, GDN_F32, DENSE), some.S1 = like(&all.S1, GDN_F32, DENSE);
        box_copy(&some.o, &all.o), box_copy(&some.S1, &all.S1);
        some.w.o = some.o.a, some.w.S1 = some.S1.a;
        for (int i = 0; i < INPUTS; i++)
            if (!(want & 1 << i)) wanted(&some, i)->data = NULL;
        BACKWARD(delta, ops, &some.c.call, &some.w);
        for (int i = 0; i < INPUTS; i++) {
            struct box rounded = like(&all.grad[i], some.grad[i].a.type, DENSE);
            box_copy(&rounded, &all.grad[i]);
            if (want & 1 << i)
                assert_true(box_same(&some.grad[i], &rounded));
            else
                box_whole(&some.grad[i], false);
            box_close(&rounded);
        }
        loss_close(&some);
    }
    loss_close(&all);
    gdn_ops_close(ops);
}

/* S2-12 too: a gradient on the final state alone, on the outputs alone, and their sum. */
static void S2_12_a_gradient_on_the_final_state(void **state)
{
    (void)state;
    struct loss l[3];
    for (int i = 0; i < 3; i++) {
        loss_open(&l[i], &plain, GDN_F32, 1, 9);
        if (i == 1) l[i].w.o.data = NULL;
        if (i == 2) l[i].w.S1.data = NULL;
        run_on(&l[i], "cpu", 1);
    }
    for (int i = 0; i < INPUTS; i++) {
        double most = box_largest(&l[0].grad[i]);
        for (int64_t e = 0; e < box_count(&l[0].grad[i]); e++)
            assert_true(fabs(box_get(&l[0].grad[i], e) - box_get(&l[1].grad[i], e) -
                             box_get(&l[2].grad[i], e)) <= 4e-6 * most);
        assert_true(i == 0 || box_largest(&l[1].grad[i]) > 0);
    }
    for (int i = 0; i < 3; i++) loss_close(&l[i]);
}

/* ---- segments -------------------------------------------------------------------------------- */

static void shift(struct gdn_array *a, int64_t rows, int64_t width)
{
    if (a->data) a->data = (float *)a->data + rows * width;
}

/* The arrays of the whole case from row `cut` on. */
static void shift_rows(struct gdn_delta *call, struct gdn_delta_gradient *w, int64_t cut)
{
    const int64_t K = call->Hk * call->Dk, V = call->Hv * call->Dv, Hv = call->Hv;
    const int64_t G = call->channel_gate ? Hv * call->Dk : Hv;
    shift(&call->q, cut, K), shift(&call->k, cut, K), shift(&call->v, cut, V);
    shift(&call->g, cut, G), shift(&call->beta, cut, Hv), shift(&call->o, cut, V);
    shift(&w->o, cut, V), shift(&w->q, cut, K), shift(&w->k, cut, K), shift(&w->v, cut, V);
    shift(&w->g, cut, G), shift(&w->beta, cut, Hv);
}

static void S2_42_segments_chain(void **state)
{
    (void)state;
    static const int32_t cuts[] = {1, 16, 37, 64, 69};
    gdn_ops *ops = lab_open("cpu", 1, GDN_ISA_ALL);
    for (int i = 0; i < 10; i++) {
        struct loss whole, parts;
        struct delta_shape s = plain;
        s.rows = (struct gdn_rows){.B = 1, .T = 70};
        s.channel_gate = i >= 5;
        loss_open(&whole, &s, GDN_F32, 1, 10);
        loss_open(&parts, &s, GDN_F32, 1, 10);
        run(&whole, ops);
        struct box middle = like(&parts.c.S1, GDN_F32, DENSE),
                   dmiddle = like(&parts.S1, GDN_F32, DENSE);
        struct gdn_delta head = parts.c.call, tail = parts.c.call;
        struct gdn_delta_gradient dhead = parts.w, dtail = parts.w;
        head.rows.T = cuts[i % 5];
        tail.rows.T = 70 - head.rows.T;
        head.S1 = tail.S0 = middle.a;
        dhead.S1 = dtail.S0 = dmiddle.a;
        shift_rows(&tail, &dtail, head.rows.T);
        FORWARD(delta, ops, &head);
        BACKWARD(delta, ops, &tail, &dtail);
        BACKWARD(delta, ops, &head, &dhead);
        for (int k = 0; k < INPUTS; k++)
            assert_true(box_furthest(&parts.grad[k], &whole.grad[k]) <=
                        5e-6 * box_largest(&whole.grad[k]));
        box_close(&middle);
        box_close(&dmiddle);
        loss_close(&whole);
        loss_close(&parts);
    }
    gdn_ops_close(ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S2_11_and_13_all_gradients_are_the_slopes),
        cmocka_unit_test(the_cpu_agrees),
        cmocka_unit_test(S2_12_a_gradient_on_the_final_state),
        cmocka_unit_test(S2_14_and_15_the_shapes_of_the_source),
        cmocka_unit_test(S2_16_a_row_of_the_batch_is_its_own_run),
        cmocka_unit_test(S2_17_to_20_groups_chunks_short_rows_both_gates),
        cmocka_unit_test(S2_23_masked_gradients_are_those_of_the_rows_alone),
        cmocka_unit_test(S2_28_and_29_the_same_bits_every_time),
        cmocka_unit_test(any_of_the_gradients),
        cmocka_unit_test(S2_42_segments_chain),
    };
    return cmocka_run_group_tests_name("ops_backward", tests, NULL, NULL);
}
