"""What the official code computes: hidden states, logits, greedy tokens, a padded batch, gradients, training losses."""
import contextlib
import copy
import types
from unittest import mock

import torch
from safetensors.torch import save_file

import families
import layouts

N_IDS, N_PROMPT, N_GREEDY, N_STEPS = 150, 20, 40, 10
ROWS = [0, 1, 2, 3, 14, 15, 16, 17, 31, 32, 62, 63, 64, 65, 100, 127, 128, 129, 149]
BATCH = (24, 15)  # lengths of the left-padded batch


@contextlib.contextmanager
def widened(model):
    """Run the official code in float64: it casts to float32 in norms, gates, delta rule, router, softmax."""
    official = families.FAMILIES[model.config.model_type].module
    wide = types.SimpleNamespace(**vars(torch) | {"float32": torch.float64, "float": torch.float64})
    model.double()
    with mock.patch("torch.Tensor.float", torch.Tensor.double), mock.patch.object(official, "torch", wide):
        yield
    model.float()


class Choices:
    """Watches the routers: how close the last chosen expert is to the first one left out (or a group to a group), in
    logits where a softmax chooses and in scores where a sigmoid does, and how many choices the bias changes."""

    def __init__(self, model):
        self.config, self.gap, self.chosen, self.biased = model.config, float("inf"), 0, 0
        for module in model.modules():
            if type(module).__name__.lower().endswith("topkrouter"):
                module.register_forward_hook(self.look)

    def __deepcopy__(self, memo):
        return self  # a copied model reports here too

    def take(self):
        gap, self.gap = self.gap, float("inf")
        return gap

    def look(self, router, _, out):
        score = out[0].detach().double()
        if hasattr(router, "e_score_correction_bias"):
            plain = score.sigmoid()
            score = self.in_groups(router, plain + router.e_score_correction_bias.double())
            sets = [s.topk(router.top_k).indices.sort().values for s in (plain, score)]
            self.biased += (sets[0] != sets[1]).any(-1).sum().item()
            self.chosen += len(score)
        self.near(score, router.top_k)
        assert torch.equal(score.topk(router.top_k).indices.sort().values, out[2].sort().values)

    def in_groups(self, router, score):
        groups = score.unflatten(-1, (router.num_group, -1))
        best = groups.topk(2).values.sum(-1)
        self.near(best, router.topk_group)
        kept = torch.zeros_like(best, dtype=torch.bool).scatter(1, best.topk(router.topk_group).indices, True)
        return groups.masked_fill(~kept[..., None], float("-inf")).flatten(1)

    def near(self, score, k):
        if k < score.shape[-1]:
            top = score.topk(k + 1).values
            self.gap = min(self.gap, (top[:, k - 1] - top[:, k]).min().item())


def continued(model, ids, cuts):
    """The logits when the sequence is fed in pieces that end at these positions."""
    cache, parts, start = None, [], 0
    for end in cuts:
        o = model(ids[:, start:end], past_key_values=cache, use_cache=True)
        cache, start = o.past_key_values, end
        parts.append(o.logits[0])
    return torch.cat(parts)


@torch.no_grad()
def golden(spec, model, gen, folder):
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

    padded, numbers = left_padded(model, gen) if spec.get("batch") else ({}, {})
    save_file({"ids": ids[0].int(), "rows": rows.int(), "logits": logits[rows], "exact.logits": exact[rows].float(),
               "greedy": torch.tensor(greedy).int(), "greedy_margin": torch.tensor(margin)}
              | {f"hidden.{i}": h[0, rows] for i, h in enumerate(out.hidden_states)} | padded,
              f"{folder}/golden.safetensors")

    return {"logit_std": logits.std().item(), "hidden_std": [h.std().item() for h in out.hidden_states],
            "greedy_margin_min": min(margin), "greedy_distinct": len(set(greedy)),
            "full_vs_fp64": (logits - exact).abs().max().item(),
            "steps_vs_fp64": (continued(model, ids, range(1, N_IDS + 1)) - exact).abs().max().item(),
            "last5_steps_vs_full": (continued(model, ids, range(145, N_IDS + 1)) - logits).abs().max().item(),
            "blocks_70_100_150_vs_full": (continued(model, ids, (70, 100, 150)) - logits).abs().max().item()} | numbers


