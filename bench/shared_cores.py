#!/usr/bin/env python3
"""What a busy core costs: rates and step times of one and two threads, alone
and beside a process that never lets go of a CPU.

    bench/shared_cores.py MODEL [ROUNDS] [-n GEN] [-p PROMPT]

Each round runs `axion bench` on CPUs 0 and 1 for every case, in an order that
turns; the burner is pinned to one of the two, once under the caller's thread
and once under the other.  Inside nginx cores are always shared, so two threads
beside a burner must never be slower than one thread that is left alone: the
last column is the ratio to that, of the same round.  It is decode of two
seconds: the first third of one is how long the engine takes to find out that it
does better with a thread less (engine/pool/crew.h).  A round of SmolLM2 takes
some 25 s.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys

import result

AXION = os.path.join(result.ROOT, os.environ.get("BUILD", "build"), "axion")


@contextlib.contextmanager
def burner(cpu):
    """A process that spins on a CPU meanwhile; None: nobody does."""
    if cpu is None:
        yield
        return
    code = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            yield
        finally:
            process.kill()


def two_cpus():
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        sys.exit("two CPUs are needed")
    os.sched_setaffinity(0, set(cpus))
    return cpus


def measure(args, threads, busy):
    """{test: figures}."""
    command = [AXION, "bench", "-m", args.model, "-p", str(args.prompt),
               "-n", str(args.gen), "-t", str(threads), "-r", "1",
               "-o", "jsonl"]
    with burner(busy):
        done = subprocess.run(command, check=True, capture_output=True)
    rows = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        test = (f"pp{row['n_prompt']}" if row["n_prompt"]
                else f"tg{row['n_gen']}")
        rows[test] = row
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rounds", nargs="?", type=result.count, default=5)
    parser.add_argument("-n", "--gen", type=result.count, default=512)
    parser.add_argument("-p", "--prompt", type=result.count, default=512)
    args = parser.parse_args()
    cpus = two_cpus()
    cases = [(1, None), (2, None), (1, cpus[0]), (1, cpus[1]), (2, cpus[0]),
             (2, cpus[1])]
    samples = {case: [] for case in cases}
    for turn in range(args.rounds):
        turn %= len(cases)
        for case in cases[turn:] + cases[:turn]:
            samples[case].append(measure(args, *case))
    rows = []
    for test in samples[cases[0]][0]:
        for case in cases:
            figures = [one[test] for one in samples[case]]
            ratios = [one[test]["avg_ts"] / free[test]["avg_ts"]
                      for one, free in zip(samples[case], samples[cases[0]])]
            rows.append([
                test, str(case[0]),
                "none" if case[1] is None else f"CPU {case[1]}",
                result.cell([f["avg_ts"] for f in figures]),
                result.cell([f["step_p50_ns"] / 1e6 for f in figures], 2),
                result.cell([f["step_p99_ns"] / 1e6 for f in figures], 2),
                f"{statistics.median(ratios):.2f}"])
    result.write("shared_cores", "Beside a busy core", [
        "test", "threads", "burner", "t/s", "step p50 ms", "step p99 ms",
        "of one free thread"], rows,
        f"{os.path.basename(args.model)} on CPUs {cpus[0]} and {cpus[1]}. The "
        "last column is the median of the rounds' ratios.")


if __name__ == "__main__":
    main()
