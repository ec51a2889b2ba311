"""Rule: libgdn.so exports gdn_* and nothing else. Usage: symbols.py libgdn.so | --self-test"""
import pathlib
import subprocess
import sys
import tempfile


def check(library):
    if not pathlib.Path(library).is_file():
        return [f"{library} is not built"]
    listing = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", library],
                             capture_output=True, text=True, check=True).stdout
    names = [line.split()[0].split("@")[0] for line in listing.splitlines()]
    found = [f"exports {name}: not gdn_*" for name in names if not name.startswith("gdn_")]
    if not any(name.startswith("gdn_") for name in names):
        found.append("exports no gdn_* at all")
    return found


def self_test():
    cases = [
        ("int gdn_a(void) { return 1; } static int b(void) { return 2; } int (*gdn_c)(void) = b;", None),
        ("int gdn_a(void) { return 1; } int arena_take(void) { return 2; }", "arena_take"),
        ("int gdn_a; int leaked_table[3] = {1};", "leaked_table"),
        ("int my_gdn_a(void) { return 1; } int gdn_b;", "my_gdn_a"),
        ("static int a(void) { return 1; } int (*gdn(void))(void);", "no gdn_* at all"),
    ]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        library = str(pathlib.Path(folder) / "lib.so")
        for source, words in cases:
            subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-x", "c", "-", "-o", library],
                           input=source, text=True, check=True)
            found = check(library)
            if (words is None and found) or (words and (len(found) != 1 or words not in found[0])):
                wrong.append(f"expected {words} for '{source}', got {found}")
    return wrong


if __name__ == "__main__":
    proving = sys.argv[1] == "--self-test"
    violations = self_test() if proving else check(sys.argv[1])
    for sentence in violations:
        print(sentence)
    verdict = "every leak is found, a clean library passes" if proving else "kept"
    print(f"symbols: {len(violations)} violations" if violations else f"symbols: {verdict}")
    sys.exit(1 if violations else 0)
