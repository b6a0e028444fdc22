#!/usr/bin/env python3
"""Start-up and memory, beside llama-server and beside what reading the file
alone takes: exec to ready, to the first token of a request sent just then (the
weights are still being packed behind it), to all packed and steps timed; with
the file in the page cache and with it on the disk only; from the GGUF file and
from the pack file of `axion pack`; and whose pages the memory is made of.

    bench/startup.py [ROUNDS] [WHAT...] [--servers NAME,...] [--keep]
    bench/startup.py --write

WHAT (default all): smollm2, llama1b (the shape of Llama 3.2 1B as Q4_0, made by
tools/random_gguf.py), each also as smollm2-warm, smollm2-cold.  --servers names
some of gguf, pack (axiond behind nginx on either file) and llama.  --keep adds
a run's samples to those of the same commit in build/bench/startup.jsonl, --write
makes the result file of all that were kept.  Seconds of a round on two cores:
smollm2 15, llama1b 40, half of each by -warm and -cold.

Cold: the file's pages are dropped (posix_fadvise) and mincore() sees that they
are gone; where they are not, the row is left out and said so.  What the device
or its host caches is not ours to drop: the limit is measured in the same round,
by reading the file the same way without doing anything with it.
"""

import argparse
import concurrent.futures
import ctypes
import json
import mmap
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import compare_llama
import compare_server
import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

FIRST_PROMPT = 40  # times the words of the others
AT_ONCE = 16
PIECE = 1 << 20
AHEAD = 32  # pieces, as the engine reads
MODELS = {"smollm2": "smollm2", "llama1b": "llama1b-q4_0"}
CACHES = ("warm", "cold")
SERVERS = {"gguf": "axiond, GGUF", "pack": "axiond, pack file",
           "llama": "llama-server"}
LIMIT = "limit"


# ---- files and pages ----

