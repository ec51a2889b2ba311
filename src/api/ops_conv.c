/* ops_conv.c: the short convolution of gdn/ops.h. Tails of a pool are read and written where they
 * are, as the states of delta. */
#include "api/ops_frame.h"

struct conv {
    const struct gdn_conv *call;
    struct array x, w, tail_in, y, tail_out;
    struct array dx, dw, dtail_in, dy, dtail_out; /* backward */
    struct tensor *dw_sum; /* over all groups */
};

enum { MOST_TAPS = 16, SCRATCH_WIDTH = 1024 /* a thread's taps and history, for some channels */ };

static enum gdn_status check_forward(const struct gdn_ops *ops, struct conv *v, bool outputs,
                                     struct gdn_error *err)
{
    const struct gdn_conv *c = v->call;
    const int64_t B = c->rows.starts ? 1 : c->rows.B, T = c->rows.T;
    TRY(rows_check(&c->rows, err));
    TRY(count_check("C", c->C, 1, MOST_CHANNELS, err));
    TRY(count_check("W", c->W, 1, MOST_TAPS, err));
    const unsigned types = frame_types(ops);
    const struct want x = {.name = "x", .rank = 3, .dim = {B, T, c->C}, .types = types};
    const struct want w = {.name = "w", .rank = 2, .dim = {c->C, c->W}, .types = types};
    TRY(array_check(&c->x, &x, &v->x, err));
    TRY(array_check(&c->w, &w, &v->w, err));
    struct want tail = {.name = "tail_in", .rank = 3, .types = 1u << v->x.type, .optional = true,
                        .dim = {c->rows.slots ? c->rows.pool : c->rows.B, c->W - 1, c->C}};
    TRY(array_check(&c->tail_in, &tail, &v->tail_in, err));
    if (!outputs) return GDN_OK;
    struct want y = x;
    y.name = "y";
    y.types = 1u << v->x.type | TYPE_F32;
    tail.name = "tail_out";
    tail.output = y.output = true;
    TRY(array_check(&c->y, &y, &v->y, err));
    return array_check(&c->tail_out, &tail, &v->tail_out, err);
}

static enum gdn_status check_gradients(const struct gdn_ops *ops,
                                       const struct gdn_conv_gradient *w, struct conv *v,
                                       struct gdn_error *err)
{
    const struct gdn_conv *c = v->call;
    const unsigned types = frame_types(ops);
    if (c->rows.slots)
        return error_set(err, GDN_ERR_USAGE, "rows.slots: found an array, need NULL: a pool "
                         "of tails has no gradient");
    const struct want y = {.name = "gradient.y", .rank = 3, .types = types, .optional = true,
                           .dim = {c->rows.starts ? 1 : c->rows.B, c->rows.T, c->C}};
    const struct want tail = {.name = "gradient.tail_out", .rank = 3, .types = types,
                              .optional = true, .dim = {c->rows.B, c->W - 1, c->C}};
    TRY(array_check(&w->y, &y, &v->dy, err));
    TRY(array_check(&w->tail_out, &tail, &v->dtail_out, err));
    TRY(gradient_check(&w->x, "gradient.x", &v->x, 3, &v->dx, err));
    TRY(gradient_check(&w->w, "gradient.w", &v->w, 2, &v->dw, err));
    return gradient_check(&w->tail_in, "gradient.tail_in", &v->tail_in, 3, &v->dtail_in, err);
}