def left_padded(model, gen):
    """Two sequences of unequal length in one call; id 0 is the padding."""
    long, short = BATCH
    ids = torch.randint(0, model.config.vocab_size, (2, long), generator=gen)
    mask = torch.ones_like(ids)
    ids[1, :long - short] = mask[1, :long - short] = 0
    real = mask.bool()

    def run():
        return model(ids, attention_mask=mask, use_cache=False).logits[real]

    logits = run()
    with widened(model):
        exact = run()
        alone = torch.cat([model(row[m][None], use_cache=False).logits[0] for row, m in zip(ids, real)])
    return ({"batch.ids": ids.int(), "batch.mask": mask.int(), "batch.logits": logits,
             "batch.exact.logits": exact.float()},
            {"batch_vs_fp64": (logits - exact).abs().max().item(),
             "batch_vs_alone_fp64": (exact - alone).abs().max().item()})


def mean_loss(model, ids):
    logits = model(ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def is_small(name, p):
    return p.dim() == 1 or name.endswith(("conv1d.weight", "A_log"))


def gradients(spec, model, ids, prefix, rows):
    """Loss, the norms of all gradients, the small gradients in full and the first rows of the others (one of an
    expert's, if any)."""
    model.zero_grad()
    loss = mean_loss(model, ids)
    loss.backward()
    out = {prefix + "loss": loss.detach().reshape(1)}
    for name, g in layouts.to_file(spec, {n: p.grad for n, p in model.named_parameters()}, model.config).items():
        out[f"{prefix}gradnorm.{name}"] = g.norm().reshape(1)
        assert g.norm() > 0, f"nothing flows to {name}"
        if is_small(name, g):
            out[f"{prefix}grad.{name}"] = g.clone()
        elif rows:
            out[f"{prefix}grad.{name}"] = g[:1 if ".experts." in name else rows].clone()
    return out


def decayed(name, p):
    return p.dim() >= 2 and not name.endswith("A_log")  # Kimi's has rank 4


def train_steps(model, ids):
    """The loss before each step."""
    model, losses = copy.deepcopy(model), []
    groups = [dict(params=[p], weight_decay=0.1 if decayed(n, p) else 0.0) for n, p in model.named_parameters()]
    opt = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    for _ in range(N_STEPS):
        opt.zero_grad()
        loss = mean_loss(model, ids)
        loss.backward()
        opt.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def training(spec, model, choices, gen, folder):
    """train.safetensors: computed in float64 and rounded once; how far plain fp32 is from that tells the noise."""
    ids = torch.randint(0, model.config.vocab_size, (3, 33), generator=gen)
    long = torch.randint(0, model.config.vocab_size, (1, 141), generator=gen)  # 140 inputs: three chunks of 64
    # The official embedding of the padding gets no gradient
    assert model.config.pad_token_id not in ids.flatten().tolist() + long.flatten().tolist()
    gaps = []

    def run():
        losses = train_steps(model, ids)
        gaps.append(choices.take())
        grads = gradients(spec, model, ids, "", 4) | gradients(spec, model, long, "long.", 0)
        gaps.append(choices.take())
        return {"losses": losses} | grads

    with widened(model):
        exact = run()
    assert all(t.dtype == torch.float64 for t in exact.values())
    single = run()
    rel = {k: ((single[k] - t).abs().max() / t.abs().max()).item() for k, t in exact.items() if "grad." in k}
    save_file({"ids": ids.int(), "long.ids": long.int()} | {k: t.float() for k, t in exact.items()},
              f"{folder}/train.safetensors")
    numbers = {"losses": exact["losses"].tolist(), "losses_fp32_off": (single["losses"] - exact["losses"]).tolist(),
               "worst_grad_fp32": max(rel, key=rel.get), "worst_grad_fp32_rel": max(rel.values())}
    return numbers | ({"choice_gap_steps": gaps[0], "choice_gap_grad": gaps[1]} if gaps[1] < float("inf") else {})
