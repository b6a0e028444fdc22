#!/usr/bin/env python3
"""What a gateway adds: requests per second and latency of axion_pass over the
ring to the echo engine, beside proxy_pass to an HTTP server that gives the same
answer, and beside nginx answering alone. One nginx, the same two workers for
all, wrk on loopback, ways in turn so that a machine's mood hits all.

    bench/gateway_latency.py [ROUNDS [SECONDS]]

Added latency is the way's percentile less nginx's own in the same round.
"""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import result

sys.path.insert(0, os.path.join(result.ROOT, "tools"))
import stack  # noqa: E402

HTTP = """\
    axion_upstream llm { engine unix:{socket}; }
    upstream echo { server unix:%s; keepalive 128; }
"""
SERVER = """\
        access_log off;
        location /null/ { return 200 "ok\\n"; }
        location /ring/ { axion_pass llm; }
        location /http/ {
            proxy_pass http://echo;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }
"""
LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model": "%s", "prompt": "x", "max_tokens": %d, "stream": true}'
"""
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
    samples = {way: {"rate": [], "p50": [], "p99": []} for way in WAYS}
    for _ in range(rounds):
        null = None
        for way in WAYS:
            rate, p50, p99 = wrk(url, way, connections, seconds, script)
            null = null or (p50, p99)
            samples[way]["rate"].append(rate)
            samples[way]["p50"].append(p50 - (way != "null") * null[0])
            samples[way]["p99"].append(p99 - (way != "null") * null[1])
    return samples


class EchoStack(stack.Stack):
    """The echo engine in axiond's place."""

    def start_engine(self):
        self.engine = stack.Child(
            [stack.build_path(ECHO), f"--listen=unix:{self.socket}"],
            os.path.join(self.folder, "echo.log"))
        self.started_s = 0


ECHO = "tests/echo/echo-engine"


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    folder = stack.build_path("bench/gateway")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    socket = stack.build_path("bench/http-echo.sock")
    peer = stack.Child([stack.build_path("bench/http-echo"), socket, "1"],
                       stack.build_path("bench/http-echo.log"))
    rows = []
    try:
        with EchoStack(folder, "echo", http=HTTP % socket,
                       server=SERVER + stack.Stack.SERVER.split("\n", 1)[1]
                       ) as running:
            script = os.path.join(folder, "post.lua")
            with open(script, "w", encoding="utf-8") as file:
                file.write(LUA % ("echo", 1))
            for way in ("ring", "http"):
                request = urllib.request.Request(
                    f"{running.url}/{way}/v1/completions",
                    b'{"model": "echo", "prompt": "x", "max_tokens": 1, '
                    b'"stream": true}', {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    assert b"data: [DONE]" in answer.read()
            for connections in (1, 64):
                samples = measure(running.url, connections, rounds, seconds,
                                  script)
                for way in WAYS:
                    figures = samples[way]
                    rows.append([way, str(connections),
                                 result.cell(figures["rate"], 0),
                                 result.cell(figures["p50"], 0),
                                 result.cell(figures["p99"], 0)])
    finally:
        peer.stop(signal.SIGKILL)
    result.write("gateway", "axion_pass over the ring beside proxy_pass", [
        "way", "connections", "requests/s", "p50 µs", "p99 µs"], rows,
        "One streamed completion of one token per request. null is nginx's "
        "own `return 200` (its latency as it is); ring and http have their "
        "latency *added* to null's. wrk, nginx's workers and the engines "
        "share the CPUs.")


if __name__ == "__main__":
    main()
