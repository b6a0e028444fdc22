#!/usr/bin/env python3
"""The reference pages have everything that the code has: directives and
variables of the nginx module, metric names, options of axiond and axion,
fields of request bodies, weight formats, model families and errors.  A name in
the code without a place on its page fails, and so does a place on a page for a
name that the code lost.  Local links must lead somewhere, and so must the files
and functions that any page names.
"""

import glob
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

COMMENT = re.compile(r"/\*.*?\*/", re.S)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def code(*patterns):
    """All sources that match, without comments."""
    text = ""
    for pattern in patterns:
        for path in sorted(glob.glob(pattern, recursive=True)):
            text += COMMENT.sub("", read(path)) + "\n"
    return text


def tables(text, kind):
    """The bodies of all initialized arrays of one struct type."""
    return re.findall(rf"\b{kind}\s+\w+\[\w*\]\s*=\s*\{{(.*?)\n\s*\}};", text,
                      re.S)


def directives():
    """Of the command tables, and the lines of our own blocks."""
    text = code("ngx_module/*.c")
    names = set()
    for body in tables(text, "ngx_command_t"):
        names |= set(re.findall(r'ngx_string\("(\w+)"\)', body))
    return names | set(re.findall(
        r'ngx_strcmp\(value\[0\]\.data, "(\w+)"\) == 0', text))


def variables():
    text = code("ngx_module/*.c")
    names = set()
    for body in tables(text, "ngx_http_variable_t"):
        names |= {"$" + n
                  for n in re.findall(r'ngx_string\("(\w+)"\)', body)}
    return names


def metrics():
    """Every name that the files which write metrics spell out."""
    text = code("api/*metrics*.c", "ngx_module/*metrics*.c",
                "ngx_module/*vllm*.c")
    return set(re.findall(r'"((?:axion_|vllm:)[a-z0-9_]+)"', text))


def options(pattern):
    """The rows of the option tables (engine/server/options.h), and of the
    one that getopt reads."""
    text = code(pattern)
    names = set()
    for body in tables(text, "struct ax_option"):
        names |= {"--" + n for n in re.findall(
            r'\{\s*"([a-z0-9-]+)",\s*AX_OPTION_', body)}
    for body in tables(text, "struct option"):
        names |= {"--" + n for n in re.findall(
            r'\{\s*"([a-z0-9-]+)",\s*\w+_argument', body)}
    return names


def fields():
    """What a body may have: the tables of api/, and the fields of any
    length that are looked up by name."""
    text = code("api/request*.c")
    names = set()
    for kind in ("struct scalar", "struct unsupported"):
        for body in tables(text, kind):
            names |= set(re.findall(r'\{\s*"(\w+)",\s*FOR_', body))
    return names | set(re.findall(r'axion_parse_get\(root, "(\w+)"\)', text))


def formats():
    """Weight formats that have kernels."""
    body = tables(code("kernels/format.c"), "struct axk_format_traits")[0]
    return set(re.findall(r'\{\s*"(\w+)", \d+, \d+, AXK_ACT_(?!NONE)', body))


def families():
    return set(re.findall(r'struct ax_family +\w+ = \{\s*"(\w+)"',
                          code("engine/model/*.c")))


def headings(page):
    """Names in code font that head a section or a table row of a page."""
    names = set()
    for line in read(page).splitlines():
        if line.startswith("#"):
            names |= set(re.findall(r"`([^`\s]+)[^`]*`", line))
        elif line.startswith("| `"):
            names.add(re.match(r"\| `([^`\s]+)", line).group(1))
    return names


def first_cells(page):
    """Every name in code font of the tables' first columns."""
    cells = re.findall(r"^\| (`[^|]*)\|", read(page), re.M)
    return {n for cell in cells for n in re.findall(r"`([^`\s]+)`", cell)}


def compare(findings, what, wanted, page, names=headings):
    if not wanted:
        findings.append(f"{what}: none was found in the code")
        return
    there = names(page)
    for name in sorted(wanted - there):
        findings.append(f"{page}: {what} {name} is in the code, not here")
    print(f"{what}: {len(wanted)} in the code, {page}")


def no_ghosts(findings, what, known, page, shape):
    for name in sorted(headings(page)):
        if re.fullmatch(shape, name) and known and name not in known:
            findings.append(f"{page}: {what} {name} is not in the code")


def check_errors(findings):
    made = subprocess.run([sys.executable, "tools/errors_md.py"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    if made != read("docs/errors.md"):
        findings.append("docs/errors.md differs from shm/errors.def: run "
                        "tools/errors_md.py")


def check_links(findings):
    listed = subprocess.run(["git", "ls-files", "*.md"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    for page in listed.split():
        if not os.path.exists(page):
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", read(page)):
            if "://" in target:
                continue
            path = os.path.join(os.path.dirname(page), target)
            if not os.path.exists(path):
                findings.append(f"{page}: link to {target} leads nowhere")


def check_names(findings):
    """`path/to/file.c`, `ax_function()` and `make target` of every page."""
    listed = subprocess.run(["git", "ls-files"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()
    sources = "".join(read(path) for path in listed if os.path.exists(path)
                      and re.search(r"\.(c|h|def|mk|py|sh|pm)$", path))
    targets = read("tools/targets.mk")
    for page in listed:
        if not page.endswith(".md") or not os.path.exists(page):
            continue
        for name in sorted(set(re.findall(r"`([^`\n]+)`", read(page)))):
            if re.search(r"NAME|PREFIX|CLASS|\*", name):
                continue
            if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/[\w-]+\.[\w.]+", name):
                good = (os.path.exists(name) or name in sources
                        or os.path.exists(os.path.join(
                            os.path.dirname(page), name)))
            elif re.fullmatch(r"(ax|axk|axion)_\w+\(?\)?", name):
                good = name.rstrip("()") in sources
            elif re.fullmatch(r"make [a-z-]+", name):
                good = re.search(rf"(?m)^{name[5:]}:", targets)
            else:
                continue
            if not good:
                findings.append(f"{page}: there is no {name}")


def main():
    os.chdir(ROOT)
    findings = []
    found = directives()
    compare(findings, "directive", found, "docs/directives.md")
    no_ghosts(findings, "directive", found, "docs/directives.md",
              r"axion_\w+")
    found = variables()
    compare(findings, "variable", found, "docs/variables.md")
    no_ghosts(findings, "variable", found, "docs/variables.md",
              r"\$axion_\w+")
    found = metrics()
    compare(findings, "metric", found, "docs/metrics.md")
    no_ghosts(findings, "metric", found, "docs/metrics.md",
              r"(axion_|vllm:)\w+")
    found = options("engine/**/*.c")
    compare(findings, "option", found, "docs/options.md")
    no_ghosts(findings, "option", found, "docs/options.md", r"--[a-z-]+")
    found = fields()
    compare(findings, "field", found, "docs/api.md", first_cells)
    spelled = code("api/request*.c")
    for name in sorted(first_cells("docs/api.md") - found):
        if f'"{name}"' not in spelled:
            findings.append(f"docs/api.md: field {name} is not in the code")
    found = formats() | families()
    compare(findings, "format or family", found, "docs/models.md")
    no_ghosts(findings, "format or family", found, "docs/models.md", r"\w+")
    check_errors(findings)
    check_links(findings)
    check_names(findings)
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
