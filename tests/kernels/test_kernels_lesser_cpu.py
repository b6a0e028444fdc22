#!/usr/bin/env python3
"""No illegal instruction on a lesser CPU: under qemu-user, a CPU before AVX is
offered the reference alone and one with AVX2 no more than that, and each runs
checkkernels on what it is offered.

Skipped (77) on other machines than x86-64 and without qemu-x86_64.
"""

import os
import platform
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
CHECK = os.path.join(os.environ.get("BUILD", os.path.join(ROOT, "build")),
                     "tests/kernels/checkkernels")
QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")


class LesserCpu(unittest.TestCase):
    def run_on(self, cpu, group):
        r = subprocess.run([QEMU, "-cpu", cpu, CHECK, group],
                           env=dict(os.environ, AXION_TINY_ONLY="1"),
                           capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stdout[-2000:] + r.stderr)
        return r.stdout

    def test_before_avx(self):
        self.assertIn("only the scalar reference",
                      self.run_on("Nehalem", "matmul"))

    def test_avx2(self):
        self.assertIn("instruction sets: avx2\n",
                      self.run_on("Haswell", "ops"))


if __name__ == "__main__":
    if platform.machine() != "x86_64" or QEMU is None:
        print("skipped: needs qemu-x86_64 on an x86-64 machine")
        sys.exit(77)
    unittest.main()
