"""Small templates, one for each part of the language that chat templates use,
with the context to render them in.  make_text_goldens.py asks Jinja2 what they
give; test_template_language.c holds our interpreter to that.
"""

CONTEXT = {
    "n": 7, "f": 2.5, "s": "Hello Wörld", "empty": "", "yes": True,
    "no": False, "nil": None, "words": ["b", "a", "C", "a"],
    "nums": [3, 1, 2], "d": {"x": 1, "y": {"z": [1, 2]}, "items": "key"},
    "rows": [{"k": "u", "v": 2, "in": {"a": "p"}},
             {"k": "t", "v": 1, "in": {"a": "q"}}, {"k": "u", "v": 3}],
    "html": "<a href=\"x\">&'</a>", "multi": "one\n\n two\nthree\n",
}

SOURCE = r"""
{{ s }}|{{ n }}|{{ f }}|{{ yes }}|{{ nil }}|{{ nums }}|{{ d }}|{{ missing }}
{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }}
{{ 1.0 }} {{ 1e20 }} {{ 1.5e-7 }} {{ 0.1 + 0.2 }} {{ 100000000000000000.0 }} {{ 3.0 * 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ 0x1f }} {{ 1_000 }} {{ 0b101 }} {{ 0o17 }} {{ 2.5e3 }}
{{ 'a' ~ 1 ~ nil ~ 2.0 }} {{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ [1] * 2 }} {{ [1] + [2] }}
{{ 1 + 2 ~ 3 }} {{ 'x' ~ 1 + 2 }}
{{ -n }} {{ +n }} {{ - -n }} {{ not yes }} {{ not not yes }} {{ not 1 == 2 }}
{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 == 1.0 }} {{ yes == 1 }} {{ '1' == 1 }}
{{ 'ell' in s }} {{ 'x' in d }} {{ 2 in nums }} {{ 9 not in nums }} {{ 'z' in missing }}
{{ yes and n }} {{ no or s }} {{ nil or missing or 'last' }} {{ 0 and 1 }} {{ yes and no or 'x' }}
{{ 'a' if yes else 'b' }} {{ 'a' if no }}| {{ 'a' if no else 'b' if nil else 'c' }}
{{ s[0] }} {{ s[-1] }} {{ s[7] }} {{ s[99] }}| {{ nums[0] }} {{ nums[-1] }} {{ nums[5] }}|
{{ s[1:4] }} {{ s[:-3] }} {{ s[-3:] }} {{ s[::-1] }} {{ s[::2] }} {{ s[8:2] }}| {{ nums[1:] }} {{ nums[::-1] }} {{ nums[-99:99] }}
{{ d.x }} {{ d['x'] }} {{ d.y.z[1] }} {{ d['y']['z'] }} {{ d.nope }}| {{ d['nope'] is defined }} {{ d['items'] }} {{ rows[0]['in'].a }}
{{ d.items() | list }} {{ d.keys() | list }} {{ d.values() | list }} {{ d.get('x') }} {{ d.get('q') }} {{ d.get('q', 5) }}
{{ {'a': 1, 'b': [1, 'x', none, true]} }} {{ {} }} {{ [] }} {{ () }} {{ (1,) }} {{ (1, 2) }} {{ {1: 2} }}
{{ 'a"b' }} {{ ["a'b"] }} {{ ['a"b'] }} {{ ['a\'b"c'] }} {{ ['\n\t\\ü\u200b\x01'] }}
{{ "\x41\u00e9\U0001f642\101\q\'" }}
{{ 'one' 'two' }}
{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}
{% for x in nums %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}
{% for x in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}
{% for x in nums %}{{ loop.previtem }}<{{ x }}<{{ loop.nextitem }} {{ loop.cycle('a', 'b') }};{% endfor %}
{% for x in [] %}never{% else %}none{% endfor %}{% for x in missing %}never{% else %}none{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in 'äb' %}[{{ c }}]{% endfor %}
{% for x in nums if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}
{% for x in nums %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}{% for x in nums %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for a in [1, 2] %}{% for b in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}
{% set a = 1 %}{% for x in nums %}{% set a = a + x %}{{ a }} {% endfor %}{{ a }}
{% set ns = namespace(t=0) %}{% for x in nums %}{% set ns.t = ns.t + x %}{% endfor %}{{ ns.t }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (a, b) = (b, a) %}{{ a }}{{ b }}
{% set x %}block {{ n }}{% endset %}[{{ x }}]{% set y | upper %}up{% endset %}{{ y }}
{% if yes %}{% set inner = 1 %}{% endif %}{{ inner }}
{% macro m(a, b=2, c='z') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(1, 5, 6) }} {{ m() }}
{% macro m(a) %}{% if a > 0 %}{{ a }}{{ m(a - 1) }}{% endif %}{% endmacro %}{{ m(4) }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}body{% endcall %}
{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }}
{% set g = 1 %}{% macro m() %}{{ g }}{{ n }}{% endmacro %}{% set g = 2 %}{{ m() }}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% set a %}{% set inside = 1 %}{{ inside }}{% endset %}{{ a }}{{ inside }}|
{% filter upper %}text {{ s }}{% endfilter %}
{% raw %}{{ not }} {% evaluated %}{% endraw %}
{# comment #}a{#- strip -#} b
{% generation %}gen{{ n }}{% endgeneration %}
  {%- if yes -%}  a  {%- endif -%}  b
  {% if yes %}
  line
  {% endif %}
  end
a {{- ' b ' -}} c
  {%+ if yes %}kept{% endif +%}
x
{{ s | upper }} {{ s | lower }} {{ 'éa bc-dE' | title }} {{ 'hELLO wORLD' | capitalize }} {{ 'ß' | upper }}
{{ '  a b ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ 'a-b-c' | replace('-', '+') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'ab' | replace('', '-') }}
{{ words | join }} {{ words | join(', ') }} {{ rows | join('-', attribute='k') }} {{ [1, none, 2.5] | join('/') }}
{{ words | length }} {{ s | length }} {{ d | length }} {{ missing | length }} {{ words | count }}
{{ words | first }} {{ words | last }} {{ [] | first }}| {{ s | first }} {{ s | last }} {{ words | reverse | list }} {{ 'äbc' | reverse }}
{{ missing | default('x') }} {{ nil | default('x') }} {{ nil | default('x', true) }} {{ '' | d('y', boolean=true) }} {{ n | default(1) }}
{{ nums | sort }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ nums | sort(reverse=true) }} {{ rows | sort(attribute='v') | map(attribute='v') | list }}
{{ words | unique | list }} {{ nums | min }} {{ nums | max }} {{ nums | sum }} {{ rows | sum(attribute='v') }}
{{ rows | map(attribute='k') | list }} {{ words | map('upper') | list }} {{ rows | map(attribute='in.a', default='-') | list }} {{ nums | map('string') | join }}
{{ nums | select('odd') | list }} {{ nums | reject('gt', 1) | list }} {{ [0, 1, '', 'a'] | select | list }}
{{ rows | selectattr('k', 'equalto', 'u') | map(attribute='v') | list }} {{ rows | rejectattr('k', 'eq', 'u') | list | length }} {{ rows | selectattr('in', 'defined') | list | length }} {{ rows | selectattr('v', 'in', [1, 3]) | map(attribute='v') | list }}
{% for k, g in rows | groupby('k') %}{{ k }}:{{ g | map(attribute='v') | list }};{% endfor %}
{{ d | dictsort }} {{ {'b': 1, 'A': 3, 'c': 2} | dictsort }} {{ {'b': 1, 'a': 3} | dictsort(by='value') }} {{ {'b': 1, 'a': 3} | dictsort(reverse=true) }}
{{ d | items | list }} {{ nums | batch(2) | list }} {{ nums | batch(2, 0) | list }}
{{ '42' | int }} {{ 'x' | int }} {{ 'x' | int(9) }} {{ '3.9' | int }} {{ 3.9 | int }} {{ 'ff' | int(base=16) }} {{ '1.5' | float }} {{ 'x' | float }} {{ -3 | abs }}
{{ 2.5 is odd }} {{ 3.0 is odd }} {{ 2.5 is divisibleby 2 }} {{ 2.675 | round(2) }} {{ 7 | round }} {{ true | round }} {{ 'a_b-c d' | wordcount }} {{ 'x' % [1] }} {{ 1234.5 | round(-2) }}
{{ missing | int }}
{{ 'x' | round }}
{{ nums | indent }}
{{ n[1:] }}
{{ 'ß (a-bC) <dE x\u00e9' | title }} {{ true | abs }}
{{ 2.567 | round(2) }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 2.1 | round(0, 'ceil') }} {{ 2.9 | round(method='floor') }}
{{ n | string + 'x' }} {{ [1] | string }} {{ 'one two  three' | wordcount }} {{ html | escape }} {{ html | e }}
{{ multi | indent }}|{{ multi | indent(2, true) }}|{{ multi | indent(2, blank=true) }}|{{ multi | indent('> ') }}|{{ '' | indent(2, true) }}
{{ d | tojson }} {{ s | tojson }} {{ s | tojson(ensure_ascii=true) }} {{ '🙂</a>' | tojson(ensure_ascii=true) }} {{ '"\\\n\u0001/' | tojson }}
{{ d | tojson(indent=2) }} {{ [] | tojson(indent=2) }} {{ {} | tojson(indent=1) }}
{{ [1.0, 1e100, none, true, 'x', (1, 2)] | tojson }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ d | tojson(separators=(',', ':')) }} {{ {1: 2, none: 3} | tojson }}
{{ ' a '.strip() }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'xyaxy'.strip('xy') }}|{{ '\u3000a\u00a0'.strip() }}|
{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }} {{ ' a b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split() }} {{ ''.split(',') }}
{{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb'.splitlines(true) }} {{ 'k=v=w'.partition('=') }} {{ 'kv'.partition('=') }}
{{ s.startswith('Hell') }} {{ s.endswith(('x', 'ld')) }} {{ s.upper() }} {{ s.lower() }} {{ 'ab cD'.title() }} {{ 'ab CD'.capitalize() }}
{{ 'aXbX'.replace('X', '-') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ '-'.join(words) }} {{ s.find('W') }} {{ s.find('q') }} {{ 'abab'.rfind('b') }} {{ 'aaa'.count('a') }}
{{ 'prefix-a'.removeprefix('prefix-') }} {{ 'a-suffix'.removesuffix('-suffix') }} {{ '12'.isdigit() }} {{ 'aB'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' \n'.isspace() }} {{ 'AB1'.isupper() }} {{ 'ab'.islower() }}
{{ '%s is %d, %.2f%%' % ('x', 3, 1.5) }} {{ '%5d|%-5s|%05d|%+d' % (3, 'a', 42, 7) }} {{ '%s' % 'solo' }} {{ '%r' % 'q' }} {{ '%x' % 255 }}
{{ '{} {}'.format('a', 1) }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}-{d[k]}'.format(x=1, d={'k': 2}) }} {{ '{{}}'.format() }} {{ '{:.2f}|{:>5}|{:<5}|{:^5}|{:05d}|{:,}'.format(1.234, 'a', 'b', 'c', 42, 1234567) }}
{% set l = [1] %}{% set _ = l.append(2) %}{{ l }} {{ l.pop() }} {{ l }} {{ l.index(1) }} {{ l.count(1) }}{% set _ = l.insert(0, 9) %}{% set _ = l.extend([7]) %} {{ l }}
{% set e = {'a': 1} %}{% set _ = e.update({'b': 2}) %}{{ e }} {{ e.pop('a') }} {{ e }} {{ e.setdefault('c', 3) }} {{ e.copy() }}
{{ n is defined }} {{ missing is defined }} {{ missing is undefined }} {{ nil is none }} {{ n is not none }} {{ s is string }} {{ n is number }} {{ yes is number }} {{ yes is boolean }} {{ n is integer }} {{ yes is integer }} {{ f is float }}
{{ d is mapping }} {{ nums is mapping }} {{ nums is iterable }} {{ s is iterable }} {{ n is iterable }} {{ nums is sequence }} {{ d is sequence }} {{ n is sequence }} {{ yes is true }} {{ 1 is true }} {{ no is false }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 'AB' is upper }} {{ 'ab' is lower }} {{ 1 is eq 1 }} {{ 1 is ne 1 }} {{ 1 is lt 2 }} {{ 2 is ge(2) }} {{ 1 is in [1] }} {{ nil is sameas none }} {{ range is callable }}
{{ range(3) | list }} {{ range(1, 4) | list }} {{ range(5, 0, -2) | list }} {{ dict(a=1, b=2) }} {% set j = joiner('; ') %}{% for x in nums %}{{ j() }}{{ x }}{% endfor %}
{{ strftime_now('%Y-%m-%d %H:%M') }} {{ strftime_now('%d %b %Y') }}|{{ strftime_now('') }}|
{{ ns.x }}
{{ missing.x }}
{{ missing + 1 }}
{{ missing() }}
{{ s.nope() }}
{{ 1 + 'a' }}
{{ 'a' + 1 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ raise_exception('told') }}
{{ nums | nope }}
{{ 5 | length }}
{% for x in 5 %}{% endfor %}
{% set d.x = 1 %}
{% set a, b = 1 %}
{{ 1 < 'a' }}
{{ missing | tojson }}
{{ 'x' in 5 }}
{{ '%d' % 'x' }}
{{ '%s' }}{{ '%s %s' % 'one' }}
{% if %}{% endif %}
{% for x nums %}{% endfor %}
{{ (1 }}
{{ 'open }}
{% endif %}
{% if yes %}
{% unknown %}
{{ 1 2 }}
{{ }}
{% break %}
{# open
{% raw %} open
"""


def split_templates(text):
    """A case is a line that starts a template; indented and plain lines that
    follow "  " cases belong to them."""
    cases = []
    for line in text.strip("\n").split("\n"):
        if line.startswith("  ") or line.startswith("{") or not cases:
            if cases and cases[-1].startswith("  ") and line.startswith("  "):
                cases[-1] += "\n" + line
            else:
                cases.append(line)
        else:
            cases[-1] += "\n" + line
    return cases


TEMPLATES = split_templates(SOURCE)
TEMPLATES += [template + "\n" for template in (
    "a\r\nb\rc", "{% if yes %}\nx\n{% endif %}\n\n", "{{ n }}\n",
    "x  \n  {#- c #}\n  y", "{{ n }}  \n  {%- set q = 1 %}\n  z",
    "%{#-#} x{#- c -#}\u2028y\u00a0{{- n -}}\u3000", "{% raw %}\n {{ x }}\n"
    " {% endraw %}\n|", "\u00a0 {%- raw -%} \n{% {%- endraw -%} \nz",
    "\t {% if yes %}\n\t{{ n }}\n\t {% endif %} tail")]
