#!/usr/bin/env python3
"""Renders random templates with Jinja2 and with ours and compares.

    tests/text/compare_random.py [SEED [COUNT]]

Half of them are tags, text and white space in every combination, half are
expressions.  Both implementations must give the same text or both fail.
Finds what no hand-written case thinks of: run it after changing the lexer,
the parser or a filter.  Skips with 77 without jinja2.
"""

import json
import os
import random
import sys

from golden_templates import NOW, environment, render_jinja, run_driver
from jinja_cases import CONTEXT

GAPS = ["", " ", "\n", "\n\n", "  ", "\t", " \n ", "x", "x y", "\r\n",
        "\u00a0", "\u2028", '"', "}", "{", "%", "# ", "\n  "]
ATOMS = ["n", "f", "s", "empty", "yes", "no", "nil", "words", "nums", "d",
         "rows", "html", "multi", "missing", "1", "0", "-3", "2.5", '"a b"',
         '"x"', '""', "[1, 2, 3]", '["b", "a"]', '{"k": 1, "z": [1]}',
         "(1, 2)", "none", "true", '"12"', '" pad "', '"ÄöÜ ß"', '"a,b,c"',
         '"line\\nline"', "d.x", "rows[0]", "rows[0].k", "d.y", '"%s-%s"',
         '"{}|{}"', "10", '"é"']
FILTERS = ["upper", "lower", "trim", "length", "string", "float(1)", "list",
           "first", "last", 'join(",")', "join", "sort", "reverse|list",
           "title", "capitalize", "tojson", "tojson(indent=2)",
           'default("D")', 'default("D", true)', 'replace("a", "b")',
           'map("string")|list', "select|list", 'reject("none")|list', "min",
           "max", "sum", "abs", "round", "round(1)", "dictsort",
           "items|list", "indent", "wordcount", "escape", "batch(2)|list",
           'selectattr("k")|list', 'map(attribute="k")|list', 'trim("a")',
           "sort(reverse=true)", "count"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping",
         "iterable", "sequence", "boolean", "integer", "float", "odd",
         "even", "true", "false", "eq(1)", "in([1, 2])", "divisibleby 2",
         "upper", "lower", 'ne("x")', "sameas none"]
METHODS = [".strip()", ".upper()", ".lower()", ".title()", ".split()",
           '.split(",")', '.split("a", 1)', '.startswith("a")',
           '.endswith("b")', '.replace("a", "Z")', '.find("a")',
           '.count("a")', ".items()|list", ".keys()|list",
           ".values()|list", '.get("k")', '.get("q", 9)', ".lstrip()",
           '.rstrip("b ")', ".isdigit()", ".splitlines()", ".capitalize()",
           ".x", '["x"]', "[0]", "[-1]", ".join(words)", '.partition("a")',
           '.rsplit("b", 1)', '.removeprefix("a")', ".isalpha()",
           ".isspace()", ".isupper()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">",
             ">=", "and", "or"]

# Where ours is lenient by choice, or prints what Python prints of objects.
LENIENT = ("unhashable", "generator")
OBJECTS = (" at 0x", "dict_", "<generator", "<built-in", "<bound", "Undefined")


class Maker:
    def __init__(self, seed):
        self.rng = random.Random(seed)

    def pick(self, *choices):
        return self.rng.choice(choices)

    def expression(self, depth):
        kind = self.rng.random()
        pick, inner = self.rng.choice, lambda: self.expression(depth - 1)
        if depth == 0 or kind < 0.15:
            return pick(ATOMS)
        if kind < 0.35:
            return f"({inner()} {pick(OPERATORS)} {inner()})"
        if kind < 0.65:
            return f"({inner()})|{pick(FILTERS)}"
        if kind < 0.75:
            return f"({inner()} is {pick(['', 'not '])}{pick(TESTS)})"
        if kind < 0.92:
            return f"({inner()}){pick(METHODS)}"
        return f"({inner()} if {inner()} else {inner()})"

    def tag(self, text):
        left = self.pick("{%", "{%-", "{%+", "{% ", "{%- ")
        right = self.pick("%}", "-%}", " %}", " -%}", "+%}", " +%}")
        return f"{left} {text} {right}"

    def piece(self, depth):
        kind, inner = self.rng.random(), lambda: self.body(depth - 1)
        if depth == 0 or kind < 0.3:
            return (self.pick("{{", "{{-", "{{ ", "{{- ")
                    + self.pick("n", "s", "loop.index", "a", '"%}"', "'}}'",
                                '{"a": {}}|length', "b.x", "-1", "[1, 2][0]")
                    + self.pick("}}", "-}}", " }}"))
        if kind < 0.45:
            other = self.tag("else") + inner() if kind < 0.35 else ""
            return (self.tag("if " + self.pick("yes", "no", "n > 3", "a"))
                    + inner() + other + self.tag("endif"))
        if kind < 0.6:
            other = self.tag("else") + inner() if kind < 0.5 else ""
            return (self.tag("for a in " + self.pick("nums", '"ab"', "[]"))
                    + inner() + other + self.tag("endfor"))
        if kind < 0.7:
            return self.tag(f"set {self.pick('a', 'b')} = "
                            + self.pick("1", "s", "namespace(x=2)"))
        if kind < 0.8:
            return (self.pick("{#", "{#-", "{# ")
                    + self.pick("c", " {{ x }} ", "\n", "")
                    + self.pick("#}", "-#}", " #}", "+#}"))
        if kind < 0.88:
            return (self.tag("raw") + self.rng.choice(GAPS)
                    + self.pick("{{ x }}", "{% if %}", " text ")
                    + self.rng.choice(GAPS) + self.tag("endraw"))
        if kind < 0.94:
            return self.tag("set a") + inner() + self.tag("endset")
        return (self.tag("macro m(x, y=2)") + inner() + self.tag("endmacro")
                + "{{ m(1) }}")

    def body(self, depth):
        pieces = [self.rng.choice(GAPS) + self.rng.choice(GAPS)
                  + self.piece(depth) for _ in range(self.rng.randint(0, 4))]
        return "".join(pieces) + self.rng.choice(GAPS)

    def template(self, number):
        if number % 2:
            return "{{ " + self.expression(self.rng.randint(1, 3)) + " }}"
        return self.body(3)


def differs(expected, failure, got):
    if failure is not None:
        return "error" not in got and not any(word in failure
                                              for word in LENIENT)
    return (got.get("text") != expected
            and not any(word in expected for word in OBJECTS))


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    driver = os.path.join(os.environ.get("AXION_BUILD", "build"),
                          "tests/text/render-template")
    maker, env = Maker(seed), environment()
    templates = [maker.template(i) for i in range(count)]
    results = run_driver(driver, [{"template": t, "context": CONTEXT,
                                   "now": NOW} for t in templates])
    findings = 0
    for template, got in zip(templates, results):
        expected, failure = render_jinja(env, template, CONTEXT)
        if differs(expected, failure, got):
            findings += 1
            print(f"{template!r}\n  Jinja2 {expected!r} {failure}\n"
                  f"  ours   {got.get('text')!r} {got.get('message')}")
    print(f"{count} random templates (seed {seed}), {findings} differ")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