def cached_bytes(path):
    """Of a file, in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                          ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED,
                       file.fileno(), 0)
    if at == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
    libc.mincore(at, size, pages)
    libc.munmap(at, size)
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


def drop(path):
    """Whether no page of it is in memory any more."""
    with open(path, "rb") as file:
        os.fdatasync(file.fileno())  # a dirty page stays
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return cached_bytes(path) == 0


def read_through(path):
    """Seconds that it takes to have every byte once."""
    started = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        fd, size = file.fileno(), os.fstat(file.fileno()).st_size
        buffer = bytearray(PIECE)
        for at in range(0, size, PIECE):
            ahead = range(PIECE, AHEAD * PIECE, PIECE) if at == 0 else (
                at + AHEAD * PIECE,)
            for piece in ahead:
                os.posix_fadvise(fd, piece, PIECE, os.POSIX_FADV_WILLNEED)
            os.preadv(fd, [buffer], at)
    return time.monotonic() - started


def prepare(path, cache):
    """The file in the page cache, or out of it; whether it could be done."""
    result.give_memory(3 * os.path.getsize(path))
    if cache == "warm":
        read_through(path)
        return True
    return drop(path)


def memory(pid):
    """MiB of a process by kind of page."""
    figures = {}
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for name, kb in re.findall(r"^(VmRSS|Rss\w+):\s+(\d+) kB",
                                   file.read(), re.M):
            figures[name] = int(kb) / 1024
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        huge = re.search(r"^AnonHugePages:\s+(\d+) kB", file.read(), re.M)
    return {"RSS, MiB": figures["VmRSS"],
            "of that its own pages": figures["RssAnon"],
            "of those huge": int(huge.group(1)) / 1024,
            "of that pages of files": figures["RssFile"]}


# ---- servers: figures of one start ----

def complete(url, seed, tokens=32, times=1):
    body = {"model": "served", "prompt": "Once upon a time, " * times,
            "max_tokens": tokens, "seed": seed}
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def many_at_once(url):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda i: complete(url, i), range(AT_ONCE)))


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


def packed_when_ready(log):
    """Per cent of the layers; of a pack file there is nothing to pack."""
    with open(log, encoding="utf-8") as file:
        found = re.search(r"ready on .*, (\d+) of (\d+) layers are packed",
                          file.read())
    return 100 * int(found.group(1)) / int(found.group(2)) if found else 100


def start_axion(model, folder):
    with stack.Stack(folder, model, ["--alias", "served"],
                     early=True) as running:
        figures = {"exec to ready, s": running.ready_s}
        complete(running.url, 0, 1, FIRST_PROMPT)
        figures["to the first token, s"] = (time.monotonic()
                                            - running.started_s)
        running.wait_ready()
        figures["to all packed and timed, s"] = (time.monotonic()
                                                 - running.started_s)
        figures["weights packed or mapped, s"] = load_seconds(running.url)
        figures["layers packed when ready, %"] = packed_when_ready(
            running.engine.log)
        figures.update(memory(running.engine.pid))
        many_at_once(running.url)
        figures[f"RSS after {AT_ONCE} at once, MiB"] = memory(
            running.engine.pid)["RSS, MiB"]
    return figures


def start_llama(model, _):
    started = time.monotonic()
    with compare_server.Llama(AT_ONCE, AT_ONCE * 512, model) as running:
        url = f"http://127.0.0.1:{running.port}"
        figures = {"exec to ready, s": time.monotonic() - started}
        complete(url, 0, 1, FIRST_PROMPT)
        figures["to the first token, s"] = time.monotonic() - started
        figures.update(memory(running.child.pid))
        many_at_once(url)
        figures[f"RSS after {AT_ONCE} at once, MiB"] = memory(
            running.child.pid)["RSS, MiB"]
    return figures


# ---- rounds ----

def pack_of(model, folder):
    path = os.path.join(folder, os.path.basename(model)[:-5] + ".axpack")
    subprocess.run([stack.build_path("axion"), "pack", model, "-o", path],
                   check=True, stdout=subprocess.DEVNULL)
    return path


def rows_of(wanted):
    """(name of the model, caches) of what was asked for, in order."""
    for name in MODELS:
        caches = [cache for cache in CACHES
                  if name in wanted or f"{name}-{cache}" in wanted]
        if caches:
            yield name, caches


def limit_of(path, cache):
    """What no start can be faster than."""
    if not prepare(path, cache):
        return None
    return {"file, MB": os.path.getsize(path) / 1e6,
            "read alone, s": read_through(path)}


def run(rounds, wanted, servers):
    """Samples as they come: (row, server's name, figures)."""
    with tempfile.TemporaryDirectory(
            prefix="startup-", dir=stack.build_path("bench")) as folder:
        for name, caches in rows_of(wanted):
            model = os.path.join(result.ROOT,
                                 compare_llama.model_of(MODELS[name]))
            paths = {"gguf": model, "llama": model}
            if "pack" in servers:
                paths["pack"] = pack_of(model, folder)
            title = compare_llama.ROWS[MODELS[name]][0]
            for _ in range(rounds):
                for cache in caches:
                    yield from one_round(f"{title}, {cache}", cache, servers,
                                         paths, folder)


def one_round(row, cache, servers, paths, folder):
    for server in servers:
        path = paths[server]
        start = start_llama if server == "llama" else start_axion
        if not prepare(path, cache):
            print(f"{row}: {path} stays in memory, left out", file=sys.stderr)
            continue
        yield row, SERVERS[server], start(path, os.path.join(folder, "run"))
    figures = limit_of(paths["gguf"], cache)
    if figures is not None:
        yield row, LIMIT, figures


def write(name, samples, runs):
    rows = []
    columns = [*SERVERS.values(), LIMIT]
    for row in dict.fromkeys(r for r, _, _ in samples):
        figures = {}  # in order, over all columns
        for _, who, of in (s for s in samples if s[0] == row):
            for figure, value in of.items():
                figures.setdefault(figure, {}).setdefault(who, []).append(value)
        for figure, of in figures.items():
            digits = 2 if figure.endswith(", s") else 0
            rows.append([row, figure] + [
                result.cell(of.get(who, []), digits) for who in columns])
    notes = (
        "warm: the file is in the page cache; cold: it is not, the programs are. "
        "Before each start three times the file's size of memory was had and "
        "given back, so that none pays for what a virtual machine's host does. "
        "axiond's figures are those of a client of nginx, which starts beside "
        "it; llama-server is asked itself (its ready is /health). The first "
        "request has a prompt of some 200 tokens and asks for one. RSS counts "
        "a pack file's pages, which all engines that map it share; of a GGUF "
        "file none is axiond's. read alone: every byte once, by one thread, "
        f"{AHEAD} MiB asked for ahead.")
    if runs:
        notes += " In pieces: " + "; ".join(
            f"`{' '.join(argv)}`" for argv in runs) + "."
    result.write(name, "Start to ready, and memory",
                 ["model, page cache", "figure", *columns], rows, notes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="ROUNDS | WHAT")
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rounds = 5
    if args.words and args.words[0].isdigit():
        rounds = int(args.words.pop(0))
    wanted = args.words or list(MODELS)
    servers = args.servers.split(",")
    known = {*MODELS, *(f"{m}-{c}" for m in MODELS for c in CACHES)}
    if rounds < 1 or set(servers) - set(SERVERS) or set(wanted) - known:
        parser.error("see --help for what there is")
    if args.write:
        write("startup", *result.kept("startup"))
        return
    if "llama" in servers and not os.path.exists(compare_server.PEER):
        print("no llama-server (tools/llama.sh server): its column is empty",
              file=sys.stderr)
        servers.remove("llama")
    os.makedirs(stack.build_path("bench"), exist_ok=True)
    samples = []
    for sample in run(rounds, wanted, servers):
        print(sample[0], sample[1], json.dumps(sample[2]), file=sys.stderr)
        samples.append(sample)
        if args.keep:
            result.keep("startup", sample)
    if not args.keep:
        write("startup" if wanted == list(MODELS)
              else "startup-" + "-".join(wanted), samples, [])


if __name__ == "__main__":
    main()
