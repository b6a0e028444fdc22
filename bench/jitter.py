#!/usr/bin/env python3
"""How even decode steps are: p50 and p99 of a step's time, as threads are
placed (anywhere, pinned, SCHED_FIFO, both) and on huge pages that were set
aside, alone and beside a process that burns one of their CPUs.

    bench/jitter.py [ROUNDS] [--model FILE] [--tokens N]

Each round runs `axion bench` once for every placement and neighbour, in an
order that turns; SCHED_FIFO and --huge-pages are left out, aloud, where the
kernel refuses them (vm.nr_hugepages must have some 400 MB, of 2 MiB each).
"""

import argparse
import json
import os
import subprocess
import sys

import result
from shared_cores import AXION, burner

MODEL = os.path.join(result.ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf")
PLACES = {"anywhere": [], "--pin": ["--pin"],
          "--realtime 1": ["--realtime", "1"],
          "--pin --realtime 1": ["--pin", "--realtime", "1"],
          "--huge-pages": ["--huge-pages"],
          "--pin --realtime 1 --huge-pages":
              ["--pin", "--realtime", "1", "--huge-pages"]}


def steps(args, options, busy_cpu):
    """(p50, p99) in ms; None where the options are refused."""
    with burner(busy_cpu):
        done = subprocess.run(
            [AXION, "bench", "-m", args.model, "-p", "0", "-n",
             str(args.tokens), "-t", "2", "-r", "1", "-o", "jsonl", *options],
            capture_output=True, text=True)
    if done.returncode != 0 or "--huge-pages:" in done.stderr:
        print(f"left out: {' '.join(options)}: {done.stderr.strip()}",
              file=sys.stderr)
        return None
    row = json.loads(done.stdout.splitlines()[0])
    return row["step_p50_ns"] / 1e6, row["step_p99_ns"] / 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--tokens", type=int, default=256)
    args = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        sys.exit("two CPUs are needed")
    os.sched_setaffinity(0, set(cpus))
    cases = [(place, busy) for busy in (None, cpus[1]) for place in PLACES]
    samples = {case: [] for case in cases}
    for turn in range(args.rounds):
        turn %= len(cases)
        for case in cases[turn:] + cases[:turn]:
            figures = steps(args, PLACES[case[0]], case[1])
            if figures is not None:
                samples[case].append(figures)
    rows = []
    for (place, busy), figures in samples.items():
        if not figures:
            continue
        rows.append([place, "none" if busy is None else f"burns CPU {busy}",
                     result.cell([p50 for p50, _ in figures], 2),
                     result.cell([p99 for _, p99 in figures], 2),
                     result.cell([p99 / p50 for p50, p99 in figures], 1)])
    result.write("jitter", "How even decode steps are", [
        "threads", "neighbour", "p50 ms", "p99 ms", "p99/p50"], rows,
        f"SmolLM2-135M Q4_1, 2 threads on CPUs {cpus[0]} and {cpus[1]}, "
        f"{args.tokens} decode steps a run; weights and KV are on huge pages "
        "where the kernel grants them (madvise) in all rows; with --huge-pages "
        "they are set aside and touched before the first step.")


if __name__ == "__main__":
    main()
