#!/usr/bin/env python3
"""Make the golden fixtures: tiny random models and what the official code computes with them.

    python3 tests/golden/generate.py [OUTDIR [NAME...]]

OUTDIR defaults to the folder of this script; with names only those are made, and versions.json is left alone.  Needs
torch and transformers (versions.json names the ones used last); no FLA or causal-conv1d, so that transformers runs its
plain PyTorch code.  README.md describes the files; families.py has the models, layouts.py writes them, measure.py runs
them.
"""
import datetime
import importlib.util
import json
import os
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

import families
import layouts
import measure

SEED = 2041
LIMIT = 300_000  # bytes per folder
CLEAR = 3e-5  # between an expert that is chosen and one that is not


def seed_of(name):
    """Twins have the same weights.  A model's own "seed" keeps choices and training clear of rounding."""
    name = families.MODELS[name].get("twin", name)
    return SEED + list(families.MODELS).index(name) + 100 * families.MODELS[name].get("seed", 0)


def make_twin(name, model, outdir):
    """The golden of the twin, once it is sure that this is the same model."""
    twin = families.MODELS[name]["twin"]
    file = {k: t for k, t in load_file(f"{outdir}/{twin}/golden.safetensors").items() if not k.startswith("batch.")}
    with torch.no_grad():
        logits = model(file["ids"].long()[None], use_cache=False).logits[0]
    assert torch.equal(logits[file["rows"].long()], file["logits"]), f"{name} is not {twin}"
    save_file(file, f"{outdir}/{name}/golden.safetensors")
    return {"twin": twin}


def make(name, outdir):
    """One folder; returns the sanity numbers."""
    spec, folder = families.MODELS[name], os.path.join(outdir, name)
    gen = torch.Generator().manual_seed(seed_of(name))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    model = families.make_model(spec, gen)
    layouts.write_model(spec, model, gen, folder)
    layouts.verify(spec, model, folder)
    if "twin" in spec:
        return make_twin(name, model, outdir)
    choices = measure.Choices(model)
    numbers = measure.golden(spec, model, gen, folder)
    assert numbers["greedy_margin_min"] > 1e-3, f"{name}: another seed is better"
    if (gap := choices.take()) < float("inf"):
        numbers["choice_gap"] = gap
    if spec.get("train"):
        numbers["train"] = measure.training(spec, model, choices, gen, folder)
    gaps = [v for k, v in (numbers | numbers.get("train", {})).items() if k.startswith("choice_gap")]
    assert all(gap > CLEAR for gap in gaps), f"{name}: another seed is better"
    if choices.chosen:
        numbers["choices_changed_by_bias"] = choices.biased / choices.chosen
    return numbers


def report(name, outdir, numbers):
    folder = os.path.join(outdir, name)
    sizes = {f: os.path.getsize(os.path.join(folder, f)) for f in sorted(os.listdir(folder))}
    print(f"{name}: {sum(sizes.values())} bytes {json.dumps(sizes)}\n{json.dumps(numbers, indent=1)}", flush=True)
    assert sum(sizes.values()) <= LIMIT, f"{name}: too large"


def main():
    outdir = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for package in ("fla", "causal_conv1d"):
        assert importlib.util.find_spec(package) is None, f"{package} would replace the reference code"
    transformers.logging.set_verbosity_error(), transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    sanity = {}
    for name in sys.argv[2:] or families.MODELS:
        sanity[name] = make(name, outdir)
        report(name, outdir, sanity[name])
    if sys.argv[2:]:
        return
    layouts.write_json(os.path.join(outdir, "versions.json"), dict(
        torch=torch.__version__, transformers=transformers.__version__, python=sys.version.split()[0], seed=SEED,
        date=datetime.date.today().isoformat(), device="cpu, 1 thread", command="python3 tests/golden/generate.py",
        golden="float32: official code as it is, eager attention; exact.*: float64",
        train="float64: official code with its float32 casts widened", sanity=sanity))


if __name__ == "__main__":
    main()
