/* ops_delta.c: the gated delta rule of gdn/ops.h: checks, and forward.
 *
 * The kernel wants q scaled, k of length 1, a gate and a beta, and states one after another. So q
 * and k pass through the workspace when they are scaled or normalised, in f32, and a missing gate
 * or beta is one row that stands for all. A pool of states is not copied: sequences whose slots
 * follow each other are one run of the kernel, and it updates them in place. */
#include "api/ops_delta.h"

#include <math.h>

/* ---- checks ---------------------------------------------------------------------------------- */

static enum gdn_status check_sizes(const struct gdn_delta *c, struct gdn_error *err)
{
    TRY(rows_check(&c->rows, err));
    TRY(count_check("Hk", c->Hk, 1, MOST_HEADS, err));
    TRY(count_check("Hv", c->Hv, 1, MOST_HEADS, err));
    TRY(count_check("Dk", c->Dk, 1, MOST_WIDTH, err));
    TRY(count_check("Dv", c->Dv, 1, MOST_WIDTH, err));
    if (c->Hv % c->Hk != 0)
        return error_set(err, GDN_ERR_USAGE, "Hv: found %d, need a multiple of Hk (%d)", c->Hv,
                         c->Hk);
    return number_check("scale", c->scale, err);
}

/* The shapes that a call speaks of. */
struct shapes {
    int64_t B, T, N; /* the first axes of rows; states */
};

static struct shapes shapes_of(const struct gdn_rows *rows)
{
    return (struct shapes){rows->starts ? 1 : rows->B, rows->T,
                           rows->slots ? rows->pool : rows->B};
}

static unsigned state_types(const struct gdn_ops *ops)
{
    return frame_types(ops) & ~(unsigned)TYPE_F16;
}

static enum gdn_status check_inputs(const struct gdn_ops *ops, struct delta *d,
                                    struct gdn_error *err)
{
    const struct gdn_delta *c = d->call;
    const struct shapes s = shapes_of(&c->rows);
    struct want q = {.name = "q", .rank = 4, .dim = {s.B, s.T, c->Hk, c->Dk},
                     .types = frame_types(ops)};
    TRY(array_check(&c->q, &q, &d->q, err));
    struct want k = q, v = q, g = q;
    k.name = "k", v.name = "v", g.name = "g";
    k.types = v.types = 1u << d->q.type;
    v.dim[2] = g.dim[2] = c->Hv;
    v.dim[3] = c->Dv;
    g.types = 1u << d->q.type | TYPE_F32;
    g.optional = true;
    struct want beta = g, S0 = {.name = "S0", .rank = 4, .dim = {s.N, c->Hv, c->Dv, c->Dk},
                                .types = state_types(ops), .optional = true};
    beta.name = "beta";
    beta.rank = 3;
    if (!c->channel_gate) g.rank = 3;
    TRY(array_check(&c->k, &k, &d->k, err));
    TRY(array_check(&c->v, &v, &d->v, err));
    TRY(array_check(&c->g, &g, &d->g, err));
    TRY(array_check(&c->beta, &beta, &d->beta, err));
    return array_check(&c->S0, &S0, &d->S0, err);
}

static enum gdn_status check_outputs(const struct gdn_ops *ops, struct delta *d,
                                     struct gdn_error *err)
{
    const struct gdn_delta *c = d->call;
    const struct shapes s = shapes_of(&c->rows);
    const struct want o = {.name = "o", .rank = 4, .dim = {s.B, s.T, c->Hv, c->Dv},
                           .types = 1u << d->q.type | TYPE_F32, .output = true};
    const struct want S1 = {.name = "S1", .rank = 4, .dim = {s.N, c->Hv, c->Dv, c->Dk},
                            .types = state_types(ops), .optional = true,
                            .output = true};
    TRY(array_check(&c->o, &o, &d->o, err));
    return array_check(&c->S1, &S1, &d->S1, err);
}

static enum gdn_status check_gradients(const struct gdn_ops *ops,
                                       const struct gdn_delta_gradient *w, struct delta *d,
                                       struct gdn_error *err)
{
    const struct gdn_delta *c = d->call;
    const struct shapes s = shapes_of(&c->rows);
    if (c->rows.slots)
        return error_set(err, GDN_ERR_USAGE, "rows.slots: found an array, need NULL: a pool "
                         "of states has no gradient");
    const struct want o = {.name = "gradient.o", .rank = 4, .dim = {s.B, s.T, c->Hv, c->Dv},
                           .types = 1u << d->q.type | TYPE_F32, .optional = true};
    const struct want S1 = {.name = "gradient.S1", .rank = 4, .dim = {s.N, c->Hv, c->Dv, c->Dk},
                            .types = state_types(ops), .optional = true};
    TRY(array_check(&w->o, &o, &d->dout, err));
    TRY(array_check(&w->S1, &S1, &d->dS1, err));
    TRY(gradient_check(&w->q, "gradient.q", &d->q, 4, &d->dq, err));
    TRY(gradient_check(&w->k, "gradient.k", &d->k, 4, &d->dk, err));
    TRY(gradient_check(&w->v, "gradient.v", &d->v, 4, &d->dv, err));
    TRY(gradient_check(&w->g, "gradient.g", &d->g, c->channel_gate ? 4 : 3, &d->dg, err));
    TRY(gradient_check(&w->beta, "gradient.beta", &d->beta, 3, &d->dbeta, err));
    return gradient_check(&w->S0, "gradient.S0", &d->S0, 4, &d->dS0, err);
}

