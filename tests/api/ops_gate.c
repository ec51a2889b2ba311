/* The gate of gdn/ops.h: against its formula in double, gradients against differences, the cpu
 * against the reference. */
#include "api/ops_parts.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate_is_its_formula),
        cmocka_unit_test(S2_22_gradients_reach_the_gate_s_parameters),
    };
    return cmocka_run_group_tests_name("ops_gate", tests, NULL, NULL);
}
