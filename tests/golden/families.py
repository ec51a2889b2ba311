"""The models of the fixtures: their config.json, the official classes, and random weights of about unit gain."""
import importlib
import types

import torch
import transformers

L, A = "linear_attention", "full_attention"
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def family(config, model, module, centred=True):
    """Official classes.  centred: norms are stored as w of (1 + w), but for the gated one."""
    return types.SimpleNamespace(config=getattr(transformers, config), model=getattr(transformers, model),
                                 centred=centred,
                                 module=importlib.import_module(f"transformers.models.{module}.modeling_{module}"))


FAMILIES = {
    "qwen3_5_text": family("Qwen3_5TextConfig", "Qwen3_5ForCausalLM", "qwen3_5"),
    "qwen3_5_moe_text": family("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM", "qwen3_5_moe"),
    "qwen3_next": family("Qwen3NextConfig", "Qwen3NextForCausalLM", "qwen3_next"),
    "kimi_linear": family("KimiLinearConfig", "KimiLinearForCausalLM", "kimi_linear", centred=False),
    "olmo_hybrid": family("OlmoHybridConfig", "OlmoHybridForCausalLM", "olmo_hybrid", centred=False),
}
# What Kimi's release and MLX keep in float32
KEPT = ("A_log", "dt_bias", "e_score_correction_bias")
ATTN = ("num_attention_heads", "num_key_value_heads", "head_dim")
DELTA = ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
         "linear_conv_kernel_dim")


# ---- config.json, without architectures and versions ----------------------------------------------------------------

