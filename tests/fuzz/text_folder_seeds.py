#!/usr/bin/env python3
"""Writes the seeds of the fuzz target: python3 tests/fuzz/text_folder_seeds.py"""
import pathlib

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus" / "text_folder"

QWEN = '{"tokenizer_class":"Qwen2Tokenizer","added_tokens_decoder":{%s}}'
KIMI = '{"tokenizer_class":"TikTokenTokenizer","added_tokens_decoder":{%s}}'
VOCAB = '{@,"ab":256,"aab":257}'
RANKS = "@YWI= 256\nYWFi 257\n"
OLD = ('{"tokenizer_class":"Qwen2Tokenizer","eos_token":{"content":"<e>"},'
       '"additional_special_tokens":["<s>",{"content":"<t>"}]}')


def added(number, text="<s>", more=""):
    return f'"{number}":{{"content":"{text}","special":true{more}}}'


def pair(vocab, merges, config):
    return f"v{vocab}\0{merges}\0{config}"


def ranks(text, config):
    return f"t{text}\0{config}"


SEEDS = {
    "good-pair": pair(VOCAB, "a b\na ab\n", QWEN % added(258)),
    "good-version": pair(VOCAB, "#version: 0.2\r\na b\r\na ab", QWEN % ""),
    "good-gpt2": pair(VOCAB, "a b\na ab\n", '{"tokenizer_class":"GPT2Tokenizer"}'),
    "good-ranks": ranks(RANKS, KIMI % added(258)),
    "good-reserved": ranks(RANKS, KIMI % added(300)),
    "good-word": ranks("@YWJj 256\n", KIMI % ""),
    "bad-class": pair(VOCAB, "a b\na ab\n", '{"tokenizer_class":"LlamaTokenizer"}'),
    "bad-no-class": pair(VOCAB, "a b\na ab\n", "{}"),
    "bad-merge": pair(VOCAB, "a b\nab\n", QWEN % ""),
    "bad-merge-utf8": pair(VOCAB, "a b\na b\udcc3\n", QWEN % ""),
    "bad-merge-unknown": pair(VOCAB, "a b\nb b\n", QWEN % ""),
    "bad-vocab": pair("{@", "a b\n", QWEN % ""),
    "bad-config": pair(VOCAB, "a b\n", "["),
    "bad-id": pair(VOCAB, "a b\na ab\n", QWEN % added("x")),
    "bad-id-far": pair(VOCAB, "a b\na ab\n", QWEN % added(1999999)),
    "far-reserved": ranks(RANKS, KIMI % added(20000)),
    "bad-pattern": pair(VOCAB, "a b\na ab\n", '{"tokenizer_class":"Qwen2Tokenizer",'
                        '"pretokenize_regex":"(a+)+$"}'),
    "bad-prefix": pair(VOCAB, "a b\n", '{"tokenizer_class":"GPT2Tokenizer","add_prefix_space":true}'),
    "bad-base64": ranks("@Y*I= 256\n", KIMI % ""),
    "bad-rank": ranks("@YWI= x\n", KIMI % ""),
    "bad-rank-gap": ranks("@YWI= 300\n", KIMI % ""),
    "bad-rank-twice": ranks("@YWI= 256\nYWI= 257\n", KIMI % ""),
    "bad-rank-none": ranks("@YWI=\n", KIMI % ""),
    "bad-no-bytes": ranks("YWI= 0\n", KIMI % ""),
    "good-added": pair(VOCAB, "a b\na ab\n",
                       OLD + '\0{"<s>":258,"<e>":259,"<t>":260,"<think>":261}'),
    "bad-added-id": pair(VOCAB, "a b\na ab\n", OLD + '\0{"<s>":1999999,"<e>":"x"}'),
    "bad-added-cut": pair(VOCAB, "a b\na ab\n", OLD + '\0{"<s>":258,'),
    "bad-special-cut": pair(VOCAB, "a b\na ab\n", '{"tokenizer_class":"Qwen2Tokenizer",'
                            '"eos_token":[{"content":["<e>"'),
    "empty": "t",
}


def main():
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (CORPUS / name).write_bytes(data.encode(errors="surrogateescape"))
    print(f"{len(SEEDS)} seeds")


if __name__ == "__main__":
    main()
