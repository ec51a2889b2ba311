/* weights_layer.c: where the tensors of a layer stand, by the names of each dialect. */
#include <stdio.h>
#include <string.h>

#include "model/weights_load.h"

/* ---- the gated delta rule -------------------------------------------------------------------- */

/* Rows of w make some columns; moves on. */
static void put_part(struct linear *to, struct linear_part **next, struct tensor *w, int64_t from,
                     int64_t rows)
{
    *(*next)++ = (struct linear_part){w, from, rows, to->N};
    to->N += rows;
    to->parts++;
}

/* Qwen3-Next packs q, k, v, z of each key head together, and b, a: the flat order is a matter of
 * which rows come when. */
static enum gdn_status take_grouped(struct loader *l, const char *p, struct linear *in)
{
    const struct config *c = l->c;
    const int64_t R = c->Hv / c->Hk, Dk = c->Dk, V = R * c->Dv, group = 2 * Dk + 2 * V;
    const int64_t from[] = {0, Dk, 2 * Dk, 2 * Dk + V}, rows[] = {Dk, Dk, V, V};
    struct tensor *qkvz = NULL, *ba = NULL;
    struct linear_part *next = take_parts(l, 6 * (int64_t)c->Hk);
    if (!next) return GDN_ERR_MEMORY;
    *in = (struct linear){.K = c->D, .part = next};
    TRY(take_tensor(l, p, "linear_attn.in_proj_qkvz.weight", false, 2,
                    (int64_t[]){c->Hk * group, c->D}, &qkvz));
    TRY(take_tensor(l, p, "linear_attn.in_proj_ba.weight", false, 2,
                    (int64_t[]){2 * (int64_t)c->Hv, c->D}, &ba));
    for (int i = 0; i < 4; i++)
        for (int64_t h = 0; h < c->Hk; h++) put_part(in, &next, qkvz, h * group + from[i], rows[i]);
    for (int i = 0; i < 2; i++)
        for (int64_t h = 0; h < c->Hk; h++) put_part(in, &next, ba, h * 2 * R + i * R, R);
    return GDN_OK;
}

/* Columns: q|k|v, z, b, a; for a decay a channel q|k|v, b and the low ranks of a and z. */
static enum gdn_status take_delta_in(struct loader *l, const char *p, struct layer *layer)
{
    const struct config *c = l->c;
    const int64_t K = (int64_t)c->Hk * c->Dk, V = (int64_t)c->Hv * c->Dv;
    const struct part qwen[] = {{"linear_attn.in_proj_qkv.weight", 2 * K + V},
                                {"linear_attn.in_proj_z.weight", V},
                                {"linear_attn.in_proj_b.weight", c->Hv},
                                {"linear_attn.in_proj_a.weight", c->Hv}};
    const struct part olmo[] = {{"linear_attn.q_proj.weight", K}, {"linear_attn.k_proj.weight", K},
                                {"linear_attn.v_proj.weight", V}, {"linear_attn.g_proj.weight", V},
                                {"linear_attn.b_proj.weight", c->Hv},
                                {"linear_attn.a_proj.weight", c->Hv}};
    const struct part kimi[] = {
        {"self_attn.q_proj.weight", K}, {"self_attn.k_proj.weight", K},
        {"self_attn.v_proj.weight", V}, {"self_attn.b_proj.weight", c->Hv},
        {"self_attn.f_a_proj.weight|self_attn.forget_gate.f_a_proj.weight", c->rank},
        {"self_attn.g_a_proj.weight", c->rank}};
    char name[ST_NAME_BYTES];
    switch (c->family->dialect) {
    case DIALECT_QWEN:
        if (find_name(l, p, "linear_attn.in_proj_qkvz.weight", name))
            return take_grouped(l, p, &layer->in);
        return take_linear(l, p, c->D, 4, qwen, &layer->in);
    case DIALECT_OLMO:
        return take_linear(l, p, c->D, 6, olmo, &layer->in);
    case DIALECT_KIMI:
        TRY(take_linear(l, p, c->rank, 1,
                        (struct part[]){{"self_attn.f_b_proj.weight|"
                                         "self_attn.forget_gate.f_b_proj.weight", K}},
                        &layer->decay));
        TRY(take_linear(l, p, c->rank, 1, (struct part[]){{"self_attn.g_b_proj.weight", V}},
                        &layer->gate));
        return take_linear(l, p, c->D, 6, kimi, &layer->in);
    }
    return GDN_OK;
}

