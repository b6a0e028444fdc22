#!/usr/bin/env python3
"""Writes a GGUF model again with every tensor as F32, by gguf-py's own
dequantization: the same function without the noise of 8-bit activations, which
is what the executor's arithmetic can be held against to the last digits.  Or
with its matrices as BF16, which the classes of numerics for BF16 weights are
measured on (bench/kl.py).

    dequantize.py MODEL OUT [BF16]
"""

import os
import sys

import gguf
import numpy as np


def main():
    source, target = sys.argv[1:3]
    as_bf16 = sys.argv[3:] == ["BF16"]
    reader = gguf.GGUFReader(source)
    partial = target + ".part"
    writer = gguf.GGUFWriter(
        partial, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        element = field.types[-1] \
            if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=element)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        shape = [int(n) for n in reversed(tensor.shape)]
        values = values.reshape(shape).astype(np.float32)
        if as_bf16 and len(shape) > 1:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, kind),
                              raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(partial, target)


if __name__ == "__main__":
    main()
