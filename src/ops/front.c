#include "ops/front.h"

#include "base/check.h"

/* A pass that is out of memory may carry lost tensors of any shape: nothing is checked any more. */
#define SHAPE_CHECK(pass, condition, ...) \
    GDN_CHECK(pass_status(pass) != GDN_OK || (condition), __VA_ARGS__)

enum gdn_status pass_status(const struct pass *pass)
{
    if (pass->device->status != GDN_OK) return pass->device->status;
    return pass->data->failed || pass->meta->failed ? GDN_ERR_MEMORY : GDN_OK;
}

struct tensor *pass_tensor(struct pass *pass, enum dtype dtype, int rank, const int64_t *dim)
{
    struct tensor *t = tensor_new(pass->meta, pass->data, dtype, rank, dim);
    if (t) return t;
    pass->lost = tensor_over(NULL, dtype, rank, dim);
    return &pass->lost;
}

static struct tensor *view(struct pass *pass, struct tensor *of, int64_t offset, int rank,
                           const int64_t *dim, const int64_t *stride)
{
    struct tensor *t = tensor_view(pass->meta, of, offset, rank, dim, stride);
    if (t) return t;
    pass->lost = tensor_over(NULL, of->dtype, rank, dim);
    return &pass->lost;
}

/* Heads first..first+H-1 of width D, `step` apart, out of the packed columns of x. */
static struct tensor *heads(struct pass *pass, struct tensor *x, int64_t column, int64_t H,
                            int64_t D, int64_t step)
{
    return view(pass, x, column, 3, (int64_t[]){x->dim[0], H, D},
                (int64_t[]){x->stride[0], step, 1});
}

static struct tensor *columns(struct pass *pass, struct tensor *x, int64_t column, int64_t n)
{
    return view(pass, x, column, 2, (int64_t[]){x->dim[0], n}, (int64_t[]){x->stride[0], 1});
}

static bool linear_learns(const struct linear *w)
{
    for (int i = 0; i < w->parts; i++)
        if (w->part[i].w->requires_grad) return true;
    return false;
}

/* Runs the slot and notes the call: outputs require a gradient when any input or weight does. */
static void run(struct pass *pass, enum op op, void *args, bool weight_learns)
{
    const struct op_info *info = &op_info[op];
    struct tensor **t = call_tensors(args);
    bool learns = weight_learns;
    for (int i = 0; i < info->in; i++) learns = learns || (t[i] && t[i]->requires_grad);
    for (int i = info->in; i < info->in + info->out; i++) {
        if (!t[i]) continue;
        tensor_root(t[i])->version++;
        if (pass->tape) t[i]->requires_grad = learns;
    }
    if (pass_status(pass) != GDN_OK) return;
    GDN_CHECK(pass->device->forward[op], "device %s has no op_%s", pass->device->name, info->name);
    size_t mark = arena_mark(pass->data);
    pass->device->forward[op](pass->device, pass->data, args);
    arena_release(pass->data, mark);
    if (pass->tape && learns) tape_append(pass->tape, pass->meta, op, args);
}

struct tensor *op_embed(struct pass *pass, struct tensor *table, const int32_t *ids, int64_t n)
{
    SHAPE_CHECK(pass, table->rank == 2, "op_embed reads a [V, D] table");
    struct embed_args a = {.table = table, .ids = ids};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){n, table->dim[1]});
    run(pass, OP_EMBED, &a, false);
    return a.y;
}

struct tensor *op_add_norm(struct pass *pass, struct tensor *x, struct tensor *d,
                           const struct norm_weight *norm, struct tensor **x1)
{
    SHAPE_CHECK(pass, x->rank == 2 && norm->w->dim[0] == x->dim[1], "op_add_norm: width of the weight");
    SHAPE_CHECK(pass, !d || tensor_same_dims(x, d), "op_add_norm: x and d differ in shape");
    struct add_norm_args a = {.x = x, .d = d, .w = norm->w, .eps = norm->eps,
                              .centred = norm->centred};
    a.x1 = d ? pass_tensor(pass, x->dtype, 2, x->dim) : NULL;
    a.y = pass_tensor(pass, x->dtype, 2, x->dim);
    run(pass, OP_ADD_NORM, &a, false);
    *x1 = d ? a.x1 : x;
    return a.y;
}

