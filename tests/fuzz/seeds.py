#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: python3 tests/fuzz/seeds.py

Each hostile shape that has hurt a parser of model files is rebuilt here as one small file, by its
cause: no bytes are taken from anyone's exploit. Files that a fuzzer found later are added beside
these under other names and stay for ever.
"""
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


# --- safetensors ---------------------------------------------------------------------------------

def image(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(name, dtype, shape, begin, end):
    return '"%s":{"dtype":"%s","shape":%s,"data_offsets":[%s,%s]}' % (
        name, dtype, json.dumps(shape, separators=(",", ":")), begin, end)


def file(*tensors, data=0):
    return image("{" + ",".join(tensors) + "}", bytes(data))


SAFETENSORS = {
    # Files that are right.
    "good-empty": image("{}"),
    "good-one": file(tensor("w", "F32", [2, 2], 0, 16), data=16),
    "good-model": file('"__metadata__":{"format":"pt"}', tensor("model.a", "BF16", [2, 3], 2, 14),
                       tensor("model.b", "U8", [2], 0, 2), tensor("none", "I64", [0, 4], 14, 14),
                       tensor("s", "F8_E4M3", [], 14, 15), data=15),
    "good-spaces": image('{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}   \n', b"\1"),
    "good-escapes": file(tensor("\\u00e9\\ud83d\\ude00\\\"", "F16", [1], 0, 2), data=2),
    "good-rank-8": file(tensor("a", "I8", [1] * 8, 0, 1), data=1),
    "good-name-256": file(tensor("n" * 256, "I8", [1], 0, 1), data=1),
    "good-many": file(*(tensor("t%d" % i, "U8", [1], i, i + 1) for i in range(300)), data=300),

    # CVE-2024-21802, -21825, -21836, -23496, -23605: a product wraps and is small again.
    "wrap-product-to-zero": file(tensor("a", "U8", [1 << 32, 1 << 32], 0, 0)),
    "wrap-product-to-one": file(tensor("a", "U8", [0xffffffff, 0xffffffff, 0x100000001], 0, 1),
                                data=1),
    # CVE-2025-53630, CVE-2026-27940, CVE-2026-33298: the count fits, the byte size wraps.
    "wrap-bytes": file(tensor("a", "F64", [(1 << 61) + 1], 0, 8), data=8),
    "wrap-bytes-to-zero": file(tensor("a", "F64", [1 << 61], 0, 0)),
    "wrap-then-zero": file(tensor("a", "F64", [1 << 40, 1 << 40, 0], 0, 0)),
    "wrap-offset-sum": file(tensor("a", "U8", [1], (1 << 63) - 1, 1 << 63), data=1),
    "wrap-offset-u64": file(tensor("a", "U8", [8], (1 << 64) - 8, 1 << 64), data=1),
    # The length field itself wraps, or asks for memory (CVE-2025-0317, CVE-2025-66959).
    "length-max": image("{}", length=(1 << 64) - 1),
    "length-wrap": image("{}", length=(1 << 64) - 8),
    "length-negative": image("{}", length=1 << 63),
    "length-limit": image("{}", length=100000000),
    "length-above-limit": image("{}", length=100000001),
    "length-one-more": image("{}", length=3),
    "length-one-less": image("{}", length=1),
    "length-zero": image("{}", length=0),
    "length-only": struct.pack("<Q", 2),
    "length-cut": b"\2\0\0\0\0",
    # CVE-2026-7482: an extent behind the end of the file becomes a read of foreign memory.
    "extent-behind-file": file(tensor("a", "F32", [1024], 0, 4096), data=16),
    "extent-one-behind": file(tensor("a", "U8", [17], 0, 17), data=16),
    "extent-huge": file(tensor("a", "U8", [(1 << 63) - 1], 0, (1 << 63) - 1), data=16),
    # Offsets used unchecked (MLX #4179, #4212; safetensors-cpp).
    "offsets-backwards": file(tensor("a", "U8", [1], 2, 1), data=2),
    "offsets-negative": file(tensor("a", "U8", [4], -4, 0), data=4),
    "offsets-three": file('"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}', data=1),
    "offsets-one": file('"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}', data=1),
    "offsets-float": file(tensor("a", "U8", [1], "0.0", "1e0"), data=1),
    # CVE-2024-12055 and the division by block_count: zero and negative sizes.
    "shape-zero": file(tensor("a", "F32", [0], 0, 0), tensor("b", "F32", [0, 0], 0, 0)),
    "shape-zero-with-bytes": file(tensor("a", "F32", [0], 0, 4), data=4),
    "shape-negative": file(tensor("a", "U8", [-1, -1], 0, 1), data=1),
    "shape-not-numbers": file('"a":{"dtype":"U8","shape":["1",null],"data_offsets":[0,1]}', data=1),
    # The declared type is not the one that is read (INT8 arrays read as float).
    "type-smaller": file(tensor("a", "I8", [4], 0, 16), data=16),
    "type-larger": file(tensor("a", "F64", [4], 0, 4), data=4),
    "type-unknown": file(tensor("a", "F33", [1], 0, 4), data=4),
    "type-foreign": file(tensor("a", "F8_E8M0", [1], 0, 1), data=1),
    "type-number": file('"a":{"dtype":4,"shape":[1],"data_offsets":[0,4]}', data=4),
    # Rank written past a fixed array.
    "rank-9": file(tensor("a", "U8", [1] * 9, 0, 1), data=1),
    "rank-1000": file(tensor("a", "U8", [1] * 1000, 0, 1), data=1),
    "name-257": file(tensor("n" * 257, "I8", [1], 0, 1), data=1),
    "name-zero-byte": file(tensor("a\\u0000b", "I8", [1], 0, 1), data=1),
    "name-escape-code": file(tensor("a\\u001b[2J", "I8", [1], 0, 1), data=1),
    "name-lone-surrogate": file(tensor("\\ud800", "I8", [1], 0, 1), data=1),
    "name-not-utf8": image(b'{"\xff":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"\1"),
    # Recursion (nested ARRAY in gguf-py).
    "nested-64": image('{"a":' + "[" * 63 + "]" * 63 + "}"),
    "nested-deep": image('{"a":' + "[" * 5000),
    "nested-metadata": image('{"__metadata__":{"a":{"b":{}}}}'),
    # What the audit of the reference closed: two files in one.
    "polyglot-space-first": image(' {"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}'),
    "polyglot-array": image("[]"),
    "polyglot-trailing-json": image("{}{}"),
    "polyglot-trailing-bytes": image("{}", b"PK\3\4"),
    "polyglot-hole": file(tensor("a", "U8", [1], 0, 1), tensor("b", "U8", [1], 3, 4), data=4),
    "polyglot-hole-first": file(tensor("a", "U8", [1], 1, 2), data=2),
    "overlap-same": file(tensor("a", "U8", [2], 0, 2), tensor("b", "U8", [2], 0, 2), data=2),
    "overlap-part": file(tensor("a", "U8", [2], 0, 2), tensor("b", "U8", [2], 1, 3), data=3),
    "overlap-empty-inside": file(tensor("a", "U8", [2], 0, 2), tensor("z", "U8", [0], 1, 1),
                                 data=2),
    "twice-name": file(tensor("a", "U8", [1], 0, 1), tensor("a", "U8", [1], 1, 2), data=2),
    "twice-name-escaped": file(tensor("a", "U8", [1], 0, 1), tensor("\\u0061", "U8", [1], 1, 2),
                               data=2),
    "twice-field": file('"a":{"dtype":"U8","dtype":"F64","shape":[1],"data_offsets":[0,1]}',
                        data=1),
    "twice-metadata": image('{"__metadata__":{},"__metadata__":{}}'),
    "field-unknown": file('"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}', data=1),
    "field-missing": file('"a":{"dtype":"U8","shape":[1]}', data=1),
    "cut-header": image('{"a":{"dtype":"U8","shape":[1],"data_off'),
    "magic-gguf": b"GGUF\3\0\0\0" + bytes(16),
    "magic-zip": b"PK\3\4" + bytes(30),

    # The index of shards; the target has the tensors a and b in the first file.
    "index-good": b'{"metadata":{"total_size":2},"weight_map":{"a":"m-1.safetensors",'
                  b'"b":"m-1.safetensors"}}',
    "index-two-files": b'{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}',
    "index-unlisted": b'{"weight_map":{"a":"m"}}',
    "index-unknown-tensor": b'{"weight_map":{"a":"m","b":"m","c":"m"}}',
    "index-twice": b'{"weight_map":{"a":"m","a":"m","b":"m"}}',
    "index-two-maps": b'{"weight_map":{"a":"m","b":"m"},"weight_map":{}}',
    # CVE-2024-37032, CVE-2024-45436, CVE-2026-7020: a name becomes a path.
    "index-path-up": b'{"weight_map":{"a":"../../etc/passwd","b":"m"}}',
    "index-path-root": b'{"weight_map":{"a":"/etc/passwd","b":"m"}}',
    "index-path-escaped": b'{"weight_map":{"a":"..\\u002f..\\u002fx","b":"m"}}',
    "index-path-zero": b'{"weight_map":{"a":"m\\u0000.safetensors","b":"m"}}',
    "index-path-dots": b'{"weight_map":{"a":"..","b":"."}}',
    "index-path-long": b'{"weight_map":{"a":"' + b"m" * 129 + b'","b":"m"}}',
    "index-many-files": b'{"weight_map":{%s}}' % b",".join(b'"%d":"f%d"' % (i, i)
                                                           for i in range(1001)),
    "index-no-map": b'{"metadata":{}}',
    "index-map-is-list": b'{"weight_map":["a","m"]}',
    "index-nested": b'{"metadata":' + b"[" * 100 + b"]" * 100 + b',"weight_map":{}}',
}

# --- json ----------------------------------------------------------------------------------------

JSON = {
    "object": b'{"a": [1, -2.5e+3, true, false, null], "b": {"c": "d"}, "": []}',
    "tokenizer": '{"model":{"vocab":{"\\u0120the":0,"Ġof":1},"merges":[["a","b"]]}}'.encode(),
    "escapes": b'"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac"',
    "surrogates": b'"\\ud83d\\ude00\\uD800\\uDC00\\udbff\\udfff"',
    "surrogate-high": b'"\\ud800"',
    "surrogate-low": b'"\\udc00"',
    "surrogate-twice": b'"\\ud800\\ud800"',
    "surrogate-then-text": b'"\\ud800x"',
    "zero-in-text": b'"a\\u0000b"',
    "zero-in-key": b'{"a\\u0000b":1}',
    "zero-byte": b'"a\0b"',
    "zero-behind": b"0\0x",
    "zero-behind-number": b"[1\0]",
    "key-twice": b'{"a":1,"a":2}',
    "utf8": '["é","€","😀","\u07ff","\uffff","\U0010ffff"]'.encode(),
    "utf8-overlong": b'"\xc0\x80"',
    "utf8-overlong-3": b'"\xe0\x9f\xbf"',
    "utf8-overlong-4": b'"\xf0\x8f\xbf\xbf"',
    "utf8-surrogate": b'"\xed\xa0\x80"',
    "utf8-above": b'"\xf4\x90\x80\x80"',
    "utf8-cut": b'"\xe2\x82',
    "utf8-bom": b"\xef\xbb\xbf{}",
    "control": b'"\x1f"',
    "words": b"[true,false,null]",
    "word-cut": b"tru",
    "word-nan": b"[NaN,Infinity,-Infinity]",
    "integers": b"[0,-0,1,-1,9007199254740993,9223372036854775807,-9223372036854775808,1e2]",
    "number-doubles": b"[0.1,4.9e-324,2.2250738585072014e-308,1.7976931348623157e308,1e22,1e23]",
    "number-huge": b"[1e309,-1e999999999999]",
    "number-small": b"1e-99999999999999999999",
    "number-long": b"0." + b"0" * 900 + b"1" * 900 + b"e900",
    "number-zero-first": b"[01]",
    "number-plus": b"[+1]",
    "number-point": b"[1.]",
    "number-no-digit": b"[-]",
    "number-exponent": b"[1e]",
    "number-hex": b"[0x10]",
    "comma-last": b"[1,]",
    "comma-last-object": b'{"a":1,}',
    "comma-first": b"[,1]",
    "comment": b"[1]//x",
    "quote-single": b"{'a':1}",
    "two-values": b"{}{}",
    "wrong-end": b"[}",
    "depth-64": b"[" * 64 + b"]" * 64,
    "depth-65": b"[" * 65 + b"]" * 65,
    "depth-64-object": b'{"a":' * 64 + b"1" + b"}" * 64,
    "depth-open": b"[" * 3000,
    "spaces": b" \t\r\n[ \t\r\n1 \t\r\n] \t\r\n",
    "long-text": b'"' + b"abcdefgh" * 40 + b'\\n"',
    "empty": b"",
}

for name, data in SAFETENSORS.items():
    put("safetensors", name, data)
for name, data in JSON.items():
    put("json", name, data)
