/* The norms of gdn/ops.h: against their formulas in double, gradients against differences, the cpu
 * against the reference. */
#include "api/ops_parts.h"

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
        cmocka_unit_test(norms_are_their_formulas),
        cmocka_unit_test(norm_gradients),
    };
    return cmocka_run_group_tests_name("ops_norm", tests, NULL, NULL);
}
