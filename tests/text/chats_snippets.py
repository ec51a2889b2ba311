"""Small templates for chats.py: the language itself, each held against jinja2."""

EXPRESSIONS = r"""
1 + 2 * 3 - 4
7 // 2 ~ ' ' ~ -7 // 2 ~ ' ' ~ 7 % 3 ~ ' ' ~ -7 % 3
7 / 2 ~ ' ' ~ 6 / 3 ~ ' ' ~ 2 ** 10 ~ ' ' ~ 2 ** -1
-2 ** 2
2 * -3
- - 3
+i
-s|length
1.5 + 1
1e3
1_000
.5
1 / 0
1 // 0
1 % 0
1.0 // 0
i + t
'a' + 1
'a' ~ 1 ~ none ~ true ~ 1.0 ~ undefinedname
'ab' * 3
3 * [1, 'x']
[1] + [2, 3]
(1,) + (2,)
[1] + (2,)
1 < 2 < 3
1 < 2 > 3
'a' < 'b'
'a' < 1
[1, 2] < [1, 3]
1 == 1.0
true == 1
'1' == 1
none == undefinedname
undefinedname == othername
[1, [2]] == [1, [2]]
{'a': 1} == {'a': 1.0}
(1, 2) == [1, 2]
'b' in 'abc'
'' in 'abc'
1 in 'abc'
1 in [1, 2]
'b' in m
'b' not in m
1 in 5
'x' in undefinedname
not true
not not 1
not 1 == 2
true and 0
'' or 'x'
none or false
1 and 2 or 3
1 if true
'a' if false else 'b'
1 if false
'a' if false else 'b' if false else 'c'
s[0] ~ s[-1] ~ s[5]
s[100]
s[1:3]
s[:-1]
s[::-1]
s[::2]
s[4:1:-1]
s[-3:]
l[0] ~ l[-1]
l[5]
l[1:]
l[::-1]
l[:2][0]
l[10:]
l['x']
l[1:2:0]
(1, 2, 3)[1:]
m.b ~ m['b']
m.missing
m.missing.more
m['missing']['more']
m['items']
m.get('b') ~ m.get('zz') ~ m.get('zz', 4)
m.keys()|list
m.values()|list
m.items()|list
n.x
n.x.y
n[0]
undefinedname
undefinedname.x
undefinedname[0]
undefinedname()
undefinedname + 1
undefinedname ~ 'x'
undefinedname|length
'abc'.upper() ~ 'ABC'.lower() ~ 'hello world'.title() ~ 'hELLO'.capitalize()
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
' a  b '.split()
' a  b  c '.split(none, 1)
'abc'.split('')
'a\nb\r\nc\n'.splitlines()
w.strip() ~ '|' ~ w.lstrip() ~ '|' ~ w.rstrip() ~ '|'
'xxaxx'.strip('x')
'xyaéyx'.strip('éxy')
'abc'.startswith('ab') ~ 'abc'.startswith(('x', 'a')) ~ 'abc'.endswith('bc')
'abc'.startswith(1)
'aXbX'.replace('X', 'yy')
'aXbX'.replace('X', 'yy', 1)
'abc'.replace('', '-')
'abcabc'.find('c') ~ 'é€x'.find('x') ~ 'a'.find('z')
'aaaa'.count('aa')
', '.join(['a', 'b'])
', '.join([1])
'prefix-x'.removeprefix('prefix-') ~ 'x.py'.removesuffix('.py')
'abc'.nothing()
'abc'.__class__
m.__class__
[].__class__.__mro__
l|length ~ s|length ~ m|length ~ ''|count
5|length
n|length
'hELLO wORLD'|capitalize
' x '|trim ~ '|'
'xxaxx'|trim('x')
n|trim
5|trim
l|join(', ')
l|join
people|join(', ', attribute='name')
people|map(attribute='name')|join('-')
people|map(attribute='of.x')|list
people|map(attribute='zz', default='d')|list
l|map('string')|list
l|map('nosuchfilter')|list
people|selectattr('age', 'equalto', 3)|map(attribute='name')|list
people|rejectattr('age', 'gt', 2)|list|length
people|selectattr('of')|list|length
people|selectattr('of.x', 'defined')|list|length
l|select('odd')|list
l|reject('odd')|list
[0, 1, '', 'x']|select|list
l|select('nosuchtest')|list
l|sort
l|sort(reverse=true)
['b', 'A', 'c']|sort
['b', 'A', 'c']|sort(case_sensitive=true)
people|sort(attribute='age')|map(attribute='name')|list
people|sort(attribute='age', reverse=true)|map(attribute='name')|list
[1, 'a']|sort
m|dictsort
{'b': 1, 'a': 3, 'c': 2}|dictsort(by='value')
{'b': 1, 'a': 3}|dictsort(reverse=true)
[1, 2, 1, 3]|unique|list
['a', 'A', 'b']|unique|list
l|first ~ l|last
[]|first
s|first ~ s|last
l|reverse|list
s|reverse
s|list
m|list
m|items|list
undefinedname|items|list
5|items|list
undefinedname|default('d')
''|default('d')
''|default('d', true)
n|d('x', boolean=true)
undefinedname|default
'5'|int + 1
'x'|int
'x'|int(9)
' 42 '|int
2.9|int
'2.5'|float
'x'|float(1.5)
-5|abs
l|string
'a'|replace('a', 'b')
5|replace('5', 6)
'a\nb\n\nc'|indent
'a\nb\n\nc'|indent(2, true)
'a\nb\n\nc'|indent(2, blank=true)
'a\nb'|indent('> ')
l|nosuchfilter
l|nosuchfilter if false else 'fine'
l is nosuchtest
l is nosuchtest if false else 'fine'
s is string ~ i is string ~ n is string
i is number ~ f is number ~ t is number ~ s is number
i is integer ~ f is integer ~ t is integer
f is float ~ i is float
t is boolean ~ i is boolean
m is mapping ~ l is mapping
l is sequence ~ s is sequence ~ m is sequence ~ i is sequence ~ n is sequence
l is iterable ~ i is iterable ~ n is iterable
n is none ~ n is not none
t is true ~ 1 is true ~ false is false
undefinedname is defined ~ n is defined ~ m.zz is undefined
4 is even ~ 3 is odd ~ -3 is odd ~ 9 is divisibleby 3 ~ 9 is divisibleby(2)
s is even
3 is eq 3 ~ 3 is ne 3 ~ 3 is lt 4 ~ 3 is ge 3 ~ 3 is in [3]
3 is sameas 3
s is defined and not n
s is defined is true
range(5)|list
range(2, 10, 3)|list
range(5, 0, -2)|list
range(0)|list
range(5, 0)|list
range(1, 5, 0)|list
range(100001)|length
range('x')
dict(a=1, b=2)
dict({'a': 1}, b=2)
{'a': 1, 'b': [1, 2], 3: none, true: 'x'}
{'a': 1, 'a': 2}
{[]: 1}
[1, 'two', none, true, 2.5, [], {}, ()]
(1,)
()
(1, 2)
1, 2
['it\'s', "say \"x\"", 'both \' "', 'tab\t', 'nl\n', 'é', '\x07', '\u200b', '\\']
quotes
[quotes]
'\x41\u00e9\U0001F600\101\q\
x'
'a' 'b' "c"
n ~ t ~ i ~ f ~ big
big + 1 if false else big
m
deep
people
1e22 ~ ' ' ~ 1e16 ~ ' ' ~ 123456789.125 ~ ' ' ~ 1e-5 ~ ' ' ~ 0.0001 ~ ' ' ~ 1e15
0.1 + 0.2
100.0 ~ ' ' ~ 3.0e100 ~ ' ' ~ 5e-324 ~ ' ' ~ 1.7976931348623157e308 ~ ' ' ~ -0.0
m|tojson
[1, 2.5, none, true, 'é"\\\n\x01', {}, [], {'a': {}}]|tojson
m|tojson(indent=2)
[[], {}, [1]]|tojson(indent=1)
m|tojson(sort_keys=true)
'é😀'|tojson(ensure_ascii=true)
m|tojson(separators=(',', ':'))
{1: 2, true: 3}|tojson
undefinedname|tojson
(1, 2)|tojson
big|tojson
l|tojson|safe
range(3)|list|tojson
strftime_now('%Y-%m-%d %H:%M:%S %A %d %B')
strftime_now('')
raise_exception('my own sentence é')
raise_exception('number ' ~ 5)
namespace(a=1).a
namespace(a=1).b
[1, 2, 3].append(4)
i.x is defined
loop
(l|sort)[0]
l|sort|first
'a'.upper().lower()|upper
[[1, 2], [3]]|map('length')|list
-i|abs
i if i > 5 else l[9].x
"<" ~ s ~ ">"
[1, 2,]
{'a': 1,}
"""

