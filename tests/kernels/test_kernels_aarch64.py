#!/usr/bin/env python3
"""The AArch64 kernels, cross-compiled and run under qemu-user: checkkernels
finds neon (sdot) and neon-i8mm (smmla) equal to the reference bit for bit,
the objects have the intended instructions and only theirs, and on a CPU
without them only the reference is offered.

Skipped (77) without aarch64-linux-gnu-gcc or qemu-aarch64; the packages are
gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user.
"""

import os
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
OUT = os.path.join(os.environ.get("BUILD", os.path.join(ROOT, "build")),
                   "aarch64")
CROSS = "aarch64-linux-gnu-"
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")

COMMON = ["format", "pack", "file_blocks", "math", "kv_q8", "select",
          "scalar", "scalar_matmul", "scalar_attention", "scalar_bf16"]
TESTS = ["checkkernels", "check_matmul", "check_ops", "check_attention",
         "bench"]
FLAGS = ["-std=gnu11", "-O2", "-ffp-contract=off", "-fno-math-errno",
         "-fno-trapping-math", "-Wall", "-Wextra", "-Werror",
         "-D_GNU_SOURCE", "-I" + ROOT,
         "-isystem", os.path.join(ROOT, "tests/kernels/aarch64")]


def compile_one(source, march=None):
    obj = os.path.join(OUT, os.path.basename(source)[:-2] + ".o")
    flags = FLAGS + (["-march=" + march] if march else [])
    subprocess.run([CROSS + "gcc", *flags, "-c", "-o", obj,
                    os.path.join(ROOT, source)], check=True)
    return obj


def instructions(obj):
    text = subprocess.run([CROSS + "objdump", "-d", "--no-show-raw-insn", obj],
                          check=True, capture_output=True, text=True).stdout
    words = [line.split("\t")[1].split()[0] for line in text.splitlines()
             if line.count("\t") >= 1 and line.split("\t")[1].strip()]
    return {w: words.count(w) for w in set(words)}


class Aarch64(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        os.makedirs(OUT, exist_ok=True)
        cls.plain = [compile_one(f"kernels/{n}.c") for n in COMMON]
        cls.neon = compile_one("kernels/matmul_neon.c",
                               "armv8.2-a+dotprod")
        cls.i8mm = compile_one("kernels/matmul_neon_i8mm.c",
                               "armv8.2-a+dotprod+i8mm")
        tests = [compile_one(f"tests/kernels/{n}.c") for n in TESTS]
        cls.program = os.path.join(OUT, "checkkernels")
        subprocess.run([CROSS + "gcc", "-static", "-o", cls.program, *tests,
                        *cls.plain, cls.neon, cls.i8mm, "-lm", "-lpthread"],
                       check=True)

    def run_on(self, cpu, what):
        r = subprocess.run([QEMU, "-cpu", cpu, self.program, what],
                           env=dict(os.environ, AXION_TINY_ONLY="1"),
                           capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stdout[-2000:] + r.stderr)
        return r.stdout

    def test_matmuls_equal_the_reference(self):
        self.assertIn("instruction sets: neon neon-i8mm\n",
                      self.run_on("max", "matmul"))

    def test_lesser_cpu_is_offered_the_reference(self):
        self.assertIn("only the scalar reference", self.run_on("cortex-a53", "--list"))

    def test_intended_instructions_are_there(self):
        neon = instructions(self.neon)
        i8mm = instructions(self.i8mm)
        self.assertGreater(neon.get("sdot", 0), 60)
        self.assertEqual(neon.get("smmla", 0), 0)
        self.assertGreater(i8mm.get("smmla", 0), 60)

    def test_common_objects_are_plain(self):
        for obj in self.plain:
            found = instructions(obj)
            self.assertFalse({"sdot", "smmla", "fmla"} & set(found), obj)


if __name__ == "__main__":
    if QEMU is None or shutil.which(CROSS + "gcc") is None:
        print("skipped: needs aarch64-linux-gnu-gcc and qemu-aarch64")
        sys.exit(77)
    unittest.main()