struct tensor *op_linear_as(struct pass *pass, const struct linear *w, struct tensor *x,
                            enum dtype dtype)
{
    SHAPE_CHECK(pass, x->rank == 2 && x->dim[1] == w->K, "op_linear: x has %lld columns, the weight %lld",
              (long long)x->dim[1], (long long)w->K);
    struct linear_args a = {.x = x, .w = w};
    a.y = pass_tensor(pass, dtype, 2, (int64_t[]){x->dim[0], w->N});
    run(pass, OP_LINEAR, &a, linear_learns(w));
    return a.y;
}

struct tensor *op_linear(struct pass *pass, const struct linear *w, struct tensor *x)
{
    return op_linear_as(pass, w, x, pass->compute);
}

static struct tensor *glu(struct pass *pass, struct tensor *a, struct tensor *b, enum act act)
{
    struct glu_args g = {.a = a, .b = b, .act = act};
    g.y = pass_tensor(pass, b->dtype, b->rank, b->dim);
    run(pass, OP_GLU, &g, false);
    return g.y;
}

static struct tensor *l2norm(struct pass *pass, struct tensor *x, double eps, double scale)
{
    struct l2norm_args a = {.x = x, .eps = eps, .scale = scale};
    a.y = pass_tensor(pass, x->dtype, 3, x->dim);
    run(pass, OP_L2NORM, &a, false);
    return a.y;
}

static struct tensor *as_rows(struct pass *pass, struct tensor *x)
{
    int64_t width = x->dim[1] * x->dim[2];
    return view(pass, x, 0, 2, (int64_t[]){x->dim[0], width}, (int64_t[]){width, 1});
}

static const double L2_EPS = 1e-6; /* of q and k, on the sum, in every family */

/* conv, gate, l2norm, delta, gated norm, one after another: what the fused slot must equal. */
static struct tensor *delta_parts(struct pass *pass, const struct delta_weight *w,
                                  struct tensor *x, struct delta_slots *delta,
                                  struct conv_slots *tail)
{
    const int64_t T = x->dim[0], Hk = w->Hk, Hv = w->Hv, Dk = w->Dk, Dv = w->Dv;
    const int64_t C = 2 * Hk * Dk + Hv * Dv, V = Hv * Dv;

    struct conv_args c = {.x = columns(pass, x, 0, C), .w = w->conv, .rows = pass->rows,
                          .slots = tail};
    c.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){T, C});
    run(pass, OP_CONV, &c, false);

    struct gate_args g = {.a = columns(pass, x, C + V + Hv, Hv), .b = columns(pass, x, C + V, Hv),
                          .A_log = w->A_log, .dt_bias = w->dt_bias, .beta_scale = w->beta_scale};
    g.g = pass_tensor(pass, dtype_wide(pass->compute), 2, (int64_t[]){T, Hv});
    g.beta = pass_tensor(pass, dtype_wide(pass->compute), 2, (int64_t[]){T, Hv});
    run(pass, OP_GATE, &g, false);

    struct delta_args d = {.g = g.g, .beta = g.beta, .rows = pass->rows, .slots = delta,
                           .fast = pass->fast};
    d.q = l2norm(pass, heads(pass, c.y, 0, Hk, Dk, Dk), L2_EPS, 1.0 / __builtin_sqrt((double)Dk));
    d.k = l2norm(pass, heads(pass, c.y, Hk * Dk, Hk, Dk, Dk), L2_EPS, 1.0);
    d.v = heads(pass, c.y, 2 * Hk * Dk, Hv, Dv, Dv);
    d.o = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, Hv, Dv});
    run(pass, OP_DELTA, &d, false);

    struct gated_norm_args n = {.x = d.o, .z = heads(pass, x, C, Hv, Dv, Dv), .w = w->norm,
                                .eps = w->eps, .act = ACT_SILU};
    n.y = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, Hv, Dv});
    run(pass, OP_GATED_NORM, &n, false);
    return as_rows(pass, n.y);
}

