#!/usr/bin/env python3
"""Models of real shapes with random weights, for measuring: a kernel does not
care what it multiplies, and nobody has to fetch 5 GB to see how fast 8B is.

    tools/random_gguf.py llama-3.2-1b Q4_K_M out.gguf
    tools/random_gguf.py --list

Weights are random bytes written straight as quantized blocks; only their scales
are computed, so that each tensor has the deviation that keeps activations near
one and logits near 1.5 from first layer to last.  Types are mixed as
llama.cpp's quantizer does (output and tied embeddings Q6_K, of Q4_K_M half of
ffn_down and attn_v too).  Metadata is complete: Axion and llama.cpp load the
file, and the tokenizer is a real one, --vocabulary's (SmolLM2's), filled up with
unused tokens to the shape's size.  The same arguments give the same bytes.

As fast as the disk: a second or two for a 1B model.  An 8B model has 4.7 GB as
Q4_0, 16 GB as BF16.  Needs gguf and numpy (.venv or .cache/llama).
"""

import argparse
import os
import sys

import gguf
import numpy as np

VOCABULARY = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
CHUNK_BLOCKS = 1 << 16
LOGIT_DEVIATION = 1.5

# arch, layers, embd, ff, heads, kv heads, head_dim, vocab (None: the
# vocabulary's), context, rope base, llama3 rope factor (0: none), tied, rms eps
SHAPES = {
    "llama-3.2-1b": ("llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072,
                     500000.0, 32, True, 1e-5),
    "llama-3.1-8b": ("llama", 32, 4096, 14336, 32, 8, 128, 128256, 131072,
                     500000.0, 8, False, 1e-5),
    "qwen3-0.6b": ("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 40960,
                   1000000.0, 0, True, 1e-6),
    "tiny-llama": ("llama", 3, 256, 768, 4, 2, 64, None, 2048, 10000.0, 0,
                   False, 1e-5),
    "tiny-qwen3": ("qwen3", 3, 256, 512, 4, 2, 64, None, 2048, 1000000.0, 0,
                   True, 1e-6),
}
FIELDS = ("arch layers embd ff heads kv_heads head_dim vocab context base "
          "factor tied eps").split()

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MXFP4 = (0, 1, 2, 3, 4, 6, 8, 12)


def rms(values):
    return float(np.sqrt(np.mean(np.square(np.array(values, dtype="f8")))))


def put(blocks, at, values):
    """Values as f16 into two bytes of every block."""
    blocks[:, at:at + 2] = values.astype("<f2")[:, None].view("u1")


def spread(rng, n):
    """Scales of blocks differ, as those of real weights do: 0.75 .. 1.25
    of their deviation."""
    raw = rng.random_raw(n) >> np.uint64(40)
    factors = 0.75 + raw.astype("f4") / np.float32(1 << 25)
    return factors / np.float32(np.sqrt(1 + 0.25 / 12))


# Each fills in the scales of random blocks; sigma is the deviation wanted.  The
# divisors are the deviation of the codes alone.

def signed(divisor):
    """d * (q - middle), the mean of which is not 0: the sign of d varies."""
    def finish(blocks, sigma, factors):
        sign = np.where(blocks[:, 2] & 1, -1, 1)
        put(blocks, 0, sign * factors * (sigma / divisor))
    return finish


def with_minimum(divisor, middle):
    def finish(blocks, sigma, factors):
        d = factors * (sigma / divisor)
        put(blocks, 0, d)
        put(blocks, 2, -middle * d)
    return finish


def finish_q8_0(blocks, sigma, factors):
    codes = blocks[:, 2:]
    codes[codes == 0x80] = 0x81  # -128: the quantizer never writes it
    put(blocks, 0, factors * (sigma / rms(range(-127, 128))))


