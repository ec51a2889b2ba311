"""Rule: what leaves the library, or ends it, does so in one file. Memory comes from base/memory.c,
words to the terminal from base/log.c and the command line, the environment is read in
api/options.c, the process ends in base/check.c. No alloca (a VLA is a compiler error), and nothing
left for later in a comment.
"""
import re

import rule


def words(*names):
    return re.compile(r"\b(?:" + "|".join(names) + r")\b")


def calls(*names):
    """A call of the plain function, not of a member with its name."""
    return re.compile(r"(?<![\w.])(?<!->)(?:" + "|".join(names) + r")\s*\(")


# (what, pattern, the files and folders that may)
RULES = [
    ("memory is taken and given back through base/memory.h",
     calls("malloc", "calloc", "realloc", "reallocarray", "free", "aligned_alloc", "posix_memalign",
           "memalign", "strdup", "strndup", "asprintf", "vasprintf"),
     ("src/base/memory.c",)),
    ("words go to the terminal through base/log.h",
     calls("v?f?printf", "v?dprintf", "f?puts", "f?putc", "putchar", "perror"),
     ("src/base/log.c", "src/cli/")),
    ("the terminal belongs to base/log.c and the command line",
     words("stdout", "stderr", "STDOUT_FILENO", "STDERR_FILENO"),
     ("src/base/log.c", "src/cli/")),
    ("the environment is read in api/options.c",
     words("getenv", "secure_getenv", "environ"), ("src/api/options.c",)),
    ("the process ends in base/check.c",
     calls("exit", "_exit", "_Exit", "quick_exit", "abort", "assert", "raise"),
     ("src/base/check.c", "src/cli/main.c")),
    ("the stack holds nothing of a size from outside",
     words("alloca", "__builtin_alloca", "strdupa", "strndupa"), ()),
]
LATER = re.compile(r"\b(?:TODO|FIXME|XXX)\b")


def check(root):
    found = []
    for path, text in rule.sources(root, "src", "include"):
        code = rule.code_only(text)
        for what, pattern, allowed in RULES:
            if path.startswith(allowed):
                continue
            for number, match in rule.lines_matching(pattern, code):
                found.append(f"{path}:{number}: {match[0].rstrip(' (')}: {what}")
        for number, match in rule.lines_matching(LATER, text):
            found.append(f"{path}:{number}: {match[0]}: say it in an issue, or do it now")
    return found


CLEAN = {
    "src/base/memory.c": "void f(void *p) { free(p); }\n",
    "src/base/log.c": "void f(void) { fprintf(stderr, \"x\"); }\n",
    "src/base/check.c": "void f(void) { abort(); }\n",
    "src/api/options.c": "char *f(void) { return getenv(\"GDN\"); }\n",
    "src/cli/run.c": "void f(void) { fputs(\"x\", stdout); }\n",
    "src/run/a.c": "/* free(x), printf(\"x\"), exit */\n// malloc(3) \\\n getenv(1)\n"
                   "const char *s = \"abort() /* \\\" free(p) \";\nchar c = '\"';\n"
                   "static_assert(1, \"\");\nint n = snprintf(b, 1, \"%d\", 1);\n"
                   "void g(struct pool *p) { p->free(p); p->ops.exit(1); arena_free(p); }\n",
}
BROKEN = [
    ({path: f"void f(void)\n{{\n    {line}\n}}\n"}, f"{path}:3: {word}: ")
    for path, line, word in [
        ("src/run/a.c", "p = malloc(3);", "malloc"),
        ("src/run/a.c", "q = calloc (1, 3);", "calloc"),
        ("src/cli/main.c", "p = realloc(p, 3);", "realloc"),
        ("src/base/arena.c", 'char *s = "\\""; free(p);', "free"),
        ("src/text/a.c", "s = strdup(t);", "strdup"),
        ("src/model/a.c", 'printf("x");', "printf"),
        ("src/kernels/cuda/a.cu", 'printf("x");', "printf"),
        ("src/model/a.c", 'fprintf(f, "x");', "fprintf"),
        ("src/model/a.c", "/* a */ puts(s);", "puts"),
        ("src/model/a.c", "fwrite(s, 1, 3, stderr);", "stderr"),
        ("src/run/a.c", 'getenv("HOME");', "getenv"),
        ("src/run/a.c", "exit(1);", "exit"),
        ("src/run/a.c", "abort();", "abort"),
        ("src/cli/run.c", "_exit(1);", "_exit"),
        ("include/gdn/gdn.h", "assert(1);", "assert"),
        ("src/run/a.c", "p = alloca(n);", "alloca"),
        ("src/run/a.c", "/* TODO: faster */", "TODO"),
        ("src/run/a.c", "// FIXME", "FIXME"),
        ("src/run/a.c", "int x; // XXX", "XXX"),
    ]
]

if __name__ == "__main__":
    rule.main(check, CLEAN, BROKEN)
