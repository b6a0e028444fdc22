#!/usr/bin/env python3
"""An engine with --profile: /metrics says per layer and kind of work what steps
took, read and computed, so that a share of the roofline is a quotient of two
samples; the file it leaves has the same sums."""

import csv
import os

import base
from base import stack

CSV = stack.build_path("e2e/profile.csv")
LAYERS = 30  # SmolLM2's


class Profile(base.StackTest):
    OPTIONS = ["--profile", CSV]

    @classmethod
    def setUpClass(cls):
        os.makedirs(os.path.dirname(CSV), exist_ok=True)
        super().setUpClass()

    def costs(self, name):
        """{(layer, op): value} of one metric."""
        found = {}
        for sample, value in self.stack.metrics().items():
            if sample.startswith(f"axion_engine_op_{name}_total{{"):
                labels = dict(part.split("=", 1) for part in
                              sample[sample.index("{") + 1:-1].split(","))
                found[labels["layer"].strip('"'),
                      labels["op"].strip('"')] = value
        return found

    def test_costs_by_layer_and_op(self):
        self.assert_serves()
        seconds = self.costs("seconds")
        read = self.costs("bytes")
        computed = self.costs("operations")
        self.assertEqual(set(seconds), set(read))
        self.assertEqual(set(seconds), set(computed))
        for layer in range(LAYERS):
            key = str(layer), "ffn_down"
            # 576 x 1536 weights in blocks of 20 bytes
            weights = 576 * 1536
            steps = read[key] / (weights // 32 * 20)
            self.assertEqual(steps, int(steps))
            self.assertGreater(steps, 3)  # 4 tokens, and what was timed
            self.assertGreaterEqual(computed[key], steps * 2 * weights)
            self.assertGreater(seconds[key], 0)
        engine, self.stack.engine = self.stack.engine, None
        self.assertEqual(engine.stop(), 0)
        with open(CSV, newline="") as file:
            rows = list(csv.DictReader(file))
        for key, value in read.items():
            self.assertEqual(value, sum(
                int(row["bytes"]) for row in rows
                if (row["layer"], row["op"]) == key), key)


if __name__ == "__main__":
    base.main()
