/* mix.c: the mixers and the ffn as their parts, one after another: what a fused slot must equal. */
#include "ops/run.h"

/* ---- windows and small parts ----------------------------------------------------------------- */

/* H heads of width D, `step` apart, out of the packed columns of x. */
static struct tensor *heads(struct pass *pass, struct tensor *x, int64_t column, int64_t H,
                            int64_t D, int64_t step)
{
    return pass_view(pass, x, column, 3, (int64_t[]){x->dim[0], H, D},
                     (int64_t[]){x->stride[0], step, 1});
}

/* Heads that lie side by side, as one row. */
static struct tensor *as_rows(struct pass *pass, struct tensor *x)
{
    const int64_t width = x->dim[1] * x->dim[2];
    return pass_view(pass, x, 0, 2, (int64_t[]){x->dim[0], width}, (int64_t[]){x->stride[0], 1});
}

/* Whether what nobody reads any more may be written over: a tape reads it, and a device with memory
 * of its own has enough. */
static bool writes_over(const struct pass *pass) { return !pass->tape && pass->device->host; }

/* Room for H heads of width D: over columns of `dead`, if it may be. */
static struct tensor *room_over(struct pass *pass, struct tensor *dead, int64_t column, int64_t H,
                                int64_t D)
{
    if (writes_over(pass)) return heads(pass, dead, column, H, D, D);
    return pass_tensor(pass, dead->dtype, 3, (int64_t[]){dead->dim[0], H, D});
}

/* Over `dead`, which is a or b, if it may be. */
static struct tensor *glu(struct pass *pass, struct tensor *a, struct tensor *b,
                          struct tensor *dead, enum act act)
{
    struct glu_args g = {.a = a, .b = b, .y = dead, .act = act};
    if (!writes_over(pass)) g.y = pass_tensor(pass, b->dtype, b->rank, b->dim);
    pass_run(pass, OP_GLU, &g, false);
    return g.y;
}

static struct tensor *l2norm(struct pass *pass, struct tensor *x, struct tensor *y, double eps,
                             double scale)
{
    struct l2norm_args a = {.x = x, .y = y, .eps = eps, .scale = scale};
    pass_run(pass, OP_L2NORM, &a, false);
    return a.y;
}

/* ---- gated delta rule ------------------------------------------------------------------------ */

static const double L2_EPS = 1e-6; /* of q and k, on the sum, in every family */

static struct tensor *delta_parts(struct pass *pass, const struct delta_weight *w,
                                  const struct delta_in *in, struct delta_slots *delta,
                                  struct conv_slots *tail)
{
    const int64_t T = in->qkv->dim[0], Hk = w->Hk, Hv = w->Hv, Dk = w->Dk, Dv = w->Dv;
    const enum dtype wide = dtype_wide(pass->compute);

    struct conv_args c = {.x = in->qkv, .w = w->conv, .rows = pass->rows, .slots = tail};
    c.y = pass_tensor(pass, pass->compute, 2, in->qkv->dim);
    pass_run(pass, OP_CONV, &c, false);

    const bool channel = w->dt_bias->rank == 2; /* a decay for each key channel */
    struct gate_args g = {.a = channel ? heads(pass, in->a, 0, Hv, Dk, Dk) : in->a, .b = in->b,
                          .A_log = w->A_log, .dt_bias = w->dt_bias, .beta_scale = w->beta_scale,
                          .lower_bound = w->lower_bound};
    g.g = pass_tensor(pass, wide, g.a->rank, g.a->dim);
    g.beta = pass_tensor(pass, wide, 2, (int64_t[]){T, Hv});
    pass_run(pass, OP_GATE, &g, false);

    struct delta_args d = {.g = g.g, .beta = g.beta, .rows = pass->rows, .slots = delta,
                           .fast = pass->fast};
    const int64_t K = Hk * Dk; /* the inputs of conv are dead behind it, its outputs behind delta */
    d.q = l2norm(pass, heads(pass, c.y, 0, Hk, Dk, Dk), room_over(pass, in->qkv, 0, Hk, Dk), L2_EPS,
                 1.0 / __builtin_sqrt((double)Dk));
    d.k = l2norm(pass, heads(pass, c.y, K, Hk, Dk, Dk), room_over(pass, in->qkv, K, Hk, Dk), L2_EPS,
                 1.0);
    d.v = heads(pass, c.y, 2 * K, Hv, Dv, Dv);
    d.o = room_over(pass, in->qkv, 2 * K, Hv, Dv);
    pass_run(pass, OP_DELTA, &d, false);

