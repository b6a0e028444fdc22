#!/usr/bin/env python3
"""SmolLM2 on our executor beside llama.cpp, built on this machine from PyPI's
source package (tools/llama.sh): tokens per second of a 512-token prompt and of
128 single tokens, on 1 and 2 threads, runs alternating A B A B so that a
machine's mood hits both.

    bench/compare_llama.py [ROUNDS]
"""

import json
import os
import subprocess
import sys

import result

ROOT = result.ROOT
MODEL = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
PEER = ".cache/llama/bin/python"
PROMPT, ANSWER = 512, 128


def run(argv):
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, cwd=ROOT)
    return json.loads(done.stdout)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ours = os.path.join(os.environ.get("BUILD", "build"), "bench",
                        "bench-model")
    if not os.path.exists(os.path.join(ROOT, PEER)):
        sys.exit("llama.cpp is not built: tools/llama.sh")
    rows = []
    for threads in (1, 2):
        samples = {"axion": {"pp": [], "tg": []},
                   "llama": {"pp": [], "tg": []}}
        sizes = [str(threads), str(PROMPT), str(ANSWER)]
        for _ in range(rounds):
            for name, argv in (("axion", [ours]),
                               ("llama", [PEER, "bench/llama_peer.py"])):
                figures = run([*argv, MODEL, *sizes])
                for test in ("pp", "tg"):
                    samples[name][test].append(figures[test])
        for test, size in (("pp", PROMPT), ("tg", ANSWER)):
            a, b = samples["axion"][test], samples["llama"][test]
            ratio = result.statistics.median(a) / result.statistics.median(b)
            rows.append([f"{test}{size}", str(threads), result.cell(a),
                         result.cell(b), f"{ratio:.2f}"])
    result.write("llama", "SmolLM2-135M Q4_1 beside llama.cpp", [
        "test", "threads", "axion tokens/s", "llama.cpp tokens/s", "ratio"],
        rows, "llama.cpp is llama-cpp-python 0.3.36's, GGML_NATIVE, flash "
        "attention on. pp512 is one batch into an empty context, tg128 single "
        "tokens from an empty context.")


if __name__ == "__main__":
    main()
