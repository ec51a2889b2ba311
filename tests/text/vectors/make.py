#!/usr/bin/env python3
"""Makes tests/text/vectors/demo.jsonl: strings and the ids the `tokenizers` package gives them with
models/demo/tokenizer.json, control tokens allowed. Run: python3 make.py (tokenizers 0.23.3)."""
import json
import pathlib
import random

import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE.parents[2] / "models" / "demo" / "tokenizer.json"

HAND = [
    "", " ", "  ", "\n", "\r\n", "\t", "\x00", "a\x00b", "Hello, world!", "hello   world", " x", "x ",
    "I'll you've he's they'D WE'RE it'S o'clock 'tis ''s '' '\u017f", "don't\u2019t",
    "1234567890", "3.14159", "1,000,000", "\u0663\u0664\u0665 \u2460\u2461 \u00bd \u2167",
    "line\nline\r\nline\rline\n\n\nend", "a \n b", "a\n  b", "a  \n\n  b\t\tc", "   \n   ", " \t\r\n\x0b\x0c ",
    "foo();\n\n\n  bar", "x\u00a0y\u2003z\u3000w\u1680v\u180ev\u0085u\u2028t\u2029s\u202fr\u205fq",
    "zero\u200bwidth\u200djoin\u2060er\ufeff", "e\u0301 \u00e9 e\u0301\u0327 e\u0327\u0301 \u1ec7 e\u0323\u0302",
    "\u0301leading", "\n\u0301x", " \u0301", "!\u0301\u0301", "q\u0307\u0323 q\u0323\u0307", "A\u030a \u212b \u00c5",
    "\u2126 \u03a9 \u212a K", "\u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\uae00 \uac00\u11a8 \uac01",
    "\u304b\u3099 \u304c \u30cf\u309a \u30d1", "\ufb01 \ufb1d \ufb2a \u05e9\u05c1", "\u0958 \u0915\u093c \u09cb \u09c7\u09be",
    "\u0b94 \u0b92\u0bd7 \u0dde \u0dd9\u0ddf", "\U0001d15e \U0002f800 \uf900", "\u0344 \u0340 \u0374 \u037e \u0387 \u2000 \u2001",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nyes<|im_end|>\n",
    "<|endoftext|>", "<|endoftext|><|endoftext|>", " <|im_start|> ", "<|im_start", "<|im_start|", "<<|im_end|>>",
    "<|im_<|im_end|>end|>", "<think>a</think>b<tool_call>c</tool_call>", "<tool_response>\n</tool_response>",
    "<|im_end|>\u0301", "e<|im_end|>\u0301", "</think", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "<|IM_START|>",
    "\U0001f600\U0001f602 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 \u2764\ufe0f \U0001f44d\U0001f3fd \U0001f636\u200d\U0001f32b\ufe0f",
    "int main(void) { return x->y[3] * 0xFF; } /* \u00e9 */", "https://example.org/a?b=c&d=%20#e", "a_b-c.d@e.f",
    "-----=====_____", "!!!!!!!!??", "\u2014\u2018\u2019\u201c\u201d\u2026", "\ufffd", "\U0010ffff \ue000 \U000f0000", "aaaa" * 20,
    " " * 33 + "x", "\n" * 17, "ab" * 41 + "c", "the" * 30, "\u0e01" * 45, "\u0301" * 20, "\u0301\u0323\u0327" * 9,
]

