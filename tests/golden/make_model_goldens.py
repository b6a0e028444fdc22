#!/usr/bin/env python3
"""Asks llama.cpp what the models should answer, and writes it down.

    tools/llama.sh            # llama-cpp-python 0.3.36 into .cache/llama
    make model build/tests/tiny/tiny-model
    .cache/llama/bin/python tests/golden/make_model_goldens.py

For SmolLM2 (20 prompts up to 1,000 tokens) and for every tiny model it
records, at chosen positions, the most probable tokens with their natural
log-probabilities and the mass of all others, and some greedy continuations as
far as each step's margin is over 0.1 nat.  The oracle runs with one thread and
no flash attention.  tests/golden/golden.h has the layout of the files in
tests/golden/model/ and reads them.

SmolLM2 is asked twice: the file as it is (Q4_1, f16 KV), and the same weights as
F32 with f32 KV (dequantize.py), which is the function without the noise of 8-bit
activations.  At the end it says how far llama.cpp's own Q4_1 arithmetic is from
that: README.md draws the tests' bounds from it.
"""

import argparse
import hashlib
import os
import struct
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np

VERSION = "0.3.36"
MAGIC = b"AXGOLD\0\1"
MARGIN = 0.1
GREEDY_TOKENS = 64

CHAT = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
        "<|im_start|>assistant\n")

STORY = """The lighthouse keeper counted the steps each evening, though the
number had never changed in thirty years: two hundred and twelve, and a landing
after every fourth turn. From the gallery she could see the whole bay, the
fishing boats coming home in a loose line and, on clear days, the white cliffs
of the far shore. She wrote the weather in a book with a green cover. Wind from
the west, force five, visibility good. Below, in the kitchen, the radio spoke of
storms that were still a day away. """

CODE = """static int
compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

def fibonacci(n):
    a, b = 0, 1
    for _ in range(n):
        yield a
        a, b = b, a + b
"""


def smollm2_prompts():
    with open("LICENSE", encoding="utf-8") as file:
        licence = file.read()
    table = "\n".join(f"{i:>4} | {i * i:>8} | {i * i * i:>10}"
                      for i in range(1, 60))
    # (text, most tokens)
    return [
        ("The capital of France is", 64),
        ("Once upon a time", 64),
        ("1, 2, 3, 4, 5, 6, 7,", 64),
        ("Q: What is the boiling point of water?\nA:", 64),
        ("import numpy as np\n\n\ndef softmax(x):\n", 64),
        ("La capitale de l'Italie est Rome. La capitale de l'Espagne est", 64),
        ("Der Himmel ist blau, und das Gras ist", 64),
        ("\u6771\u4eac\u306f\u65e5\u672c\u306e", 64),
        ("\U0001f600 \U0001f680 emoji are", 64),
        ("    indented\n\ttabbed\n\n\n   mixed   spaces  end", 64),
        ("A" * 120, 64),
        (CHAT.format("What is gravity?"), 128),
        (CHAT.format("Write a haiku about the sea."), 128),
        (CHAT.format("Translate 'good morning' into French, German and "
                     "Spanish, one per line."), 128),
        (CODE, 256),
        (STORY, 256),
        (CHAT.format("Summarize this story in one sentence:\n" + STORY), 300),
        (table, 640),
        (STORY * 4 + "The next morning,", 512),
        (licence, 1000),
    ]


def tiny_prompts():
    return [
        ("t", 8),
        ("Hello the world, which is this? 123 \u00e9", 64),
        ("<|im_start|>user\nYou and that thing<|im_end|>\n"
         "<|im_start|>assistant\n", 64),
        (CODE, 150),
        (STORY, 333),
    ]


class Oracle:
    add_bos = False

    def __init__(self, path, n_ctx, kv, n_batch=512, flash_attn=False):
        self.model = llama_cpp.Llama(
            path, n_ctx=n_ctx, n_batch=n_batch, n_threads=1,
            n_threads_batch=1, logits_all=True, flash_attn=flash_attn,
            use_mmap=True, verbose=False, type_k=kv, type_v=kv)

    def tokenize(self, text, tokens_max):
        tokens = self.model.tokenize(text.encode(), add_bos=self.add_bos,
                                     special=True)
        return tokens[:tokens_max]

    def log_probs(self, tokens, positions):
        """[n_positions, n_vocab] f64, of the token after each position."""
        self.model.reset()
        self.model.eval(tokens)
        return log_softmax(self.model.scores[positions])

    def greedy(self, tokens):
        """The continuation while every step's choice is beyond doubt."""
        self.model.reset()
        self.model.eval(tokens)
        out = []
        for _ in range(GREEDY_TOKENS):
            logits = self.model.scores[self.model.n_tokens - 1]
            second, first = np.argpartition(logits, -2)[-2:]
            if logits[first] - logits[second] <= MARGIN:
                break
            out.append(int(first))
            self.model.eval([int(first)])
        return out


def log_softmax(logits):
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def chosen_positions(n_tokens, most):
    """First and last always, and the rest evenly between."""
    if n_tokens <= most:
        return list(range(n_tokens))
    return sorted({round(i * (n_tokens - 1) / (most - 1))
                   for i in range(most)})


def pack_position(position, log_probs, n_top):
    order = np.argsort(-log_probs, kind="stable")[:n_top]
    tail = np.exp(np.delete(log_probs, order)).sum()
    return (struct.pack("<IIf", position, len(order), tail)
            + order.astype("<u4").tobytes()
            + log_probs[order].astype("<f4").tobytes())