    struct gated_norm_args n = {.x = d.o, .z = heads(pass, in->z, 0, Hv, Dv, Dv), .w = w->norm,
                                .eps = w->eps, .act = w->act};
    n.y = room_over(pass, c.y, 2 * K, Hv, Dv);
    pass_run(pass, OP_GATED_NORM, &n, false);
    return as_rows(pass, n.y);
}

/* Decode and verify: a few rows of each sequence, with values of usual width. What a fused slot is
 * for. */
static bool fuses(const struct rows *rows, const struct delta_weight *w)
{
    const bool few = rows->draft || rows->T <= rows->B || rows->T <= BLOCK;
    return few && w->Dv <= DELTA_MIX_VALUES;
}

struct tensor *op_delta_mix(struct pass *pass, const struct delta_weight *w,
                            const struct delta_in *in, struct delta_slots *delta,
                            struct conv_slots *tail)
{
    const int64_t V = (int64_t)w->Hv * w->Dv, T = in->qkv->dim[0];
    const int64_t gates = w->dt_bias->rank == 2 ? (int64_t)w->Hv * w->Dk : w->Hv;
    SHAPE_CHECK(pass, in->qkv->dim[1] == 2ll * w->Hk * w->Dk + V && in->z->dim[1] == V &&
                          in->b->dim[1] == w->Hv && in->a->dim[1] == gates,
                "op_delta_mix: columns");
    SHAPE_CHECK(pass, (delta == NULL) == (tail == NULL), "op_delta_mix: both states or none");
    SHAPE_CHECK(pass, !pass->tape || !delta, "with a tape, state never goes through a slot");
    if (pass->tape || !pass->device->forward[OP_DELTA_MIX] || !delta || !fuses(pass->rows, w))
        return delta_parts(pass, w, in, delta, tail);
    struct delta_mix_args a = {
        .qkv = in->qkv, .z = in->z, .b = in->b, .a = in->a, .conv = w->conv, .A_log = w->A_log,
        .dt_bias = w->dt_bias, .norm = w->norm, .rows = pass->rows, .delta = delta, .tail = tail,
        .Hk = w->Hk, .Hv = w->Hv, .Dk = w->Dk, .Dv = w->Dv, .eps = w->eps,
        .beta_scale = w->beta_scale, .lower_bound = w->lower_bound, .act = w->act,
        .fast = pass->fast};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){T, V});
    pass_run(pass, OP_DELTA_MIX, &a, false);
    return a.y;
}

struct tensor *op_plain_conv(struct pass *pass, struct tensor *w, struct tensor *x,
                             struct conv_slots *tail)
{
    SHAPE_CHECK(pass, w->dim[0] == x->dim[1], "op_plain_conv: channels");
    SHAPE_CHECK(pass, !pass->tape || !tail, "with a tape, state never goes through a slot");
    struct conv_args c = {.x = x, .w = w, .rows = pass->rows, .slots = tail, .plain = true};
    c.y = pass_tensor(pass, pass->compute, 2, x->dim);
    pass_run(pass, OP_CONV, &c, false);
    return c.y;
}

static void norm_into(struct pass *pass, const struct norm_weight *norm, struct tensor *x,
                      struct tensor *y)
{
    struct norm_args n = {.x = x, .w = norm->w, .y = y, .eps = norm->eps,
                          .centred = norm->centred, .late = norm->late};
    pass_run(pass, OP_NORM, &n, false);
}

struct tensor *op_norm_pair(struct pass *pass, const struct norm_weight *norm_a, struct tensor *a,
                            const struct norm_weight *norm_b, struct tensor *b)
{
    const int64_t A = a->dim[1], B = b->dim[1];
    SHAPE_CHECK(pass, norm_a->w->dim[0] == A && norm_b->w->dim[0] == B && a->dim[0] == b->dim[0],
                "op_norm_pair: widths of the weights, rows");
    struct tensor *y = pass_tensor(pass, pass->compute, 2, (int64_t[]){a->dim[0], A + B});
    norm_into(pass, norm_a, a, pass_columns(pass, y, 0, A));
    norm_into(pass, norm_b, b, pass_columns(pass, y, A, B));
    return y;
}

