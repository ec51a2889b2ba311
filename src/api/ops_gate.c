/* ops_gate.c: decay and write strength of gdn/ops.h. All rows are one group. */
#include "api/ops_frame.h"

struct gate {
    const struct gdn_gate *call;
    struct array a, b, A_log, dt_bias, g, beta;
    struct array da, db, dA_log, ddt_bias, dg, dbeta; /* backward */
    int rank; /* of a and g, as tensors */
};

static enum gdn_status check_inputs(const struct gdn_ops *ops, struct gate *v,
                                    struct gdn_error *err)
{
    const struct gdn_gate *c = v->call;
    const unsigned types = frame_types(ops);
    TRY(rows_check_plain(c->B, c->T, err));
    TRY(count_check("Hv", c->Hv, 1, MOST_HEADS, err));
    TRY(count_check("Dk", c->Dk, 0, MOST_WIDTH, err));
    TRY(number_check("lower_bound", c->lower_bound, err));
    TRY(number_check("beta_scale", c->beta_scale, err));
    if (c->lower_bound > 0.0)
        return error_set(err, GDN_ERR_USAGE, "lower_bound: found %g, need 0 or less",
                         c->lower_bound);
    if (c->beta_scale < 0.0)
        return error_set(err, GDN_ERR_USAGE, "beta_scale: found %g, need 0 or more",
                         c->beta_scale);
    v->rank = c->Dk ? 3 : 2;
    const struct want a = {.name = "a", .rank = v->rank + 1, .dim = {c->B, c->T, c->Hv, c->Dk},
                           .types = types};
    TRY(array_check(&c->a, &a, &v->a, err));
    const struct want b = {.name = "b", .rank = 3, .dim = {c->B, c->T, c->Hv},
                           .types = 1u << v->a.type};
    const struct want A_log = {.name = "A_log", .rank = 1, .dim = {c->Hv}, .types = types,
                               .optional = true};
    const struct want dt_bias = {.name = "dt_bias", .rank = v->rank - 1, .dim = {c->Hv, c->Dk},
                                 .types = types, .optional = true};
    TRY(array_check(&c->b, &b, &v->b, err));
    TRY(array_check(&c->A_log, &A_log, &v->A_log, err));
    return array_check(&c->dt_bias, &dt_bias, &v->dt_bias, err);
}

/* g and beta, or what is known of their gradients. */
static enum gdn_status check_pair(const struct gdn_ops *ops, const struct gate *v,
                                  const struct gdn_array *g, const struct gdn_array *beta,
                                  bool output, struct array *g_array, struct array *beta_array,
                                  struct gdn_error *err)
{
    const struct gdn_gate *c = v->call;
    struct want want = {.name = output ? "g" : "gradient.g", .rank = v->rank + 1,
                        .dim = {c->B, c->T, c->Hv, c->Dk}, .optional = !output, .output = output,
                        .types = TYPE_F32 | (frame_types(ops) & TYPE_F64)};
    TRY(array_check(g, &want, g_array, err));
    want.name = output ? "beta" : "gradient.beta";
    want.rank = 3;
    return array_check(beta, &want, beta_array, err);
}

static enum gdn_status check(const struct gdn_ops *ops, const struct gdn_gate *call,
                             const struct gdn_gate_gradient *w, struct gate *v,
                             struct gdn_error *err)
{
    TRY(frame_check(ops, call, err));
    *v = (struct gate){.call = call};
    TRY(check_inputs(ops, v, err));
    if (!w) return check_pair(ops, v, &call->g, &call->beta, true, &v->g, &v->beta, err);
    TRY(check_pair(ops, v, &w->g, &w->beta, false, &v->dg, &v->dbeta, err));
    TRY(gradient_check(&w->a, "gradient.a", &v->a, v->rank + 1, &v->da, err));
    TRY(gradient_check(&w->b, "gradient.b", &v->b, 3, &v->db, err));
    TRY(gradient_check(&w->A_log, "gradient.A_log", &v->A_log, 1, &v->dA_log, err));
    return gradient_check(&w->dt_bias, "gradient.dt_bias", &v->dt_bias, v->rank - 1, &v->ddt_bias,
                          err);
}

/* ---- both ways ------------------------------------------------------------------------------- */

struct inputs {
    struct tensor a, b, A_log, dt_bias;
    struct gate_args args;
};

/* [Hv] or [Hv, Dk]: in place, or zeros. */
static struct tensor parameter(struct frame *f, const struct array *a, int rank, int64_t Hv,
                               int64_t Dk)
{
    const int64_t width = rank == 1 ? Hv : Dk, rows = rank == 1 ? 1 : Hv;
    struct tensor t;
    if (a->data) {
        const struct group whole = frame_whole(1, (int32_t)rows);
        t = frame_in(f, &whole, a, 2, a->type, 1.0);
    } else {
        t = frame_tensor(f, DTYPE_F32, 2, rows, 1, width);
        frame_zero(f, &t);
    }
    if (rank == 1) tensor_flatten(&t);
    return t;
}

