"""The manual pages are correct mdoc, and say what the code says: every option
of axiond and axion with its choices, the ring's records, states and bounds."""

import os
import re
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests/docs"))
import test_docs  # noqa: E402

PAGES = ["docs/man/axiond.8", "docs/man/axion.1", "docs/man/axion_ring.7"]
AXION = ["bench", "chat", "compare", "inspect", "keygen", "pack",
         "tokenize"]


def documented(text):
    """Option names that head an item; `Fl m , Fl -model Ar FILE` is one."""
    names = set()
    for line in text.splitlines():
        if line.startswith(".It "):
            names |= {"--" + n for n in re.findall(r"Fl -([a-z0-9-]+)", line)}
    return names


def section(text, title):
    body = re.search(rf"^\.Ss {title}\n(.*?)^\.S[sh] ", text, re.S | re.M)
    assert body, f"no section {title}"
    return body.group(1)


class Pages(unittest.TestCase):
    def test_mandoc_finds_nothing(self):
        for page in PAGES:
            lint = subprocess.run(["mandoc", "-Tlint", "-W", "warning", page],
                                  stdout=subprocess.PIPE, text=True)
            self.assertEqual(lint.stdout, "")
            self.assertEqual(lint.returncode, 0)

    def test_axiond_has_every_option_and_no_other(self):
        text = test_docs.read("docs/man/axiond.8")
        self.assertEqual(documented(text),
                         test_docs.options("engine/server/option_table.c"))

    def test_axion_has_every_option_of_every_command(self):
        text = test_docs.read("docs/man/axion.1")
        common = {"--help"}
        for command in AXION:
            self.assertEqual(
                documented(section(text, "axion " + command)) | common,
                test_docs.options(f"engine/tool/{command}.c"), command)

    def test_axion_has_every_command(self):
        body, = test_docs.tables(test_docs.code("engine/tool/main.c"),
                                 "struct command")
        self.assertEqual(sorted(re.findall(r'\{"(\w+)"', body)), AXION)

    def test_choices_are_those_of_the_code(self):
        levels = re.search(r'AX_LOG_LEVELS\s+"([^"]+)"',
                           test_docs.read("engine/server/log.h")).group(1)
        loops = re.search(r'AX_LOOP_KINDS\s+"([^"]+)"',
                          test_docs.read("engine/server/loop.h")).group(1)
        text = test_docs.read("docs/man/axiond.8")
        for option, choices in (("log-level", levels), ("event-loop", loops)):
            item = text[text.index(".It Fl -" + option):]
            item = item[:item.index(".It", 3)]
            named = set(re.findall(r"^\.Cm (\w+)", item, re.M))
            self.assertEqual(named, set(choices.split("|")), option)

    def test_ring_has_every_record_and_bound(self):
        text = test_docs.read("docs/man/axion_ring.7")
        wire = test_docs.code("shm/wire.h")
        for name in re.findall(r"AXION_[SC]Q_([A-Z_]+)\s*=", wire):
            self.assertRegex(text, rf"\b{name}\b")
        for name in ("SQ_ENTRIES_MIN", "SQ_ENTRIES_MAX", "CQ_ENTRIES_MIN",
                     "CQ_ENTRIES_MAX", "STREAMS_MAX", "ARENA_BYTES_MIN",
                     "REGION_HEADER", "WIRE_MAGIC"):
            value = re.search(rf"AXION_{name}\s+(\w+?)u\b", wire).group(1)
            self.assertRegex(text, rf"\b{value}\b", name)
        for name in ("WIRE_VERSION 1u", "ARENA_BYTES_MAX (256u << 20)"):
            self.assertIn(name, re.sub(r" +", " ", wire))


if __name__ == "__main__":
    os.chdir(ROOT)
    if shutil.which("mandoc") is None:
        print("skipped: mandoc is not installed")
        sys.exit(77)
    unittest.main(verbosity=2)
