#!/usr/bin/env python3
"""nginx and axiond beside llama-server under load: SmolLM2, the same prompts,
threads and machine, one after the other in every round, every second round the
other way about.

    bench/compare_server.py [ROUNDS] [WHAT...] [--servers NAME,...] [--keep]
    bench/compare_server.py --write

WHAT (default all):
  streams   128 tokens each of 1, 4, 16, 32, 64 streams behind prompts of 16
            tokens, cold: tokens per second together, TTFT and ITL
  prompts   32 such streams behind prompts of 128 tokens
  long      a prompt of 4000 tokens arrives among 16 decoding streams, which
            are deeper behind it than before it
  prefix    TTFT behind 1, 2 and 4 thousand tokens that were asked before: the
            same prompt again, and with 8 other tokens at its end
  tenants   TTFT of a tenant that asks for 100 tokens every 0.25 s, alone and
            beside another that floods
  grammar   ITL of 16 streams alone, beside 16 more, and beside 16 that are held
            to a JSON schema each, every other one to a schema never seen before
  speculation   one stream on texts that copy and on free ones, those of
            bench/speculation.py: tokens per second behind the first; and
            llama-server once more, with its n-grams (--spec-type ngram-simple)
  ones      one-token requests per second and their latency, their prompt of
            200 tokens cached in every slot
A number behind it is one row of it: streams32, prefix4000.

A whole run takes some ten minutes a round, most of them llama-server's.  Where
a machine is quiet for a minute or two only, it can be done in pieces: --keep
adds a run's samples to those of the same commit in build/bench/server.jsonl,
--servers names some of "axion", "axion, no drafts" and "llama-server" (as
axion, plain, llama), and --write makes the result file of all that were kept.
Seconds of a round on two cores, start and end of the servers included:

    row         axion or plain   llama
    streams1..4        5           20
    streams16          6           15
    streams32          8           25
    streams64         12           50
    prompts           12           45
    long              20           70
    prefix1000         5           15
    prefix2000         8           20
    prefix4000        15           40
    tenants           25           60
    grammar           15           60
    speculation       10           40
    ones               8           25

Prompts are slices of this repository's documentation as token ids, so both
servers compute the same.  Axion runs as it comes and without speculation.
llama-server is of llama-cpp-python's source (tools/llama.sh server); without
it the column is empty.  PEER_ARGS adds to its options, AXION_ARGS to axiond's.
"""

import argparse
import asyncio
import glob
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import load
import result
import speculation

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

MODEL = os.path.join(result.ROOT,
                     "models/SmolLM2-135M-Instruct.Q4_1.gguf")
PEER = os.path.join(result.ROOT, ".cache/llama/bin/llama-server")
THREADS = len(os.sched_getaffinity(0))
MEMORY = 1 << 30    # more than any of the servers touches in a row
ANSWER = 128
LIGHT_PAUSE_S = 0.25
LIGHT_S = 30
ONES = 16
NGRAMS = ["--spec-type", "ngram-simple"]
TENANTS = """\
    axion_tenant light {
        key sha256:%s;
    }
    axion_tenant flood {
        key sha256:%s;
    }
"""


# ---- prompts ----

def corpus():
    text = ""
    for path in sorted(glob.glob(os.path.join(result.ROOT, "docs/*.md"))):
        with open(path, encoding="utf-8") as file:
            text += file.read()
    done = subprocess.run([stack.build_path("axion"), "tokenize", "--ids",
                           MODEL], input=text, text=True, check=True,
                          stdout=subprocess.PIPE)
    return [int(word) for word in done.stdout.split()]


class Prompts:
    """Slices that were not given out before."""

    def __init__(self):
        self.ids, self.at = corpus(), 0

    def take(self, n):
        self.at += n + 7
        start = self.at * 31 % (len(self.ids) - n - 1)
        # A first token of its own: no slice is the beginning of another.
        return [1000 + self.at % 40000] + self.ids[start:start + n - 1]


def body(prompt, tokens, stream=True):
    request = {"model": "smollm2", "prompt": prompt, "max_tokens": tokens,
               "temperature": 0, "ignore_eos": True, "stream": stream}
    if stream:
        request["stream_options"] = {"include_usage": True}
    return request


# ---- servers ----

