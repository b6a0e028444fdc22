#!/usr/bin/env python3
"""SmolLM2 in `axion bench` beside llama.cpp, built on this machine from PyPI's
source package (tools/llama.sh): tokens per second of a 512-token prompt and of
128 single tokens, on 1 and 2 threads, runs alternating A B A B so that a
machine's mood hits both.

    bench/compare_llama.py [ROUNDS]
"""

import json
import os
import statistics
import subprocess
import sys

import result

ROOT = result.ROOT
MODEL = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
PEER = ".cache/llama/bin/python"
PROMPT, ANSWER = 512, 128


def run(*argv):
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, cwd=ROOT)
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_axion(threads):
    program = os.path.join(os.environ.get("BUILD", "build"), "axion")
    pp, tg = run(program, "bench", "-m", MODEL, "-t", str(threads), "-p",
                 str(PROMPT), "-n", str(ANSWER), "-r", "1", "-o", "jsonl")
    return {"pp": pp["avg_ts"], "tg": tg["avg_ts"]}


def run_llama(threads):
    return run(PEER, "bench/llama_peer.py", MODEL, str(threads), str(PROMPT),
               str(ANSWER))[0]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if not os.path.exists(os.path.join(ROOT, PEER)):
        sys.exit("llama.cpp is not built: tools/llama.sh")
    rows = []
    for threads in (1, 2):
        samples = {run_axion: [], run_llama: []}
        for _ in range(rounds):
            for way, figures in samples.items():
                figures.append(way(threads))
        for test, size in (("pp", PROMPT), ("tg", ANSWER)):
            a, b = ([figures[test] for figures in samples[way]]
                    for way in (run_axion, run_llama))
            ratio = statistics.median(a) / statistics.median(b)
            rows.append([f"{test}{size}", str(threads), result.cell(a),
                         result.cell(b), f"{ratio:.2f}"])
    result.write("llama", "SmolLM2-135M Q4_1 beside llama.cpp", [
        "test", "threads", "axion tokens/s", "llama.cpp tokens/s", "ratio"],
        rows, "llama.cpp is llama-cpp-python 0.3.36's, GGML_NATIVE, flash "
        "attention on. pp512 is one batch into an empty context, tg128 single "
        "tokens from an empty context; each run has its own warm-up.")


if __name__ == "__main__":
    main()