/* ---- attention ------------------------------------------------------------------------------- */

/* H heads of width D, `step` apart in the columns of x: normed head by head, or all as one row. */
static struct tensor *head_norm(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                                int64_t column, int64_t H, int64_t step, struct tensor *weight)
{
    const int64_t D = w->D;
    struct norm_args n = {.w = weight, .eps = w->eps, .centred = w->centred};
    n.x = w->wide ? pass_columns(pass, x, column, H * D) : heads(pass, x, column, H, D, step);
    n.y = pass_tensor(pass, pass->compute, n.x->rank, n.x->dim);
    pass_run(pass, OP_NORM, &n, false);
    return w->wide ? heads(pass, n.y, 0, H, D, D) : n.y;
}

static struct tensor *norm_rope(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                                int64_t column, int64_t H, int64_t step, struct tensor *weight)
{
    struct rope_args r = {.x = head_norm(pass, w, x, column, H, step, weight), .rows = pass->rows,
                          .rot = w->rot, .theta = w->theta};
    if (w->rot == 0) return r.x;
    r.y = pass_tensor(pass, pass->compute, 3, r.x->dim);
    pass_run(pass, OP_ROPE, &r, false);
    return r.y;
}

static struct tensor *attn_parts(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                                 struct kv_pages *pages)
{
    const int64_t T = x->dim[0], Hq = w->Hq, Hkv = w->Hkv, D = w->D, step = w->gated ? 2 * D : D;
    struct attn_args a = {.rows = pass->rows, .pages = pages,
                          .scale = 1.0 / __builtin_sqrt((double)D)};
    a.q = norm_rope(pass, w, x, 0, Hq, step, w->q_norm);
    a.k = norm_rope(pass, w, x, Hq * step, Hkv, D, w->k_norm);
    a.v = heads(pass, x, Hq * step + Hkv * D, Hkv, D, D);
    a.o = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, Hq, D});
    pass_run(pass, OP_ATTN, &a, false);
    if (!w->gated) return as_rows(pass, a.o);
    return as_rows(pass, glu(pass, heads(pass, x, D, Hq, D, step), a.o, a.o, ACT_SIGMOID));
}

struct tensor *op_attn_mix(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                           struct kv_pages *pages)
{
    const int64_t Q = (int64_t)w->Hq * w->D;
    SHAPE_CHECK(pass, x->dim[1] == (w->gated ? 2 : 1) * Q + 2ll * w->Hkv * w->D,
                "op_attn_mix: columns");
    SHAPE_CHECK(pass, !pass->tape || !pages, "with a tape, keys and values never go through pages");
    if (pass->tape || !pages || w->wide || w->D > 256 || !pass->device->forward[OP_ATTN_MIX])
        return attn_parts(pass, w, x, pages); /* heads of usual width, normed one by one */
    struct attn_mix_args a = {.x = x, .q_norm = w->q_norm, .k_norm = w->k_norm, .rows = pass->rows,
                              .pages = pages, .Hq = w->Hq, .Hkv = w->Hkv, .D = w->D,
                              .rot = w->rot, .eps = w->eps, .theta = w->theta, .gated = w->gated,
                              .wide = w->wide, .centred = w->centred};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){x->dim[0], Q});
    pass_run(pass, OP_ATTN_MIX, &a, false);
    return a.y;
}

/* ---- latent attention ------------------------------------------------------------------------ */

/* y[t,h] = M_h x[t,h], M_h of rows x columns as it lies. */
static void head_product(struct pass *pass, const struct head_matrix *m, int64_t H, int64_t rows,
                         int64_t columns, struct tensor *x, struct tensor *y)
{
    const int64_t width = tensor_width(m->w);
    SHAPE_CHECK(pass, columns == width, "a head's matrix has %lld columns, its tensor %lld",
                (long long)columns, (long long)width);
    struct head_linear_args a = {.x = x, .y = y, .turned = m->turned};
    a.w = pass_view(pass, m->w, m->from * width, 3, (int64_t[]){H, rows, columns},
                    (int64_t[]){m->step * width, width, 1});
    pass_run(pass, OP_HEAD_LINEAR, &a, false);
}

