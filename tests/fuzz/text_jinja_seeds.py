#!/usr/bin/env python3
"""Writes the seeds of the fuzz target: python3 tests/fuzz/text_jinja_seeds.py

bomb-*: templates that would take all time, memory, stack or output there is. Each must end as an
error (tests/text/jinja_limits.c holds them to that). talk-*: templates that are right, with messages.
"""
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORPUS = ROOT / "fuzz" / "corpus" / "text_jinja"
R = "range(100000)"
TALK = [{"role": "system", "content": "s"}, {"role": "user", "content": "<|im_end|> é"},
        {"role": "assistant", "content": "<think>\nt\n</think>\n\na", "tool_calls": [
            {"type": "function", "function": {"name": "f", "arguments": {"x": [1, 2.5, None]}}}]},
        {"role": "tool", "content": "r"}, {"role": "user", "content": "u"}]


def nest(n, begin, middle, end):
    return begin * n + middle + end * n


BOMBS = {
    # Time.
    "loops-2": f"{{% for a in {R} %}}{{% for b in {R} %}}{{% endfor %}}{{% endfor %}}",
    "loops-8": nest(8, f"{{% for a in range(1000) %}}", "x", "{% endfor %}"),
    "loops-filtered": f"{{% for a in {R} %}}{{% for b in {R} if false %}}{{% endfor %}}{{% endfor %}}",
    "search-lists": f"{{% set l = {R} %}}{{% for a in {R} %}}{{{{ -1 in l }}}}{{% endfor %}}",
    "search-text": f"{{% set s = 'a' * 9000000 %}}{{% for a in {R} %}}{{{{ 'b' in s }}}}{{% endfor %}}",
    "search-periods": f"{{% set s = 'ab' * 4000000 %}}{{% for a in {R} %}}"
                      "{{ s.find('abab' * 99 ~ 'c') }}{% endfor %}",
    "unique": f"{{{{ {R}|unique|length }}}}",
    "sort-again": f"{{% set l = {R}|list %}}{{% for a in {R} %}}{{{{ (l|sort)[0] }}}}{{% endfor %}}",
    "compare-deep": "{% set l = [1] %}" + "{% set l = [l, l, l, l, l, l, l, l] %}" * 12
                    + "{{ l == l ~ l }}{{ l == [l, l, l, l, l, l, l, l] }}",
    "pop-front": f"{{% set l = {R}|list %}}{{% for a in {R} %}}{{{{ l.pop(0) }}}}"
                 f"{{% set _ = l.append(1) %}}{{% endfor %}}",
    "scopes": "".join(f"{{% set v{i} = 1 %}}" for i in range(9000))
              + f"{{% for a in {R} %}}{{{{ v0 }}}}{{% endfor %}}",
    "power": "{{ 3 ** 1000000000 }}",
    "power-of-powers": "{{ 9 ** 9 ** 9 ** 9 }}",
    "strip-chars": "{% set s = 'a' * 4000000 %}{{ s.strip('bcdefghijklmnopqrstuvwxyz' * 4000 ~ 'a') }}",
    "length-again": f"{{% set s = 'é' * 4000000 %}}{{% for a in {R} %}}{{{{ s|length }}}}{{% endfor %}}",
    # Numbers.
    "range-huge": "{% for a in range(10 ** 9) %}x{% endfor %}",
    "range-down": "{% for a in range(10 ** 18, 0 - 10 ** 18, -1) %}x{% endfor %}",
    "range-one-more": "{{ range(100001)|length }}",
    "integers": "{% set ns = namespace(x=3) %}{% for a in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    # Memory.
    "repeat": "{{ 'a' * 10 ** 9 }}",
    "repeat-wraps": "{{ 'abcd' * 4611686018427387905 }}",
    "repeat-list": "{{ [1] * 10 ** 9 }}",
    "double": "{% set ns = namespace(x='a') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "double-list": "{% set ns = namespace(x=[1]) %}{% for a in range(99) %}"
                   "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "append": f"{{% set l = [] %}}{{% for a in range(99) %}}{{% for b in {R} %}}"
              "{% set _ = l.append(b) %}{% endfor %}{% endfor %}",
    "list-in-itself": "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}",
    "list-in-itself-json": "{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}",
    "list-in-itself-equal": "{% set l = [] %}{% set _ = l.append(l) %}{% set k = [] %}"
                            "{% set _ = k.append(k) %}{{ l == k }}",
    "replace": "{{ ('a' * 9000).replace('a', 'b' * 9000) }}",
    "replace-empty": "{{ ('a' * 90000).replace('', 'b' * 9000) }}",
    "join": "{{ (['x'] * 90000)|join('y' * 9000) }}",
    "indent-wide": "{{ ('a\\n' * 90)|indent(10 ** 9) }}",
    "indent-json": "{{ [[[1]]]|tojson(indent=10 ** 9) }}",
    "split": "{% set s = 'a' * 9000000 %}{{ s.split('a')|length }}",
    "characters": "{{ ('a' * 9000000)|list|length }}",
    "capture": f"{{% set x %}}{{% for a in {R} %}}{{{{ 'a' * 9000 }}}}{{% endfor %}}{{% endset %}}",
    # Output.
    "output": f"{{% for a in {R} %}}{{{{ 'a' * 900 }}}}{{% endfor %}}",
    # Stack.
    "macro-forever": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro-defaults": "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
    "macros-2": "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "lists": "{{ " + "[" * 65 + "]" * 65 + " }}",
    "blocks": nest(200, "{% if true %}", "x", "{% endif %}"),
    "not": "{{ " + "not " * 20000 + "1 }}",
    "minus": "{{ " + "-" * 50000 + "1 }}",
    "sum": "{{ 1" + " + 1" * 20000 + " }}",
    "filters": "{{ 1" + "|abs" * 20000 + " }}",
    "attributes": "{{ x" + ".x" * 20000 + " }}",
    "else-ifs": "{{ " + "1 if false else " * 5000 + "1 }}",
    "nested-values": "{% set ns = namespace(x=1) %}{% for a in range(9999) %}"
                     "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    # The machine behind it.
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ range.__globals__['os'].popen('id').read() }}",
    "builtins": "{{ namespace.__init__.__globals__.__builtins__.open('/etc/passwd').read() }}",
    "format": "{{ '{0.__class__}'.format(1) }}",
    "format-wide": "{{ '%999999999d' % 1 }}",
    "map-format": "{{ ['{0.__class__}']|map('format', 1)|list }}",
    "attr": "{{ ''|attr('__class__') }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "extends": "{% extends '/etc/passwd' %}",
    "center": "{{ 'a'|center(1000000000) }}",
    "long-name": "{{ " + "a" * 200000 + "() }}",
}

