#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets tokenizer and encode: python3 tests/text/vectors/seeds.py
In a tokenizer seed "@" stands for the tokens of the 256 bytes (see tests/fuzz/tokenizer.c)."""
import json
import pathlib

CORPUS = pathlib.Path(__file__).resolve().parents[2] / "fuzz" / "corpus"
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
          r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES = '{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":%s}'
VOCAB = '"vocab":{"@","ab":256,"abc":257,"\u0120a":258}'
PAIRS = '"merges":[["a","b"],["ab","c"],["\u0120","a"]]'
ADDED = '{"id":259,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":%s,"special":%s}'


def split(pattern, rest='"behavior":"Isolated","invert":false'):
    return ('{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":%s},%s},%s]}'
            % (json.dumps(pattern), rest, BYTES % "false"))


def tokenizer(added=ADDED % ("false", "true"), normalizer='{"type":"NFC"}', pre=split(QWEN35),
              model='"type":"BPE",' + VOCAB + "," + PAIRS, rest=""):
    return ('{"version":"1.0",%s"added_tokens":[%s],"normalizer":%s,"pre_tokenizer":%s,"model":{%s}}'
            % (rest, added, normalizer, pre, model))


TOKENIZER = {
    "good-qwen": tokenizer(),
    "good-gpt2": tokenizer(normalizer="null", pre=BYTES % "true"),
    "good-removed": tokenizer(pre=split(QWEN35, '"behavior":"Removed","invert":true')),
    "good-texts": tokenizer(model='"type":"BPE",' + VOCAB + ',"merges":["a b","ab c","\\u0120 a"]'),
    "good-merges-first": tokenizer(model=PAIRS + "," + VOCAB + ',"type":"BPE"'),
    "good-normalized": tokenizer(ADDED % ("true", "false")),
    "good-neutral": tokenizer(rest='"truncation":{"max_length":5},"decoder":%s,"post_processor":%s,' % (BYTES % "true", BYTES % "true"),
                              model='"type":"BPE","dropout":null,"unk_token":"a","fuse_unk":false,'
                                    '"byte_fallback":false,"ignore_merges":false,' + VOCAB + "," + PAIRS),
    "good-raw-text": tokenizer(ADDED % ("true", "true") + ',{"id":260,"content":"e\\u0301"},{"id":261,"content":"\u00e9\u4e2d"}'),
    "any-pattern": tokenizer(pre=split(r"(a|aa)+$|\w+|\s")),
    "any-look-behind": tokenizer(pre=split(r"(?<=a)b|a\Kb|(?R)?c|x*")),
    "any-empty": tokenizer(pre=split("")),
    "bad-pattern": tokenizer(pre=split("(((")),
    "bad-normalizer": tokenizer(normalizer='{"type":"Sequence","normalizers":[{"type":"NFC"}]}'),
    "bad-model": tokenizer(model='"type":"Unigram","vocab":[["a",-1.5]]'),
    "bad-lstrip": tokenizer((ADDED % ("false", "true")).replace('"lstrip":false', '"lstrip":true')),
    "bad-twice": tokenizer(model='"type":"BPE",' + VOCAB.replace('"ab":256', '"ab":256,"\\u0061b":260') + "," + PAIRS),
    "bad-gap": tokenizer(model='"type":"BPE",' + VOCAB.replace("258", "1999999") + "," + PAIRS),
    "bad-id-wraps": tokenizer(model='"type":"BPE",' + VOCAB.replace("258", "4294967296") + "," + PAIRS),
    "bad-id-negative": tokenizer((ADDED % ("false", "true")).replace("259", "-1")),
    "bad-merge": tokenizer(model='"type":"BPE",' + VOCAB + ',"merges":[["b","c"]]'),
    "bad-merge-unknown": tokenizer(model='"type":"BPE",' + VOCAB + ',"merges":["a  b"]'),
    "bad-special-merged": tokenizer('{"id":257,"content":"abc","special":true}'),
    "bad-no-bytes": tokenizer(model='"type":"BPE","vocab":{"a":0},"merges":[]'),
    "bad-deep": "[" * 70,
    "bad-cut": tokenizer()[:200],
}

ENCODE = {
    "empty": b"",
    "english": b"Once upon a time, there's a small fox.\r\n\r\n  It'LL say 123!\n",
    "control": b"<|im_start|>user\nhi<|im_end|>\n<think>\n\n</think>\n\n<|im_<|im_end|>",
    "marks": "e\u0301 a\u0323\u0302 \u0301q\u0307\u0323 \u212b \u304b\u3099 \u1112\u1161\u11ab <think>\u0301".encode(),
    "scripts": "\u0434\u0430 \u4f60\u597d \ud55c\uae00 \u0e40\u0e1b \u0939\u093f \u0646\u0635 \U0001f600\u200d\u2764\ufe0f".encode(),
    "long-word": b"abcdefghij" * 12,
    "spaces": b" " * 50 + b"\n\t \xc2\x85\xe1\xa0\x8e\xe3\x80\x80x",
    "bad-utf8": b"a\xff\xe4\xb8 \xed\xa0\x80 \xf4\x90\x80\x80 \xc0\x80 \xe1\x80\xe2\xf0\x91\x92\xf1\xbf",
    "zero": b"a\0b\0\0",
    "ids": bytes([0x0F, 0xF5, 0x00, 0xE4, 0x0F, 0xFE, 0x00, 0x9F, 0x10, 0x00, 0x1F, 0xFF]),
}

for target, seeds in (("tokenizer", TOKENIZER), ("encode", ENCODE)):
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (CORPUS / target / name).write_bytes(data if isinstance(data, bytes) else data.encode())