enum gdn_status delta_check(const struct gdn_ops *ops, const struct gdn_delta *call,
                            const struct gdn_delta_gradient *gradient, struct delta *d,
                            struct gdn_error *err)
{
    TRY(frame_check(ops, call, err));
    *d = (struct delta){.call = call};
    TRY(check_sizes(call, err));
    d->scale = call->scale != 0.0 ? call->scale : 1.0 / sqrt((double)call->Dk);
    TRY(check_inputs(ops, d, err));
    return gradient ? check_gradients(ops, gradient, d, err) : check_outputs(ops, d, err);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* x / |x| times `scale`, in f32. */
static void make_units(struct frame *f, const struct group *g, const struct array *a, double scale,
                       struct tensor *raw, struct tensor *unit)
{
    *raw = frame_in(f, g, a, 3, a->type, 1.0);
    *unit = frame_tensor(f, f->device->wide, 3, g->rows, a->dim[2], a->dim[3]);
    const struct l2norm_args args = {.x = raw, .y = unit, .eps = DELTA_EPS, .scale = scale};
    frame_small(f, OP_L2NORM, FORWARD, &args, g->rows * a->dim[2], a->dim[3]);
}

/* [rows, Hv], the same row for all. */
static struct tensor constant(struct frame *f, int64_t rows, int64_t Hv, float value)
{
    struct tensor t = frame_tensor(f, DTYPE_F32, 2, 1, 1, Hv);
    float *x = t.data;
    for (int64_t h = 0; x && h < Hv; h++) x[h] = value;
    t.dim[0] = rows;
    t.stride[0] = 0;
    return t;
}

void delta_inputs_lay(struct frame *f, const struct group *g, const struct delta *d,
                      struct delta_inputs *in)
{
    const struct gdn_delta *c = d->call;
    if (c->l2norm) {
        make_units(f, g, &d->q, d->scale, &in->raw_q, &in->q);
        make_units(f, g, &d->k, 1.0, &in->raw_k, &in->k);
    } else {
        in->q = frame_in(f, g, &d->q, 3, d->scale == 1.0 ? d->q.type : f->device->wide, d->scale);
        in->k = frame_in(f, g, &d->k, 3, d->k.type, 1.0);
    }
    in->v = frame_in(f, g, &d->v, 3, d->v.type, 1.0);
    in->g = d->g.data ? frame_in(f, g, &d->g, c->channel_gate ? 3 : 2, frame_wide(f, &d->g), 1.0)
                      : constant(f, g->rows, c->Hv, 0.0f);
    in->beta = d->beta.data ? frame_in(f, g, &d->beta, 2, frame_wide(f, &d->beta), 1.0)
                            : constant(f, g->rows, c->Hv, 1.0f);
}

/* ---- forward --------------------------------------------------------------------------------- */

static void forward_run(struct frame *f, const struct delta *d, const struct delta_inputs *in,
                        const struct tensor *out, const struct run *run)
{
    struct tensor q = tensor_part(&in->q, run->row, run->n);
    struct tensor k = tensor_part(&in->k, run->row, run->n);
    struct tensor v = tensor_part(&in->v, run->row, run->n);
    struct tensor g = tensor_part(&in->g, run->row, run->n);
    struct tensor beta = tensor_part(&in->beta, run->row, run->n);
    struct tensor o = tensor_part(out, run->row, run->n), S0, S1;
    struct delta_args args = {.q = &q, .k = &k, .v = &v, .g = &g, .beta = &beta, .o = &o,
                              .rows = &run->rows, .fast = d->call->fast};
    if (d->S0.data) {
        S0 = frame_state(f, &d->S0, 4, run->state, run->rows.B, d->S0.type);
        args.S0 = &S0;
    }
    if (d->S1.data) {
        S1 = frame_state(f, &d->S1, 4, run->state, run->rows.B, d->S1.type);
        args.S1 = &S1;
    }
    frame_kernel(f, OP_DELTA, FORWARD, &args);
}

static void forward_group(struct frame *f, const struct group *g, const void *call)
{
    const struct delta *d = call;
    struct delta_inputs in;
    struct run run = {0};
    delta_inputs_lay(f, g, d, &in);
    const struct place o = frame_out(f, g, &d->o, 3, d->o.type);
    while (frame_next(&d->call->rows, g, &run)) {
        forward_run(f, d, &in, &o.tensor, &run);
        frame_deliver(f, &o, run.row, run.n, 1.0);
    }
    frame_zero_absent(f, &d->call->rows, g, &d->o);
}

static void delta_forward(struct frame *f, const void *call)
{
    const struct delta *d = call;
    frame_walk(f, &d->call->rows, forward_group, d);
}

/* ---- the calls ------------------------------------------------------------------------------- */

enum gdn_status gdn_delta_workspace(const gdn_ops *ops, const struct gdn_delta *call,
                                    const struct gdn_delta_gradient *gradient, size_t *bytes,
                                    struct gdn_error *err)
{
    struct delta d;
    TRY(frame_check_size(bytes, err));
    TRY(delta_check(ops, call, gradient, &d, err));
    return frame_size(ops, gradient ? delta_backward : delta_forward, &d, bytes, err);
}

enum gdn_status gdn_delta_forward(const gdn_ops *ops, const struct gdn_delta *call,
                                  void *workspace, size_t bytes, struct gdn_error *err)
{
    struct delta d;
    TRY(delta_check(ops, call, NULL, &d, err));
    return frame_run(ops, delta_forward, &d, workspace, bytes, err);
}

enum gdn_status gdn_delta_backward(const gdn_ops *ops, const struct gdn_delta *call,
                                   const struct gdn_delta_gradient *gradient, void *workspace,
                                   size_t bytes, struct gdn_error *err)
{
    struct delta d;
    TRY(frame_check_gradient(gradient, err));
    TRY(delta_check(ops, call, gradient, &d, err));
    return frame_run(ops, delta_backward, &d, workspace, bytes, err);
}