static void lay(struct frame *f, const struct group *g, const struct gate *v, struct inputs *in)
{
    const struct gdn_gate *c = v->call;
    in->a = frame_in(f, g, &v->a, v->rank, v->a.type, 1.0);
    in->b = frame_in(f, g, &v->b, 2, v->b.type, 1.0);
    in->A_log = parameter(f, &v->A_log, 1, c->Hv, 0);
    in->dt_bias = parameter(f, &v->dt_bias, v->rank - 1, c->Hv, c->Dk);
    in->args = (struct gate_args){.a = &in->a, .b = &in->b, .A_log = &in->A_log,
                                  .dt_bias = &in->dt_bias, .lower_bound = c->lower_bound,
                                  .beta_scale = c->beta_scale != 0.0 ? c->beta_scale : 1.0};
}

static int64_t width(const struct gdn_gate *c) { return (int64_t)c->Hv * (c->Dk ? c->Dk : 1); }

static void forward(struct frame *f, const void *call)
{
    const struct gate *v = call;
    const struct group g = frame_whole(v->call->B, v->call->T);
    struct inputs in;
    lay(f, &g, v, &in);
    struct place decay = frame_out(f, &g, &v->g, v->rank, v->g.type);
    struct place beta = frame_out(f, &g, &v->beta, 2, v->beta.type);
    in.args.g = &decay.tensor;
    in.args.beta = &beta.tensor;
    frame_small(f, OP_GATE, FORWARD, &in.args, g.rows, width(v->call));
    frame_deliver(f, &decay, 0, g.rows, 1.0);
    frame_deliver(f, &beta, 0, g.rows, 1.0);
}

static void backward(struct frame *f, const void *call)
{
    const struct gate *v = call;
    const struct gdn_gate *c = v->call;
    const struct group g = frame_whole(c->B, c->T);
    const struct group heads = frame_whole(1, v->rank == 3 ? c->Hv : 1), one = frame_whole(1, 1);
    struct inputs in;
    struct place da = {0}, db = {0}, dA_log = {0}, ddt_bias = {0};
    struct tensor dg, dbeta;
    lay(f, &g, v, &in);
    struct tensor decay = tensor_over(NULL, DTYPE_F32, v->rank, in.a.dim);
    struct tensor beta = tensor_over(NULL, DTYPE_F32, 2, in.b.dim);
    frame_attach(f, &g, &v->da, v->rank, &da, &in.a);
    frame_attach(f, &g, &v->db, 2, &db, &in.b);
    frame_attach(f, &one, &v->dA_log, 1, &dA_log, &in.A_log);
    frame_attach(f, &heads, &v->ddt_bias, v->rank - 1, &ddt_bias, &in.dt_bias);
    if (v->dg.data) {
        dg = frame_in(f, &g, &v->dg, v->rank, v->dg.type, 1.0);
        decay.grad = &dg;
    }
    if (v->dbeta.data) {
        dbeta = frame_in(f, &g, &v->dbeta, 2, v->dbeta.type, 1.0);
        beta.grad = &dbeta;
    }
    in.args.g = &decay;
    in.args.beta = &beta;
    frame_small(f, OP_GATE, BACKWARD, &in.args, g.rows, width(c));
    frame_settle(f, &da, 1.0);
    frame_settle(f, &db, 1.0);
    frame_settle(f, &dA_log, 1.0);
    frame_settle(f, &ddt_bias, 1.0);
}

/* ---- the calls ------------------------------------------------------------------------------- */

enum gdn_status gdn_gate_workspace(const gdn_ops *ops, const struct gdn_gate *call,
                                   const struct gdn_gate_gradient *gradient, size_t *bytes,
                                   struct gdn_error *err)
{
    struct gate v;
    TRY(frame_check_size(bytes, err));
    TRY(check(ops, call, gradient, &v, err));
    return frame_size(ops, gradient ? backward : forward, &v, bytes, err);
}

enum gdn_status gdn_gate_forward(const gdn_ops *ops, const struct gdn_gate *call, void *workspace,
                                 size_t bytes, struct gdn_error *err)
{
    struct gate v;
    TRY(check(ops, call, NULL, &v, err));
    return frame_run(ops, forward, &v, workspace, bytes, err);
}

enum gdn_status gdn_gate_backward(const gdn_ops *ops, const struct gdn_gate *call,
                                  const struct gdn_gate_gradient *gradient, void *workspace,
                                  size_t bytes, struct gdn_error *err)
{
    struct gate v;
    TRY(frame_check_gradient(gradient, err));
    TRY(check(ops, call, gradient, &v, err));
    return frame_run(ops, backward, &v, workspace, bytes, err);
}
