#!/usr/bin/env python3
"""What a gateway adds: requests per second and latency of axion_pass over the
ring to the echo engine, beside proxy_pass to the same echo engine over HTTP on a
unix socket, and beside nginx answering alone. One nginx, the same two workers for
all, wrk on loopback, ways in turn so that a machine's mood hits all.

    bench/gateway_latency.py [ROUNDS [SECONDS]]

Added latency is a way's median less nginx's own in the same round.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request

import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

HTTP = """\
    axion_upstream llm { engine unix:{socket}; }
    upstream echo { server unix:{socket}.http; keepalive 128; }
"""
SERVER = """\
        access_log off;
        location /null/ { return 200 "ok\\n"; }
        location /ring/ { axion_pass llm; }
        location /http/ {
            proxy_pass http://echo/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }
        location = /status { axion_status llm; }
"""
LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '%s'
"""
# the echo engine answers with the prompt's own words, a few bytes each
BODY = '{"model": "echo", "prompt": "%s", "max_tokens": %d, "stream": true}'

LOADS = ((1, 1), (64, 1), (64, 200))  # connections, tokens per answer
WAYS = ("null", "ring", "http")
UNIT_US = {"us": 1, "ms": 1e3, "s": 1e6}


def wrk(url, way, connections, seconds, script):
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
         "-s", script, f"{url}/{way}/v1/completions"], check=True,
        stdout=subprocess.PIPE, text=True).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        sys.exit(f"{way}: wrk saw errors:\n{done}")

    def latency(percent):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)",
                                done).groups()
        return float(value) * UNIT_US[unit]

    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done).group(1))
    return rate, latency(50), latency(99)


def measure(url, connections, rounds, seconds, script):
    samples = {way: {"rate": [], "p50": [], "p99": [], "added": []}
               for way in WAYS}
    for _ in range(rounds):
        null = None
        for way in WAYS:
            rate, p50, p99 = wrk(url, way, connections, seconds, script)
            null = null or p50
            samples[way]["rate"].append(rate)
            samples[way]["p50"].append(p50)
            samples[way]["p99"].append(p99)
            samples[way]["added"].append(p50 - null)
    return samples


class EchoStack(stack.Stack):
    """Echo engines in axiond's place: one for the ring, one for HTTP."""

    peer = None

    def start_engine(self):
        def echo(name, *argv):
            return stack.Child(
                [stack.build_path("axion-echo"), "--quiet", "--model=echo",
                 *argv], os.path.join(self.folder, name + ".log"))

        self.started_s = time.monotonic()
        self.engine = echo("ring", f"--listen=unix:{self.socket}")
        self.peer = echo("http", f"--listen=unix:{self.socket}.2",
                         f"--http=unix:{self.http_socket()}")

    def http_socket(self):
        return self.socket + ".http"

    def stop(self):
        if self.peer is not None:
            self.peer.stop()
            self.peer = None
        super().stop()


def check(url, way, body, tokens):
    """The way gives the whole stream, as one client sees it."""
    request = urllib.request.Request(
        f"{url}/{way}/v1/completions", body.encode(),
        {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        data = answer.read()
    events = re.findall(rb"^data: (\{.*)$", data, re.M)
    text = "".join(choice["text"] for event in events
                   for choice in json.loads(event)["choices"])
    if b"data: [DONE]" not in data or len(text) < tokens:
        sys.exit(f"{way}: not the whole stream: {data[-300:]!r}")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    folder = stack.build_path("bench/gateway")
    rows = []
    with EchoStack(folder, "echo", http=HTTP, server=SERVER,
                   level="warn") as running:
        script = os.path.join(folder, "post.lua")
        for connections, tokens in LOADS:
            body = BODY % ("word " * tokens, tokens)
            with open(script, "w", encoding="utf-8") as file:
                file.write(LUA % body)
            for way in ("ring", "http"):
                check(running.url, way, body, tokens)
            samples = measure(running.url, connections, rounds, seconds,
                              script)
            for way in WAYS:
                figures = samples[way]
                rows.append([way, str(connections), str(tokens)]
                            + [result.cell(figures[name], 0)
                               for name in ("rate", "p50", "p99", "added")])
    result.write("gateway", "axion_pass over the ring beside proxy_pass", [
        "way", "connections", "tokens", "requests/s", "p50 µs", "p99 µs",
        "added p50 µs"], rows,
        "One streamed completion per request. null is nginx's own `return "
        "200`; added is a way's p50 less null's of the same round. wrk, "
        "nginx's two workers and the engines share the CPUs, so p99 is the "
        "machine's scheduling as much as the way.")


if __name__ == "__main__":
    main()
