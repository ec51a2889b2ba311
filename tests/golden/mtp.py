#!/usr/bin/env python3
"""Make mtp.safetensors: what the draft heads (mtp.*) beside three golden models say, in float64.

    python3 tests/golden/mtp.py

transformers passes the heads over.  The layer of a head is the official code's full-attention layer with the head's
tensors; around it stand the few lines of docs/speculation.md: row p is made of token p + 1 and of the model's vector at
p behind its final norm, and is seen at position p by the rows behind it.  For each prefix of `ids` of one of the lengths
in `ends`, whose last token only the head has seen: `<model>.logits` [ends, chain, vocab], the head's likeliest token and
its own vector taken as what comes next, and `<model>.tokens` [ends, chain].
"""
import copy
import os

import torch
from safetensors.torch import load_file, save_file

import families
import generate
import measure

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ("q35-r4-odd", "q35moe-stacked", "next-plain")
ENDS, CHAIN = (2, 3, 6, 18, 40), 3


def head_tensors(name):
    folder, found = f"{HERE}/{name}", {}
    for file in sorted(os.listdir(folder)):
        if file.startswith("model") and file.endswith(".safetensors"):
            found |= {k[4:]: t.double() for k, t in load_file(f"{folder}/{file}").items() if k.startswith("mtp.")}
    return found


def stacked(layer, count):
    """Experts that lie apart, as the official code has them."""
    if "mlp.experts.0.up_proj.weight" not in layer:
        return layer
    part = {n: [layer.pop(f"mlp.experts.{e}.{n}_proj.weight") for e in range(count)] for n in ("gate", "up", "down")}
    both = [torch.cat(pair) for pair in zip(part["gate"], part["up"])]
    return layer | {"mlp.experts.gate_up_proj": torch.stack(both), "mlp.experts.down_proj": torch.stack(part["down"])}


def full_layer(model, sparse):
    """A full-attention layer of the right kind."""
    kinds = [layer for layer in model.model.layers if hasattr(layer, "self_attn")]
    return copy.deepcopy(next(k for k in kinds if hasattr(k.mlp, "experts") == sparse))


class Head:
    def __init__(self, model, tensors):
        layer = {n[len("layers.0."):]: t for n, t in tensors.items() if n.startswith("layers.0.")}
        sparse = any("experts" in n for n in layer)
        self.model, self.t, self.layer = model, tensors, full_layer(model, sparse)
        self.layer.load_state_dict(stacked(layer, getattr(model.config, "num_experts", 0)))

    def norm(self, x, name):
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.model.config.rms_norm_eps)
        return x * (1 + self.t[name])

    def rows(self, tokens, vectors):
        """y for rows 0.. of tokens [n] behind vectors [n, D]."""
        e = self.model.model.embed_tokens(tokens)
        x = torch.cat([self.norm(e, "pre_fc_norm_embedding.weight"), self.norm(vectors, "pre_fc_norm_hidden.weight")], -1)
        x, n = (x @ self.t["fc.weight"].T)[None], len(tokens)
        mask = torch.full((n, n), float("-inf"), dtype=torch.float64).triu(1)[None, None]
        places = torch.arange(n)[None]
        if self.model.config.model_type != "qwen3_next":
            places = places.expand(3, 1, n)  # of text, height and width: a text has one for all
        turns = self.model.model.rotary_emb(x, places)
        x = self.layer(x, position_embeddings=turns, attention_mask=mask)
        return self.norm(x[0] if isinstance(x, tuple) else x, "norm.weight").reshape(n, -1)

    def chain(self, ids, vectors):
        """Logits of CHAIN guesses behind ids; the vectors are those of all but the last."""
        logits, tokens = [], ids
        for _ in range(CHAIN):
            y = self.rows(tokens[1:], vectors)
            logits.append(self.model.lm_head(y[-1]))
            tokens = torch.cat([tokens, logits[-1].argmax()[None]])
            vectors = torch.cat([vectors, y[-1:]])
        return torch.stack(logits), tokens[len(ids):]


@torch.no_grad()
def heads(name):
    spec = families.MODELS[name]
    model = families.make_model(spec, torch.Generator().manual_seed(generate.seed_of(name))).eval()
    ids = load_file(f"{HERE}/{name}/golden.safetensors")["ids"].long()[:max(ENDS)]
    with measure.widened(model):
        vectors = model.model(ids[None], use_cache=False).last_hidden_state[0]
        head = Head(model, head_tensors(name))
        made = [head.chain(ids[:end], vectors[:end - 1]) for end in ENDS]
    logits = torch.stack([m[0] for m in made])
    top = logits.topk(2).values
    print(name, "margin", (top[..., 0] - top[..., 1]).min().item(), "size", logits.abs().max().item())
    assert (top[..., 0] - top[..., 1]).min() > 1e-3
    return {f"{name}.logits": logits.float(), f"{name}.tokens": torch.stack([m[1] for m in made]).int(),
            f"{name}.ids": ids.int()}


def main():
    torch.set_num_threads(1)
    out = {"ends": torch.tensor(ENDS, dtype=torch.int32)}
    for name in MODELS:
        out |= heads(name)
    save_file(out, f"{HERE}/mtp.safetensors")


if __name__ == "__main__":
    main()
