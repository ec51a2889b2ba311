/* ops_delta_backward.c: gradients through the gated delta rule. The kernel adds to f32 gradients of
 * what delta_inputs_lay made; from there they go back through scale and unit vectors. */
#include "api/ops_delta.h"

/* The gradients of a group's inputs. */
struct grads {
    struct place q, k, v, g, beta, S0;
    struct tensor unit_q, unit_k; /* of the unit vectors */
};

static void attach_unit(struct frame *f, const struct group *g, const struct array *a,
                        struct tensor *grad, struct tensor *unit)
{
    if (!a->data) return;
    *grad = frame_tensor(f, f->device->wide, 3, g->rows, a->dim[2], a->dim[3]);
    frame_zero(f, grad);
    unit->grad = grad;
}

/* The inputs get their gradients; the kernel's of q and k are those of the unit vectors. */
static void attach(struct frame *f, const struct group *g, const struct delta *d,
                   struct delta_inputs *in, struct tensor *S0, struct grads *w)
{
    const bool unit = d->call->l2norm;
    frame_attach(f, g, &d->dq, 3, &w->q, unit ? &in->raw_q : &in->q);
    frame_attach(f, g, &d->dk, 3, &w->k, unit ? &in->raw_k : &in->k);
    frame_attach(f, g, &d->dv, 3, &w->v, &in->v);
    frame_attach(f, g, &d->dg, d->call->channel_gate ? 3 : 2, &w->g, &in->g);
    frame_attach(f, g, &d->dbeta, 2, &w->beta, &in->beta);
    frame_attach_state(f, &d->dS0, 4, g->first, g->count, &w->S0, S0);
    if (unit) {
        attach_unit(f, g, &d->dq, &w->unit_q, &in->q);
        attach_unit(f, g, &d->dk, &w->unit_k, &in->k);
    }
}

/* From the unit vectors y to what they were made of. */
static void unit_backward(struct frame *f, struct tensor *raw, struct tensor *unit, double scale)
{
    const struct l2norm_args args = {.x = raw, .y = unit, .eps = DELTA_EPS, .scale = scale};
    if (raw->grad) frame_small(f, OP_L2NORM, BACKWARD, &args, raw->dim[0] * raw->dim[1],
                               raw->dim[2]);
}

static void settle(struct frame *f, const struct group *g, const struct delta *d,
                   const struct grads *w)
{
    const struct array *rows[] = {&d->dq, &d->dk, &d->dv, &d->dg, &d->dbeta};
    frame_settle(f, &w->q, d->call->l2norm ? 1.0 : d->scale);
    frame_settle(f, &w->k, 1.0);
    frame_settle(f, &w->v, 1.0);
    frame_settle(f, &w->g, 1.0);
    frame_settle(f, &w->beta, 1.0);
    frame_settle(f, &w->S0, 1.0);
    for (int i = 0; i < 5; i++) frame_zero_absent(f, &d->call->rows, g, rows[i]);
}

/* An output of the forward call: only its shape, and its gradient. */
static struct tensor shape_of(int rank, const int64_t *dim, struct tensor *grad)
{
    struct tensor t = tensor_over(NULL, DTYPE_F32, rank, dim);
    t.grad = grad;
    return t;
}

static void backward_group(struct frame *f, const struct group *g, const void *call)
{
    const struct delta *d = call;
    const struct gdn_delta *c = d->call;
    struct delta_inputs in = {0};
    struct grads w = {0};
    struct tensor S0 = {0}, dout = {0}, dS1 = {0};
    struct run run = {0};
    delta_inputs_lay(f, g, d, &in);
    if (d->S0.data) S0 = frame_state(f, &d->S0, 4, g->first, g->count, d->S0.type);
    attach(f, g, d, &in, &S0, &w);
    if (d->dout.data) dout = frame_in(f, g, &d->dout, 3, frame_wide(f, &d->dout), 1.0);
    if (d->dS1.data)
        dS1 = frame_state(f, &d->dS1, 4, g->first, g->count, frame_wide(f, &d->dS1));
    struct tensor o = shape_of(3, (int64_t[]){g->rows, c->Hv, c->Dv},
                               d->dout.data ? &dout : NULL);
    struct tensor S1 = shape_of(4, (int64_t[]){g->count, c->Hv, c->Dv, c->Dk}, &dS1);
    const struct delta_args args = {
        .q = &in.q, .k = &in.k, .v = &in.v, .g = &in.g, .beta = &in.beta,
        .S0 = d->S0.data ? &S0 : NULL, .o = &o, .S1 = d->dS1.data ? &S1 : NULL,
        .rows = &run.rows, .fast = c->fast};
    if (frame_next(&c->rows, g, &run)) frame_kernel(f, OP_DELTA, BACKWARD, &args);
    if (c->l2norm) {
        unit_backward(f, &in.raw_q, &in.q, d->scale);
        unit_backward(f, &in.raw_k, &in.k, 1.0);
    }
    settle(f, g, d, &w);
}

void delta_backward(struct frame *f, const void *call)
{
    const struct delta *d = call;
    frame_walk(f, &d->call->rows, backward_group, d);
}
