#!/usr/bin/env python3
"""Prints docs/errors.md from shm/errors.def; run it after adding an error:

    python3 tools/errors_md.py > docs/errors.md
"""

import os
import re

TABLE = os.path.join(os.path.dirname(__file__), "..", "shm", "errors.def")

HEAD = """# Errors

Everything that can go wrong ends in one of these. The table is
[`shm/errors.def`](../shm/errors.def), this page is made from it by
`tools/errors_md.py`, and `tests/docs` fails when the two differ. Numbers are
pinned and never reused.

Before the first byte a client gets the HTTP status with a JSON body; in a
stream that has begun it gets `data: {"error": …}` and a clean end. Both have
OpenAI's four keys:

    {"error": {"message": "…", "type": "…", "param": "temperature", "code": "…"}}

`param` names the field at fault, with its path (`messages[2].content`), or is
null. *Retry* says whether the same request can succeed later; then the answer
has `Retry-After`. *Log* is the level of one occurrence in the error log."""

COLUMNS = """
| number | name | HTTP | type | code | retry | log | meaning |
|---|---|---|---|---|---|---|---|"""

STRING = r'"([^"]*)"'
ENTRY = re.compile(
    r"/\* (\dxx: [^*]*?) \*/|AXION_ERROR\(\s*(\w+)\s*,\s*(\d+)\s*,\s*(\d+)"
    rf"\s*,\s*{STRING}\s*,\s*{STRING}\s*,\s*([01])\s*,\s*(\w+)\s*,"
    rf"\s*((?:{STRING}\s*)+)\)")


def entries():
    with open(TABLE, encoding="utf-8") as file:
        text = file.read()
    text = text[text.index("*/") + 2:]
    for match in ENTRY.finditer(text):
        yield match


def main():
    print(HEAD)
    for entry in entries():
        if entry.group(1):
            print(f"\n## {entry.group(1)[0].upper()}{entry.group(1)[1:]}")
            print(COLUMNS)
            continue
        name, number, status, kind, code, retry, level, text = \
            entry.group(2, 3, 4, 5, 6, 7, 8, 9)
        text = "".join(re.findall(STRING, text))
        print(f"| {number} | `{name}` | {status} | `{kind}` | `{code}` | "
              f"{'yes' if retry == '1' else 'no'} | {level} | {text} |")


if __name__ == "__main__":
    main()