struct tensor *op_delta_mix(struct pass *pass, const struct delta_weight *w, struct tensor *x,
                            struct delta_slots *delta, struct conv_slots *tail)
{
    const int64_t V = (int64_t)w->Hv * w->Dv;
    SHAPE_CHECK(pass, x->dim[1] == 2ll * w->Hk * w->Dk + 2 * V + 2 * w->Hv, "op_delta_mix: columns");
    SHAPE_CHECK(pass, (delta == NULL) == (tail == NULL), "op_delta_mix: both states or none");
    SHAPE_CHECK(pass, !pass->tape || !delta, "with a tape, state never goes through a slot");
    if (pass->tape || !pass->device->forward[OP_DELTA_MIX])
        return delta_parts(pass, w, x, delta, tail);
    struct delta_mix_args a = {
        .x = x, .conv = w->conv, .A_log = w->A_log, .dt_bias = w->dt_bias, .norm = w->norm,
        .rows = pass->rows, .delta = delta, .tail = tail, .Hk = w->Hk, .Hv = w->Hv, .Dk = w->Dk,
        .Dv = w->Dv, .eps = w->eps, .beta_scale = w->beta_scale, .fast = pass->fast};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){x->dim[0], V});
    run(pass, OP_DELTA_MIX, &a, false);
    return a.y;
}

static struct tensor *norm_rope(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                                struct tensor *weight)
{
    struct norm_args n = {.x = x, .w = weight, .eps = w->eps, .centred = true};
    n.y = pass_tensor(pass, pass->compute, 3, x->dim);
    run(pass, OP_NORM, &n, false);
    struct rope_args r = {.x = n.y, .rows = pass->rows, .rot = w->rot, .theta = w->theta};
    r.y = pass_tensor(pass, pass->compute, 3, x->dim);
    run(pass, OP_ROPE, &r, false);
    return r.y;
}

static struct tensor *attn_parts(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                                 struct kv_pages *pages)
{
    const int64_t T = x->dim[0], Hq = w->Hq, Hkv = w->Hkv, D = w->D;
    struct attn_args a = {.rows = pass->rows, .pages = pages,
                          .scale = 1.0 / __builtin_sqrt((double)D)};
    a.q = norm_rope(pass, w, heads(pass, x, 0, Hq, D, 2 * D), w->q_norm);
    a.k = norm_rope(pass, w, heads(pass, x, 2 * Hq * D, Hkv, D, D), w->k_norm);
    a.v = heads(pass, x, (2 * Hq + Hkv) * D, Hkv, D, D);
    a.o = pass_tensor(pass, pass->compute, 3, (int64_t[]){T, Hq, D});
    run(pass, OP_ATTN, &a, false);
    return as_rows(pass, glu(pass, heads(pass, x, D, Hq, D, 2 * D), a.o, ACT_SIGMOID));
}

struct tensor *op_attn_mix(struct pass *pass, const struct attn_weight *w, struct tensor *x,
                           struct kv_pages *pages)
{
    SHAPE_CHECK(pass, x->dim[1] == 2ll * (w->Hq + w->Hkv) * w->D, "op_attn_mix: columns");
    SHAPE_CHECK(pass, !pass->tape || !pages, "with a tape, keys and values never go through pages");
    if (pass->tape || !pass->device->forward[OP_ATTN_MIX]) return attn_parts(pass, w, x, pages);
    struct attn_mix_args a = {.x = x, .q_norm = w->q_norm, .k_norm = w->k_norm, .rows = pass->rows,
                              .pages = pages, .Hq = w->Hq, .Hkv = w->Hkv, .D = w->D,
                              .rot = w->rot, .eps = w->eps, .theta = w->theta};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){x->dim[0], (int64_t)w->Hq * w->D});
    run(pass, OP_ATTN_MIX, &a, false);
    return a.y;
}