TEMPLATES = ["qwen3_6.jinja", "Kimi-K2-Thinking.jinja", "olmo.jinja", "Qwen3-Coder.jinja"]
SMALL = [
    "{% for k, v in messages[0]|items %}{{ loop.index }}{{ k }}={{ v|tojson }}{% endfor %}",
    "{% macro f(a, b=2) -%} {{ a }}{{ b }} {%- endmacro %}{{ f(1)|upper }}{{ f(a=3, b='x') }}",
    "{% set ns = namespace(x=[]) %}{% for m in messages %}{% set _ = ns.x.append(m.role) %}{% endfor %}"
    "{{ ns.x|join(', ') }}{{ ns.x.pop(0) }}",
    "{% raw %}{{ }}{% endraw %}{# c #}{{ messages[::-1][0].content[1:-1] ~ 1.5 ~ none }}",
    "{% if messages|selectattr('role', 'equalto', 'user')|list|length > 1 %}a{% elif true %}b{% endif %}",
    "{{ messages[-1]['content'].split('u')[0].strip('<>|') in 'x' and not 1 == 2 or 3 is odd }}",
    "{% for m in messages if m.role != 'tool' %}{% if loop.last %}{% break %}{% endif %}{{ m }}{% endfor %}",
    "{{ {'a': (1, 2), 'b': [[]]}|tojson(indent=2, sort_keys=true) }}{{ strftime_now('%Y') }}",
    "{{ raise_exception('no ' ~ messages|length) }}",
    "{{ ('b a c'.split()|sort(reverse=true))[0] }}{{ [1, 2, 1]|unique|map('string')|list }}",
]


def main():
    CORPUS.mkdir(parents=True, exist_ok=True)
    talk = b"\0" + json.dumps(TALK, ensure_ascii=False).encode()
    for name, source in BOMBS.items():
        (CORPUS / f"bomb-{name}").write_bytes(source.encode())
    for name in TEMPLATES:
        source = (ROOT / "data" / "templates" / name).read_bytes()
        (CORPUS / f"talk-{name[:-6].lower()}").write_bytes(source + talk)
    for i, source in enumerate(SMALL):
        (CORPUS / f"talk-small-{i}").write_bytes(source.encode() + talk)
    print(f"{len(BOMBS)} bombs, {len(TEMPLATES) + len(SMALL)} talks")


if __name__ == "__main__":
    main()