SENTENCES = """
Once upon a time there was a small fox who lived in the forest, and nobody knew why.
Zw\u00f6lf Boxk\u00e4mpfer jagen Viktor quer \u00fcber den gro\u00dfen Sylter Deich.
Portez ce vieux whisky au juge blond qui fume \u00e0 l'\u0153uvre o\u00f9 l'\u00eele na\u00eft.
El ping\u00fcino Wenceslao hizo kil\u00f3metros bajo exhaustiva lluvia y fr\u00edo; \u00bfqu\u00e9?
P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148 \u00fap\u011bl \u010f\u00e1belsk\u00e9 \u00f3dy.
Za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144. \u0130stanbul'da \u0131\u015f\u0131k. \u00deetta \u00e6tti a\u00f0 vera.
\u0421\u044a\u0435\u0448\u044c \u0436\u0435 \u0435\u0449\u0451 \u044d\u0442\u0438\u0445 \u043c\u044f\u0433\u043a\u0438\u0445 \u0444\u0440\u0430\u043d\u0446\u0443\u0437\u0441\u043a\u0438\u0445 \u0431\u0443\u043b\u043e\u043a, \u0434\u0430 \u0432\u044b\u043f\u0435\u0439 \u0447\u0430\u044e.
\u0395\u03b3\u03ce \u03b5\u03af\u03bc\u03b1\u03b9 \u03c4\u03bf \u1f04\u03bb\u03c6\u03b1 \u03ba\u03b1\u1f76 \u03c4\u1f78 \u1f6e.
\u0418\u0457\u0436\u0430\u043a \u0457\u0441\u0442\u044c \u0491\u0440\u0443\u043d\u0442. \u0531\u0575\u0562\u0578\u0582\u0562\u0565\u0576 \u10d0\u10dc\u10d1\u10d0\u10dc\u10d8 \u10a0.
\u05d3\u05d2 \u05e1\u05e7\u05e8\u05df \u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd \u05d1\u05bc\u05b0
\u0646\u0635 \u062d\u0643\u064a\u0645 \u0644\u064e\u0647\u064f \u0633\u0650\u0631\u0651\u064c \u0642\u0627\u0637\u0639 \u0622\u0623\u0625 \u06a9\u0698\u06f1\u06f2\u06f3
\u090b\u0937\u093f\u092f\u094b\u0902 \u0915\u094b \u0938\u0924\u093e\u0928\u0947 \u0935\u093e\u0932\u0947 \u0926\u0941\u0937\u094d\u091f \u0967\u0968\u0969
\u0986\u09ae\u09bf \u09ac\u09be\u0982\u09b2\u09be\u09af\u09bc \u0997\u09be\u09a8 \u0997\u09be\u0987 \u0bae\u0bca\u0bb4\u0bbf\u0baf\u0bca \u0c24\u0c46\u0c32\u0c41\u0c17\u0c41 \u0cb9\u0cc6\u0cca
\u0e40\u0e1b\u0e47\u0e19\u0e21\u0e19\u0e38\u0e29\u0e22\u0e4c\u0e2a\u0e38\u0e14\u0e1b\u0e23\u0e30\u0e40\u0e2a\u0e23\u0e34\u0e10 \u0e01\u0e33 \u0e51\u0e52
\u178f\u17be\u17a2\u17d2\u1793\u1780 \u101b\u1031\u1000\u103a \u0f40\u0f71\u0f72 \u1200\u120e \u13a0\u13b8
\u6211\u80fd\u541e\u4e0b\u73bb\u7483\u800c\u4e0d\u4f24\u8eab\u4f53\u3002\u4f60\u597d\uff0c\u4e16\u754c\uff01\uff11\uff12
\u79c1\u306f\u30ac\u30e9\u30b9\u3092\u98df\u3079\u3089\u308c\u307e\u3059\u3002\u30d7\u30ed\u30b0\u30e9\u30e0\u300c\u300d\u301c
\ub2e4\ub78c\uc950 \ud5cc \uccc7\ubc14\ud034\uc5d0 \ud0c0\uace0\ud30c. \u3131\u314e
Ti\u1ebfng Vi\u1ec7t th\u00ec ph\u1ee9c t\u1ea1p: \u01b0\u01a1\u0300ng, o\u031b\u0301, \u1ed9\u1ef3.
\u2200x\u2208\u211d: \u230ax\u230b \u2260 \u2212\u221ex\u00b2 \u2297 \u222b\u2082\u207f \U0001d54f\U0001d4b3 \u2102
""".strip().split("\n")

RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
          (0x5D0, 0x5EA), (0x620, 0x652), (0x905, 0x94D), (0xE01, 0xE3A), (0x1100, 0x11F9), (0x1E00, 0x1EF9),
          (0x1F00, 0x1F15), (0x2000, 0x206F), (0x2190, 0x21FF), (0x3041, 0x30FF), (0x4E00, 0x9FFF),
          (0xAC00, 0xD7A3), (0xF900, 0xFA6D), (0xFB1D, 0xFB36), (0x1F300, 0x1F64F), (0x1D400, 0x1D454)]
PIECES = [" ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "12", "...", "<|im_end|>", "<think>", "\u0301", "the", " and"]


def noise(r):
    out = []
    for _ in range(r.randrange(1, 9)):
        if r.random() < 0.5:
            out.append(r.choice(PIECES))
        else:
            low, high = r.choice(RANGES)
            out.append("".join(chr(r.randint(low, high)) for _ in range(r.randrange(1, 6))))
    return "".join(out)


def main():
    r = random.Random(20)
    tok = tokenizers.Tokenizer.from_file(str(MODEL))
    texts = HAND + SENTENCES
    texts += [a.upper() + r.choice(PIECES) + b[::-1] for a in SENTENCES[:8] for b in SENTENCES[8:12]]
    texts += [noise(r) for _ in range(300)]
    with open(HERE / "demo.jsonl", "w", encoding="ascii") as out:
        for text in texts:
            ids = tok.encode(text, add_special_tokens=False).ids
            out.write(json.dumps({"text": text, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