TEMPLATES = [
    "plain text\n",
    "plain text\n\n",
    "\n\nlead",
    "a\r\nb\rc\n",
    "{# comment #}\nx",
    "a {#- comment -#} b",
    "a {#+ comment +#} b",
    "  {# c #}  x\n  {# d #}\ny",
    "{% if t %}\nyes\n{% endif %}\nno",
    "  {% if t %}\n  yes\n  {% endif %}\n  no",
    "a\n    {%- if t %} x {%- endif %}\n b",
    "a\n    {%+ if t %} x {% endif +%}\n b",
    "a {{- ' b ' -}} c",
    "a\n  {{ i }}\n  b",
    "a\n\n  {%- if t -%}\n\n x \n\n {%- endif -%} \n\n b",
    "\u3000{%- if t %}\u3000x\u3000{%- endif -%}\u3000y",
    "x {% if t %}y{% endif %} z",
    "x\n\t {% if t %}y{% endif %} z",
    "{% raw %}{{ not }} {% this %} {# too #}{% endraw %}",
    "a {%- raw -%}  {{ x }}  {%- endraw -%}  b",
    "a\n  {% raw %}\n r {% endraw %}\n b",
    "{% raw %}open",
    "{{ '}}' }}{{ \"%}\" }}{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ {'a': 1} }}{{{'a': 1}}}",
    "{{ i }}{{i}}{{  i  }}{{\ni\n}}",
    "{% if n %}1{% elif i == 7 %}2{% elif t %}3{% else %}4{% endif %}",
    "{% if n %}1{% else %}4{% endif %}{% if n %}x{% endif %}",
    "{% for x in l %}{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for x in l %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for x in undefinedname %}x{% else %}none{% endfor %}",
    "{% for x in none %}x{% endfor %}",
    "{% for x in 5 %}x{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}",
    "{% for k in m %}{{ k }}{% endfor %}",
    "{% for k, v in m.items() %}{% endfor %}",
    "{% for k, v in m|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in [[1, 2], [3, 4]] %}{{ k }}{{ v }}{% endfor %}",
    "{% for k, v in [[1, 2, 3]] %}{% endfor %}",
    "{% for (k, v) in [[1, 2]] %}{{ k }}{{ v }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}{{ x }}{% endfor %}",
    "{% for x in l if x > 9 %}x{% else %}none{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}after",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}",
    "{% break %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% set x = 1 %}{% for y in l %}{{ x }}{% set x = y %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for y in l %}{% set ns.x = ns.x + y %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a %}{{ ns.a }}{{ ns.b }}{{ ns.c }}",
    "{% set x.y = 1 %}",
    "{% set m.y = 1 %}",
    "{% if t %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% for y in l %}{% set z = y %}{% endfor %}{{ z is defined }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set a, b = [1, 2, 3] %}",
    "{% set x %}block {{ i }}{% endset %}[{{ x }}]",
    "{% set x | upper | trim %} block {{ i }} {% endset %}[{{ x }}]",
    "{% set s = s ~ '!' %}{{ s }}",
    "{% macro f(a, b=2, c=a) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(1, c=5) }} {{ f() }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}",
    "{% macro f(a) %}{{ x }}{% endmacro %}{% set x = 3 %}{{ f(1) }}",
    "{% macro f(a) %}{% set x = a %}{{ x }}{% endmacro %}{% set x = 3 %}{{ f(1) }}{{ x }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro f(x) -%}  {{ x }}  {%- endmacro %}[{{ f('a')|upper }}]{{ f('b') + 'c' }}",
    "{% for x in l %}{% macro f() %}{{ loop is defined }}{% endmacro %}{% endfor %}{{ f is defined }}",
    "{% generation %}said{% endgeneration %}",
    "{% set x = [] %}{% set _ = x.append(1) %}{% set _ = x.append(2) %}{{ x }}{{ x.pop(0) }}{{ x }}{{ x.pop() }}{{ x }}",
    "{{ [].pop() }}",
    "{{ x if x is defined else 'no' }}{% set x = 1 %}{{ x if x is defined else 'no' }}",
    "{{",
    "{{ }}",
    "{% %}",
    "{% if %}x{% endif %}",
    "{% if t %}x",
    "{% endif %}",
    "{% for x l %}{% endfor %}",
    "{% for x in l %}",
    "{% unknown %}",
    "{{ 'open }}",
    "{{ 1 + }}",
    "{{ (1 }}",
    "{{ 1) }}",
    "{{ [1} }}",
    "{{ a b }}",
    "{{ a.1b }}",
    "{{ l.0 }}",
    "{{ m. }}",
    "{{ $ }}",
    "{# open",
    "{% set %}",
    "{% set 5 = x %}",
    "{% macro %}{% endmacro %}",
    "{% macro f(1) %}{% endmacro %}",
    "{{ s|}}",
    "{{ s is }}",
    "{% if t %}{% else %}{% else %}{% endif %}",
    "{{ f(a=1, 2) }}",
    "{{ l[1:2:3:4] }}",
    "x{% if t -%}  y  {%- else -%} z {%- endif %}w",
    "{{ \"a\\\"b\" }}{{ 'a\\'b' }}",
    "{% if t %}{{ 'x' }}\n{% endif %}\n\n{% if t %}y{% endif %}\n",
    "é{{ 'ü' }}漢{% if t %}字{% endif %}",
]

SNIPPETS = ["{{ " + line + " }}" for line in
            EXPRESSIONS.replace("\\\nx", "\\\0x").strip().split("\n")] + TEMPLATES
SNIPPETS = [s.replace("\0", "\n") for s in SNIPPETS]
