#!/usr/bin/env python3
"""Writes the seeds of the fuzz target state_file: python3 tests/fuzz/state_seeds.py

The files are built from docs/state.md ("State file, version 1") and not from the code: that the code
loads good-* shows that the page is true. Files that a fuzzer found later stay beside these.
"""
import pathlib
import struct

FOLDER = pathlib.Path(__file__).parent / "corpus" / "state_file"
BLOCK = 1 << 20
MASK = (1 << 64) - 1
F32, BF16, F16, F64 = 0, 1, 2, 3
SIZE = {F32: 4, BF16: 2, F16: 2, F64: 8}

# --- XXH64 -------------------------------------------------------------------------------------------

P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
                      0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def rotl(x, n):
    return (x << n | x >> (64 - n)) & MASK


def lane(acc, word):
    return rotl((acc + word * P2) & MASK, 31) * P1 & MASK


def xxh64(data, seed=0):
    h, at = (seed + P5) & MASK, 0
    if len(data) >= 32:
        acc = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while len(data) - at >= 32:
            acc = [lane(a, w) for a, w in zip(acc, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = sum(rotl(a, n) for a, n in zip(acc, (1, 7, 12, 18))) & MASK
        for a in acc:
            h = ((h ^ lane(0, a)) * P1 + P4) & MASK
    h = (h + len(data)) & MASK
    while len(data) - at >= 8:
        h = (rotl(h ^ lane(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & MASK
        at += 8
    if len(data) - at >= 4:
        h = (rotl(h ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        h = rotl(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


assert xxh64(b"") == 0xEF46DB3751D8E999 and xxh64(b"abc") == 0x44BC2CF5AD770999

# --- the layout ----------------------------------------------------------------------------------------

# tests/state/file_craft.h: file_small
SHAPES = [dict(kind=0, gate=0, Hk=1, Hv=2, Dk=4, Dv=8, taps=2, Hkv=0, D=0),
          dict(kind=1, gate=0, Hk=0, Hv=0, Dk=0, Dv=0, taps=0, Hkv=1, D=4),
          dict(kind=0, gate=1, Hk=1, Hv=1, Dk=4, Dv=4, taps=4, Hkv=0, D=0)]


def section(tag, data, size=None):
    size = len(data) if size is None else size
    return struct.pack("<8sQ", tag.encode(), size) + data + bytes(-len(data) % 16)


def values(n, dtype):
    """n numbers of a type, small and different."""
    x = [((i * 37) % 64 - 32) / 16 for i in range(n)]
    if dtype == F64:
        return struct.pack(f"<{n}d", *x)
    if dtype == F16:
        return struct.pack(f"<{n}e", *x)
    if dtype == BF16:
        return b"".join(struct.pack("<f", v)[2:] for v in x)
    return struct.pack(f"<{n}f", *x)


def identity(model=b"\7" * 32, compute=F32, anchor=F32, wide=F32, layers=len(SHAPES), position=1,
             length=1, entries=16, best=2, lse=1.5):
    return struct.pack("<32s8If3I", model, compute, anchor, wide, layers, position, length, entries,
                       best, lse, 0, 0, 0)


def shapes(table):
    return b"".join(struct.pack("<12I", *(s[k] for k in "kind gate Hk Hv Dk Dv taps Hkv D".split()),
                                0, 0, 0) for s in table)


def layers(table, position, length, compute, anchor, wide):
    for s in table:
        if s["kind"] == 1:
            n = position * s["Hkv"] * s["D"]
            yield section("keys", values(n, compute))
            yield section("valuesof", values(n, compute))
            continue
        rows = min(s["taps"] - 1 + length, position)
        channels = 2 * s["Hk"] * s["Dk"] + s["Hv"] * s["Dv"]
        yield section("anchor", values(s["Hv"] * s["Dv"] * s["Dk"], anchor))
        yield section("log k", values(length * s["Hk"] * s["Dk"], compute))
        yield section("log u", values(length * s["Hv"] * s["Dv"], wide))
        yield section("log G", values(length * s["Hv"] * (s["Dk"] if s["gate"] else 1), wide))
        yield section("ring", values(rows * channels, compute))


def payload(table=SHAPES, **given):
    """The sections of a good file, as a list; `given` are fields of the identity."""
    get = dict(position=1, length=1, best=2, compute=F32, anchor=F32, wide=F32) | given
    position, best = get["position"], get["best"]
    return [section("identity", identity(**given)), section("shapes", shapes(table)),
            section("tokens", struct.pack(f"<{position}i", *range(position))),
            section("ids", struct.pack(f"<{best}i", *range(best))),
            section("values", values(best, F32)),
            *layers(table, position, get["length"], get["compute"], get["anchor"], get["wide"])]


def seal(data, version=1, block=BLOCK, magic=b"gdnstate", claim=None, blocks=None, total=None):
    data = b"".join(data) if isinstance(data, list) else data
    parts = [data[i:i + BLOCK] for i in range(0, len(data), BLOCK)]
    size = 64 + len(data) + 8 * (len(parts) + 1)
    head = struct.pack("<8sII5Q", magic, version, block, len(data) if claim is None else claim,
                       len(parts) if blocks is None else blocks, size if total is None else total,
                       0, 0)
    head += struct.pack("<Q", xxh64(head))
    table = b"".join(struct.pack("<Q", xxh64(p)) for p in parts)
    return head + data + table + struct.pack("<Q", xxh64(table, xxh64(head[:56])))


def changed(at, data):
    """A good payload with other bytes at a place, sealed."""
    good = b"".join(payload())
    return seal(good[:at] + data + good[at + len(data):])


def at_field(name):
    """Byte of a field of the identity in the payload."""
    return 16 + 32 + 4 * "compute anchor wide layers position length entries best".split().index(name)


def u32(x):
    return struct.pack("<I", x & 0xFFFFFFFF)


GOOD = payload()
TOO_WIDE = [dict(SHAPES[0], Dv=1 << 31), *SHAPES[1:]]

SEEDS = {
    # Files that are right; half-* are right for a state that computes in bf16.
    "good": seal(GOOD),
    "good-log-full": seal(payload(position=16, length=16)),
    "good-next-block": seal(payload(position=17, length=1)),
    "good-two-pages": seal(payload(position=65, length=1)),
    "good-log-empty": seal(payload(position=16, length=0)),
    "good-no-distribution": seal(payload(best=0)),
    "good-bf16-anchor": seal(payload(anchor=BF16)),
    "good-reference": seal(payload(anchor=F64, wide=F64)),
    "half": seal(payload(compute=BF16)),
    "half-bf16-anchor": seal(payload(compute=BF16, anchor=BF16)),
    # Not a state file, or of another time.
    "bad-empty": b"",
    "bad-magic": seal(GOOD, magic=b"gdnstat2"),
    "bad-version": seal(GOOD, version=2),
    "bad-block": seal(GOOD, block=512),
    "bad-prologue-only": seal(GOOD)[:64],
    "bad-nothing-in-it": seal(b""),
    # Lengths that lie (CVE-2026-43629: a count in a state file became a size).
    "bad-payload-short": seal(GOOD, claim=16),
    "bad-payload-wraps": seal(GOOD, claim=MASK - 63),
    "bad-payload-max": seal(GOOD, claim=MASK, blocks=1 << 44)[:64],
    "bad-blocks-wrap": seal(GOOD, blocks=1 << 61)[:64],
    "bad-total": seal(GOOD, total=1 << 40)[:64],
    "bad-section-wraps": changed(8, struct.pack("<Q", MASK - 15)),
    "bad-section-behind": changed(8, struct.pack("<Q", 1 << 20)),
    # Counts and types.
    "bad-compute": changed(at_field("compute"), u32(9)),
    "bad-anchor-i32": changed(at_field("anchor"), u32(4)),
    "bad-wide": changed(at_field("wide"), u32(-1)),
    "bad-layers": changed(at_field("layers"), u32(-1)),
    "bad-position-0": seal(payload(position=0, length=0)),
    "bad-position-max": changed(at_field("position"), u32(0x7FFFFFFF)),
    "bad-position-negative": changed(at_field("position"), u32(-2)),
    "bad-length": changed(at_field("position"), u32(17) + u32(17)),
    "bad-length-position": seal(payload(position=1, length=2)),
    "bad-best": changed(at_field("best"), u32(257)),
    # Another model, other shapes, sections that are missing, twice, in another order or too many.
    "bad-model": seal(payload(model=b"\7" * 31 + b"\6")),
    "bad-shape": seal(payload(table=[SHAPES[0], SHAPES[1], dict(SHAPES[2], taps=5)])),
    "bad-shape-wide": seal([GOOD[0], section("shapes", shapes(TOO_WIDE)), *GOOD[2:]]),
    "bad-shape-kind": seal(payload(table=[SHAPES[1], SHAPES[1], SHAPES[2]])),
    "bad-half": seal(GOOD[:len(GOOD) // 2]),
    "bad-last-missing": seal(GOOD[:-1]),
    "bad-order": seal([*GOOD[:3], GOOD[4], GOOD[3], *GOOD[5:]]),
    "bad-tag": seal([*GOOD[:5], section("ANCHOR", GOOD[5][16:]), *GOOD[6:]]),
    "bad-tag-escape": seal([section("\x1b[2J", b"")]),
    "bad-more": seal([*GOOD, section("more", bytes(32))]),
    "bad-tail": seal(b"".join(GOOD) + bytes(8)),
    # Right in itself, but not what was sealed.
    "bad-seal": seal(GOOD)[:-1] + b"\0",
    "bad-flip": changed(0, b"I"),
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (FOLDER / name).write_bytes(data)
    print(f"{len(SEEDS)} seeds, {sum(map(len, SEEDS.values()))} bytes")
