#!/usr/bin/env python3
"""What the gateway costs, in one run: axion_pass over the ring to the echo engine,
bare and with a key and limits, beside proxy_pass to the same echo engine over HTTP
on a unix socket and beside nginx answering alone.

    bench/gateway.py [ROUNDS [SECONDS [PART,...]]]

latency     one request after the other: p50 and p99 as the client sees them;
            added is a way's less nginx's own in the same round
capacity    many at once: the worker's CPU time per request, and so requests
            per second of one core, however busy the machine is otherwise
streams     the worker's CPU time per token: as fast as the engine goes (tokens
            are joined), and at an engine's pace (each token is written alone)
memory      the worker's memory per stream, 2,000 of them under leases

One worker, wrk on loopback, ways in turn so that a machine's mood hits all.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

KEY = "a-key-of-the-benchmark"
PARTS = ("latency", "capacity", "streams", "memory")
HTTP = """\
    axion_upstream llm { engine unix:{socket}; }
    axion_upstream two { engine unix:{socket}; engine unix:{socket}.2; }
    upstream echo { server unix:{socket}.http; keepalive 128; }
    axion_timeout connect=60s stall=60s accept=60s;
    client_body_buffer_size 64k;
"""
TENANT = f"""axion_tenant acme {{
    key sha256:{hashlib.sha256(KEY.encode()).hexdigest()};
    requests 100M/m; tokens 1000M/s; concurrency 4k; budget 100000M/d;
}}"""
SERVER = f"""\
        access_log off;
        location /null/ {{ return 200 "ok\\n"; }}
        location /ring/ {{ axion_pass llm; }}
        location /limits/ {{ axion_pass llm; {TENANT} }}
        location /many/ {{ axion_pass two; {TENANT} }}
        location /http/ {{
            proxy_pass http://echo/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
        location = /status {{ axion_status llm; }}
"""
LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %s"
wrk.body = '%s'
"""
# The echo engine answers with the prompt's own words, four bytes a token.
BODY = '{"model": "echo", "prompt": "%s", "max_tokens": %d, "stream": true}'
LONG = 200  # tokens
SHORT = 40
STREAMS = 2000

WAYS = ("null", "ring", "limits", "http")
UNIT_US = {"us": 1, "ms": 1e3, "s": 1e6}


class Bench(stack.Stack):
    """Echo engines in axiond's place: two for the ring, of which one speaks
    HTTP too.  A worker has 1024 streams to an engine."""

    peer = None

    def start_engine(self):
        def echo(name, *argv):
            return stack.Child(
                [stack.build_path("axion-echo"), "--quiet", "--model=echo",
                 "--batch=4096", *argv],
                os.path.join(self.folder, name + ".log"))

        self.started_s = time.monotonic()
        self.engine = echo("ring", f"--listen=unix:{self.socket}")
        self.peer = echo("http", f"--listen=unix:{self.socket}.2",
                         f"--http=unix:{self.socket}.http")

    def stop(self):
        if self.peer is not None:
            self.peer.stop()
            self.peer = None
        super().stop()

    def worker(self):
        with open(f"/proc/{self.nginx.pid}/task/{self.nginx.pid}/children",
                  encoding="ascii") as file:
            return int(file.read().split()[0])

    def cpu_ns(self):
        # clock_getcpuclockid(3): the scheduled time of a process
        return time.clock_gettime_ns((~self.worker() << 3) | 2)

    def rss_kb(self):
        with open(f"/proc/{self.worker()}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def wrk(bench, way, connections, seconds, body):
    """Requests, p50 and p99 in µs, the worker's CPU ns."""
    script = os.path.join(bench.folder, "post.lua")
    with open(script, "w", encoding="utf-8") as file:
        file.write(LUA % (KEY, body))
    before = bench.cpu_ns()
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
         "-s", script, f"{bench.url}/{way}/v1/completions"], check=True,
        stdout=subprocess.PIPE, text=True).stdout
    cpu_ns = bench.cpu_ns() - before
    if "Non-2xx" in done or "Socket errors" in done:
        sys.exit(f"{way}: wrk saw errors:\n{done}")

    def latency(percent):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)",
                                done).groups()
        return float(value) * UNIT_US[unit]

    n = int(re.search(r"(\d+) requests in", done).group(1))
    return n, latency(50), latency(99), cpu_ns


