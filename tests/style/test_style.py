#!/usr/bin/env python3
"""House rules that a machine can see: dependencies between the folders point
down only (DESIGN section 2), no source file passes 1,000 lines, C sources
have no tabs, tests do not sleep, nothing left over names itself as
unfinished, and the engine side is as clang-format 14 (Debian 12's) lays it
out; other versions of it differ, so they are not asked.  Prints every finding as FILE:LINE and fails if there is one.

A test may poll in steps of up to 50 ms, and may let time pass where that is
"what is tested", in these words behind the call.
"""

import os
import re
import subprocess
import sys

# Which folders' headers each folder may include, besides its own.
MAY_INCLUDE = {
    "shm": set(),
    "kernels": set(),
    "api": {"shm"},
    "engine": {"kernels", "shm"},
    "ngx_module": {"api", "shm"},
    "sidecar": {"api", "shm"},
}

FORMATTED = re.compile(r"(shm|api|engine|kernels)/.*\.[ch]$")
LINES_MAX = 1000
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
SLEEP = re.compile(r"\b(sleep|usleep|nanosleep)\s*\(")
MAY_SLEEP = re.compile(r"\bsleep\(0\.0[0-5]\d*\)|what is tested")
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def sources():
    listed = subprocess.run(["git", "ls-files", "-z"], check=True,
                            stdout=subprocess.PIPE).stdout.decode()
    for path in sorted(filter(None, listed.split("\0"))):
        if os.path.isfile(path):
            yield path


def check_line(path, number, line, findings):
    top = path.split("/")[0]
    if path.endswith((".c", ".h", ".def", ".inc")):
        if "\t" in line:
            findings.append(f"{path}:{number}: a tab")
        match = INCLUDE.match(line)
        if match and top in MAY_INCLUDE:
            target = match.group(1).split("/")[0]
            if (target != top and target in MAY_INCLUDE
                    and target not in MAY_INCLUDE[top]):
                findings.append(f"{path}:{number}: {top} may not include "
                                f"{match.group(1)}")
    if top in ("tests", "t") and path.endswith((".c", ".h", ".py", ".t")):
        if (SLEEP.search(line) and not MAY_SLEEP.search(line)
                and "SLEEP = " not in line):
            findings.append(f"{path}:{number}: a test that sleeps")
    if UNFINISHED.search(line):
        findings.append(f"{path}:{number}: left unfinished")


def check_format(findings):
    command = "clang-format-14"
    files = [path for path in sources() if FORMATTED.match(path)]
    try:
        run = subprocess.run([command, "--dry-run", *files],
                             stderr=subprocess.PIPE, check=True)
    except FileNotFoundError:
        print(f"no {command} here: the layout was not checked")
        return
    places = re.findall(r"^(\S+?:\d+):\d+: warning", run.stderr.decode(),
                        re.M)
    findings += [f"{place}: {command} lays it out otherwise"
                 for place in places]


def main():
    findings = []
    files = 0
    check_format(findings)
    for path in sources():
        if not path.endswith((".c", ".h", ".def", ".inc", ".py", ".sh",
                              ".mk", ".t", ".pm", ".cu")):
            continue
        files += 1
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        if len(lines) > LINES_MAX:
            findings.append(f"{path}: {len(lines)} lines, {LINES_MAX} at most")
        for number, line in enumerate(lines, 1):
            check_line(path, number, line, findings)
    for finding in findings:
        print(finding)
    print(f"{files} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