def text(vocab, width, ffn, layers, attn, tied, delta, eps, theta, rotary):
    """Qwen3.5.  attn: heads, kv heads, head size; delta: key heads, value heads, key size, value size, taps."""
    pairs = int(attn[2] * rotary) // 2
    rope = dict(rope_type="default", rope_theta=theta, partial_rotary_factor=rotary, mrope_interleaved=True,
                mrope_section=[pairs - 2 * (pairs // 3), pairs // 3, pairs // 3])
    return dict(max_position_embeddings=512, attention_bias=False, vocab_size=vocab, hidden_size=width,
                intermediate_size=ffn, tie_word_embeddings=tied, rms_norm_eps=eps,
                rope_parameters=rope, num_hidden_layers=len(layers), layer_types=layers,
                **dict(zip(ATTN, attn)), **dict(zip(DELTA, delta)))


def moe_text(experts, used, inner, shared, **common):
    """Qwen3.5 MoE: no dense width, but an empty mlp_only_layers as released."""
    config = text(ffn=0, **common)
    del config["intermediate_size"]
    return config | dict(num_experts=experts, num_experts_per_tok=used, moe_intermediate_size=inner,
                         shared_expert_intermediate_size=shared, router_aux_loss_coef=0.001, output_router_logits=False,
                         mlp_only_layers=[])


def next_text(layers, interval, dense, step, renormalise, attn, delta, eps):
    """Qwen3-Next as released: no layer_types, rope at the top level."""
    return dict(max_position_embeddings=512, vocab_size=96, hidden_size=32, intermediate_size=40,
                tie_word_embeddings=False, rms_norm_eps=eps, rope_theta=1000000, rope_scaling=None,
                partial_rotary_factor=0.25, num_hidden_layers=layers, full_attention_interval=interval,
                mlp_only_layers=dense, decoder_sparse_step=step, norm_topk_prob=renormalise,
                num_experts=6, num_experts_per_tok=3, moe_intermediate_size=8, shared_expert_intermediate_size=12,
                router_aux_loss_coef=0.001, output_router_logits=False, use_sliding_window=False,
                **dict(zip(ATTN, attn)), **dict(zip(DELTA, delta)))


def kimi(kda, full, heads, latent, delta, moe, groups, renormalise, eps):
    """Kimi-Linear as released; layers count from 1.  latent: nope, shared key, value, rank; delta: heads, size, taps;
    moe: experts, used, width, shared."""
    nope, rope, value, rank = latent
    return dict(vocab_size=100, hidden_size=32, intermediate_size=44, num_hidden_layers=len(kda + full),
                rms_norm_eps=eps, num_attention_heads=heads, num_key_value_heads=heads, head_dim=7, q_lora_rank=None,
                kv_lora_rank=rank, qk_nope_head_dim=nope, qk_rope_head_dim=rope, v_head_dim=value,
                mla_use_nope=True, rope_scaling=None, rope_theta=10000.0, tie_word_embeddings=False,
                model_max_length=512, num_nextn_predict_layers=0,
                linear_attn_config=dict(full_attn_layers=full, kda_layers=kda, num_heads=delta[0], head_dim=delta[1],
                                        short_conv_kernel_size=delta[2]),
                num_experts=moe[0], num_experts_per_token=moe[1], moe_intermediate_size=moe[2],
                num_shared_experts=moe[3], first_k_dense_replace=1, moe_layer_freq=1, moe_renormalize=renormalise,
                routed_scaling_factor=2.446, moe_router_activation_func="sigmoid", use_grouped_topk=True,
                num_expert_group=groups[0], topk_group=groups[1], bos_token_id=97, eos_token_id=98, pad_token_id=89)


def kimi_native(released):
    """The same model as transformers itself describes it: lists of types, no linear_attn_config."""
    config, linear = dict(released), released["linear_attn_config"]
    for key in ("linear_attn_config", "first_k_dense_replace", "moe_layer_freq", "num_nextn_predict_layers", "head_dim",
                "mla_use_nope", "rope_scaling", "rope_theta", "moe_router_activation_func", "use_grouped_topk"):
        del config[key]
    layers = range(config["num_hidden_layers"])
    return config | dict(layer_types=[A if i + 1 in linear["full_attn_layers"] else L for i in layers],
                         mlp_layer_types=["sparse" if i else "dense" for i in layers],
                         linear_num_heads=linear["num_heads"], linear_head_dim=linear["head_dim"],
                         linear_conv_kernel_dim=linear["short_conv_kernel_size"])


def olmo(layers, attn, delta, negative, theta, eps):
    """OLMo-Hybrid as released; theta None: no rope.  attn: heads, kv heads (their size is width / heads)."""
    rope = dict(rope_theta=None) if theta is None else dict(rope_theta=theta, rope_type="default")
    return dict(max_position_embeddings=512, attention_bias=False, vocab_size=104, hidden_size=32, intermediate_size=52,
                tie_word_embeddings=False, rms_norm_eps=eps,
                rope_parameters=rope, num_hidden_layers=len(layers), layer_types=layers, **dict(zip(ATTN, attn)),
                **dict(zip(DELTA, delta)), linear_allow_neg_eigval=negative, attention_dropout=0.0, bos_token_id=None,
                eos_token_id=101, pad_token_id=102)


QWEN_MOE = moe_text(8, 3, 10, 20, vocab=96, width=32, layers=[L, A, L], attn=(4, 2, 16), tied=False,
                    delta=(2, 4, 16, 16, 4), eps=1e-6, theta=1e6, rotary=0.5)
KIMI = kimi([1, 2, 4], [3], 2, (12, 8, 16, 24), (2, 16, 4), (8, 3, 8, 1), (1, 1), True, 1e-5)
OLMO = olmo([L, L, L, A], (2, 2), (2, 2, 12, 24, 4), True, None, 1e-6)

# name -> model_type, stored type, config; then how the folder deviates from a flat file of the release's own layout:
#   twin: the folder whose weights these are       experts: a tensor for each expert, not stacked
#   nested, mtp, shards, interval: as they say     mlx: as mlx-lm writes them
#   save: as save_pretrained writes them           state: as state_dict() names them
#   fine: KEPT tensors are not rounded to dtype    train, batch: with train.safetensors, with a left-padded batch
#   low: scores with bias are negative, so that nothing that is left out may stand as 0
#   seed: another one, that keeps choices and training clear of rounding
MODELS = {
    "q35-r1-tied": dict(type="qwen3_5_text", dtype=BF16, train=True, config=text(
        256, 40, 64, [L, L, L, A], (2, 1, 32), True, (2, 2, 16, 16, 4), 1e-6, 1e6, 0.25)),
    "q35-r2-untied": dict(type="qwen3_5_text", dtype=F32, train=True, nested=True, config=text(
        96, 34, 37, [L, A, L], (4, 2, 16), False, (2, 4, 16, 24, 4), 1e-6, 1e4, 0.5)),
    "q35-r4-odd": dict(type="qwen3_5_text", dtype=F32, mtp=True, shards=2, interval=2, config=text(
        131, 40, 45, [L, A], (3, 1, 32), True, (1, 4, 32, 16, 4), 1e-5, 1e6, 0.25)),
    "q35-k2-f16": dict(type="qwen3_5_text", dtype=F16, config=text(
        200, 32, 48, [L, L, A, L, L], (2, 2, 24), False, (3, 3, 8, 40, 2), 1e-3, 1e4, 0.25)),
    "q35-mlx": dict(type="qwen3_5_text", dtype=BF16, mlx=True, nested=True, batch=True, config=text(
        120, 32, 48, [L, L, L, A], (2, 1, 16), False, (2, 4, 16, 8, 4), 1e-6, 1e7, 0.25)),
    "q35moe-stacked": dict(type="qwen3_5_moe_text", dtype=BF16, seed=1, nested=True, mtp=True, train=True, batch=True,
                           config=QWEN_MOE),
    "q35moe-experts": dict(type="qwen3_5_moe_text", dtype=BF16, experts=True, twin="q35moe-stacked", config=QWEN_MOE),
    "next-grouped": dict(type="qwen3_next", dtype=BF16, seed=1, experts=True, train=True, batch=True, config=next_text(
        4, 4, [1], 1, True, (4, 2, 16), (2, 4, 8, 16, 4), 1e-6)),
    "next-plain": dict(type="qwen3_next", dtype=BF16, experts=True, mtp=True, config=next_text(
        5, 2, [], 2, False, (2, 1, 32), (2, 2, 16, 24, 4), 1e-3)),
    "kimi-released": dict(type="kimi_linear", dtype=BF16, seed=11, train=True, batch=True, config=KIMI),
    "kimi-groups": dict(type="kimi_linear", dtype=BF16, seed=5, fine=True, low=True, config=kimi(
        [1, 3, 4], [2, 5], 4, (8, 4, 12, 20), (3, 8, 4), (12, 3, 8, 2), (3, 1), False, 1e-3)),
    "kimi-saved": dict(type="kimi_linear", dtype=BF16, save=True, twin="kimi-released", config=kimi_native(KIMI)),
    "kimi-mlx": dict(type="kimi_linear", dtype=BF16, mlx=True, twin="kimi-released", config=KIMI),
    "olmo-released": dict(type="olmo_hybrid", dtype=BF16, seed=5, train=True, batch=True, config=OLMO),
    "olmo-rope": dict(type="olmo_hybrid", dtype=F32, config=olmo(
        [L, A, L, A], (4, 2), (2, 4, 12, 8, 4), False, 10000.0, 1e-3)),
    "olmo-saved": dict(type="olmo_hybrid", dtype=BF16, save=True, twin="olmo-released", config=OLMO),
    "kimi-state": dict(type="kimi_linear", dtype=BF16, state=True, twin="kimi-released", config=kimi_native(KIMI)),
    "olmo-state": dict(type="olmo_hybrid", dtype=BF16, state=True, twin="olmo-released", config=OLMO),
}


# ---- weights --------------------------------------------------------------------------------------------------------

def named_tensors(model):
    """Parameters, and the buffers that belong in a checkpoint (Kimi's correction bias)."""
    kept = model.state_dict()
    return dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n in kept}


def shifted(model_type, name, p):
    """Norms that are stored as w of (1 + w)."""
    return FAMILIES[model_type].centred and p.dim() == 1 and not name.endswith(KEPT + ("linear_attn.norm.weight",))


def key_rows(config):
    """Key heads and their size."""
    if config.model_type == "kimi_linear":
        return config.linear_num_heads, config.linear_head_dim
    return config.linear_num_key_heads, config.linear_key_head_dim


def correlate(params, config):
    """Correlate keys with queries: where q.k is near 0 and the decay strong, the gated norm amplifies rounding, and ten
    training steps in float32 would be chaos (with 0.8 of q they are for Qwen's MoE and OLMo)."""
    heads, size = key_rows(config)
    a, b = (0.8, 0.6) if config.model_type in ("qwen3_5_text", "kimi_linear") else (0.95, 0.3)
    for name, p in params.items():
        if name.endswith("in_proj_qkvz.weight"):
            p = p.view(heads, -1, p.shape[-1])
            p[:, size:2 * size] = a * p[:, :size] + b * p[:, size:2 * size]
        elif name.endswith(("in_proj_qkv.weight", "conv1d.weight")):
            k = heads * size
            p[k:2 * k] = a * p[:k] + b * p[k:2 * k]
        elif name.endswith("linear_attn.k_proj.weight") or ("k_proj" in name and config.model_type == "kimi_linear"):
            p.copy_(a * params[name.replace("k_proj", "q_proj")] + b * p)


def randomise(params, config, gen):
    """Random values with about unit gain everywhere; no norm, bias or decay keeps a neutral value."""
    n_decays = sum(p.numel() for n, p in params.items() if n.endswith("A_log"))
    decays = list(torch.linspace(-4, 3, n_decays)[torch.randperm(n_decays, generator=gen)])
    for name, p in params.items():
        if name.endswith("A_log"):
            p.copy_(torch.stack([decays.pop() for _ in range(p.numel())]).view(p.shape))
        elif name.endswith("dt_bias"):
            p.copy_(torch.rand(p.shape, generator=gen) * 4 - 2)
        elif name.endswith("e_score_correction_bias"):  # scores are 0.5 +- 0.2: this changes many choices
            p.copy_(torch.rand(p.shape, generator=gen) * 0.4 - 0.2)
        elif p.dim() == 1:  # norms
            p.copy_(torch.randn(p.shape, generator=gen) * 0.3 + float(not shifted(config.model_type, name, p)))
        else:  # linears, experts, conv, embedding, head: [.., inputs]
            p.copy_(torch.randn(p.shape, generator=gen) / p.shape[-1] ** 0.5)
    correlate(params, config)


def official_config(spec):
    config = FAMILIES[spec["type"]].config(**spec["config"])
    config._attn_implementation = config._experts_implementation = "eager"
    return config


@torch.no_grad()
def make_model(spec, gen):
    """An fp32 model whose weights are exact in the stored type."""
    model = FAMILIES[spec["type"]].model(official_config(spec)).eval()
    params = named_tensors(model)
    randomise(params, model.config, gen)
    for name, p in params.items():
        if spec.get("mlx") and shifted(spec["type"], name, p):
            p.copy_((1 + p).to(spec["dtype"]) - 1)  # MLX stores 1 + w
            assert torch.equal(p, p.to(spec["dtype"]).float()) and torch.equal(1 + p, (1 + p).to(spec["dtype"]).float())
        elif not (spec.get("fine") and name.endswith(KEPT)):
            p.copy_(p.to(spec["dtype"]))
        if spec.get("low") and name.endswith("e_score_correction_bias"):
            p -= 0.7
    return model
