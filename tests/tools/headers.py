"""Rule: every header compiles alone, with each compiler there is: the internal ones as C, the public
ones as C and as C++. A header that is the body of a template (*_tmpl.h) is not a header.
"""
import concurrent.futures
import os
import shutil
import subprocess

import rule

WARNINGS = ["-fsyntax-only", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wundef", "-Werror"]
AS_C = ["-x", "c", "-std=c17", "-D_GNU_SOURCE", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla"]
AS_CXX = ["-x", "c++", "-std=c++11", "-pedantic"]
ISA = {  # as in CMakeLists.txt, by a word of the name (delta_amx_pack.h is a part of delta_amx.c)
    "_avx2": ["-mavx2", "-mfma", "-mf16c"],
    "_avx512": ["-march=skylake-avx512"],
    "_amx": ["-march=sapphirerapids"],
}


def compilers():
    """(program, flags, sees internal headers)"""
    for name, flags, internal in [("gcc", AS_C, True), ("clang", AS_C, True),
                                  ("g++", AS_CXX, False), ("clang++", AS_CXX, False)]:
        if shutil.which(name):
            yield name, flags, internal


def compile_alone(root, header, compiler, flags):
    stem = header.rsplit(".", 1)[0]
    isa = next((f for word, f in ISA.items() if word + "_" in stem + "_"), [])
    if isa:
        isa = [*isa, "-Wno-unused-function"]  # parts of one body, for the file that includes them
    # Twice: it guards itself. A declaration after it: it leaves none open.
    text = f'#include "{header}"\n#include "{header}"\nextern int header_ends_here;\n'
    run = subprocess.run([compiler, *flags, *WARNINGS, *isa, "-Isrc", "-Iinclude", "-"],
                         input=text, cwd=root, capture_output=True, text=True)
    if run.returncode == 0:
        return None
    reason = next((line for line in run.stderr.splitlines() if "error" in line), "fails")
    return f"{header}: {compiler}: {reason}"


def check(root):
    jobs = []
    for folder, public in [("include", True), ("src", False)]:
        for path, _ in rule.sources(root, folder, suffixes=(".h",)):
            if path.endswith("_tmpl.h") or path.startswith("src/kernels/cuda/"):
                continue
            header = path.removeprefix(folder + "/")
            jobs += [(root, header, name, flags) for name, flags, internal in compilers()
                     if public or internal]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [s for s in pool.map(lambda job: compile_alone(*job), jobs) if s]


def guarded(text):
    return "#ifndef A_H\n#define A_H\n" + text + "\n#endif\n"


def check_first(root):
    """For the self-test: one sentence is enough, however many compilers see it."""
    return check(root)[:1]


CLEAN = {
    "src/base/a.h": guarded("#include <stddef.h>\nstruct a { size_t class; };"),
    "src/base/b.h": '#ifndef B_H\n#define B_H\n#include "base/a.h"\nstruct b { struct a a; };\n#endif\n',
    "src/kernels/cpu/body_tmpl.h": "VECTOR f(VECTOR x) { return x; }\n",
    "include/gdn/a.h": guarded("struct gdn_a { int kind; };"),
}
BROKEN = [
    ({"src/base/a.h": guarded("int f(size_t n);")}, "size_t"),
    ({"src/base/a.h": "struct a { int x; };\n"}, "redefinition"),
    ({"src/base/a.h": guarded("int f();")}, "prototype"),
    ({"src/base/a.h": guarded('#include "base/gone.h"')}, "gone.h"),
    ({"src/base/a.h": guarded("struct a { int x; }")}, "base/a.h"),
    ({"include/gdn/a.h": guarded("struct gdn_a { int class; };")}, "g++"),
    ({"include/gdn/a.h": guarded("static inline int *f(void *p) { return p; }")}, "g++"),
]

if __name__ == "__main__":
    import sys
    rule.main(check_first if "--self-test" in sys.argv else check, CLEAN, BROKEN)
