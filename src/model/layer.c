#include "model/layer.h"

static struct tensor *mix_delta(struct pass *pass, const struct layer *l,
                                struct layer_state *state, struct tensor *packed)
{
    const struct delta_weight *w = &l->delta;
    const int64_t V = (int64_t)w->Hv * w->Dv, C = 2ll * w->Hk * w->Dk + V, Hv = w->Hv;
    struct delta_in in = {.qkv = pass_columns(pass, packed, 0, C)};
    if (l->decay.parts > 0) {
        const int64_t rank = l->decay.K;
        in.b = pass_columns(pass, packed, C, Hv);
        in.a = op_linear(pass, &l->decay, pass_columns(pass, packed, C + Hv, rank));
        in.z = op_linear(pass, &l->gate, pass_columns(pass, packed, C + Hv + rank, rank));
    } else {
        in.z = pass_columns(pass, packed, C, V);
        in.b = pass_columns(pass, packed, C + V, Hv);
        in.a = pass_columns(pass, packed, C + V + Hv, Hv);
    }
    return op_delta_mix(pass, w, &in, state ? &state->delta : NULL, state ? &state->conv : NULL);
}

/* What a half of the layer adds to the stream, taken before all that makes it. */
static struct tensor *half(struct pass *pass, const struct linear *last, const struct tensor *h)
{
    return pass_tensor(pass, pass->compute, 2, (int64_t[]){h->dim[0], last->N});
}

struct tensor *layer_mix(struct pass *pass, const struct layer *l, struct layer_state *state,
                         struct tensor *h)
{
    struct tensor *packed = op_linear(pass, &l->in, h);
    struct kv_pages *pages = state ? &state->kv : NULL;
    if (l->kind == LAYER_DELTA) return mix_delta(pass, l, state, packed);
    return l->latent ? op_latent_mix(pass, &l->mla, packed, pages)
                     : op_attn_mix(pass, &l->attn, packed, pages);
}

static struct tensor *mix(struct pass *pass, const struct layer *l, struct layer_state *state,
                          struct tensor *h)
{
    struct tensor *y = half(pass, &l->out, h);
    const struct pass_mark mark = pass_mark(pass);
    op_linear_into(pass, &l->out, layer_mix(pass, l, state, h), y);
    pass_forget(pass, mark);
    return y;
}

static struct tensor *dense(struct pass *pass, const struct layer *l, struct tensor *h)
{
    struct tensor *y = half(pass, &l->down, h);
    const struct pass_mark mark = pass_mark(pass);
    op_linear_into(pass, &l->down, op_ffn_act(pass, op_linear(pass, &l->gate_up, h)), y);
    pass_forget(pass, mark);
    return y;
}

static struct tensor *ffn(struct pass *pass, const struct layer *l, struct tensor *h)
{
    if (!l->sparse) return dense(pass, l, h);
    struct tensor *routed = op_moe(pass, &l->route, &l->experts, h);
    if (l->gate_up.parts == 0) return routed;
    struct tensor *share = l->share.parts > 0 ? op_linear(pass, &l->share, h) : NULL;
    return op_join(pass, routed, dense(pass, l, h), share);
}

static void half_end(struct pass *pass, const struct layer *l, struct tensor *x, struct tensor *y,
                     struct tensor *out[2])
{
    struct tensor *h = op_add_norm(pass, x, y, &l->norm2, &out[0]);
    out[1] = ffn(pass, l, h);
}

/* Norms behind the parts: what is read is the stream itself, what is added is normed. */
static void run_behind(struct pass *pass, const struct layer_call *call,
                       struct tensor *const in[2], struct tensor *out[2])
{
    const struct layer *l = call->layer;
    struct tensor *x = in[1] ? op_join(pass, in[0], in[1], NULL) : in[0];
    x = op_join(pass, x, op_norm(pass, &l->norm1, mix(pass, l, call->state, x)), NULL);
    out[0] = x;
    out[1] = op_norm(pass, &l->norm2, ffn(pass, l, x));
}

void layer_run(struct pass *pass, void *context, struct tensor *const in[2], struct tensor *out[2])
{
    const struct layer_call *call = context;
    const struct layer *l = call->layer;
    if (l->behind) {
        run_behind(pass, call, in, out);
        return;
    }
    struct tensor *x, *h = op_add_norm(pass, in[0], in[1], &l->norm1, &x);
    half_end(pass, l, x, mix(pass, l, call->state, h), out);
}

void layer_end(struct pass *pass, const struct layer *l, struct tensor *x, struct tensor *mixed,
               struct tensor *out[2])
{
    half_end(pass, l, x, op_linear(pass, &l->out, mixed), out);
}
