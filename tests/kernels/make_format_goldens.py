#!/usr/bin/env python3
"""Writes format_goldens.inc.h: for every quantized format one random block of
the ggml file format, and its values as gguf-py (PyPI gguf) dequantizes them.

Run:  python3 tests/kernels/make_format_goldens.py > tests/kernels/format_goldens.inc.h
"""
import numpy as np
from importlib.metadata import version
from gguf import GGMLQuantizationType as T, GGML_QUANT_SIZES
from gguf.quants import dequantize

# offsets of the f16 scales in a block
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2],
    T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: [],
}


def main():
    rng = np.random.default_rng(20261121)
    print("/* Made by make_format_goldens.py with numpy %s and gguf %s. */\n"
          % (np.__version__, version("gguf")))
    print("static const struct golden goldens[] = {")
    for fmt, offsets in SCALES.items():
        n, size = GGML_QUANT_SIZES[fmt]
        block = rng.integers(0, 256, size, dtype=np.uint8)
        for at in offsets:
            half = np.float16(rng.uniform(-0.1, 0.1))
            block[at:at + 2] = np.frombuffer(half.tobytes(), np.uint8)
        if fmt == T.MXFP4:
            block[0] = 121
        values = dequantize(block.reshape(1, -1), fmt).reshape(-1)
        assert values.dtype == np.float32 and len(values) == n
        print("    { AXK_%s, {" % fmt.name)
        for i in range(0, size, 12):
            print("        " + " ".join("0x%02x," % b for b in block[i:i + 12]))
        print("      }, {")
        for i in range(0, n, 4):
            print("        " + " ".join("%sf," % float(v).hex()
                                        for v in values[i:i + 4]))
        print("      } },")
    print("};")


main()
