#!/usr/bin/env python3
"""Shows that every format of tools/random_gguf.py has the deviation it promises
(read by gguf-py), around zero, the same bytes for the same seed, and the types
that llama.cpp's quantizer mixes."""

import os
import sys
import unittest

try:
    import gguf
    import numpy as np
except ImportError:
    print("skipped: no gguf (make deps)")
    sys.exit(77)

SOURCE = os.environ.get("AXION_SOURCE", ".")
sys.path.insert(0, os.path.join(SOURCE, "tools"))
import random_gguf  # noqa: E402

ROWS, K, SIGMA = 64, 4096, 0.02


def weights(form, seed=1):
    tensor = random_gguf.Tensor("w", ROWS, K, SIGMA, form)
    return np.concatenate([
        chunk.view("u1").reshape(-1)
        for chunk in tensor.chunks(np.random.SFC64([seed, 0]))]), tensor


class Blocks(unittest.TestCase):
    def test_deviation_and_mean(self):
        for form in [*random_gguf.FORMATS, *random_gguf.FLOATS]:
            with self.subTest(form):
                data, tensor = weights(form)
                self.assertEqual(len(data), tensor.n_bytes)
                values = gguf.quants.dequantize(
                    data.view("<f4" if form == "F32" else
                              "<f2" if form == "F16" else "u1"), tensor.type)
                self.assertTrue(np.isfinite(values).all())
                self.assertAlmostEqual(values.std() / SIGMA, 1, delta=0.05)
                self.assertAlmostEqual(values.mean() / SIGMA, 0, delta=0.03)

    def test_seeds(self):
        one, again, other = (weights("Q4_K", seed)[0] for seed in (1, 1, 2))
        self.assertTrue((one == again).all())
        self.assertFalse((one == other).all())


class Recipe(unittest.TestCase):
    def count(self, name, kind):
        shape = dict(zip(random_gguf.FIELDS, random_gguf.SHAPES[name]))
        shape["vocab"] = shape["vocab"] or 1024
        counts = {}
        for tensor in random_gguf.tensors(shape, kind):
            if tensor.rows:
                key = (tensor.name.split(".")[-2], tensor.type.name)
                counts[key] = counts.get(key, 0) + 1
        return counts

    def test_llama_1b_q4_k_m(self):
        counts = self.count("llama-3.2-1b", "Q4_K_M")
        self.assertEqual(counts["token_embd", "Q6_K"], 1)
        self.assertEqual(counts["ffn_down", "Q6_K"], 8)
        self.assertEqual(counts["ffn_down", "Q4_K"], 8)
        self.assertEqual(counts["attn_v", "Q6_K"], 8)
        self.assertEqual(counts["attn_q", "Q4_K"], 16)

    def test_llama_8b_q4_0_has_an_output_of_its_own(self):
        counts = self.count("llama-3.1-8b", "Q4_0")
        self.assertEqual(counts["output", "Q6_K"], 1)
        self.assertEqual(counts["token_embd", "Q4_0"], 1)
        self.assertEqual(counts["ffn_down", "Q4_0"], 32)


if __name__ == "__main__":
    unittest.main()
