#!/usr/bin/env python3
"""How long from exec of axiond until nginx says ready, and how much memory the
processes hold: SmolLM2, at rest and after 16 answers at once.

    bench/startup.py [ROUNDS]
"""

import concurrent.futures
import json
import os
import sys
import urllib.request

import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

MODEL = os.path.join(result.ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf")


def complete(url, seed):
    body = {"model": "smollm2", "prompt": "Once upon a time, ",
            "max_tokens": 32, "seed": seed}
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def workers_rss(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return sum(stack.rss_bytes(int(child))
                   for child in file.read().split())


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    ready, rest, busy, workers = [], [], [], []
    for _ in range(rounds):
        with stack.Stack(stack.build_path("bench/startup"), MODEL,
                         ["--alias", "smollm2"]) as running:
            ready.append(running.ready_s)
            rest.append(stack.rss_bytes(running.engine.pid) / 2**20)
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda i: complete(running.url, i),
                              range(16)))
            busy.append(stack.rss_bytes(running.engine.pid) / 2**20)
            workers.append(workers_rss(running.nginx.pid) / 2**20)
    result.write("startup", "Start to ready, and memory", [
        "figure", "value"], [
        ["exec of axiond until /status?ready is 200, s",
         result.cell(ready, 2)],
        ["axiond RSS when ready, MiB", result.cell(rest)],
        ["axiond RSS after 16 answers at once, MiB", result.cell(busy)],
        ["two nginx workers' RSS together, MiB", result.cell(workers)]],
        "The model file (94 MB) is in the page cache but for a first round "
        "after boot; nginx starts beside the engine and is included in the "
        "first figure.")


if __name__ == "__main__":
    main()
