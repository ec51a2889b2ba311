/* config_family.c: the keys in which families differ: heads, layer kinds, positions, experts. */
#include <string.h>

#include "model/config_source.h"

/* ---- layer kinds ----------------------------------------------------------------------------- */

static enum gdn_status take_types(struct config *c, const struct source *s)
{
    json_t *types = source_get(s, "layer_types");
    if (!json_is_array(types)) return source_bad(s, "layer_types", "a list");
    if (json_array_size(types) != (size_t)c->layers)
        return error_set(s->err, GDN_ERR_INPUT,
                         "%s: layer_types: found %zu entries, need %d (num_hidden_layers)", s->name,
                         json_array_size(types), c->layers);
    for (int32_t i = 0; i < c->layers; i++) {
        json_t *entry = json_array_get(types, (size_t)i);
        const char *kind = json_string_value(entry);
        if (kind && strcmp(kind, "linear_attention") == 0)
            c->kind[i] = LAYER_DELTA;
        else if (kind && strcmp(kind, "full_attention") == 0)
            c->kind[i] = LAYER_ATTN;
        else
            return error_set(s->err, GDN_ERR_INPUT, "%s: layer_types[%d]: found %s, need "
                             "linear_attention or full_attention", s->name, i,
                             source_show(entry).text);
    }
    return GDN_OK;
}

/* The list, or every interval-th layer. */
static enum gdn_status take_layers(struct config *c, const struct source *s)
{
    int32_t interval;
    if (source_has(s, "layer_types")) return take_types(c, s);
    TRY(take_int(s, "full_attention_interval", 1, CONFIG_LAYERS, 4, &interval));
    for (int32_t i = 0; i < c->layers; i++)
        c->kind[i] = (i + 1) % interval == 0 ? LAYER_ATTN : LAYER_DELTA;
    return GDN_OK;
}

/* Marks the layers of one of Kimi's two lists, which count from 1. */
static enum gdn_status take_list(struct config *c, const struct source *s, json_t *in,
                                 const char *key, enum layer_kind kind, bool *named)
{
    json_t *list = json_object_get(in, key);
    if (!json_is_array(list))
        return source_refuse(s, GDN_ERR_INPUT, key, list, "a list of layers, counted from 1");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *entry = json_array_get(list, i);
        const json_int_t n = json_is_integer(entry) ? json_integer_value(entry) : 0;
        if (n < 1 || n > c->layers || named[n - 1])
            return error_set(s->err, GDN_ERR_INPUT, "%s: %s[%zu]: found %s, need a layer from 1 to "
                             "%d that is not listed yet", s->name, key, i, source_show(entry).text,
                             c->layers);
        named[n - 1] = true;
        c->kind[n - 1] = kind;
    }
    return GDN_OK;
}

static enum gdn_status take_lists(struct config *c, const struct source *s, json_t *in)
{
    bool named[CONFIG_LAYERS] = {false};
    if (source_has(s, "layer_types")) return take_types(c, s);
    TRY(take_list(c, s, in, "kda_layers", LAYER_DELTA, named));
    TRY(take_list(c, s, in, "full_attn_layers", LAYER_ATTN, named));
    for (int32_t i = 0; i < c->layers; i++)
        if (!named[i])
            return error_set(s->err, GDN_ERR_INPUT, "%s: layer %d is in neither kda_layers nor "
                             "full_attn_layers", s->name, i + 1);
    return GDN_OK;
}

/* ---- heads ----------------------------------------------------------------------------------- */

static enum gdn_status check_heads(const struct config *c, const struct source *s)
{
    const int64_t widths[] = {(int64_t)c->Hk * c->Dk, (int64_t)c->Hv * c->Dv,
                              (int64_t)c->Hq * c->head_dim,
                              (int64_t)c->Hq * (c->nope + c->shared_key + c->value_dim)};
    if (c->Hkv && c->Hq % c->Hkv != 0)
        return source_bad(s, "num_attention_heads", "a multiple of num_key_value_heads");
    if (c->Hv % c->Hk != 0)
        return source_bad(s, "linear_num_value_heads", "a multiple of linear_num_key_heads");
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        if (widths[i] > WIDTH_LIMIT)
            return error_set(s->err, GDN_ERR_INPUT, "%s: heads times head size: found %lld, need "
                             "at most %d", s->name, (long long)widths[i], WIDTH_LIMIT);
    return GDN_OK;
}

