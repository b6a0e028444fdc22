#!/usr/bin/env python3
"""How long from exec of axiond until nginx says ready, until a request that is sent
just then has its first token, until all is packed and steps are timed, how long
the model loads, and how much memory the processes hold, at rest and after 16 answers
at once: SmolLM2 and the shape of Llama 3.2 1B as Q4_0 (tools/random_gguf.py),
each as GGUF file and as pack file of `axion pack`.

    bench/startup.py [ROUNDS] [smollm2 | llama1b]
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import time
import urllib.request

import compare_llama
import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

FIRST_PROMPT = 40  # times the words of the others
MODELS = {"smollm2": "smollm2", "llama1b": "llama1b-q4_0"}


def complete(url, seed, tokens=32, times=1):
    body = {"model": "served", "prompt": "Once upon a time, " * times,
            "max_tokens": tokens, "seed": seed}
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def workers_rss(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return sum(stack.rss_bytes(int(child))
                   for child in file.read().split())


def find(value, key):
    """The first value of a key anywhere in a JSON document."""
    if isinstance(value, dict) and key in value:
        return value[key]
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list)):
        for item in inner:
            found = find(item, key)
            if found is not None:
                return found
    return None


def load_seconds(url):
    with urllib.request.urlopen(url + "/status", timeout=60) as answer:
        return find(json.load(answer), "load_us") / 1e6


def packed(model, folder):
    path = os.path.join(folder, os.path.basename(model)[:-5] + ".axpack")
    subprocess.run([stack.build_path("axion"), "pack", model, "-o", path],
                   check=True, stdout=subprocess.DEVNULL)
    return path


def start(folder, model, samples):
    with stack.Stack(folder, model, ["--alias", "served"],
                     early=True) as running:
        samples["ready"].append(running.ready_s)
        complete(running.url, 0, 1, FIRST_PROMPT)
        samples["first"].append(time.monotonic() - running.started_s)
        running.wait_ready()
        samples["whole"].append(time.monotonic() - running.started_s)
        samples["load"].append(load_seconds(running.url))
        samples["rest"].append(stack.rss_bytes(running.engine.pid) / 2**20)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda i: complete(running.url, i), range(16)))
        samples["busy"].append(stack.rss_bytes(running.engine.pid) / 2**20)
        samples["workers"].append(workers_rss(running.nginx.pid) / 2**20)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    names = sys.argv[2:] or list(MODELS)
    folder = stack.build_path("bench/startup")  # emptied at each start
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    rows = []
    for name in names:
        row = MODELS[name]
        model = os.path.join(result.ROOT, compare_llama.model_of(row))
        pack = packed(model, os.path.dirname(folder))
        kinds = {"GGUF": model, "pack": pack}
        samples = {kind: {figure: [] for figure in (
            "ready", "first", "whole", "load", "rest", "busy", "workers")}
            for kind in kinds}
        for _ in range(rounds):
            for kind, path in kinds.items():
                start(folder, path, samples[kind])
        os.unlink(pack)
        for kind, of in samples.items():
            rows.append([compare_llama.ROWS[row][0], kind,
                         result.cell(of["ready"], 2), result.cell(of["first"], 2),
                         result.cell(of["whole"], 2), result.cell(of["load"], 2),
                         result.cell(of["rest"], 0), result.cell(of["busy"], 0),
                         result.cell(of["workers"], 0)])
    result.write("startup", "Start to ready, and memory", [
        "model", "file", "exec to /status?ready 200, s",
        "exec to the first token of a request sent then, s",
        "exec to all packed and timed, s", "loading the model, s",
        "axiond RSS when ready, MiB",
        "axiond RSS after 16 answers at once, MiB",
        "two nginx workers' RSS, MiB"], rows,
        "The files are in the page cache; nginx starts beside the engine and is "
        "included in the first figure. The first request has a prompt of some "
        "200 tokens and asks for one. RSS counts a pack file's pages, which all "
        "engines that map it share.")


if __name__ == "__main__":
    main()
