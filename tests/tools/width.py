"""Rule: lines of at most 100 columns, in the sources of the engine and its public headers."""
import rule

LIMIT = 100
FOLDERS = ("include", "src", "examples", "tests/cli", "tests/api", "tests/run", "tests/laws",
           "tests/stage")
# Kernels are reflowed when they are touched.
EXCEPT = ("src/kernels/",)


def check(root):
    return [f"{name}:{number}: {len(line)} columns, more than {LIMIT}"
            for name, text in rule.sources(root, *FOLDERS) if not name.startswith(EXCEPT)
            for number, line in enumerate(text.split("\n"), 1) if len(line) > LIMIT]


CLEAN = {
    "src/base/a.c": "x" * 100 + "\n",
    "include/gdn/a.h": "é" * 100 + "\n",
    "src/kernels/cpu/a.c": "x" * 120 + "\n",
    "tests/golden/a.c": "x" * 120 + "\n",
}
BROKEN = [({f"{folder}/a/a.{suffix}": "x\n" + "x" * 101 + "\n"}, f"a.{suffix}:2: 101 columns")
          for folder in FOLDERS for suffix in ("c", "h")]

if __name__ == "__main__":
    rule.main(check, CLEAN, BROKEN)