class Axion:
    def __init__(self, *options, tenants=False):
        self.folder = tempfile.mkdtemp(prefix="axion-load-")
        http = stack.Stack.HTTP
        self.keys = (None, None)
        if tenants:
            self.keys = ("light-key", "flood-key")
            import hashlib
            http += TENANTS % tuple(hashlib.sha256(k.encode()).hexdigest()
                                    for k in self.keys)
        self.stack = stack.Stack(
            self.folder, MODEL,
            ["--alias", "smollm2", "--threads", str(THREADS), *options,
             *shlex.split(os.environ.get("AXION_ARGS", ""))], http=http,
            workers=1, level="error")

    def __enter__(self):
        self.port = self.stack.start().port
        return self

    def __exit__(self, *_):
        self.stack.stop()


class Llama:
    keys = (None, None)

    def __init__(self, slots, context, model=MODEL, options=()):
        self.port = stack.free_port()
        self.argv = [PEER, "-m", model, "--port", str(self.port), "-t",
                     str(THREADS), "-tb", str(THREADS), "-np", str(slots),
                     "-cb", "-c", str(context), "--no-webui", *options,
                     *shlex.split(os.environ.get("PEER_ARGS", ""))]

    def __enter__(self):
        self.log = tempfile.NamedTemporaryFile(prefix="llama-server-")
        self.child = stack.Child(self.argv, self.log.name)
        while True:
            if self.child.died_within(stack.POLL_S):
                raise stack.StackError(self.child.tail())
            try:
                with urllib.request.urlopen(
                        f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return self
            except OSError:
                continue

    def __exit__(self, *_):
        self.child.stop()


def servers(slots, context, tenants=False, peer=()):
    """name → what makes it."""
    made = {"axion": lambda: Axion(tenants=tenants),
            "axion, no drafts": lambda: Axion("--speculate", "off",
                                              tenants=tenants)}
    if os.path.exists(PEER):
        made["llama-server"] = lambda: Llama(slots, context, options=peer)
    return made


# ---- measurements: a dictionary of figures of one run ----

def summary(replies):
    start = min(r.sent for r in replies)
    seconds = max(r.ended for r in replies) - start
    gaps = [g for r in replies for g in r.gaps] or [0]
    ttft = [r.ttft for r in replies]
    return {"tokens/s": sum(r.tokens for r in replies) / seconds,
            "TTFT p50 ms": 1e3 * load.quantile(ttft, .5),
            "TTFT p99 ms": 1e3 * load.quantile(ttft, .99),
            "ITL p50 ms": 1e3 * load.quantile(gaps, .5),
            "ITL p99 ms": 1e3 * load.quantile(gaps, .99)}


async def warm(server, prompts):
    await load.together(server.port, [body(prompts.take(16), 4)],
                        server.keys[0])


async def run_streams(server, prompts, n, prompt_tokens=16):
    await warm(server, prompts)
    return summary(await load.together(
        server.port, [body(prompts.take(prompt_tokens), ANSWER)
                      for _ in range(n)], server.keys[0]))


async def events_behind(when, n, connections):
    """Until each stream has had n events since then."""
    while min(sum(t > when for t in c.reply.times[-n:])
              for c in connections) < n:
        await asyncio.sleep(0.05)


async def run_long(server, prompts):
    await warm(server, prompts)
    connections = [load.Connection(server.port) for _ in range(16)]
    # Far more than they can say until the prompt is done, in however few parts
    # drafted tokens come.
    streams = [asyncio.ensure_future(c.ask(body(prompts.take(64), 4000)))
               for c in connections]
    await events_behind(0, 64, connections)
    long = (await load.together(server.port,
                                [body(prompts.take(4000), 1)]))[0]
    await events_behind(long.ended, 64, connections)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    replies = [c.reply for c in connections]
    for connection in connections:
        connection.close()
    before, during, after = [], [], []
    for reply in replies:
        for a, b in zip(reply.times, reply.times[1:]):
            if b < long.sent and a > max(r.times[0] for r in replies):
                before.append(b - a)
            elif a < long.ended and b > long.sent:
                during.append(b - a)
            elif a > long.ended:
                after.append(b - a)
    return {"ITL p99 before ms": 1e3 * load.quantile(before or [0], .99),
            "ITL p99 during ms": 1e3 * load.quantile(during or [0], .99),
            "ITL p99 after ms": 1e3 * load.quantile(after or [0], .99),
            "ITL p50 before ms": 1e3 * load.quantile(before or [0], .5),
            "ITL p50 during ms": 1e3 * load.quantile(during or [0], .5),
            "ITL p50 after ms": 1e3 * load.quantile(after or [0], .5),
            "long's TTFT ms": 1e3 * long.ttft}


async def run_prefix(server, prompts, n):
    await warm(server, prompts)
    shared = prompts.take(n)
    first = shared + prompts.take(8)
    cold = (await load.together(server.port, [body(first, 1)]))[0]
    again, others = [], []
    for _ in range(5):
        again += await load.together(server.port, [body(first, 1)])
        others += await load.together(
            server.port, [body(shared + prompts.take(8), 1)])
    return {"cold TTFT ms": 1e3 * cold.ttft,
            "again TTFT ms": 1e3 * statistics.median(r.ttft for r in again),
            "8 others TTFT ms": 1e3 * statistics.median(
                r.ttft for r in others),
            "cached tokens": statistics.median(r.cached for r in others)}


def schema(number):
    """Another one for every number: a list of records."""
    return {"type": "array", "minItems": 4, "items": {
        "type": "object", "additionalProperties": False,
        "properties": {f"name{number}": {"type": "string", "maxLength": 40},
                       "age": {"type": "integer", "minimum": 0,
                               "maximum": 130},
                       "kind": {"enum": ["red", "green", "blue", None]},
                       "tags": {"type": "array", "maxItems": 3,
                                "items": {"type": "string"}}},
        "required": [f"name{number}", "age", "kind", "tags"]}}


async def for_ever(server, requests):
    """Until it is cancelled: what is on its way then ends, too."""
    connection = load.Connection(server.port)
    try:
        for request in requests:
            await connection.ask(request)
    finally:
        connection.close()


def records(prompts, number, fresh):
    while True:
        request = body(prompts.take(16), ANSWER)
        del request["ignore_eos"]
        yield dict(request, json_schema=schema(number))
        number += 1000 if fresh else 0


def plain(prompts):
    while True:
        yield body(prompts.take(16), ANSWER)


async def run_grammar(server, prompts):
    await warm(server, prompts)
    others = {
        "alone": [],
        "beside 16": [plain(prompts) for _ in range(16)],
        "beside schemas": [records(prompts, i, i % 2 == 0)
                           for i in range(16)]}
    figures = {}
    for name, streams in others.items():
        beside = [asyncio.ensure_future(for_ever(server, requests))
                  for requests in streams]
        await asyncio.sleep(1 if beside else 0)
        found = summary(await load.together(
            server.port, [body(prompts.take(16), ANSWER) for _ in range(16)]))
        for stream in beside:
            if stream.done():  # it has failed
                stream.result()
            stream.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        for figure in ("ITL p50 ms", "ITL p99 ms"):
            figures[f"{name}: {figure}"] = found[figure]
    return figures


async def light_ttft(server, prompts, n):
    """Of n requests, or as many as come in LIGHT_S; one that has not begun
    within that counts as that."""
    times, start = [], time.perf_counter()
    while len(times) < n and time.perf_counter() < start + LIGHT_S:
        try:
            replies = await asyncio.wait_for(load.together(
                server.port, [body(prompts.take(100), 1)], server.keys[0]),
                LIGHT_S)
            times.append(replies[0].ttft)
        except asyncio.TimeoutError:
            times.append(LIGHT_S)
        await asyncio.sleep(LIGHT_PAUSE_S)
    return 1e3 * load.quantile(times, .5), 1e3 * load.quantile(times, .99)


async def flood_for_ever(server, prompts):
    connection = load.Connection(server.port, server.keys[1])
    while True:
        await connection.ask(body(prompts.take(400), 64))


async def run_tenants(server, prompts):
    await warm(server, prompts)
    alone = await light_ttft(server, prompts, 20)
    floods = [asyncio.ensure_future(flood_for_ever(server, prompts))
              for _ in range(64)]
    await asyncio.sleep(2)
    beside = await light_ttft(server, prompts, 20)
    for flood in floods:
        flood.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    return {"alone p50 ms": alone[0], "alone p99 ms": alone[1],
            "beside p50 ms": beside[0], "beside p99 ms": beside[1],
            "p99 beside / alone": beside[1] / alone[1]}


async def run_speculation(server, prompts):
    await warm(server, prompts)
    figures = {}
    for kind in ("copy", "free"):
        tokens = seconds = 0
        for what, prompt, sampling in speculation.TEXTS.values():
            if what != kind:
                continue
            reply = (await load.together(server.port, [dict(
                body(prompt, ANSWER), seed=1, **sampling)]))[0]
            tokens += reply.tokens
            seconds += reply.ended - reply.times[0]
        figures[f"{kind}: tokens/s"] = tokens / seconds
    return figures


async def run_ones(server, prompts, seconds=4):
    request = body(prompts.take(200), 1, stream=False)
    for _ in range(2):  # llama-server caches by slot: every one is to have it
        await load.together(server.port, [request] * ONES)
    times, start = [], time.perf_counter()

    async def again():
        connection = load.Connection(server.port)
        while time.perf_counter() < start + seconds:
            times.append((await connection.ask(request)).ttft)
        connection.close()

    await asyncio.gather(*(again() for _ in range(ONES)))
    return {"requests/s": len(times) / (time.perf_counter() - start),
            "p50 ms": 1e3 * load.quantile(times, .5),
            "p99 ms": 1e3 * load.quantile(times, .99)}


# what → [(row, slots, context, tenants, measurement[, llama-server's options])]
WHAT = {
    "streams": [(f"{n} streams", min(max(n, 4), 32), 512 * min(max(n, 4), 32),
                 False, lambda s, p, n=n: run_streams(s, p, n))
                for n in (1, 4, 16, 32, 64)],
    "prompts": [("32 streams behind 128 tokens", 32, 32 * 512, False,
                 lambda s, p: run_streams(s, p, 32, 128))],
    "long": [("4000 tokens among 16 streams", 17, 17 * 4608, False,
              run_long)],
    "prefix": [(f"{n} shared tokens", 4, 4 * 4608, False,
                lambda s, p, n=n: run_prefix(s, p, n))
               for n in (1000, 2000, 4000)],
    "tenants": [("64 floods of 400 tokens", 32, 32 * 512, True,
                 run_tenants)],
    "grammar": [("16 streams beside schemas", 32, 32 * 512, False,
                 run_grammar)],
    "speculation": [
        ("texts that copy, free texts", 4, 4 * 2048, False, run_speculation),
        ("the same, llama-server by n-grams", 4, 4 * 2048, False,
         run_speculation, NGRAMS)],
    "ones": [(f"200 cached tokens, {ONES} connections", ONES, ONES * 512,
              False, run_ones)],
}


# ---- rounds ----

NAMES = {"axion": "axion", "plain": "axion, no drafts",
         "llama": "llama-server"}


def rows_of(wanted):
    """The rows of WHAT that were asked for, in order."""
    for what in wanted:
        name, number = re.fullmatch(r"([a-z]+)(\d*)", what).groups()
        for row in WHAT[name]:
            if number in ("", row[0].split()[0]):
                yield row


def measure(make, prompts, way):
    result.give_memory(MEMORY)
    with make() as server:
        return asyncio.run(way(server, prompts))


def run(rounds, wanted, names):
    """Samples as they come: (row, server's name, figures)."""
    prompts = Prompts()
    for i in range(rounds):
        for row, slots, context, tenants, way, *peer in rows_of(wanted):
            made = servers(slots, context, tenants, *peer)
            for name in [n for n in names[::(-1) ** i] if n in made]:
                figures = measure(made[name], prompts, way)
                print(row, name, json.dumps(figures), file=sys.stderr)
                yield row, name, figures


def write(name, samples, runs):
    rows = []
    measured = {row for row, _, _ in samples}
    for row in [r[0] for r in rows_of(WHAT) if r[0] in measured]:
        figures = {name: [f for r, n, f in samples if (r, n) == (row, name)]
                   for name in NAMES.values()}
        for figure in next(f[0] for f in figures.values() if f):
            rows.append([row, figure] + [
                result.cell([f[figure] for f in figures[name]])
                for name in NAMES.values()])
    notes = (f"SmolLM2-135M Q4_1, {THREADS} threads; client, nginx and engine "
             "share the CPUs. llama-server: -np, -cb, a context for its slots, "
             "otherwise as it comes, of llama-cpp-python 0.3.36's source.")
    if runs:
        notes += " In pieces: " + "; ".join(
            f"`{' '.join(argv)}`" for argv in runs) + "."
    result.write(name, "Under load: nginx and axiond beside llama-server",
                 ["load", "figure", *NAMES.values()], rows, notes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="ROUNDS | WHAT")
    parser.add_argument("--servers", default=",".join(NAMES))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rounds = 3
    if args.words and args.words[0].isdigit():
        rounds = int(args.words.pop(0))
    wanted = args.words or list(WHAT)
    servers_ = args.servers.split(",")
    if (rounds < 1 or set(servers_) - set(NAMES)
            or not all(re.fullmatch(r"(%s)\d*" % "|".join(WHAT), word)
                       and list(rows_of([word])) for word in wanted)):
        parser.error("see --help for what there is")
    if args.write:
        samples, runs = result.kept("server")
        write("server", samples, runs)
        return
    samples = []
    for sample in run(rounds, wanted, [NAMES[n] for n in servers_]):
        samples.append(sample)
        if args.keep:
            result.keep("server", sample)
    if not args.keep:
        write("server" if wanted == list(WHAT)
              else "server-" + "-".join(wanted), samples, [])


if __name__ == "__main__":
    main()