/* Heads and width of keys where the config says nothing, values then twice as wide; 0: needed. */
static enum gdn_status take_delta_heads(struct config *c, const struct source *s, int32_t heads,
                                        int32_t width)
{
    TRY(take_int(s, "linear_num_key_heads", 1, HEADS_LIMIT, heads, &c->Hk));
    TRY(take_int(s, "linear_num_value_heads", 1, HEADS_LIMIT, heads, &c->Hv));
    TRY(take_int(s, "linear_key_head_dim", 1, HEAD_LIMIT, width, &c->Dk));
    TRY(take_int(s, "linear_value_head_dim", 1, HEAD_LIMIT, width ? 2 * c->Dk : 0, &c->Dv));
    return take_int(s, "linear_conv_kernel_dim", 2, 16, 4, &c->taps);
}

/* ---- positions ------------------------------------------------------------------------------- */

/* The object that describes the rotation: rope_parameters, or rope_scaling of older files; or the
 * text config itself. */
static enum gdn_status find_rope(const struct source *s, json_t **in)
{
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    *in = s->text;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && *in == s->text; i++) {
        if (!source_has(s, keys[i])) continue;
        *in = source_get(s, keys[i]);
        if (!json_is_object(*in)) return source_bad(s, keys[i], "an object");
        TRY(take_text(s, *in, "type", "default"));
    }
    return take_text(s, *in, "rope_type", "default");
}

/* part: of a head that turns, where the config says nothing. */
static enum gdn_status take_rope(struct config *c, const struct source *s, double theta,
                                 double part)
{
    json_t *in;
    double outer;
    TRY(find_rope(s, &in));
    TRY(take_real(s, s->text, "rope_theta", 1.0, 1e15, theta, &outer));
    TRY(take_real(s, in, "rope_theta", 1.0, 1e15, outer, &c->theta));
    TRY(take_real(s, s->text, "partial_rotary_factor", 0.0, 1.0, part, &outer));
    TRY(take_real(s, in, "partial_rotary_factor", 0.0, 1.0, outer, &part));
    c->rot = c->theta > 0 ? (int32_t)((double)c->head_dim * part) : 0;
    if (c->rot % 2 != 0)
        return error_set(s->err, GDN_ERR_INPUT, "%s: partial_rotary_factor: found %d of %d "
                         "dimensions that turn, need an even number", s->name, c->rot, c->head_dim);
    return GDN_OK;
}

/* ---- experts --------------------------------------------------------------------------------- */

static enum gdn_status check_experts(const struct config *c, const struct source *s)
{
    if (c->groups < 1 || c->experts % c->groups != 0)
        return source_bad(s, "num_expert_group|n_group", "a divisor of the number of experts");
    if (c->groups_used > c->groups)
        return source_bad(s, "topk_group", "at most the number of groups");
    if (c->experts_used > c->experts / c->groups * c->groups_used)
        return source_bad(s, "num_experts_per_tok|num_experts_per_token",
                          "at most as many as the groups in use have");
    return GDN_OK;
}

/* Widths and counts, by the names that all families understand. */
static enum gdn_status take_experts(struct config *c, const struct source *s)
{
    enum { MOST = 1 << 16 };
    c->renormalise = true;
    TRY(take_int(s, "num_experts|num_local_experts", 1, MOST, 0, &c->experts));
    TRY(take_int(s, "num_experts_per_tok|num_experts_per_token", 1, 1024, 0, &c->experts_used));
    TRY(take_int(s, "moe_intermediate_size", 1, 1 << 20, 0, &c->expert_width));
    TRY(take_int(s, "num_expert_group|n_group", 1, 1024, 1, &c->groups));
    TRY(take_int(s, "topk_group", 1, 1024, 1, &c->groups_used));
    TRY(take_real(s, s->text, "routed_scaling_factor", 0.0, 1e6, 1.0, &c->route_scale));
    if (!c->family->renormalise)
        TRY(take_bool(s, s->text, "norm_topk_prob|moe_renormalize", &c->renormalise));
    return check_experts(c, s);
}

