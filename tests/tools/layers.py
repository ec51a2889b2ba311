"""Rule: the arrows between folders. A folder includes its own headers and those of lower levels;
never a neighbour of its level, never upward. Reads #include lines and the identifiers of a few folders.
"""
import re

import rule

# The level of each folder. One folder may stand below another of its level: BESIDE.
LEVEL = {
    "base": 0, "tensor": 1, "ops": 2, "kernels": 2, "state": 3, "formats": 3, "text": 3,
    "model": 4, "run": 5, "train": 5, "api": 6,
}
BESIDE = {("train", "run")}
OUTSIDE = {"cli", "server"}  # programs: public headers and base, nothing else
DEVICES = {"kernels/ref", "kernels/cpu", "kernels/cuda"}
DEVICE_USERS = {"src/kernels/open.c": DEVICES, "src/kernels/nocuda.c": {"kernels/cuda"}}

# Libraries that stand behind one file, and the folder that file is in.
LIBRARY = {"jansson.h": "model", "pcre2.h": "text", "utf8proc.h": "text"}

# Words a folder may not know: (folder, pattern over identifiers, the file that may, what it is).
UNKNOWN = [
    ("model", re.compile(r"\w*(?:cuda|avx\d|amx|sm_?90)\w*", re.I), "", "a device or an ISA"),
    ("model", re.compile(r"DTYPE_(?!COUNT)\w+"), "src/model/weights_take.c", "a dtype"),
    ("kernels", re.compile(r"(?:\w+_)?(?:qwen|kimi|olmo|layer)(?:\d|s?(?:_\w+)?)", re.I), "",
     "a family or a layer"),
    ("ops", re.compile(r"(?:\w+_)?(?:qwen|kimi|olmo)(?:\d|_)?\w*", re.I), "", "a family"),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
WORD = re.compile(r"[A-Za-z_]\w*")


def place(path):
    """(folder, part) of a path below src: kernels/cpu/delta.h -> kernels, kernels/cpu."""
    parts = path.split("/")
    part = "/".join(parts[:2])
    return parts[0], part if part in DEVICES else parts[0]


def may_include(path, target):
    """None when src/<path> may include "target", else the reason why not."""
    if target.startswith("gdn/"):
        return None
    folder, part = place(path)
    to, to_part = place(target)
    if "/" not in target or to not in LEVEL and to != folder:
        return "written from src/ or include/, and in a folder of the house"
    if folder == to:
        users = DEVICE_USERS.get("src/" + path, {part})
        if to_part in DEVICES and to_part not in users:
            return "kernels/{ref,cpu,cuda} meet only in src/kernels/open.c"
        return None
    if folder in OUTSIDE:
        return None if to == "base" else "a program sees public headers and base only"
    if to_part in DEVICES:
        return "a device's own headers stay inside src/kernels"
    if LEVEL[to] == LEVEL[folder] and (folder, to) not in BESIDE:
        return f"{to} is a neighbour of {folder}"
    if LEVEL[to] > LEVEL[folder]:
        return f"{to} lies above {folder}"
    return None


def check_file(path, text, users):
    inside = path.removeprefix("src/")
    folder = inside.split("/")[0]
    if folder not in LEVEL and folder not in OUTSIDE:
        yield f"{path}: src/{folder} has no level in the layer rule"
        return
    for number, match in rule.lines_matching(INCLUDE, rule.without_comments(text)):
        local, system = match.groups()
        reason = may_include(inside, local) if local else None
        if reason:
            yield f"{path}:{number}: includes {local}: {reason}"
        elif system in LIBRARY:
            users.setdefault(system, set()).add(path)
            if folder != LIBRARY[system]:
                yield f"{path}:{number}: {system} belongs to src/{LIBRARY[system]}"
        elif system and system.startswith("cuda") and not inside.startswith("kernels/cuda/"):
            yield f"{path}:{number}: only kernels/cuda sees CUDA types"
    for where, pattern, file, what in UNKNOWN:
        if folder != where or path == file:
            continue
        for number, match in rule.lines_matching(WORD, rule.code_only(text)):
            if pattern.fullmatch(match[0]):
                yield f"{path}:{number}: {folder} may not name {what}: {match[0]}"


def check(root):
    users = {}
    found = [s for path, text in rule.sources(root, "src") for s in check_file(path, text, users)]
    for path, text in rule.sources(root, "include"):
        for number, match in rule.lines_matching(INCLUDE, rule.without_comments(text)):
            if match[1] and not match[1].startswith("gdn/"):
                found.append(f"{path}:{number}: a public header includes only public headers")
    for header, files in users.items():
        if len(files) > 1:
            found.append(f"{header} stands behind one file, but is included by {sorted(files)}")
    return found


def broken(path, line, words):
    return {path: f"/* head */\n{line}\n"}, words


CLEAN = {
    "src/train/loop.c": '#include "train/loop.h"\n#include "run/engine.h"\n#include "ops/front.h"\n',
    "src/kernels/open.c": '#include "kernels/cpu/cpu.h"\n#include "kernels/ref/ref.h"\n',
    "src/kernels/cpu/delta.c": '#include "kernels/cpu/cpu.h"\n#include "tensor/call.h"\n',
    "src/model/weights_take.c": "#include <jansson.h>\nint f(void) { return DTYPE_F32; }\n",
    "src/model/layer.c": '/* #include "run/engine.h", avx2 */\nconst char *s = "cuda DTYPE_F32";\n',
    "src/cli/main.c": '#include "gdn/gdn.h"\n#include "base/log.h"\n#include "cli/command.h"\n',
    "include/gdn/gdn.h": '#include "gdn/error.h"\n#include <stddef.h>\n',
}
BROKEN = [
    broken("src/base/a.c", '#include "tensor/tensor.h"', "tensor lies above base"),
    broken("src/ops/a.c", '#include "kernels/open.h"', "kernels is a neighbour of ops"),
    broken("src/kernels/ref/a.c", '#include "ops/front.h"', "ops is a neighbour of kernels"),
    broken("src/formats/a.c", '#  include "text/bpe.h"', "text is a neighbour of formats"),
    broken("src/run/a.c", '#include "train/loop.h"', "train is a neighbour of run"),
    broken("src/model/a.c", '#include "run/engine.h"', "run lies above model"),
    broken("src/kernels/cpu/a.c", '#include "kernels/ref/ref.h"', "meet only in src/kernels/open.c"),
    broken("src/kernels/nocuda.c", '#include "kernels/cpu/cpu.h"', "meet only in"),
    broken("src/state/a.c", '#include "kernels/cpu/cpu.h"', "stay inside src/kernels"),
    broken("src/cli/a.c", '#include "model/config.h"', "public headers and base only"),
    broken("src/server/a.c", '#include "run/engine.h"', "public headers and base only"),
    broken("src/base/a.c", '#include "arena.h"', "written from src/"),
    broken("src/utils/a.c", "int x;", "has no level"),
    broken("src/run/a.c", "#include <jansson.h>", "belongs to src/model"),
    ({"src/text/a.c": "#include <pcre2.h>\n", "src/text/b.c": "#include <pcre2.h>\n"}, "one file"),
    broken("src/tensor/a.c", "#include <cuda_runtime.h>", "only kernels/cuda sees CUDA"),
    broken("src/model/a.c", "int use_avx2;", "a device or an ISA"),
    broken("src/model/a.c", "int d = DTYPE_BF16;", "may not name a dtype"),
    broken("src/kernels/ref/a.c", "int first_layer;", "a family or a layer"),
    broken("src/ops/a.c", "int qwen_rope;", "a family"),
    broken("include/gdn/a.h", '#include "base/arena.h"', "only public headers"),
]

if __name__ == "__main__":
    rule.main(check, CLEAN, BROKEN)
