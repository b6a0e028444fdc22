"""What KV types and classes of numerics cost: KL against the default numerics.

    bench/kl.py

A model computes the prompts of its golden (tests/golden/make_*_goldens.py: text,
code, chats, a table, up to 1,000 tokens) with keys and values as f16 by the
machine's best instruction set, which is the common definition, and again in
another way; compared are the distributions of the next token over the whole
vocabulary, at up to 24 positions of a prompt.  Models: SmolLM2 and Gemma as
they come, as F32, and with their matrices as BF16 (tests/golden/dequantize.py),
which alone feel the classes for BF16 weights.  bf16-tile (--isa amx-bf16) is
computed by its scalar model where the CPU has no AMX, and then on the short
prompts alone.  A model that is not there is left out, and said so.
"""

import json
import os
import subprocess
import sys

import result

BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(result.ROOT,
                                                             "build")))
GOLDENS = os.path.join(result.ROOT, "tests", "golden")
SHORT = 24
DEFAULT = "auto:f16"
NAMES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
         "gemma3": "gemma-3-270m-q4_k_m.gguf"}
TYPES = {"auto:bf16": "KV bf16", "auto:q8_0": "KV q8_0"}
CLASSES = {"bf16-dot": ["avx512-bf16", "scalar-bf16"],
           "bf16-tile": ["amx-bf16", "scalar-bf16-tile"]}


def flags():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("flags"):
                return set(line.split())
    return set()


def classes():
    """{way: (name, most tokens of a prompt)}; the scalar model where the CPU
    lacks the instruction."""
    has = flags()
    found = {}
    for flag, name in (("avx512_bf16", "bf16-dot"), ("amx_bf16", "bf16-tile")):
        isa, model = CLASSES[name]
        way, most = (isa, 0) if flag in has else (model, SHORT)
        found[f"{way}:f16"] = (f"{name} (`{way}`)", most)
    return found


def weights(name, kind):
    """The model's file as it comes, as F32 or as BF16, made when missing."""
    source = os.path.join(result.ROOT, "models", NAMES[name])
    if not os.path.exists(source):
        return None
    if kind == "as it comes":
        return source
    path = os.path.join(BUILD, f"{name}-{kind.lower()}.gguf")
    if not os.path.exists(path):
        subprocess.run([sys.executable, os.path.join(GOLDENS, "dequantize.py"),
                        source, path] + (["BF16"] if kind == "BF16" else []),
                       check=True)
    return path


def measure(name, path, ways, tokens_max=0):
    golden = os.path.join(GOLDENS, "model", f"{name}.golden")
    lines = subprocess.run(
        [os.path.join(BUILD, "bench", "bench_kl"), path, golden, "0",
         str(tokens_max), DEFAULT] + ways, check=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return [json.loads(line) for line in lines.splitlines()
            if line.startswith("{")]


def row(name, kind, what, r):
    line = (f"| {name} | {kind} | {what} | {r['mean']:.1e} ± {r['error']:.0e} "
            f"| {r['worst']:.1e} | {r['same']} of {r['positions']} "
            f"| {r['margin']:.2f} |")
    print(line, flush=True)
    return line


def rows_of(name):
    for kind in ("as it comes", "F32", "BF16"):
        path = weights(name, kind)
        for r in measure(name, path, list(TYPES)):
            yield row(name, kind, TYPES[r["way"]], r)
    for way, (what, most) in classes().items():
        for r in measure(name, weights(name, "BF16"), [way], most):
            short = f", prompts of up to {most} tokens" if most else ""
            yield row(name, "BF16", what + short, r)


def main():
    lines = result.head("KL of KV types and classes of numerics") + [
        "- KL(default || way) in nat per position, mean ± its standard error; "
        "the margin in nat of the surest position with another first token",
        "",
        "| model | weights | way | mean KL | largest | same first token "
        "| margin |", "|---|---|---|---|---|---|---|"]
    for name, file in NAMES.items():
        if weights(name, "as it comes") is None:
            print(f"skipped: no models/{file} (make model, make model-gemma)")
            continue
        lines += list(rows_of(name))
    result.save("kl", lines)


if __name__ == "__main__":
    main()
