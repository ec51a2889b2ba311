#!/usr/bin/env python3
"""Make the golden fixtures: tiny random Qwen3.5 models and what the official code computes with them.

    python3 tests/golden/generate.py [OUTDIR]

OUTDIR defaults to the folder of this script.  Needs torch and transformers (versions.json names the ones used last);
no FLA or causal-conv1d, so that transformers runs its plain PyTorch code.  README.md describes the files.
"""
import contextlib
import copy
import datetime
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import types
from unittest import mock

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from transformers.models.qwen3_5 import modeling_qwen3_5 as official

SEED = 2041
LIMIT = 300_000  # bytes per folder
N_IDS, N_PROMPT, N_GREEDY, N_STEPS = 150, 20, 40, 10
ROWS = [0, 1, 2, 3, 14, 15, 16, 17, 31, 32, 62, 63, 64, 65, 100, 127, 128, 129, 149]
L, A = "linear_attention", "full_attention"


def text(vocab, width, ffn, layers, attn, tied, delta, eps, theta, rotary):
    """Text config.  attn: heads, kv heads, head size; delta: key heads, value heads, key size, value size, taps."""
    pairs = int(attn[2] * rotary) // 2
    rope = dict(rope_type="default", rope_theta=theta, partial_rotary_factor=rotary, mrope_interleaved=True,
                mrope_section=[pairs - 2 * (pairs // 3), pairs // 3, pairs // 3])
    return dict(vocab_size=vocab, hidden_size=width, intermediate_size=ffn, tie_word_embeddings=tied, rms_norm_eps=eps,
                rope_parameters=rope, num_hidden_layers=len(layers), layer_types=layers,
                **dict(zip(("num_attention_heads", "num_key_value_heads", "head_dim"), attn)),
                **dict(zip(("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim",
                            "linear_value_head_dim", "linear_conv_kernel_dim"), delta)))


# name -> text config, storage type, and how the folder deviates from a flat single-file checkpoint
MODELS = {
    "q35-r1-tied": dict(dtype=torch.bfloat16, train=True, config=text(
        256, 40, 64, [L, L, L, A], (2, 1, 32), True, (2, 2, 16, 16, 4), 1e-6, 1e6, 0.25)),
    "q35-r2-untied": dict(dtype=torch.float32, train=True, nested=True, config=text(
        96, 34, 37, [L, A, L], (4, 2, 16), False, (2, 4, 16, 24, 4), 1e-6, 1e4, 0.5)),
    "q35-r4-odd": dict(dtype=torch.float32, mtp=True, shards=2, interval=2, config=text(
        131, 40, 45, [L, A], (3, 1, 32), True, (1, 4, 32, 16, 4), 1e-5, 1e6, 0.25)),
    "q35-k2-f16": dict(dtype=torch.float16, config=text(
        200, 32, 48, [L, L, A, L, L], (2, 2, 24), False, (3, 3, 8, 40, 2), 1e-3, 1e4, 0.25)),
}


def randomise(params, gen):
    """Random values with about unit gain everywhere; no norm, bias or decay keeps a neutral value."""
    params = dict(params)
    n_decays = sum(p.numel() for n, p in params.items() if n.endswith("A_log"))
    decays = list(torch.linspace(-4, 3, n_decays)[torch.randperm(n_decays, generator=gen)])
    for name, p in params.items():
        if name.endswith("A_log"):
            p.copy_(torch.stack([decays.pop() for _ in p]))
        elif name.endswith("dt_bias"):
            p.copy_(torch.rand(p.shape, generator=gen) * 4 - 2)
        elif p.dim() == 1:  # norms: zero-centred, but for the gated one
            p.copy_(torch.randn(p.shape, generator=gen) * 0.3 + float(name.endswith("linear_attn.norm.weight")))
        else:  # linears, conv, embedding, head: [.., inputs]
            p.copy_(torch.randn(p.shape, generator=gen) / p.shape[-1] ** 0.5)
    for name, p in params.items():
        # Correlate keys with queries: where q.k is near 0 and the decay strong, the gated norm amplifies rounding.
        if name.endswith(("in_proj_qkv.weight", "conv1d.weight")):
            layer = name[:name.index("linear_attn.") + len("linear_attn.")]
            k = (len(p) - params[layer + "out_proj.weight"].shape[1]) // 2
            p[k:2 * k] = 0.8 * p[:k] + 0.6 * p[k:2 * k]


def make_model(spec, gen):
    """An fp32 model whose weights are exact in the storage dtype."""
    config = Qwen3_5TextConfig(max_position_embeddings=512, **spec["config"])
    config._attn_implementation = "eager"
    model = Qwen3_5ForCausalLM(config).eval()
    with torch.no_grad():
        randomise(model.named_parameters(), gen)
        for p in model.parameters():
            p.copy_(p.to(spec["dtype"]))
    return model


def file_name(spec, name):
    """The name in the checkpoint of a parameter of Qwen3_5ForCausalLM."""
    return re.sub(r"^model\.", "model.language_model.", name) if spec.get("nested") else name


def mtp_tensors(config, gen):
    """Random tensors of one multi-token-prediction head: the official text model ignores them."""
    H, block = config.hidden_size, official.Qwen3_5DecoderLayer(config, config.layer_types.index(A))
    shapes = {"fc.weight": (H, 2 * H), "pre_fc_norm_embedding.weight": (H,), "pre_fc_norm_hidden.weight": (H,),
              "norm.weight": (H,)} | {"layers.0." + n: p.shape for n, p in block.named_parameters()}
    out = {"mtp." + n: torch.empty(s) for n, s in shapes.items()}
    randomise(out, gen)
    return out


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_model(spec, model, gen, folder):
    config = model.config
    tensors = {file_name(spec, n): p.detach().to(spec["dtype"]).contiguous() for n, p in model.named_parameters()}
    if spec.get("mtp"):
        tensors |= mtp_tensors(config, gen)
    if spec.get("nested"):  # a loader of the text model has to skip these
        tensors["model.visual.patch_embed.proj.weight"] = torch.randn(8, 3, 2, 4, 4, generator=gen)
        tensors["model.visual.blocks.0.norm1.bias"] = torch.randn(8, generator=gen)

    conf = dict(model_type="qwen3_5_text", dtype=str(spec["dtype"]).removeprefix("torch."), hidden_act="silu",
                max_position_embeddings=512, attention_bias=False, **spec["config"])
    if spec.get("interval"):
        conf["full_attention_interval"] = spec["interval"]
        del conf["layer_types"]
    if spec.get("mtp"):
        conf["mtp_num_hidden_layers"] = 1
    if spec.get("nested"):
        top = dict(architectures=["Qwen3_5ForConditionalGeneration"], model_type="qwen3_5", text_config=conf,
                   vision_config=dict(model_type="qwen3_5", depth=1, hidden_size=8, num_heads=2, intermediate_size=8,
                                      out_hidden_size=config.hidden_size, patch_size=4, num_position_embeddings=4),
                   tie_word_embeddings=config.tie_word_embeddings, image_token_id=1, video_token_id=2,
                   vision_start_token_id=3, vision_end_token_id=4)
    else:
        top = dict(architectures=["Qwen3_5ForCausalLM"], **conf)
    write_json(f"{folder}/config.json", top | {"transformers_version": transformers.__version__})

    n, names, index = spec.get("shards", 1), list(tensors), {}
    for i in range(n):
        shard = f"model-{i + 1:05d}-of-{n:05d}.safetensors" if n > 1 else "model.safetensors"
        part = names[len(names) * i // n:len(names) * (i + 1) // n]
        save_file({k: tensors[k] for k in part}, f"{folder}/{shard}", metadata={"format": "pt"})
        index |= {k: shard for k in part}
    if n > 1:
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        write_json(f"{folder}/model.safetensors.index.json",
                   {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))})


@contextlib.contextmanager
def widened(model):
    """Run the official code in float64: it casts to float32 in norms, gates, delta rule and softmax; widen those."""
    wide = types.SimpleNamespace(**vars(torch) | {"float32": torch.float64})
    model.double()
    with mock.patch("torch.Tensor.float", torch.Tensor.double), mock.patch.object(official, "torch", wide):
        yield
    model.float()


@torch.no_grad()
def golden(model, gen, folder):
    """golden.safetensors; returns the sanity numbers."""
    ids, rows = torch.randint(0, model.config.vocab_size, (1, N_IDS), generator=gen), torch.tensor(ROWS)
    out = model(ids, use_cache=False, output_hidden_states=True)
    assert len(out.hidden_states) == model.config.num_hidden_layers + 1
    assert torch.equal(model.lm_head(out.hidden_states[-1]), out.logits)  # the last one is after the final norm
    logits = out.logits[0]
    with widened(model):
        exact = model(ids, use_cache=False).logits[0]
    assert exact.dtype == torch.float64

    seq, greedy, margin = ids[:, :N_PROMPT], [], []
    for _ in range(N_GREEDY):
        top = model(seq, use_cache=False).logits[0, -1].topk(2)
        greedy.append(top.indices[0].item())
        margin.append((top.values[0] - top.values[1]).item())
        seq = torch.cat([seq, top.indices[None, :1]], 1)

    save_file({"ids": ids[0].int(), "rows": rows.int(), "logits": logits[rows], "exact.logits": exact[rows].float(),
               "greedy": torch.tensor(greedy).int(), "greedy_margin": torch.tensor(margin)}
              | {f"hidden.{i}": h[0, rows] for i, h in enumerate(out.hidden_states)}, f"{folder}/golden.safetensors")

    def cached(*cuts):
        """The logits when the sequence is fed in pieces that end at these positions."""
        cache, parts, start = None, [], 0
        for end in cuts:
            o = model(ids[:, start:end], past_key_values=cache, use_cache=True)
            cache, start = o.past_key_values, end
            parts.append(o.logits[0])
        return torch.cat(parts)

    return {"logit_std": logits.std().item(), "hidden_std": [h.std().item() for h in out.hidden_states],
            "greedy_margin_min": min(margin), "greedy_distinct": len(set(greedy)),
            "full_vs_fp64": (logits - exact).abs().max().item(),
            "steps_vs_fp64": (cached(*range(1, N_IDS + 1)) - exact).abs().max().item(),
            "last5_steps_vs_full": (cached(145, 146, 147, 148, 149, 150) - logits).abs().max().item(),
            "blocks_70_100_150_vs_full": (cached(70, 100, 150) - logits).abs().max().item()}


def mean_loss(model, ids):
    logits = model(ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def gradients(spec, model, ids, prefix, rows):
    """Loss, the norms of all gradients, the small gradients in full and the first rows of the others."""
    model.zero_grad()
    loss = mean_loss(model, ids)
    loss.backward()
    out = {prefix + "loss": loss.detach().reshape(1)}
    for name, p in model.named_parameters():
        name = file_name(spec, name)
        out[f"{prefix}gradnorm.{name}"] = p.grad.norm().reshape(1)
        if p.dim() == 1 or name.endswith("conv1d.weight"):
            out[f"{prefix}grad.{name}"] = p.grad.clone()
        elif rows:
            out[f"{prefix}grad.{name}"] = p.grad[:rows].clone()
    return out


def train_steps(model, ids):
    """The loss before each step."""
    model, losses = copy.deepcopy(model), []
    groups = [dict(params=[p], weight_decay=0.1 if p.dim() >= 2 else 0.0) for p in model.parameters()]
    opt = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    for _ in range(N_STEPS):
        opt.zero_grad()
        loss = mean_loss(model, ids)
        loss.backward()
        opt.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def training(spec, model, gen, folder):
    """train.safetensors: computed in float64 and rounded once; how far plain fp32 is from that tells the noise."""
    ids = torch.randint(0, model.config.vocab_size, (3, 33), generator=gen)
    long = torch.randint(0, model.config.vocab_size, (1, 141), generator=gen)  # 140 inputs: three chunks of 64

    def run():
        return {"losses": train_steps(model, ids)} | gradients(spec, model, ids, "", 4) | gradients(
            spec, model, long, "long.", 0)

    with widened(model):
        exact = run()
    assert all(t.dtype == torch.float64 for t in exact.values())
    single = run()
    rel = {k: ((single[k] - t).abs().max() / t.abs().max()).item() for k, t in exact.items() if "grad." in k}
    save_file({"ids": ids.int(), "long.ids": long.int()} | {k: t.float() for k, t in exact.items()},
              f"{folder}/train.safetensors")
    return {"losses": exact["losses"].tolist(), "losses_fp32_off": (single["losses"] - exact["losses"]).tolist(),
            "worst_grad_fp32": max(rel, key=rel.get), "worst_grad_fp32_rel": max(rel.values())}


def verify(model, folder):
    """Load the folder with the official loader and compare; return names and shapes as save_pretrained writes them."""
    again = Qwen3_5ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        ids = torch.arange(16)[None]
        assert torch.equal(again(ids).logits, model(ids).logits), "the written checkpoint differs"
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        return {k: list(t.shape) for k, t in sorted(load_file(f"{tmp}/model.safetensors").items())}


def main():
    outdir = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for package in ("fla", "causal_conv1d"):
        assert importlib.util.find_spec(package) is None, f"{package} would replace the reference code"
    transformers.logging.set_verbosity_error(), transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    sanity = {}
    for i, (name, spec) in enumerate(MODELS.items()):
        folder, gen = os.path.join(outdir, name), torch.Generator().manual_seed(SEED + i)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        model = make_model(spec, gen)
        write_model(spec, model, gen, folder)
        numbers = golden(model, gen, folder)
        if spec.get("train"):
            numbers["train"] = training(spec, model, gen, folder)
        names = verify(model, folder)
        size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
        print(f"{name}: {size} bytes; as save_pretrained names the tensors:")
        print("".join(f"  {k} {s}\n" for k, s in names.items()) + json.dumps(numbers, indent=1), flush=True)
        assert size <= LIMIT and numbers["greedy_margin_min"] > 1e-3, f"{name}: too large, or another seed is better"
        sanity[name] = numbers
    write_json(os.path.join(outdir, "versions.json"), dict(
        torch=torch.__version__, transformers=transformers.__version__, python=sys.version.split()[0], seed=SEED,
        date=datetime.date.today().isoformat(), device="cpu, 1 thread", command="python3 tests/golden/generate.py",
        golden="float32: official code as it is, eager attention; exact.*: float64",
        train="float64: official code with its float32 casts widened", sanity=sanity))


if __name__ == "__main__":
    main()