/* One convolution over q|k|v, or one for each. */
static enum gdn_status take_conv(struct loader *l, const char *p, struct delta_weight *d)
{
    static const char *const parts[] = {
        "linear_attn.q_conv1d.weight|self_attn.q_conv1d.weight|self_attn.q_conv.conv.weight",
        "linear_attn.k_conv1d.weight|self_attn.k_conv1d.weight|self_attn.k_conv.conv.weight",
        "linear_attn.v_conv1d.weight|self_attn.v_conv1d.weight|self_attn.v_conv.conv.weight"};
    static const char one[] = "linear_attn.conv1d.weight|self_attn.conv1d.weight";
    const int64_t K = (int64_t)d->Hk * d->Dk, V = (int64_t)d->Hv * d->Dv, taps = l->c->taps;
    char name[ST_NAME_BYTES];
    if (l->c->family->dialect == DIALECT_QWEN || find_name(l, p, one, name))
        return take_tensor(l, p, one, true, 2, (int64_t[]){2 * K + V, taps}, &d->conv);
    return take_stack(l, p, parts, (int64_t[]){K, K, V}, 3, taps, &d->conv);
}

/* A bias for each channel lies flat in the file. */
static enum gdn_status take_dt_bias(struct loader *l, const char *p, struct delta_weight *d)
{
    static const char names[] =
        "linear_attn.dt_bias|self_attn.dt_bias|self_attn.forget_gate.dt_bias";
    if (!l->c->family->channel_gate) return take_vector(l, p, names, d->Hv, &d->dt_bias);
    TRY(take_vector(l, p, names, (int64_t)d->Hv * d->Dk, &d->dt_bias));
    if (d->dt_bias)
        *d->dt_bias = tensor_over(d->dt_bias->data, d->dt_bias->dtype, 2,
                                  (int64_t[]){d->Hv, d->Dk});
    return GDN_OK;
}

static enum gdn_status take_delta(struct loader *l, const char *p, struct layer *layer)
{
    const struct config *c = l->c;
    struct delta_weight *d = &layer->delta;
    const double eps = c->family->gated_eps;
    *d = (struct delta_weight){.Hk = c->Hk, .Hv = c->Hv, .Dk = c->Dk, .Dv = c->Dv,
                               .eps = eps > 0 ? eps : c->eps, .beta_scale = c->beta_scale,
                               .act = c->family->gate};
    TRY(take_delta_in(l, p, layer));
    TRY(take_conv(l, p, d));
    TRY(take_vector(l, p, "linear_attn.A_log|self_attn.A_log|self_attn.forget_gate.A_log", d->Hv,
                    &d->A_log));
    TRY(take_dt_bias(l, p, d));
    TRY(take_vector(l, p, "linear_attn.norm.weight|linear_attn.o_norm.weight|"
                    "self_attn.o_norm.weight", d->Dv, &d->norm));
    return take_linear(l, p, (int64_t)c->Hv * c->Dv, 1,
                       (struct part[]){{"linear_attn.out_proj.weight|linear_attn.o_proj.weight|"
                                        "self_attn.o_proj.weight", c->D}},
                       &layer->out);
}

/* ---- attention ------------------------------------------------------------------------------- */

static enum gdn_status take_attn(struct loader *l, const char *p, struct layer *layer)
{
    const struct config *c = l->c;
    const struct family *f = c->family;
    const int64_t Q = (int64_t)c->Hq * c->head_dim, KV = (int64_t)c->Hkv * c->head_dim;
    struct attn_weight *a = &layer->attn;
    *a = (struct attn_weight){.Hq = c->Hq, .Hkv = c->Hkv, .D = c->head_dim, .rot = c->rot,
                              .eps = c->eps, .theta = c->theta, .gated = f->gated,
                              .wide = f->wide_norm, .centred = f->centred && !l->w->shifted};
    TRY(take_linear(l, p, c->D, 3,
                    (struct part[]){{"self_attn.q_proj.weight", f->gated ? 2 * Q : Q},
                                    {"self_attn.k_proj.weight", KV},
                                    {"self_attn.v_proj.weight", KV}},
                    &layer->in));
    TRY(take_vector(l, p, "self_attn.q_norm.weight", a->wide ? Q : a->D, &a->q_norm));
    TRY(take_vector(l, p, "self_attn.k_norm.weight", a->wide ? KV : a->D, &a->k_norm));
    return take_linear(l, p, Q, 1, (struct part[]){{"self_attn.o_proj.weight", c->D}},
                       &layer->out);
}

