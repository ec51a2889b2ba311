#!/usr/bin/env python3
"""Holds the tokenizer against the `tokenizers` package on 10 MB in many scripts.

    python3 -m venv build/venv && build/venv/bin/pip install tokenizers==0.23.3
    cmake --build --preset release --target against_tokenizers

    build/venv/bin/python tests/text/against_tokenizers.py [folder for its files]

Not part of the tests: it needs a package from outside. The vocabulary is that of Qwen2 (from its
merges, tests/data/tokenizers), under each pre-tokenizer pattern, with NFC and without; texts are the
English validation text, and words of many scripts with marks, digits, blanks and signs between
them, drawn with a fixed seed. Also leaves a tokenizer.json of 248,000 tokens for timing.
"""
import array
import json
import lzma
import pathlib
import random
import subprocess
import sys

from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "build" / "bin" / "gdn-bench-text"

TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
PATTERNS = {
    "qwen2": SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL,
    "qwen3.5": SUFFIX + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
               r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "cl100k": SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL,
    "kimi": rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SUFFIX}?"
            rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SUFFIX}?|\p{{N}}{{1,3}}" + TAIL,
}

SCRIPTS = {  # ranges of code points, and the share of the words
    "latin": ([(0x61, 0x7A)] * 6 + [(0x41, 0x5A), (0xC0, 0x17F)], 6),
    "greek": ([(0x391, 0x3A9), (0x3B1, 0x3C9), (0x1F00, 0x1F15)], 2),
    "cyrillic": ([(0x410, 0x44F), (0x400, 0x45F)], 3),
    "hebrew": ([(0x5D0, 0x5EA), (0x5B0, 0x5BD)], 1), "arabic": ([(0x620, 0x64A), (0x64B, 0x652)], 2),
    "devanagari": ([(0x904, 0x94D)], 2), "bengali": ([(0x985, 0x9CD)], 1),
    "tamil": ([(0xB85, 0xBCD)], 1), "thai": ([(0xE01, 0xE3A), (0xE40, 0xE4E)], 1),
    "georgian": ([(0x10D0, 0x10FA)], 1), "hangul": ([(0xAC00, 0xD7A3)], 2),
    "jamo": ([(0x1100, 0x1112), (0x1161, 0x1175)], 1), "kana": ([(0x3041, 0x30FA)], 2),
    "han": ([(0x4E00, 0x62FF), (0x4E00, 0x9FFF)], 3), "han beyond": ([(0x20000, 0x2A6DF)], 1),
    "emoji": ([(0x1F300, 0x1F64F), (0x1F3FB, 0x1F3FF), (0x200D, 0x200D), (0xFE0F, 0xFE0F)], 1),
    "marks": ([(0x61, 0x7A), (0x300, 0x36F)], 1), "digits": ([(0x30, 0x39)] * 4 + [(0x660, 0x669)], 2),
    "signs": ([(0x21, 0x2F), (0x3A, 0x40), (0x2010, 0x2060), (0x2190, 0x21FF)], 2),
    "anything": ([(0x1, 0xD7FF), (0xE000, 0x10FFFF)], 1),
}
BLANKS = [" "] * 40 + ["  ", "\n", "\n\n", " \n", "\t", "\r\n", "   ", "\u00a0", "\u3000", "\u2028",
                       "", "", ", ", ". ", "'s ", "'LL ", "-", "\u180e", "\u200b"]


def mixed(size, seed):
    rng = random.Random(seed)
    words, weights = [], []
    for ranges, share in SCRIPTS.values():
        for rank in range(3000):
            word = "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 9)))
            words.append(word)
            weights.append(share / (rank + 3))
    out, length = [], 0
    while length < size:
        for word in rng.choices(words, weights, k=10000):
            out += (word, rng.choice(BLANKS))
            length += len(word.encode())
    return "".join(out)


def vocabulary():
    letters = [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]
    text = lzma.open(ROOT / "tests/data/tokenizers/qwen2-merges.txt.xz").read().decode()
    merges = text.split("\n")[:-1]
    vocab = {chr(c): i for i, c in enumerate(letters)}
    for merge in merges:
        vocab[merge.replace(" ", "")] = len(vocab)
    return vocab, merges


def description(vocab, merges, pattern, nfc):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [
        {"id": len(vocab), "content": "<|endoftext|>", "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False, "special": True}],
        "normalizer": {"type": "NFC"} if nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
             "use_regex": False}]},
        "post_processor": None, "decoder": {"type": "ByteLevel",
        "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                  "byte_fallback": False, "vocab": vocab, "merges": merges}}


def large(vocab, merges):
    """A tokenizer.json of about 19 MB, 248,000 tokens in all: further merges whose parts are as often
    met as those of the real ones."""
    vocab, merges = dict(vocab), list(merges)
    parts, rng = [merge.split(" ") for merge in merges], random.Random(5)
    while len(vocab) < 248000:
        a, b = rng.choice(parts)[0], rng.choice(parts)[1]
        if a + b not in vocab and len(a + b) < 24:
            vocab[a + b] = len(vocab)
            merges.append(f"{a} {b}")
    return vocab, [merge.split(" ") for merge in merges]


def first_difference(ours, theirs):
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            return i
    return min(len(ours), len(theirs))


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "tokenizers")
    folder.mkdir(parents=True, exist_ok=True)
    english = lzma.open(ROOT / "tests/data/valid.txt.xz").read().decode().replace("<|", "< |")
    (folder / "english.txt").write_bytes(english.encode())
    (folder / "mixed.txt").write_bytes(mixed(10_000_000, 1).encode())
    vocab, merges = vocabulary()
    wrong = 0
    for name, pattern in PATTERNS.items():
        for nfc in (True, False):
            path = folder / f"{name}-{'nfc' if nfc else 'plain'}.json"
            path.write_text(json.dumps(description(vocab, merges, pattern, nfc)))
            theirs_of = Tokenizer.from_file(str(path))
            for text in ("english", "mixed"):
                out = folder / "ids"
                subprocess.run([BENCH, "--ids", out, path, folder / f"{text}.txt"], check=True)
                ours = array.array("i", out.read_bytes())
                data = (folder / f"{text}.txt").read_bytes().decode()
                theirs = theirs_of.encode(data, add_special_tokens=False).ids
                same = list(ours) == theirs
                wrong += not same
                print(f"{name}, {'NFC' if nfc else 'as it is'}, {text}: {len(theirs)} ids, "
                      + ("equal" if same else "DIFFERENT"), flush=True)
                if not same:
                    i = first_difference(ours, theirs)
                    print("   ours", theirs_of.decode(ours[i - 3:i + 6].tolist()).__repr__())
                    print("   theirs", theirs_of.decode(theirs[i - 3:i + 6]).__repr__())
    big = json.dumps(description(*large(vocab, merges), PATTERNS["qwen3.5"], True), indent=2,
                     ensure_ascii=False)
    (folder / "large.json").write_text(big)
    print(f"large.json: {len(big.encode()) / 1e6:.1f} MB")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