/* A copy: what a model with positions would turn. */
static void place(struct pass *pass, struct tensor *x, struct tensor *y)
{
    struct rope_args r = {.x = x, .y = y, .rows = pass->rows, .rot = 0, .theta = 1.0};
    pass_run(pass, OP_ROPE, &r, false);
}

struct tensor *op_latent_mix(struct pass *pass, const struct latent_weight *w, struct tensor *x,
                             struct kv_pages *pages)
{
    const int64_t T = x->dim[0], H = w->Hq, R = w->R, S = w->shared, Q = w->nope + S, W = R + S;
    SHAPE_CHECK(pass, x->dim[1] == H * Q + W, "op_latent_mix: columns");
    SHAPE_CHECK(pass, !pass->tape || !pages, "with a tape, keys and values never go through pages");
    struct tensor *k = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, 1, W});
    struct tensor *q = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, H, W});
    struct norm_args n = {.x = heads(pass, x, H * Q, 1, R, R), .w = w->norm.w, .eps = w->norm.eps,
                          .centred = w->norm.centred, .late = w->norm.late};
    n.y = heads(pass, k, 0, 1, R, R);
    pass_run(pass, OP_NORM, &n, false);
    place(pass, heads(pass, x, H * Q + R, 1, S, S), heads(pass, k, R, 1, S, S));
    const bool turned = w->keys.turned;
    head_product(pass, &w->keys, H, turned ? w->nope : R, turned ? R : w->nope,
                 heads(pass, x, 0, H, w->nope, Q), heads(pass, q, 0, H, R, W));
    place(pass, heads(pass, x, w->nope, H, S, Q), heads(pass, q, R, H, S, W));

    struct attn_args a = {.q = q, .k = k, .v = heads(pass, k, 0, 1, R, R), .rows = pass->rows,
                          .pages = pages, .scale = 1.0 / __builtin_sqrt((double)Q)};
    a.o = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, H, R});
    pass_run(pass, OP_ATTN, &a, false);
    struct tensor *o = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, H, w->Dv});
    head_product(pass, &w->values, H, w->Dv, R, a.o, o);
    return as_rows(pass, o);
}

/* ---- ffn ------------------------------------------------------------------------------------- */

struct tensor *op_ffn_act(struct pass *pass, struct tensor *gate_up)
{
    const int64_t F = gate_up->dim[1] / 2;
    if (pass->tape || !pass->device->forward[OP_FFN_ACT]) {
        struct tensor *gate = pass_columns(pass, gate_up, 0, F);
        return glu(pass, gate, pass_columns(pass, gate_up, F, F), gate, ACT_SILU);
    }
    struct ffn_act_args a = {.x = gate_up};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){gate_up->dim[0], F});
    pass_run(pass, OP_FFN_ACT, &a, false);
    return a.y;
}

static bool experts_learn(const struct experts *experts)
{
    for (int32_t e = 0; e < experts->count; e++)
        if (linear_learns(&experts->gate_up[e]) || linear_learns(&experts->down[e])) return true;
    return false;
}

struct tensor *op_moe(struct pass *pass, const struct route_weight *w,
                      const struct experts *experts, struct tensor *x)
{
    const int64_t T = x->dim[0];
    const enum dtype wide = dtype_wide(pass->compute);
    struct tensor *ids = pass_tensor(pass, DTYPE_I32, 2, (int64_t[]){T, w->best});
    struct route_args r = {.logits = op_linear_as(pass, &w->logits, x, wide), .bias = w->bias,
                           .ids = ids->data, .score = w->score, .renormalise = w->renormalise,
                           .scale = w->scale, .groups = w->groups, .groups_used = w->groups_used};
    SHAPE_CHECK(pass, w->logits.N == experts->count, "op_moe: the router knows %lld experts of %d",
                (long long)w->logits.N, experts->count);
    r.weight = pass_tensor(pass, wide, 2, (int64_t[]){T, w->best});
    pass_run(pass, OP_ROUTE, &r, false);
    struct experts_args a = {.x = x, .weight = r.weight, .ids = ids->data, .experts = experts,
                             .fast = pass->fast};
    a.y = pass_tensor(pass, pass->compute, 2, x->dim);
    pass_run(pass, OP_EXPERTS, &a, experts_learn(experts));
    return a.y;
}