/* Qwen: every step-th layer, but for those named. */
static enum gdn_status take_sparse_layers(struct config *c, const struct source *s)
{
    int32_t step;
    TRY(take_int(s, "decoder_sparse_step", 1, CONFIG_LAYERS, 1, &step));
    for (int32_t i = 0; i < c->layers; i++) c->sparse[i] = (i + 1) % step == 0;
    json_t *dense = source_get(s, "mlp_only_layers");
    if (dense && !json_is_null(dense) && !json_is_array(dense))
        return source_bad(s, "mlp_only_layers", "a list");
    for (size_t i = 0; i < json_array_size(dense); i++) {
        json_t *entry = json_array_get(dense, i);
        const json_int_t n = json_is_integer(entry) ? json_integer_value(entry) : -1;
        if (n < 0 || n >= c->layers)
            return error_set(s->err, GDN_ERR_INPUT, "%s: mlp_only_layers[%zu]: found %s, need a "
                             "layer from 0 to %d", s->name, i, source_show(entry).text,
                             c->layers - 1);
        c->sparse[n] = false;
    }
    return GDN_OK;
}

/* mlp_layer_types: dense or sparse, one for each layer. */
static enum gdn_status take_ffn_types(struct config *c, const struct source *s)
{
    json_t *types = source_get(s, "mlp_layer_types");
    if (!json_is_array(types) || json_array_size(types) != (size_t)c->layers)
        return source_bad(s, "mlp_layer_types", "a list with one entry for each layer");
    for (int32_t i = 0; i < c->layers; i++) {
        json_t *entry = json_array_get(types, (size_t)i);
        const char *kind = json_string_value(entry);
        c->sparse[i] = kind && strcmp(kind, "sparse") == 0;
        if (!kind || (!c->sparse[i] && strcmp(kind, "dense") != 0))
            return error_set(s->err, GDN_ERR_INPUT, "%s: mlp_layer_types[%d]: found %s, need dense "
                             "or sparse", s->name, i, source_show(entry).text);
    }
    return GDN_OK;
}

static enum gdn_status take_kimi_sparse(struct config *c, const struct source *s)
{
    int32_t first, step;
    if (source_has(s, "mlp_layer_types")) return take_ffn_types(c, s);
    TRY(take_int(s, "first_k_dense_replace", 0, CONFIG_LAYERS, 1, &first));
    TRY(take_int(s, "moe_layer_freq", 1, CONFIG_LAYERS, 1, &step));
    for (int32_t i = 0; i < c->layers; i++) c->sparse[i] = i >= first && i % step == 0;
    return GDN_OK;
}

static bool any_dense(const struct config *c)
{
    for (int32_t i = 0; i < c->layers; i++)
        if (!c->sparse[i]) return true;
    return false;
}

/* The width of dense layers, when there are some. */
static enum gdn_status take_ffn(struct config *c, const struct source *s)
{
    if (!any_dense(c)) return GDN_OK;
    return take_int(s, "intermediate_size", 1, 1 << 20, 0, &c->F);
}

/* ---- families -------------------------------------------------------------------------------- */

static enum gdn_status take_qwen(struct config *c, const struct source *s)
{
    c->beta_scale = 1.0;
    if (c->family->experts) {
        TRY(take_experts(c, s));
        TRY(take_int(s, "shared_expert_intermediate_size", 1, 1 << 20, 0, &c->shared_width));
        TRY(take_sparse_layers(c, s));
    }
    TRY(take_ffn(c, s));
    TRY(take_int(s, "num_key_value_heads", 1, HEADS_LIMIT, 0, &c->Hkv));
    TRY(take_int(s, "head_dim", 1, HEAD_LIMIT, 256, &c->head_dim));
    TRY(take_delta_heads(c, s, 0, 0));
    TRY(take_int(s, "mtp_num_hidden_layers", 0, 64, 0, &c->mtp_layers));
    TRY(take_layers(c, s));
    TRY(check_heads(c, s));
    return take_rope(c, s, 10000.0, 0.25);
}

