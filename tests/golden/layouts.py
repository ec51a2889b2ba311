"""How a checkpoint is written: names and shapes of each release and converter, config.json, shards."""
import copy
import json
import re

import torch
import transformers
from safetensors.torch import load_file, save_file

import families

TOKENS = dict(image_token_id=1, video_token_id=2, vision_start_token_id=3, vision_end_token_id=4)


# ---- tensors: from the official module's names to the file's. Linear, so gradients take the same way. ----------------

def split_experts(tensors, names):
    """Stacked experts to a tensor for each; names: of gate, up, down."""
    out = {}
    for name, p in tensors.items():
        head = name[:name.rfind(".") + 1]
        if name.endswith(".experts.gate_up_proj"):
            for e, (gate, up) in enumerate(w.chunk(2) for w in p):
                out |= {f"{head}{e}.{names[0]}.weight": gate, f"{head}{e}.{names[1]}.weight": up}
        elif name.endswith(".experts.down_proj"):
            out |= {f"{head}{e}.{names[2]}.weight": w for e, w in enumerate(p)}
        else:
            out[name] = p
    return out


def split_conv(tensors, sizes):
    """One convolution over q, k, v to three."""
    out = {}
    for name, p in tensors.items():
        if name.endswith("conv1d.weight"):
            out |= {name.replace("conv1d", f"{c}_conv1d"): w for c, w in zip("qkv", p.split(sizes))}
        else:
            out[name] = p
    return out


def kimi_released(tensors, config):
    sparse = [f".{i}.mlp." for i, kind in enumerate(config.mlp_layer_types) if kind == "sparse"]
    out = split_experts(tensors, ("w1", "w3", "w2"))
    out = split_conv(out, [config.linear_num_heads * config.linear_head_dim] * 3)
    out = {n.replace(".forget_gate", ""): p for n, p in out.items()}
    return {n.replace(".mlp.", ".block_sparse_moe.") if any(s in n for s in sparse) else n: p for n, p in out.items()}


def olmo_released(tensors, config):
    key, value = (config.linear_num_key_heads * config.linear_key_head_dim,
                  config.linear_num_value_heads * config.linear_value_head_dim)
    return split_conv(tensors, [key, key, value])


def qwen_mlx(tensors, config):
    """Shifted norms hold 1 + w, the conv is [C, W, 1], all stands under language_model."""
    out = {}
    for name, p in tensors.items():
        p = 1 + p if families.shifted(config.model_type, name, p) else p
        out["language_model." + name] = p.movedim(2, 1) if name.endswith("conv1d.weight") else p
    return out


def kimi_mlx(tensors, config):
    """Stacked experts in three tensors, convs in a module, kv_b_proj as keys (transposed) and values."""
    out = {}
    for name, p in split_conv(tensors, [config.linear_num_heads * config.linear_head_dim] * 3).items():
        name = name.replace(".forget_gate", "").replace("mlp.gate.e_score", "mlp.e_score")
        if name.endswith(".experts.gate_up_proj"):
            head = name.replace("experts.gate_up_proj", "switch_mlp.")
            out |= {f"{head}{n}_proj.weight": w for n, w in zip(("gate", "up"), p.chunk(2, 1))}
        elif name.endswith("kv_b_proj.weight"):
            head, p = name.removesuffix("kv_b_proj.weight"), p.view(config.num_attention_heads, -1, p.shape[-1])
            out |= {head + "embed_q.weight": p[:, :config.qk_nope_head_dim].transpose(1, 2),
                    head + "unembed_out.weight": p[:, config.qk_nope_head_dim:]}
        elif name.endswith("_conv1d.weight"):
            out[name.replace("_conv1d", "_conv.conv")] = p.movedim(2, 1)
        else:
            out[re.sub(r"experts\.down_proj$", "switch_mlp.down_proj.weight", name)] = p
    return out


def to_file(spec, tensors, config):
    """Tensors (or gradients) as the checkpoint has them."""
    if spec.get("state"):
        return tensors
    if spec["type"] == "kimi_linear":
        return (kimi_mlx if spec.get("mlx") else kimi_released)(tensors, config)
    if spec["type"] == "olmo_hybrid":
        return olmo_released(tensors, config)
    if spec.get("mlx"):
        return qwen_mlx(tensors, config)
    if spec.get("experts"):
        tensors = split_experts(tensors, ("gate_proj", "up_proj", "down_proj"))
    return {re.sub(r"^model\.", "model.language_model.", n) if spec.get("nested") else n: p for n, p in tensors.items()}


def stored_type(spec, name):
    if spec["type"] == "kimi_linear" and name.endswith(families.KEPT) or spec.get("mlx") and name.endswith("A_log"):
        return families.F32
    return spec["dtype"]


