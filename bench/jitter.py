#!/usr/bin/env python3
"""How even decode steps are: p50 and p99 of a step's time with one and two
threads, as they are placed (anywhere, pinned, SCHED_FIFO, both) and on huge
pages that were set aside, alone and beside a process that burns one of their
CPUs.

    bench/jitter.py [ROUNDS] [--model FILE] [--tokens N] [--threads 1,2]
                    [--set-aside PAGES]

Each round runs `axion bench` once for every placement and neighbour, in an
order that turns; with SmolLM2 that takes some 20 s for each number of threads.
SCHED_FIFO and --huge-pages are left out, aloud, where the kernel refuses them.
Huge pages must be set aside: --set-aside 250 sets vm.nr_hugepages (2 MiB each;
SmolLM2 takes some 200) if there are fewer, as root, and puts it back behind.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys

import result
from shared_cores import AXION, burner, two_cpus

MODEL = os.path.join(result.ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf")
PLACES = {"anywhere": [], "--pin": ["--pin"],
          "--realtime 1": ["--realtime", "1"],
          "--pin --realtime 1": ["--pin", "--realtime", "1"],
          "--huge-pages": ["--huge-pages"],
          "--pin --realtime 1 --huge-pages":
              ["--pin", "--realtime", "1", "--huge-pages"]}


HUGE_PAGES = "/proc/sys/vm/nr_hugepages"


def huge_pages(n=None):
    """How many there are, after a wish for n."""
    if n is not None:
        with open(HUGE_PAGES, "w", encoding="ascii") as file:
            file.write(str(n))
    with open(HUGE_PAGES, encoding="ascii") as file:
        return int(file.read())


@contextlib.contextmanager
def set_aside(n):
    before = huge_pages()
    if n <= before:
        yield
        return
    if os.geteuid() != 0:
        sys.exit("--set-aside: only root may")
    print(f"vm.nr_hugepages: {before} -> {huge_pages(n)}", file=sys.stderr)
    try:
        yield
    finally:
        print(f"vm.nr_hugepages: {huge_pages(before)} again", file=sys.stderr)


def steps(args, threads, options, busy_cpu):
    """(p50, p99) in ms; None where the options are refused."""
    with burner(busy_cpu):
        done = subprocess.run(
            [AXION, "bench", "-m", args.model, "-p", "0", "-n",
             str(args.tokens), "-t", threads, "-r", "1", "-o", "jsonl", *options],
            capture_output=True, text=True)
    if done.returncode != 0 or "--huge-pages:" in done.stderr:
        print(f"left out: {' '.join(options)}: {done.stderr.strip()}",
              file=sys.stderr)
        return None
    row = json.loads(done.stdout.splitlines()[0])
    return row["step_p50_ns"] / 1e6, row["step_p99_ns"] / 1e6


def run(args, cases):
    samples = {case: [] for case in cases}
    for turn in range(args.rounds):
        turn %= len(cases)
        for case in cases[turn:] + cases[:turn]:
            threads, place, busy = case
            figures = steps(args, threads, PLACES[place], busy)
            if figures is not None:
                samples[case].append(figures)
    return samples


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=result.count, default=3)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--tokens", type=result.count, default=256)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--set-aside", type=int, default=0, metavar="PAGES")
    args = parser.parse_args()
    cpus = two_cpus()
    cases = [(threads, place, busy) for threads in args.threads.split(",")
             for busy in (None, cpus[1]) for place in PLACES]
    with set_aside(args.set_aside):
        samples = run(args, cases)
    rows = []
    for (threads, place, busy), figures in samples.items():
        if not figures:
            continue
        rows.append([threads, place,
                     "none" if busy is None else f"burns CPU {busy}",
                     result.cell([p50 for p50, _ in figures], 2),
                     result.cell([p99 for _, p99 in figures], 2),
                     result.cell([p99 / p50 for p50, p99 in figures], 1)])
    result.write("jitter", "How even decode steps are", [
        "threads", "placed", "neighbour", "p50 ms", "p99 ms", "p99/p50"], rows,
        f"SmolLM2-135M Q4_1 on CPUs {cpus[0]} and {cpus[1]}, "
        f"{args.tokens} decode steps a run; weights and KV are on huge pages "
        "where the kernel grants them (madvise) in all rows; with --huge-pages "
        "they are set aside and touched before the first step.")


if __name__ == "__main__":
    main()