def pack_prompt(oracle, tokens, n_top, positions_max):
    positions = chosen_positions(len(tokens), positions_max)
    log_probs = oracle.log_probs(tokens, positions)
    greedy = oracle.greedy(tokens)
    parts = [struct.pack("<I", len(tokens)),
             np.array(tokens, dtype="<u4").tobytes(),
             struct.pack("<I", len(greedy)),
             np.array(greedy, dtype="<u4").tobytes(),
             struct.pack("<I", len(positions))]
    parts += [pack_position(p, row, n_top)
              for p, row in zip(positions, log_probs)]
    return b"".join(parts), len(greedy)


def write_golden(out, path, prompts, n_ctx, n_top, positions_max,
                 kv=llama_cpp.GGML_TYPE_F16, oracle_class=Oracle):
    oracle = oracle_class(path, n_ctx, kv)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    name = f"llama-cpp-python {VERSION}".encode().ljust(32, b"\0")
    body, greedy = [], []
    for text, tokens_max in prompts:
        tokens = oracle.tokenize(text, tokens_max)
        packed, n_greedy = pack_prompt(oracle, tokens, n_top, positions_max)
        body.append(packed)
        greedy.append(n_greedy)
    data = MAGIC + name + digest + struct.pack("<I", len(body))
    data += b"".join(body)
    with open(out, "wb") as file:
        file.write(data)
    print(f"{out}: {len(prompts)} prompts, {len(data)} bytes, "
          f"greedy {greedy}", flush=True)


def divergence(p, q, n_top):
    """As golden_kl() of golden.c: the tokens that a golden names one by one,
    all others as one."""
    top = np.argsort(-p, kind="stable")[:n_top]
    sums = [np.log(np.exp(np.delete(x, top).astype(np.float64)).sum())
            for x in (p, q)]
    p = np.append(p[top], sums[0]).astype(np.float64)
    q = np.append(q[top], sums[1]).astype(np.float64)
    return (np.exp(p) * (p - q)).sum()


def print_distance(name, p_rows, q_rows, n_top):
    kl = np.mean([divergence(p, q, n_top) for p, q in zip(p_rows, q_rows)])
    second, first = np.sort(p_rows, axis=1)[:, -2:].T
    sure = first - second > MARGIN
    same = p_rows.argmax(axis=1) == q_rows.argmax(axis=1)
    print(f"  {name}: mean KL {kl:.2e} nat, same first token at "
          f"{same[sure].sum()} of {sure.sum()} decided positions", flush=True)


def print_own_noise(quantized, exact, prompts, n_top, positions_max,
                    oracle_class=Oracle):
    """How far llama.cpp's ways to run one quantized file are from its F32 run
    on the same weights, and from the way of the golden."""
    ways = [("the F32 run", exact, llama_cpp.GGML_TYPE_F32, 512, False),
            ("the golden's way", quantized, llama_cpp.GGML_TYPE_F16, 512,
             False),
            ("token by token", quantized, llama_cpp.GGML_TYPE_F16, 1, False),
            ("flash attention", quantized, llama_cpp.GGML_TYPE_F16, 512,
             True),
            ("both", quantized, llama_cpp.GGML_TYPE_F16, 1, True)]
    runs = []
    print(f"llama.cpp on {quantized}:")
    for name, path, kv, n_batch, flash_attn in ways:
        oracle = oracle_class(path, 1088, kv, n_batch, flash_attn)
        rows = []
        for text, tokens_max in prompts:
            tokens = oracle.tokenize(text, tokens_max)
            rows += list(oracle.log_probs(tokens, chosen_positions(
                len(tokens), positions_max)).astype(np.float32))
        oracle.model.close()
        runs.append(np.array(rows))
        for i, other in enumerate(runs[:min(2, len(runs) - 1)]):
            print_distance(f"{name}, from {ways[i][0]}", other, runs[-1],
                           n_top)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model",
                        default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--tiny-model", default="build/tests/tiny/tiny-model")
    parser.add_argument("--out", default="tests/golden/model")
    parser.add_argument("--only", help="one golden's name")
    args = parser.parse_args()
    if llama_cpp.__version__ != VERSION:
        sys.exit(f"llama-cpp-python {VERSION} is needed, "
                 f"this is {llama_cpp.__version__}")
    os.makedirs(args.out, exist_ok=True)

    variants = subprocess.run([args.tiny_model, "--list"], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
    with tempfile.TemporaryDirectory() as scratch:
        for variant in variants.split():
            path = os.path.join(scratch, variant + ".gguf")
            subprocess.run([args.tiny_model, "--variant", variant, path],
                           check=True)
            if args.only in (None, "tiny-" + variant):
                write_golden(f"{args.out}/tiny-{variant}.golden", path,
                             tiny_prompts(), 512, 64, 12)
        exact = os.path.join(scratch, "smollm2-f32.gguf")
        if args.only in (None, "smollm2", "smollm2-f32"):
            subprocess.run([sys.executable, os.path.join(
                os.path.dirname(__file__), "dequantize.py"), args.model,
                exact], check=True)
            write_golden(f"{args.out}/smollm2.golden", args.model,
                         smollm2_prompts(), 1088, 40, 24)
            write_golden(f"{args.out}/smollm2-f32.golden", exact,
                         smollm2_prompts(), 1088, 40, 24,
                         llama_cpp.GGML_TYPE_F32)
            print_own_noise(args.model, exact, smollm2_prompts(), 40, 24)


if __name__ == "__main__":
    main()