def super_block(codes, middle):
    """d * sc * q - dmin * m with m = sc, so that the mean is 0."""
    def finish(blocks, sigma, factors):
        d = factors * (sigma / (rms(range(64)) * codes))
        put(blocks, 0, d)
        put(blocks, 2, middle * d)
        blocks[:, 8:12] = blocks[:, 4:8]
        blocks[:, 12:16] = (blocks[:, 12:16] & 15) * 17
    return finish


def finish_q2_k(blocks, sigma, factors):
    blocks[:, :16] = (blocks[:, :16] & 15) * 17
    d = factors * (sigma / (rms(range(16)) * np.sqrt(1.25)))
    put(blocks, 80, d)
    put(blocks, 82, 1.5 * d)


def scaled(at, divisor):
    def finish(blocks, sigma, factors):
        put(blocks, at, factors * (sigma / divisor))
    return finish


def finish_mxfp4(blocks, sigma, factors):
    del factors
    mean = np.log2(sigma / rms(MXFP4)) + 128
    # Two powers of two around the scale that is wanted.
    power = np.floor(mean)
    share = (4.0 ** (mean - power) - 1) / 3
    up = blocks[:, 0] < share * 256
    blocks[:, 0] = power + up


FORMATS = {
    "Q4_0": signed(rms(range(-8, 8))),
    "Q5_0": signed(rms(range(-16, 16))),
    "Q4_1": with_minimum(np.sqrt(255 / 12), 7.5),
    "Q5_1": with_minimum(np.sqrt(1023 / 12), 15.5),
    "Q8_0": finish_q8_0,
    "Q2_K": finish_q2_k,
    "Q3_K": scaled(108, rms(range(-32, 32)) * rms(range(-4, 4))),
    "Q4_K": super_block(np.sqrt(255 / 12), 7.5),
    "Q5_K": super_block(np.sqrt(1023 / 12), 15.5),
    "Q6_K": scaled(208, rms(range(-128, 128)) * rms(range(-32, 32))),
    "IQ4_NL": signed(rms(IQ4)),
    "IQ4_XS": scaled(0, rms(range(-32, 32)) * rms(IQ4)),
    "MXFP4": finish_mxfp4,
}
FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": None}

# Name on the command line: main format, general.file_type.
KINDS = {name: (name, getattr(gguf.LlamaFileType, "MOSTLY_" + name, None))
         for name in FORMATS}
KINDS.update({
    "F32": ("F32", gguf.LlamaFileType.ALL_F32),
    "F16": ("F16", gguf.LlamaFileType.MOSTLY_F16),
    "BF16": ("BF16", gguf.LlamaFileType.MOSTLY_BF16),
    "Q3_K": ("Q3_K", gguf.LlamaFileType.MOSTLY_Q3_K_S),
    "Q4_K_S": ("Q4_K", gguf.LlamaFileType.MOSTLY_Q4_K_S),
    "Q4_K_M": ("Q4_K", gguf.LlamaFileType.MOSTLY_Q4_K_M),
    "Q5_K": ("Q5_K", gguf.LlamaFileType.MOSTLY_Q5_K_S),
    "Q5_K_M": ("Q5_K", gguf.LlamaFileType.MOSTLY_Q5_K_M),
    "MXFP4": ("MXFP4", gguf.LlamaFileType.MOSTLY_MXFP4_MOE),
})
del KINDS["Q4_K"]