/* Each head's key and value rows in one tensor, or in two, the keys turned (MLX). */
static enum gdn_status take_expansion(struct loader *l, const char *p, struct latent_weight *a)
{
    const int64_t H = a->Hq, R = a->R, rows = a->nope + a->Dv;
    char name[ST_NAME_BYTES];
    if (find_name(l, p, "self_attn.embed_q.weight", name)) {
        a->keys = (struct head_matrix){.step = R};
        a->values = (struct head_matrix){.step = a->Dv};
        TRY(take_tensor(l, p, "self_attn.embed_q.weight", false, 3, (int64_t[]){H, R, a->nope},
                        &a->keys.w));
        return take_tensor(l, p, "self_attn.unembed_out.weight", false, 3,
                           (int64_t[]){H, a->Dv, R}, &a->values.w);
    }
    a->keys = (struct head_matrix){.step = rows, .turned = true};
    a->values = (struct head_matrix){.from = a->nope, .step = rows};
    TRY(take_tensor(l, p, "self_attn.kv_b_proj.weight", false, 2, (int64_t[]){H * rows, R},
                    &a->keys.w));
    a->values.w = a->keys.w;
    return GDN_OK;
}

static enum gdn_status take_latent(struct loader *l, const char *p, struct layer *layer)
{
    const double LATENT_EPS = 1e-6; /* the release's own class default, whatever rms_norm_eps is */
    const struct config *c = l->c;
    struct latent_weight *a = &layer->mla;
    *a = (struct latent_weight){.Hq = c->Hq, .nope = c->nope, .shared = c->shared_key,
                                .R = c->latent, .Dv = c->value_dim};
    TRY(take_linear(l, p, c->D, 2,
                    (struct part[]){{"self_attn.q_proj.weight",
                                     (int64_t)c->Hq * (c->nope + c->shared_key)},
                                    {"self_attn.kv_a_proj_with_mqa.weight",
                                     c->latent + c->shared_key}},
                    &layer->in));
    TRY(take_norm(l, p, "self_attn.kv_a_layernorm.weight", c->latent, &a->norm));
    a->norm.eps = LATENT_EPS;
    TRY(take_expansion(l, p, a));
    return take_linear(l, p, (int64_t)c->Hq * c->value_dim, 1,
                       (struct part[]){{"self_attn.o_proj.weight", c->D}}, &layer->out);
}

/* ---- a layer --------------------------------------------------------------------------------- */

/* post_attention_layernorm is the ffn's norm where norms stand before their parts, and the mixer's
 * where they stand behind. The second names are what transformers 5 makes of both. */
enum gdn_status take_layer(struct loader *l, const char *p, enum layer_kind kind, bool sparse,
                           struct layer *layer)
{
    static const char before[] = "input_layernorm.weight|attention_layer_norm.weight";
    static const char behind[] = "post_attention_layernorm.weight|feedforward_layer_norm.weight";
    const struct config *c = l->c;
    layer->kind = kind;
    layer->latent = layer->kind == LAYER_ATTN && c->family->latent;
    layer->behind = layer->kind == LAYER_ATTN && c->family->behind;
    TRY(take_norm(l, p, layer->behind ? behind : before, c->D, &layer->norm1));
    if (layer->kind == LAYER_DELTA)
        TRY(take_delta(l, p, layer));
    else
        TRY(layer->latent ? take_latent(l, p, layer) : take_attn(l, p, layer));
    TRY(take_norm(l, p, layer->behind ? "post_feedforward_layernorm.weight" : behind, c->D,
                  &layer->norm2));
    return take_ffn(l, p, sparse, layer);
}
