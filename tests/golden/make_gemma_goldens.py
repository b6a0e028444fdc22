#!/usr/bin/env python3
"""Asks llama.cpp what Gemma 3 270M should answer, and writes it down.

    tools/llama.sh            # llama-cpp-python 0.3.36 into .cache/llama
    make model-gemma
    .cache/llama/bin/python tests/golden/make_gemma_goldens.py

model/gemma3.golden      the file as it is: Q5_0, Q4_K, Q6_K and Q8_0 weights,
                         f16 KV
model/gemma3-f32.golden  the same weights as F32 (dequantize.py, 1.1 GB of
                         scratch) with f32 KV: the function without the noise
                         of 8-bit activations
text/gemma3.json         strings and their token ids

Layout and ways are those of make_model_goldens.py and make_text_goldens.py.
Every prompt starts with <bos>, without which Gemma answers nonsense, and the
last ones are longer than the window of 512 tokens.  The model is the
pretrained one: it has no chat template.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import llama_cpp

import make_model_goldens as model_goldens
import make_text_goldens as text_goldens

HERE = os.path.dirname(os.path.abspath(__file__))
N_TOP = 40
POSITIONS = 20
STRINGS = 300

TURNS = ("<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n")


def prompts():
    story, code = model_goldens.STORY, model_goldens.CODE
    with open("LICENSE", encoding="utf-8") as file:
        licence = file.read()
    # (text, most tokens)
    return [
        ("The capital of France is", 64),
        ("Once upon a time", 64),
        ("1, 2, 3, 4, 5, 6, 7,", 64),
        ("Q: What is the boiling point of water?\nA:", 64),
        ("La capitale de l'Italie est Rome. La capitale de l'Espagne est", 64),
        ("\u6771\u4eac\u306f\u65e5\u672c\u306e", 64),
        ("\U0001f600 \U0001f680 emoji are", 64),
        ("    indented\n\ttabbed\n\n\n   mixed   spaces  end", 64),
        (TURNS.format("Write a haiku about the sea."), 64),
        (code, 200),
        (story, 200),
        (story * 7 + "The next morning,", 760),
        (licence, 1000),
    ]


class Oracle(model_goldens.Oracle):
    add_bos = True


def write_models(quantized, out):
    with tempfile.TemporaryDirectory() as scratch:
        exact = os.path.join(scratch, "gemma3-f32.gguf")
        subprocess.run([sys.executable, os.path.join(HERE, "dequantize.py"),
                        quantized, exact], check=True)
        for name, path, kv in (
                ("gemma3", quantized, llama_cpp.GGML_TYPE_F16),
                ("gemma3-f32", exact, llama_cpp.GGML_TYPE_F32)):
            model_goldens.write_golden(f"{out}/{name}.golden", path,
                                       prompts(), 1088, N_TOP, POSITIONS, kv,
                                       Oracle)
        model_goldens.print_own_noise(quantized, exact, prompts(), N_TOP,
                                      POSITIONS, Oracle)


def write_tokens(path):
    oracle = text_goldens.Oracle(path)
    strings = [(TURNS.format(text), 1) for text in (
        "Hi", "  two spaces", "<end_of_turn>", "\n\n\n\n")]
    strings += [(" " * n + "x" + "\n" * n, 0) for n in range(1, 34, 4)]
    strings += text_goldens.make_strings(STRINGS - len(strings))
    text_goldens.write("gemma3.json", [
        {"text": text, "flags": flags, "ids": oracle.encode(text, flags)}
        for text, flags in strings])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="models/gemma-3-270m-q4_k_m.gguf")
    parser.add_argument("--out", default="tests/golden/model")
    parser.add_argument("--only", choices=("model", "text"))
    args = parser.parse_args()
    if llama_cpp.__version__ != model_goldens.VERSION:
        sys.exit(f"llama-cpp-python {model_goldens.VERSION} is needed, "
                 f"this is {llama_cpp.__version__}")
    if args.only in (None, "text"):
        write_tokens(args.model)
    if args.only in (None, "model"):
        write_models(args.model, args.out)


if __name__ == "__main__":
    main()