# Where a row is no multiple of 256, llama.cpp takes these.
NARROW = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL",
          "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def more_bits(layer, layers):
    """llama.cpp's choice: the first and last eighth, every third between."""
    return (layer < layers // 8 or layer >= 7 * layers // 8
            or (layer - layers // 8) % 3 == 2)


def format_of(kind, shape, name, layer, k):
    """The type of one matrix, as llama.cpp's quantizer chooses."""
    main = KINDS[kind][0]
    output = "token_embd" if shape["tied"] else "output"
    if main not in FLOATS:
        if name == output and main != "Q8_0":
            main = "Q6_K"
        elif (kind.endswith("_M") and name in ("ffn_down", "attn_v")
              and more_bits(layer, shape["layers"])):
            main = "Q6_K"
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[main]][0]
    return NARROW[main] if k % block else main


class Tensor:
    """name, [rows][k], deviation; rows 0 is a vector of k values, sigma its
    deviation around 1, or values given as they are."""

    def __init__(self, name, rows, k, sigma, form, values=None):
        self.name, self.rows, self.k = name, rows, k
        self.sigma, self.values = sigma, values
        self.type = gguf.GGMLQuantizationType[form]
        elements, self.block_bytes = gguf.GGML_QUANT_SIZES[self.type]
        self.n_blocks = max(rows, 1) * (k // elements)
        self.n_bytes = self.n_blocks * self.block_bytes

    def chunks(self, rng):
        if self.values is not None:
            yield self.values.astype("<f4")
        elif self.rows == 0:
            yield (1 + self.sigma * uniform(rng, self.k)).astype("<f4")
        else:
            for at in range(0, self.n_blocks, CHUNK_BLOCKS):
                yield self.chunk(rng, min(CHUNK_BLOCKS, self.n_blocks - at))

    def chunk(self, rng, n):
        if self.type.name in FLOATS:
            return floats(uniform(rng, n) * np.float32(self.sigma),
                          self.type.name)
        blocks = raw_bytes(rng, n * self.block_bytes)
        blocks = blocks.reshape(n, self.block_bytes)
        FORMATS[self.type.name](blocks, self.sigma, spread(rng, n))
        return blocks


def raw_bytes(rng, n):
    return rng.random_raw((n + 7) // 8).astype("<u8").view("u1")[:n]


def uniform(rng, n):
    """n values, mean 0 and deviation 1."""
    halves = raw_bytes(rng, 2 * n).view("<i2")
    return (halves.astype("f4") + np.float32(0.5)) * np.float32(
        np.sqrt(3) / 32768)


def floats(values, form):
    if form == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return values.astype(FLOATS[form])


def rope_factors(shape):
    """Llama 3.1's: long wave lengths are stretched, those between blended."""
    dims = shape["head_dim"]
    wave = 2 * np.pi * shape["base"] ** (np.arange(0, dims, 2) / dims)
    low, high, context = 1.0, 4.0, 8192
    smooth = np.clip((context / wave - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / shape["factor"] + smooth)


def tensors(shape, kind):
    embd, ff, layers = shape["embd"], shape["ff"], shape["layers"]
    q = shape["heads"] * shape["head_dim"]
    kv = shape["kv_heads"] * shape["head_dim"]
    branch = 1 / np.sqrt(2 * layers)  # what layers add stays near one

    def matrix(name, rows, k, gain, layer=0):
        form = format_of(kind, shape, name.split(".")[-2], layer, k)
        return Tensor(name, rows, k, gain / np.sqrt(k), form)

    def vector(name, n):
        return Tensor(name, 0, n, 0.15, "F32")

    yield matrix("token_embd.weight", shape["vocab"], embd,
                 LOGIT_DEVIATION if shape["tied"] else np.sqrt(embd))
    if shape["factor"]:
        yield Tensor("rope_freqs.weight", 0, shape["head_dim"] // 2, 0, "F32",
                     rope_factors(shape))
    for i in range(layers):
        at = f"blk.{i}."
        yield vector(at + "attn_norm.weight", embd)
        yield matrix(at + "attn_q.weight", q, embd, 1, i)
        yield matrix(at + "attn_k.weight", kv, embd, 1, i)
        yield matrix(at + "attn_v.weight", kv, embd, 1, i)
        if shape["arch"] == "qwen3":
            yield vector(at + "attn_q_norm.weight", shape["head_dim"])
            yield vector(at + "attn_k_norm.weight", shape["head_dim"])
        yield matrix(at + "attn_output.weight", embd, q, branch, i)
        yield vector(at + "ffn_norm.weight", embd)
        yield matrix(at + "ffn_gate.weight", ff, embd, 1, i)
        yield matrix(at + "ffn_up.weight", ff, embd, 1, i)
        yield matrix(at + "ffn_down.weight", embd, ff, branch, i)
    yield vector("output_norm.weight", embd)
    if not shape["tied"]:
        yield matrix("output.weight", shape["vocab"], embd, LOGIT_DEVIATION)


def add_vocabulary(writer, path, n_vocab):
    """The tokenizer of another file, with unused tokens behind it; returns how
    many there are."""
    reader = gguf.GGUFReader(path)

    def strings(key):
        field = reader.fields[key]
        return [bytes(field.parts[i]) for i in field.data]

    tokens = strings("tokenizer.ggml.tokens")
    kinds = reader.fields["tokenizer.ggml.token_type"]
    kinds = [int(kinds.parts[i][0]) for i in kinds.data]
    n_vocab = n_vocab or len(tokens)
    if n_vocab < len(tokens):
        sys.exit(f"{path}: {len(tokens)} tokens are too many for a shape of "
                 f"{n_vocab}")
    more = n_vocab - len(tokens)
    tokens += [b"<|unused_%d|>" % i for i in range(more)]
    kinds += [int(gguf.TokenType.UNUSED)] * more
    for key in ("model", "pre"):
        writer.add_string("tokenizer.ggml." + key,
                          strings("tokenizer.ggml." + key)[0].decode())
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(strings("tokenizer.ggml.merges"))
    for key, field in reader.fields.items():
        if not key.startswith("tokenizer.") or key in writer.kv_data[0]:
            continue
        value = field.contents()
        if key.endswith("_id"):
            writer.add_uint32(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
    return n_vocab


def add_shape(writer, shape, name, kind):
    writer.add_name(f"{name} {kind}, random weights")
    writer.add_file_type(KINDS[kind][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["embd"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["ff"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_rope_freq_base(shape["base"])
    writer.add_layer_norm_rms_eps(shape["eps"])
    writer.add_vocab_size(shape["vocab"])


def write(path, shape, name, kind, vocabulary, seed):
    writer = gguf.GGUFWriter(path, shape["arch"])
    shape["vocab"] = add_vocabulary(writer, vocabulary, shape["vocab"])
    add_shape(writer, shape, name, kind)
    every = list(tensors(shape, kind))
    for tensor in every:
        dims = [tensor.rows, tensor.k] if tensor.rows else [tensor.k]
        writer.add_tensor_info(tensor.name, dims, np.dtype("f4"),
                               tensor.n_bytes, tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    out = writer.fout[0]
    writer.write_padding(out, out.tell())
    for i, tensor in enumerate(every):
        rng = np.random.SFC64([seed, i])
        for chunk in tensor.chunks(rng):
            out.write(chunk.data)
        writer.write_padding(out, tensor.n_bytes)
    writer.close()
    return sum(tensor.n_bytes for tensor in every)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("shape", nargs="?", choices=SHAPES)
    parser.add_argument("kind", nargs="?", choices=KINDS)
    parser.add_argument("out", nargs="?")
    parser.add_argument("--vocabulary", default=VOCABULARY,
                        help="a GGUF file whose tokenizer is taken")
    parser.add_argument("--layers", type=int, help="fewer or more layers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        print("shapes:", *SHAPES)
        print("kinds:", *KINDS)
        return
    if args.out is None:
        parser.error("a shape, a kind and an output file are needed")
    shape = dict(zip(FIELDS, SHAPES[args.shape]))
    shape["layers"] = args.layers or shape["layers"]
    # Beside the file first: who reads it never sees half of one.
    part = args.out + ".part"
    n_bytes = write(part, shape, args.shape, args.kind, args.vocabulary,
                    args.seed)
    os.replace(part, args.out)
    print(f"{args.out}: {n_bytes / 2**20:.0f} MiB of weights")


if __name__ == "__main__":
    main()