static enum gdn_status refuse_kimi(const struct source *s)
{
    bool no_positions = true;
    TRY(take_text(s, s->text, "moe_router_activation_func", "sigmoid"));
    TRY(take_bool(s, s->text, "mla_use_nope", &no_positions));
    if (!no_positions)
        return source_refuse(s, GDN_ERR_UNSUPPORTED, "mla_use_nope", json_false(), "true");
    if (source_has(s, "q_lora_rank"))
        return source_refuse(s, GDN_ERR_UNSUPPORTED, "q_lora_rank", source_get(s, "q_lora_rank"),
                             "null");
    return GDN_OK;
}

/* The delta heads stand in an object of their own, or flat as transformers saves them. */
static enum gdn_status take_kimi_delta(struct config *c, const struct source *s)
{
    json_t *in = source_get(s, "linear_attn_config");
    const bool own = in && !json_is_null(in);
    const struct source inner = {.name = s->name, .top = s->top, .text = own ? in : s->text,
                                 .err = s->err};
    if (own && !json_is_object(in)) return source_bad(s, "linear_attn_config", "an object");
    const char *width = own ? "head_dim" : "linear_head_dim";
    const char *heads = own ? "num_heads" : "linear_num_heads";
    const char *taps = own ? "short_conv_kernel_size" : "linear_conv_kernel_dim";
    TRY(take_int(&inner, width, 1, HEAD_LIMIT, 0, &c->Dk));
    TRY(take_int(&inner, heads, 1, HEADS_LIMIT, 0, &c->Hk));
    TRY(take_int(&inner, taps, 2, 16, 4, &c->taps));
    c->Dv = c->rank = c->Dk;
    c->Hv = c->Hk;
    return take_lists(c, s, inner.text);
}

static enum gdn_status take_kimi(struct config *c, const struct source *s)
{
    int32_t shared;
    c->beta_scale = 1.0;
    TRY(refuse_kimi(s));
    TRY(take_experts(c, s));
    TRY(take_int(s, "num_shared_experts|n_shared_experts", 0, 1024, 1, &shared));
    if ((int64_t)shared * c->expert_width > 1 << 20)
        return source_bad(s, "num_shared_experts|n_shared_experts", "fewer");
    c->shared_width = shared * c->expert_width;
    TRY(take_kimi_sparse(c, s));
    TRY(take_ffn(c, s));
    TRY(take_int(s, "qk_nope_head_dim", 1, HEAD_LIMIT, 0, &c->nope));
    TRY(take_int(s, "qk_rope_head_dim", 1, HEAD_LIMIT, 0, &c->shared_key));
    TRY(take_int(s, "v_head_dim", 1, HEAD_LIMIT, 0, &c->value_dim));
    TRY(take_int(s, "kv_lora_rank", 1, HEAD_LIMIT, 0, &c->latent));
    c->head_dim = c->nope + c->shared_key;
    TRY(take_kimi_delta(c, s));
    return check_heads(c, s);
}

static enum gdn_status take_olmo(struct config *c, const struct source *s)
{
    bool negative = true;
    TRY(take_ffn(c, s));
    TRY(take_int(s, "num_key_value_heads", 1, HEADS_LIMIT, c->Hq, &c->Hkv));
    TRY(take_int(s, "head_dim", 1, HEAD_LIMIT, c->D / c->Hq, &c->head_dim));
    TRY(take_delta_heads(c, s, c->Hq, (int32_t)(0.75 * c->D / c->Hq)));
    TRY(take_bool(s, s->text, "linear_allow_neg_eigval", &negative));
    c->beta_scale = negative ? 2.0 : 1.0;
    TRY(take_layers(c, s));
    TRY(check_heads(c, s));
    return take_rope(c, s, 0.0, 1.0);
}

enum gdn_status config_take_family(struct config *c, const struct source *s)
{
    switch (c->family->dialect) {
    case DIALECT_QWEN: return take_qwen(c, s);
    case DIALECT_KIMI: return take_kimi(c, s);
    case DIALECT_OLMO: return take_olmo(c, s);
    }
    return GDN_OK;
}
