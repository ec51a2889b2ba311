/* ops_norm.c: the norms of gdn/ops.h. All rows are one group. */
#include <math.h>

#include "api/ops_frame.h"

enum kind { UNIT, PLAIN, GATED };

/* What the three have in common after their checks. */
struct norm {
    enum kind kind;
    int32_t B, T, H, D;
    double eps, scale;
    bool centred;
    enum act act;
    struct array x, z, w, y;
    struct array dx, dz, dw, dy; /* backward */
};

static enum gdn_status check_common(const struct gdn_ops *ops, struct norm *v,
                                    const struct gdn_array *x, struct gdn_error *err)
{
    TRY(rows_check_plain(v->B, v->T, err));
    TRY(count_check("H", v->H, 1, MOST_HEADS, err));
    TRY(count_check("D", v->D, 1, MOST_CHANNELS, err));
    TRY(count_check("B * T * H", (int64_t)v->B * v->T * v->H, 0, MOST_ROWS, err));
    if (!isfinite(v->eps) || v->eps < 0.0)
        return error_set(err, GDN_ERR_USAGE, "eps: found %g, need a number above 0, or 0 for 1e-6",
                         v->eps);
    if (v->eps == 0.0) v->eps = 1e-6;
    const struct want want = {.name = "x", .rank = 4, .dim = {v->B, v->T, v->H, v->D},
                              .types = frame_types(ops)};
    return array_check(x, &want, &v->x, err);
}

/* y, or what is known of its gradient; and the gradient of x. */
static enum gdn_status check_rest(struct norm *v, const struct gdn_array *y,
                                  const struct gdn_array *dy, const struct gdn_array *dx,
                                  struct gdn_error *err)
{
    struct want want = {.name = "y", .rank = 4, .dim = {v->B, v->T, v->H, v->D},
                        .types = 1u << v->x.type | TYPE_F32, .output = true};
    if (!dy) return array_check(y, &want, &v->y, err);
    want.name = "gradient.y";
    want.output = false;
    TRY(array_check(dy, &want, &v->dy, err));
    return gradient_check(dx, "gradient.x", &v->x, 4, &v->dx, err);
}

static enum gdn_status check_l2norm(const struct gdn_ops *ops, const struct gdn_l2norm *c,
                                    const struct gdn_l2norm_gradient *w, struct norm *v,
                                    struct gdn_error *err)
{
    TRY(frame_check(ops, c, err));
    *v = (struct norm){.kind = UNIT, .B = c->B, .T = c->T, .H = c->H, .D = c->D, .eps = c->eps,
                       .scale = c->scale != 0.0 ? c->scale : 1.0};
    TRY(number_check("scale", c->scale, err));
    TRY(check_common(ops, v, &c->x, err));
    return check_rest(v, &c->y, w ? &w->y : NULL, w ? &w->x : NULL, err);
}

static enum gdn_status check_norm(const struct gdn_ops *ops, const struct gdn_norm *c,
                                  const struct gdn_norm_gradient *w, struct norm *v,
                                  struct gdn_error *err)
{
    TRY(frame_check(ops, c, err));
    TRY(count_check("gate", (int64_t)c->gate, GDN_UNGATED, GDN_SIGMOID, err));
    const bool gated = c->gate != GDN_UNGATED;
    *v = (struct norm){.kind = gated ? GATED : PLAIN, .B = c->B, .T = c->T, .H = c->H, .D = c->D,
                       .eps = c->eps, .centred = c->centred,
                       .act = c->gate == GDN_SIGMOID ? ACT_SIGMOID : ACT_SILU};
    if (gated && c->centred)
        return error_set(err, GDN_ERR_UNSUPPORTED, "centred: found true, need false with a gate");
    if (!gated && (c->z.data || (w && w->z.data)))
        return error_set(err, GDN_ERR_USAGE, "z.data: found an array, need NULL without a gate");
    TRY(check_common(ops, v, &c->x, err));
    const struct want z = {.name = "z", .rank = 4, .dim = {c->B, c->T, c->H, c->D},
                           .types = 1u << v->x.type, .optional = !gated};
    const struct want weight = {.name = "w", .rank = 1, .dim = {c->D}, .types = frame_types(ops)};
    TRY(array_check(&c->z, &z, &v->z, err));
    TRY(array_check(&c->w, &weight, &v->w, err));
    TRY(check_rest(v, &c->y, w ? &w->y : NULL, w ? &w->x : NULL, err));
    if (!w) return GDN_OK;
    TRY(gradient_check(&w->z, "gradient.z", &v->z, 4, &v->dz, err));
    return gradient_check(&w->w, "gradient.w", &v->w, 1, &v->dw, err);
}

/* ---- both ways ------------------------------------------------------------------------------- */

struct tensors {
    struct tensor x, z, w, y;
};

static void lay(struct frame *f, const struct group *g, const struct norm *v, struct tensors *t)
{
    const struct group one = frame_whole(1, 1);
    *t = (struct tensors){.x = frame_in(f, g, &v->x, 3, v->x.type, 1.0)};
    if (v->kind == GATED) t->z = frame_in(f, g, &v->z, 3, v->z.type, 1.0);
    if (v->kind == UNIT) return;
    t->w = frame_in(f, &one, &v->w, 2, v->w.type, 1.0);
    tensor_flatten(&t->w);
}