struct tensor *op_ffn_act(struct pass *pass, struct tensor *gate_up)
{
    int64_t F = gate_up->dim[1] / 2;
    if (pass->tape || !pass->device->forward[OP_FFN_ACT])
        return glu(pass, columns(pass, gate_up, 0, F), columns(pass, gate_up, F, F), ACT_SILU);
    struct ffn_act_args a = {.x = gate_up};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){gate_up->dim[0], F});
    run(pass, OP_FFN_ACT, &a, false);
    return a.y;
}

void op_top(struct pass *pass, struct tensor *logits, int64_t vocab, int32_t best, int32_t *ids,
            float *values, float *lse)
{
    SHAPE_CHECK(pass, vocab <= logits->dim[1] && best >= 1 && best <= vocab, "op_top: %d of %lld", best,
              (long long)vocab);
    struct top_args a = {.logits = logits, .vocab = vocab, .best = best, .ids = ids,
                         .values = values, .lse = lse};
    run(pass, OP_TOP, &a, false);
}

struct tensor *op_linear_ce(struct pass *pass, const struct linear *w, struct tensor *x,
                            const int32_t *targets, int64_t vocab)
{
    SHAPE_CHECK(pass, x->dim[1] == w->K && vocab <= w->N, "op_linear_ce: shapes");
    struct linear_ce_args a = {.x = x, .w = w, .targets = targets, .vocab = vocab};
    a.loss = pass_tensor(pass, dtype_wide(pass->compute), 1, (int64_t[]){x->dim[0]});
    run(pass, OP_LINEAR_CE, &a, linear_learns(w));
    return a.loss;
}

/* The outputs move out of the segment's memory, so that all of it can be given back. */
static struct tensor *keep(struct pass *pass, struct tensor *kept, const struct tensor *out)
{
    if (!out) return NULL;
    SHAPE_CHECK(pass, tensor_same_dims(kept, out) && kept->dtype == out->dtype,
                "a segment's outputs are like its first input");
    if (pass_status(pass) == GDN_OK)
        pass->device->copy(pass->device, kept->data, out->data,
                           (size_t)tensor_elements(out) * dtype_size(out->dtype));
    return kept;
}

void pass_segment(struct pass *pass, segment_run *segment, void *context,
                  struct tensor *const in[2], struct tensor *out[2])
{
    struct tape *tape = pass->tape;
    struct tensor *kept[2];
    for (int i = 0; i < 2; i++)
        kept[i] = !tape && in[i] ? in[i]
                                 : pass_tensor(pass, in[0]->dtype, in[0]->rank, in[0]->dim);
    pass->tape = NULL;
    size_t data = arena_mark(pass->data), meta = arena_mark(pass->meta);
    out[0] = out[1] = NULL;
    segment(pass, context, in, out);
    for (int i = 0; i < 2; i++) out[i] = keep(pass, kept[i], out[i]);
    arena_release(pass->data, data);
    arena_release(pass->meta, meta);
    pass->tape = tape;
    if (!tape) return;
    struct tape_entry *e = arena_take_zeroed(pass->meta, sizeof *e);
    if (!e) return;
    *e = (struct tape_entry){.before = tape->last, .op = OP_COUNT, .segment = segment,
                             .context = context};
    for (int i = 0; i < 2; i++) {
        e->in[i] = in[i];
        e->out[i] = out[i];
        if (out[i]) out[i]->requires_grad = true;
    }
    tape->last = e;
    tape->entries++;
}