static enum gdn_status check(const struct gdn_ops *ops, const struct gdn_conv *call,
                             const struct gdn_conv_gradient *gradient, struct conv *v,
                             struct gdn_error *err)
{
    TRY(frame_check(ops, call, err));
    *v = (struct conv){.call = call};
    TRY(check_forward(ops, v, !gradient, err));
    return gradient ? check_gradients(ops, gradient, v, err) : GDN_OK;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* The taps [C, W] in place. */
static struct tensor taps(struct frame *f, const struct conv *v)
{
    const struct group whole = frame_whole(1, v->call->C);
    return frame_in(f, &whole, &v->w, 2, v->w.type, 1.0);
}

static void forward_run(struct frame *f, const struct conv *v, const struct tensor *in,
                        const struct tensor *out, const struct run *run)
{
    struct tensor x = tensor_part(in, run->row, run->n), y = tensor_part(out, run->row, run->n);
    struct tensor w = taps(f, v), tail_in, tail_out;
    struct conv_args args = {.x = &x, .w = &w, .y = &y, .rows = &run->rows,
                             .plain = v->call->plain};
    if (v->tail_in.data) {
        tail_in = frame_state(f, &v->tail_in, 3, run->state, run->rows.B, v->tail_in.type);
        args.tail_in = &tail_in;
    }
    if (v->tail_out.data) {
        tail_out = frame_state(f, &v->tail_out, 3, run->state, run->rows.B, v->tail_out.type);
        args.tail_out = &tail_out;
    }
    frame_small(f, OP_CONV, FORWARD, &args, 0, SCRATCH_WIDTH);
}

static void forward_group(struct frame *f, const struct group *g, const void *call)
{
    const struct conv *v = call;
    struct run run = {0};
    const struct tensor x = frame_in(f, g, &v->x, 2, v->x.type, 1.0);
    const struct place y = frame_out(f, g, &v->y, 2, v->y.type);
    while (frame_next(&v->call->rows, g, &run)) {
        forward_run(f, v, &x, &y.tensor, &run);
        frame_deliver(f, &y, run.row, run.n, 1.0);
    }
    frame_zero_absent(f, &v->call->rows, g, &v->y);
}

static void forward(struct frame *f, const void *call)
{
    const struct conv *v = call;
    frame_walk(f, &v->call->rows, forward_group, v);
}

/* ---- backward -------------------------------------------------------------------------------- */

static void backward_group(struct frame *f, const struct group *g, const void *call)
{
    const struct conv *v = call;
    const struct gdn_conv *c = v->call;
    struct run run = {0};
    struct place dx = {0}, dtail = {0};
    struct tensor x = frame_in(f, g, &v->x, 2, v->x.type, 1.0), w = taps(f, v);
    struct tensor tail_in = {0}, dy = {0}, dlast = {0};
    struct tensor y = tensor_over(NULL, DTYPE_F32, 2, (int64_t[]){g->rows, c->C});
    struct tensor last = tensor_over(NULL, DTYPE_F32, 3, (int64_t[]){g->count, c->W - 1, c->C});
    struct conv_args args = {.x = &x, .w = &w, .y = &y, .rows = &run.rows, .plain = c->plain};
    w.grad = v->dw_sum;
    frame_attach(f, g, &v->dx, 2, &dx, &x);
    if (v->tail_in.data) {
        tail_in = frame_state(f, &v->tail_in, 3, g->first, g->count, v->tail_in.type);
        args.tail_in = &tail_in;
        frame_attach_state(f, &v->dtail_in, 3, g->first, g->count, &dtail, &tail_in);
    }
    if (v->dy.data) {
        dy = frame_in(f, g, &v->dy, 2, frame_wide(f, &v->dy), 1.0);
        y.grad = &dy;
    }
    if (v->dtail_out.data) {
        dlast = frame_state(f, &v->dtail_out, 3, g->first, g->count, frame_wide(f, &v->dtail_out));
        last.grad = &dlast;
        args.tail_out = &last;
    }
    if (frame_next(&c->rows, g, &run)) frame_kernel(f, OP_CONV, BACKWARD, &args);
    frame_settle(f, &dx, 1.0);
    frame_settle(f, &dtail, 1.0);
    frame_zero_absent(f, &c->rows, g, &v->dx);
}

/* The taps' gradient is a sum over all groups, in f32 until the end. */
static void backward(struct frame *f, const void *call)
{
    struct conv v = *(const struct conv *)call;
    const struct group whole = frame_whole(1, v.call->C);
    struct place dw = {0};
    struct tensor w = {0};
    frame_attach(f, &whole, &v.dw, 2, &dw, &w);
    v.dw_sum = w.grad;
    frame_walk(f, &v.call->rows, backward_group, &v);
    frame_settle(f, &dw, 1.0);
}

/* ---- the calls ------------------------------------------------------------------------------- */

enum gdn_status gdn_conv_workspace(const gdn_ops *ops, const struct gdn_conv *call,
                                   const struct gdn_conv_gradient *gradient, size_t *bytes,
                                   struct gdn_error *err)
{
    struct conv v;
    TRY(frame_check_size(bytes, err));
    TRY(check(ops, call, gradient, &v, err));
    return frame_size(ops, gradient ? backward : forward, &v, bytes, err);
}

enum gdn_status gdn_conv_forward(const gdn_ops *ops, const struct gdn_conv *call, void *workspace,
                                 size_t bytes, struct gdn_error *err)
{
    struct conv v;
    TRY(check(ops, call, NULL, &v, err));
    return frame_run(ops, forward, &v, workspace, bytes, err);
}

enum gdn_status gdn_conv_backward(const gdn_ops *ops, const struct gdn_conv *call,
                                  const struct gdn_conv_gradient *gradient, void *workspace,
                                  size_t bytes, struct gdn_error *err)
{
    struct conv v;
    TRY(frame_check_gradient(gradient, err));
    TRY(check(ops, call, gradient, &v, err));
    return frame_run(ops, backward, &v, workspace, bytes, err);
}
