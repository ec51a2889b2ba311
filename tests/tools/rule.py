"""What the rule scripts share: reading a tree of sources, reporting, and proving that a rule can fail.

A rule is a function from the root of a tree to a list of sentences, one for each violation. Its
self-test gives small trees that break it, each with the words the sentence must contain, and one
that does not.
"""
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

TOKEN = re.compile(
    r"""(?P<comment>//(?:[^\n\\]|\\.|\\\n)*|/\*.*?(?:\*/|\Z))"""
    r"""|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""",
    re.DOTALL | re.VERBOSE)


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """The source with comments blanked; lines keep their numbers."""
    return TOKEN.sub(lambda m: blank(m[0]) if m["comment"] else m[0], text)


def code_only(text):
    """The source with comments and the insides of literals blanked; #include lines stay."""
    def keep(m):
        line = text[text.rfind("\n", 0, m.start()) + 1:m.start()]
        if m["comment"] is None and line.strip().startswith("#include"):
            return m[0]
        return blank(m[0])
    return TOKEN.sub(keep, text)


def sources(root, *folders, suffixes=(".c", ".h", ".cu", ".cuh")):
    """(path from the root, text) of each source file, in order."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in suffixes:
                yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def lines_matching(pattern, text):
    for number, line in enumerate(text.split("\n"), 1):
        for match in pattern.finditer(line):
            yield number, match


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def self_test(check, clean, broken):
    """Returns what `check` got wrong: a complaint about `clean`, or silence about one of `broken`."""
    wrong = []
    for files, words in [(clean, None)] + broken:
        with tempfile.TemporaryDirectory() as folder:
            plant(pathlib.Path(folder), files)
            found = check(pathlib.Path(folder))
        if words is None and found:
            wrong.append(f"complains about a clean tree: {found}")
        elif words is not None and (len(found) != 1 or words not in found[0]):
            wrong.append(f"expected one sentence with '{words}' for {files}, got {found}")
    return wrong, f"{len(broken)} violations are found, the clean tree passes"


def main(check, clean, broken):
    """The command line of every rule: [--self-test]."""
    if sys.argv[1:] == ["--self-test"]:
        found, verdict = self_test(check, clean, broken)
    else:
        found, verdict = check(ROOT), "kept"
    for sentence in found:
        print(sentence)
    print(f"{pathlib.Path(sys.argv[0]).stem}: " + (f"{len(found)} violations" if found else verdict))
    sys.exit(1 if found else 0)