def mtp_tensors(model, gen):
    """Random tensors of one multi-token-prediction head: the official text models ignore them."""
    config, H = model.config, model.config.hidden_size
    layer = config.layer_types.index(families.A)
    block = type(model.model.layers[0])(config, layer)
    shapes = {"fc.weight": (H, 2 * H), "pre_fc_norm_embedding.weight": (H,), "pre_fc_norm_hidden.weight": (H,),
              "norm.weight": (H,)} | {"layers.0." + n: p.shape for n, p in block.named_parameters()}
    out = {"mtp." + n: torch.empty(s) for n, s in shapes.items()}
    families.randomise(out, config, gen)
    return out


# ---- the folder -----------------------------------------------------------------------------------------------------

def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_config(spec, model, folder):
    typed = "torch_dtype" if spec["type"] == "qwen3_next" else "dtype"
    conf = {"model_type": spec["type"], typed: str(spec["dtype"]).removeprefix("torch."), "hidden_act": "silu"}
    conf |= spec["config"]
    if spec.get("interval"):
        conf["full_attention_interval"] = spec["interval"]
        del conf["layer_types"]
    if spec.get("mtp") and spec["type"] != "qwen3_next":  # whose release has the tensors and no such key
        conf["mtp_num_hidden_layers"] = 1
    name, version = type(model).__name__, {"transformers_version": transformers.__version__}
    if spec.get("nested"):
        outer = spec["type"].removesuffix("_text")
        vision = outer if outer == "qwen3_5" else outer + "_vision"
        top = dict(architectures=[name.replace("ForCausalLM", "ForConditionalGeneration")], model_type=outer,
                   text_config=conf,
                   vision_config=dict(model_type=vision, depth=1, hidden_size=8, num_heads=2, intermediate_size=8,
                                      out_hidden_size=model.config.hidden_size, patch_size=4,
                                      num_position_embeddings=4),
                   tie_word_embeddings=model.config.tie_word_embeddings, **TOKENS)
    else:
        top = dict(architectures=[name], **conf)
    top |= version
    write_json(f"{folder}/config.json", dict(sorted(top.items())) if spec.get("mlx") else top)


def file_tensors(spec, model, gen):
    tensors = {n: p.detach() for n, p in families.named_tensors(model).items()}
    tensors = {n: p.to(stored_type(spec, n)).contiguous() for n, p in to_file(spec, tensors, model.config).items()}
    if spec.get("mtp"):
        extra = to_file(spec | {"nested": False}, mtp_tensors(model, gen), model.config)
        tensors |= {n: p.to(spec["dtype"]).contiguous() for n, p in extra.items()}
    if spec.get("nested"):  # a loader of the text model has to skip these
        tower = "vision_tower." if spec.get("mlx") else "model.visual."
        tensors[tower + "patch_embed.proj.weight"] = torch.randn(8, 3, 2, 4, 4, generator=gen)
        tensors[tower + "blocks.0.norm1.bias"] = torch.randn(8, generator=gen)
    return tensors


def write_model(spec, model, gen, folder):
    if spec.get("save"):
        copy.deepcopy(model).to(spec["dtype"]).save_pretrained(folder)
        return
    tensors = file_tensors(spec, model, gen)
    write_config(spec, model, folder)
    n, names, index = spec.get("shards", 1), list(tensors), {}
    for i in range(n):
        shard = f"model-{i + 1:05d}-of-{n:05d}.safetensors" if n > 1 else "model.safetensors"
        part = names[len(names) * i // n:len(names) * (i + 1) // n]
        save_file({k: tensors[k] for k in part}, f"{folder}/{shard}",
                  metadata={"format": "mlx" if spec.get("mlx") else "pt"})
        index |= {k: shard for k in part}
    if n > 1:
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        write_json(f"{folder}/model.safetensors.index.json",
                   {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))})


# ---- looking again --------------------------------------------------------------------------------------------------

def verify(spec, model, folder):
    """The official loader finds the same model; it reads no MLX: there the values must be the same, in some order."""
    if spec.get("mlx"):
        return verify_values(spec, model, folder)
    again = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                        experts_implementation="eager").eval()
    with torch.no_grad():
        ids = torch.arange(16)[None]
        assert torch.equal(again(ids).logits, model(ids).logits), "the written checkpoint differs"


def verify_values(spec, model, folder):
    found = load_file(f"{folder}/model.safetensors")
    norms = [n for n in found if spec["type"] != "kimi_linear" and n.endswith("norm.weight") and "linear_attn" not in n]
    found = {n: p.float() - float(n in norms) for n, p in found.items() if "vision" not in n}
    values = [torch.cat([p.flatten() for p in tensors]).sort().values
              for tensors in (found.values(), families.named_tensors(model).values())]
    assert torch.equal(*values), "the written checkpoint differs"
