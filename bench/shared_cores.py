#!/usr/bin/env python3
"""What a busy core costs: rates and step times of one and two threads, alone
and beside a process that never lets go of a CPU.

    bench/shared_cores.py MODEL [-n GEN] [-p PROMPT] [-r REPS]

Each row is `axion bench` on CPUs 0 and 1; the burner is pinned to one of the
two, once under the caller's thread and once under the other.  Inside nginx
cores are always shared, so two threads beside a burner must never be slower
than one thread that is left alone: the last column is the ratio to that.
"""
import argparse
import contextlib
import json
import os
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


def measure(args, threads, busy):
    command = [AXION, "bench", "-m", args.model, "-p", str(args.prompt),
               "-n", str(args.gen), "-t", str(threads), "-r", str(args.reps),
               "-o", "jsonl"]
    with burner(busy):
        done = subprocess.run(command, check=True, capture_output=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("-n", "--gen", type=int, default=128)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-r", "--reps", type=int, default=3)
    args = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        sys.exit("two CPUs are needed")
    os.sched_setaffinity(0, set(cpus))
    alone = {}
    print("| test | threads | burner | t/s | median step ms | p99 ms "
          "| of 1 free thread |\n|---|---|---|---|---|---|---|")
    for threads, busy in ((1, None), (2, None), (1, cpus[0]), (2, cpus[0]),
                          (2, cpus[1])):
        for row in measure(args, threads, busy):
            test = (f"pp{row['n_prompt']}" if row["n_prompt"]
                    else f"tg{row['n_gen']}")
            alone.setdefault(test, row["avg_ts"])
            where = "-" if busy is None else f"CPU {busy}"
            print(f"| {test} | {threads} | {where} | {row['avg_ts']:.1f} "
                  f"| {row['step_p50_ns'] / 1e6:.2f} "
                  f"| {row['step_p99_ns'] / 1e6:.2f} "
                  f"| {row['avg_ts'] / alone[test]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