static void run(struct frame *f, const struct norm *v, struct tensors *t, enum way way)
{
    const int64_t rows = (int64_t)v->B * v->T * v->H;
    const struct l2norm_args unit = {.x = &t->x, .y = &t->y, .eps = v->eps, .scale = v->scale};
    const struct norm_args plain = {.x = &t->x, .w = &t->w, .y = &t->y, .eps = v->eps,
                                    .centred = v->centred};
    const struct gated_norm_args gated = {.x = &t->x, .z = &t->z, .w = &t->w, .y = &t->y,
                                          .eps = v->eps, .act = v->act};
    switch (v->kind) {
    case UNIT: frame_small(f, OP_L2NORM, way, &unit, rows, v->D); break;
    case PLAIN: frame_small(f, OP_NORM, way, &plain, rows, v->D); break;
    case GATED: frame_small(f, OP_GATED_NORM, way, &gated, rows, v->D); break;
    }
}

static void forward(struct frame *f, const void *call)
{
    const struct norm *v = call;
    const struct group g = frame_whole(v->B, v->T);
    struct tensors t;
    lay(f, &g, v, &t);
    const struct place y = frame_out(f, &g, &v->y, 3, v->y.type);
    t.y = y.tensor;
    run(f, v, &t, FORWARD);
    frame_deliver(f, &y, 0, g.rows, 1.0);
}

static void backward(struct frame *f, const void *call)
{
    const struct norm *v = call;
    const struct group g = frame_whole(v->B, v->T), one = frame_whole(1, 1);
    struct place dx = {0}, dz = {0}, dw = {0};
    struct tensors t;
    lay(f, &g, v, &t);
    frame_attach(f, &g, &v->dx, 3, &dx, &t.x);
    frame_attach(f, &g, &v->dz, 3, &dz, &t.z);
    frame_attach(f, &one, &v->dw, 1, &dw, &t.w);
    struct tensor dy = frame_in(f, &g, &v->dy, 3, frame_wide(f, &v->dy), 1.0);
    t.y = tensor_over(NULL, DTYPE_F32, 3, t.x.dim);
    t.y.grad = &dy;
    run(f, v, &t, BACKWARD);
    frame_settle(f, &dx, 1.0);
    frame_settle(f, &dz, 1.0);
    frame_settle(f, &dw, 1.0);
}

/* ---- the calls ------------------------------------------------------------------------------- */

enum gdn_status gdn_l2norm_workspace(const gdn_ops *ops, const struct gdn_l2norm *call,
                                     const struct gdn_l2norm_gradient *gradient, size_t *bytes,
                                     struct gdn_error *err)
{
    struct norm v;
    TRY(frame_check_size(bytes, err));
    TRY(check_l2norm(ops, call, gradient, &v, err));
    return frame_size(ops, gradient ? backward : forward, &v, bytes, err);
}

enum gdn_status gdn_l2norm_forward(const gdn_ops *ops, const struct gdn_l2norm *call,
                                   void *workspace, size_t bytes, struct gdn_error *err)
{
    struct norm v;
    TRY(check_l2norm(ops, call, NULL, &v, err));
    return frame_run(ops, forward, &v, workspace, bytes, err);
}

enum gdn_status gdn_l2norm_backward(const gdn_ops *ops, const struct gdn_l2norm *call,
                                    const struct gdn_l2norm_gradient *gradient, void *workspace,
                                    size_t bytes, struct gdn_error *err)
{
    struct norm v;
    TRY(frame_check_gradient(gradient, err));
    TRY(check_l2norm(ops, call, gradient, &v, err));
    return frame_run(ops, backward, &v, workspace, bytes, err);
}

enum gdn_status gdn_norm_workspace(const gdn_ops *ops, const struct gdn_norm *call,
                                   const struct gdn_norm_gradient *gradient, size_t *bytes,
                                   struct gdn_error *err)
{
    struct norm v;
    TRY(frame_check_size(bytes, err));
    TRY(check_norm(ops, call, gradient, &v, err));
    return frame_size(ops, gradient ? backward : forward, &v, bytes, err);
}

enum gdn_status gdn_norm_forward(const gdn_ops *ops, const struct gdn_norm *call, void *workspace,
                                 size_t bytes, struct gdn_error *err)
{
    struct norm v;
    TRY(check_norm(ops, call, NULL, &v, err));
    return frame_run(ops, forward, &v, workspace, bytes, err);
}

enum gdn_status gdn_norm_backward(const gdn_ops *ops, const struct gdn_norm *call,
                                  const struct gdn_norm_gradient *gradient, void *workspace,
                                  size_t bytes, struct gdn_error *err)
{
    struct norm v;
    TRY(frame_check_gradient(gradient, err));
    TRY(check_norm(ops, call, gradient, &v, err));
    return frame_run(ops, backward, &v, workspace, bytes, err);
}
