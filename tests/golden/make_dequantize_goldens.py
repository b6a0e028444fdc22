#!/usr/bin/env python3
"""Writes dequantize_goldens.inc.h: for every weight format the hash of what
gguf-py makes of a matrix of random blocks.

    .venv/bin/python tests/golden/make_dequantize_goldens.py \\
        >tests/golden/dequantize_goldens.inc.h

test_dequantize.c draws the same blocks: byte i of a matrix is the high byte
of splitmix64's value i from the format's number as seed; then an exponent of
all ones in an f16 or bfloat16 number loses its highest bit, and MXFP4's
exponents end at 250, beyond which values overflow.  The hash is FNV-1a over the values'
32-bit patterns, row after row, its high bits folded in; -0 counts as 0.
"""

from importlib.metadata import version

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize

ROWS = 40
BLOCKS = 16  # in a row

# where a block has f16 numbers
HALVES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2],
    T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: [], T.F16: [0],
    T.BF16: [],
}


def random_bytes(seed, count):
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) \
            * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(56)).astype(np.uint8)


def make_finite(blocks, fmt):
    for at in HALVES[fmt]:
        high = blocks[:, at + 1]
        high[(high & 0x7c) == 0x7c] &= 0xbf
    if fmt == T.BF16:
        high, low = blocks[:, 1], blocks[:, 0]
        high[((high & 0x7f) == 0x7f) & ((low & 0x80) == 0x80)] &= 0xbf
    if fmt == T.MXFP4:
        np.minimum(blocks[:, 0], 250, out=blocks[:, 0])


def digest(values):
    bits = (values + np.float32(0)).view(np.uint32).reshape(-1)
    h = 0xCBF29CE484222325
    for word in bits.tolist():
        h = (h ^ word) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        h ^= h >> 29
    return h


def main():
    print(f"/* Made by make_dequantize_goldens.py with gguf "
          f"{version('gguf')}. */\n")
    print("static const struct golden_hash golden_hashes[] = {")
    for fmt in HALVES:
        _, size = GGML_QUANT_SIZES[fmt]
        blocks = random_bytes(fmt.value, ROWS * BLOCKS * size)
        blocks = blocks.reshape(-1, size)
        make_finite(blocks, fmt)
        values = dequantize(blocks.reshape(ROWS, -1), fmt)
        assert values.dtype == np.float32 and np.isfinite(values).all()
        print(f"    {{AXK_{fmt.name}, 0x{digest(values):016x}}},")
    print("};")


main()