def check(bench, way, body, tokens):
    """The way gives the whole stream, as one client sees it."""
    request = urllib.request.Request(
        f"{bench.url}/{way}/v1/completions", body.encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        data = answer.read()
    events = re.findall(rb"^data: (\{.*)$", data, re.M)
    text = "".join(choice["text"] for event in events
                   for choice in json.loads(event)["choices"])
    if b"data: [DONE]" not in data or len(text) < tokens:
        sys.exit(f"{way}: not the whole stream: {data[-300:]!r}")
    return len(events)


def latency(bench, rounds, seconds):
    body = BODY % ("word", 1)
    samples = {way: ([], [], [], []) for way in WAYS}
    for _ in range(rounds):
        null = None
        for way in WAYS:
            _, p50, p99, _ = wrk(bench, way, 1, seconds, body)
            null = null or (p50, p99)
            for one, value in zip(samples[way], (p50, p99, p50 - null[0],
                                                 p99 - null[1])):
                one.append(value)
    return [[way] + [result.cell(one, 0) for one in samples[way]]
            for way in WAYS]


def capacity(bench, rounds, seconds):
    body = BODY % ("word", 1)
    samples = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            n, _, _, cpu_ns = wrk(bench, way, 64, seconds, body)
            samples[way].append(cpu_ns / n / 1e3)
    ratio = [http / limits for http, limits
             in zip(samples["http"], samples["limits"])]
    rows = [[way, result.cell(samples[way], 1),
             result.cell([1e6 / us for us in samples[way]], 0)]
            for way in WAYS]
    return rows, ratio


def streams(bench, rounds, seconds):
    rows = []
    for name, extra, tokens in (("joined", "", LONG),
                                ("5 ms a token", "!delay_ms=5 ", SHORT)):
        body = BODY % (extra + "word" * tokens, tokens)
        samples = {way: [] for way in WAYS[1:]}
        events = {}
        for _ in range(rounds):
            for way in samples:
                events[way] = check(bench, way, body, tokens)
                n, _, _, cpu_ns = wrk(bench, way, 64, seconds, body)
                samples[way].append(cpu_ns / max(n, 1) / tokens)
        rows += [[way, name, str(events[way]), result.cell(samples[way], 0)]
                 for way in samples]
    return rows


def memory(bench):
    """KiB of the worker for each stream while all of them run."""
    text = "!tokens=60 !delay_ms=100 word"
    body = json.dumps({"model": "echo", "prompt": text, "stream": True,
                       "max_tokens": 60})
    head = (f"POST /many/v1/completions HTTP/1.1\r\nHost: bench\r\n"
            f"Connection: close\r\nAuthorization: Bearer {KEY}\r\n"
            f"Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    check(bench, "many", body, 60)
    before = bench.rss_kb()
    most = 0
    ready = selectors.DefaultSelector()
    whole = 0
    for _ in range(STREAMS):
        client = socket.create_connection(("127.0.0.1", bench.port))
        client.sendall((head + body).encode())
        ready.register(client, selectors.EVENT_READ, bytearray())
    left = STREAMS
    while left:
        for key, _ in ready.select():
            data = key.fileobj.recv(65536)
            if data:
                key.data.extend(data)
                continue
            whole += key.data.count(b"data: [DONE]")
            ready.unregister(key.fileobj)
            key.fileobj.close()
            left -= 1
            if left == STREAMS - 1:
                most = bench.rss_kb()
    if whole != STREAMS:
        sys.exit(f"{STREAMS - whole} of {STREAMS} streams were lost")
    return (most - before) / STREAMS


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=result.count, default=3)
    parser.add_argument("seconds", nargs="?", type=result.count, default=2)
    parser.add_argument("parts", nargs="?", default=",".join(PARTS))
    args = parser.parse_args()
    parts = args.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}, only {', '.join(PARTS)}")
    return args.rounds, args.seconds, parts


def main():
    rounds, seconds, parts = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lines = result.head("What the gateway costs")
    lines += ["- a cell is median (min..max, samples)"]

    def table(title, columns, rows, text):
        lines.extend(["", f"## {title}", "", text, "",
                      "| " + " | ".join(columns) + " |",
                      "|" + "---|" * len(columns)])
        lines.extend("| " + " | ".join(row) + " |" for row in rows)
        print("\n".join(lines[-len(rows) - 6:]), flush=True)

    with Bench(stack.build_path("bench/gateway"), "echo", http=HTTP,
               server=SERVER, level="warn", workers=1) as bench:
        for way in WAYS[1:]:
            check(bench, way, BODY % ("word" * LONG, LONG), LONG)
        if "latency" in parts:
            table("Latency", ["way", "p50 µs", "p99 µs", "added p50 µs",
                              "added p99 µs"],
                  latency(bench, rounds, seconds),
                  "One connection, one streamed completion of one token after "
                  "the other. null is nginx's own `return 200`, ring is "
                  "axion_pass, limits with a key, four limits and a lease, "
                  "http is proxy_pass.")
        if "capacity" in parts:
            rows, ratio = capacity(bench, rounds, seconds)
            table("Capacity", ["way", "worker's CPU µs per request",
                               "requests/s of a core"], rows,
                  "64 connections, one token. A core carries "
                  f"{statistics.median(ratio):.2f} "
                  f"({min(ratio):.2f}..{max(ratio):.2f}) times the requests "
                  "with key and limits that it carries by proxy_pass.")
        if "streams" in parts:
            table("Streams", ["way", "pace", "events of one alone",
                              "worker's CPU ns per token"],
                  streams(bench, rounds, seconds),
                  f"64 connections, {LONG} tokens an answer; {SHORT} at 5 ms.")
        if "memory" in parts:
            each = [memory(bench)]
            table("Memory", ["streams", "worker's KiB per stream"],
                  [[str(STREAMS), result.cell(each, 1)]],
                  "Streams of one worker under leases, all open at once.")
    if len(parts) == 4:
        result.save("gateway", lines)


if __name__ == "__main__":
    main()
