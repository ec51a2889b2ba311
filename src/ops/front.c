#include "base/clock.h"
#include "ops/run.h"

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

struct tensor *pass_view(struct pass *pass, struct tensor *of, int64_t offset, int rank,
                         const int64_t *dim, const int64_t *stride)
{
    struct tensor *t = tensor_view(pass->meta, of, offset, rank, dim, stride);
    if (t) return t;
    pass->lost = tensor_over(NULL, of->dtype, rank, dim);
    return &pass->lost;
}

struct tensor *pass_columns(struct pass *pass, struct tensor *x, int64_t column, int64_t n)
{
    return pass_view(pass, x, column, 2, (int64_t[]){x->dim[0], n}, (int64_t[]){x->stride[0], 1});
}

bool linear_learns(const struct linear *w)
{
    for (int i = 0; i < w->parts; i++)
        if (w->part[i].w->requires_grad) return true;
    return false;
}

void pass_run(struct pass *pass, enum op op, void *args, bool weight_learns)
{
    const struct op_info *info = &op_info[op];
    struct tensor **t = call_tensors(args);
    bool learns = weight_learns;
    for (int i = 0; i < info->in; i++) learns = learns || (t[i] && t[i]->requires_grad);
    for (int i = info->in; i < info->in + info->out; i++) {
        if (!t[i]) continue;
        struct tensor *root = tensor_root(t[i]);
        root->version++;
        if (pass->tape) t[i]->requires_grad = learns;
        if (pass->tape && learns) root->requires_grad = true; /* written window by window */
    }
    if (pass_status(pass) != GDN_OK) return;
    GDN_CHECK(pass->device->forward[op], "device %s has no op_%s", pass->device->name, info->name);
    size_t mark = arena_mark(pass->data);
    struct op_clock *clock = pass->device->clock;
    const double begin = clock ? clock_seconds() : 0;
    pass->device->forward[op](pass->device, pass->data, args);
    if (clock) {
        pass->device->finish(pass->device);
        clock->seconds[op] += clock_seconds() - begin;
        clock->calls[op]++;
    }
    arena_release(pass->data, mark);
    if (pass->tape && learns) tape_append(pass->tape, pass->meta, op, args);
}

struct tensor *op_embed(struct pass *pass, struct tensor *table, const int32_t *ids, int64_t n)
{
    SHAPE_CHECK(pass, table->rank == 2, "op_embed reads a [V, D] table");
    struct embed_args a = {.table = table, .ids = ids};
    a.y = pass_tensor(pass, pass->compute, 2, (int64_t[]){n, table->dim[1]});
    pass_run(pass, OP_EMBED, &a, false);
    return a.y;
}

struct tensor *op_add_norm(struct pass *pass, struct tensor *x, struct tensor *d,
                           const struct norm_weight *norm, struct tensor **x1)
{
    SHAPE_CHECK(pass, x->rank == 2 && norm->w->dim[0] == x->dim[1],
                "op_add_norm: width of the weight");
    SHAPE_CHECK(pass, !d || tensor_same_dims(x, d), "op_add_norm: x and d differ in shape");
    struct add_norm_args a = {.x = x, .d = d, .w = norm->w, .eps = norm->eps,
                              .centred = norm->centred, .late = norm->late};
    a.x1 = d ? pass_tensor(pass, x->dtype, 2, x->dim) : NULL;
    a.y = pass_tensor(pass, x->dtype, 2, x->dim);
    pass_run(pass, OP_ADD_NORM, &a, false);
    *x1 = d ? a.x1 : x;
    return a.y;
}

void op_linear_into(struct pass *pass, const struct linear *w, struct tensor *x, struct tensor *y)
{
    SHAPE_CHECK(pass, x->rank == 2 && x->dim[1] == w->K,
                "op_linear: x has %lld columns, the weight %lld", (long long)x->dim[1],
                (long long)w->K);
    SHAPE_CHECK(pass, y->rank == 2 && y->dim[0] == x->dim[0] && y->dim[1] == w->N,
                "op_linear: y has %lld columns, the weight %lld rows", (long long)y->dim[1],
                (long long)w->N);
    struct linear_args a = {.x = x, .w = w, .y = y, .fast = pass->fast};
    pass_run(pass, OP_LINEAR, &a, linear_learns(w));
}

struct tensor *op_linear_as(struct pass *pass, const struct linear *w, struct tensor *x,
                            enum dtype dtype)
{
    struct tensor *y = pass_tensor(pass, dtype, 2, (int64_t[]){x->dim[0], w->N});
    op_linear_into(pass, w, x, y);
    return y;
}

struct tensor *op_linear(struct pass *pass, const struct linear *w, struct tensor *x)
{
    return op_linear_as(pass, w, x, pass->compute);
}

struct tensor *op_norm(struct pass *pass, const struct norm_weight *norm, struct tensor *x)
{
    SHAPE_CHECK(pass, norm->w->dim[0] == tensor_width(x), "op_norm: width of the weight");
    struct norm_args a = {.x = x, .w = norm->w, .eps = norm->eps, .centred = norm->centred,
                          .late = norm->late};
    a.y = pass_tensor(pass, pass->compute, x->rank, x->dim);
    pass_run(pass, OP_NORM, &a, false);
    return a.y;
}

struct tensor *op_join(struct pass *pass, struct tensor *a, struct tensor *b, struct tensor *s)
{
    SHAPE_CHECK(pass, tensor_same_dims(a, b), "op_join: a and b differ in shape");
    struct join_args j = {.a = a, .b = b, .s = s};
    j.y = pass_tensor(pass, pass->compute, 2, a->dim);
    pass_run(pass, OP_JOIN, &j, false);
    return j.y;
}

void op_top(struct pass *pass, struct tensor *logits, int64_t vocab, int32_t best, int32_t *ids,
            float *values, float *lse)
{
    SHAPE_CHECK(pass, vocab <= logits->dim[1] && best >= 1 && best <= vocab,
                "op_top: %d of %lld", best, (long long)vocab);
    struct top_args a = {.logits = logits, .vocab = vocab, .best = best, .ids = ids,
                         .values = values, .lse = lse};
    pass_run(pass, OP_TOP, &a, false);
}

struct tensor *op_linear_ce(struct pass *pass, const struct linear *w, struct tensor *x,
                            const int32_t *targets, int64_t vocab)
{
    SHAPE_CHECK(pass, x->dim[1] == w->K && vocab <= w->N, "op_linear_ce: shapes");
    struct linear_ce_args a = {.x = x, .w = w, .targets = targets, .vocab = vocab};
    a.loss = pass_tensor(pass, dtype_wide(pass->compute), 1, (int64_t[]){x->dim[0]});
    pass_run(pass, OP_LINEAR_CE, &a, linear_learns(w));
    return a.loss;
}

struct pass_mark pass_mark(const struct pass *pass)
{
    return (struct pass_mark){arena_mark(pass->data), arena_mark(pass->meta)};
}

void pass_forget(struct pass *pass, struct pass_mark mark)
{
    if (pass->tape) return;
    arena_release(pass->data, mark.data);
    arena_release(pass->meta, mark.meta);
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
