"""Where the time of a step goes: axion bench --profile, summed over layers.

    bench/steps.py [MODEL] [ROUNDS]

Tests, in turn and ROUNDS times: decode with one thread and with two, at depth
2048, 4, 8 and 32 sequences at once, and a prefill of 512.  A row is what one
step takes in a kind of work, by the fastest step-weighted round (the machine
is shared: what disturbs only adds), with its share of the step and of what the
machine can do, as --profile has it: bytes over the bandwidth of reading or
operations over the peak of their unit, measured in the same run.
"""

import argparse
import csv
import os
import subprocess
import tempfile

import result

BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(result.ROOT,
                                                             "build")))
TESTS = {
    "decode, 1 thread": ["-p", "0", "-n", "64", "-t", "1"],
    "decode": ["-p", "0", "-n", "64"],
    "decode at depth 2048": ["-p", "0", "-n", "32", "-d", "2048"],
    "4 sequences": ["-p", "0", "-n", "32", "-s", "4"],
    "8 sequences": ["-p", "0", "-n", "32", "-s", "8"],
    "32 sequences": ["-p", "0", "-n", "16", "-s", "32"],
    "prefill of 512": ["-p", "512", "-n", "0"],
}


def profile(model, arguments):
    """{op: [calls, ns, bytes, operations, ns at the roofline]} of a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "profile.csv")
        subprocess.run([os.path.join(BUILD, "axion"), "bench", "-m", model,
                        "-r", "1", "--profile", path] + arguments,
                       check=True, stdout=subprocess.DEVNULL)
        ops = {}
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                op = ops.setdefault(row["op"], [0, 0, 0, 0, 0.0])
                op[0] += int(row["calls"])
                op[1] += int(row["ns"])
                op[2] += int(row["bytes"])
                op[3] += int(row["operations"])
                op[4] += int(row["ns"]) * float(row["roofline"])
        return ops


def steps_of(ops):
    """Every step reads the embedding once."""
    return next(op[0] for name, op in ops.items() if "embed+" in name)


def step_us(ops):
    return sum(op[1] for op in ops.values()) / steps_of(ops) / 1e3


def table(ops):
    n, whole = steps_of(ops), step_us(ops)
    lines = ["| work | a step | us each | us a step | share | of the roofline |",
             "|---|---|---|---|---|---|"]
    for name, (calls, ns, _, _, ideal) in ops.items():
        us = ns / n / 1e3
        roof = f"{100 * ideal / ns:.0f} %" if ideal > 0 else ""
        lines.append(f"| {name} | {calls / n:.0f} | {ns / calls / 1e3:.2f} | "
                     f"{us:.1f} | {100 * us / whole:.1f} % | {roof} |")
    ideal = sum(op[4] for op in ops.values()) / n / 1e3
    lines.append(f"| **all** | | | **{whole:.1f}** | | "
                 f"**{100 * ideal / whole:.0f} %** |")
    return lines


def rate(ops):
    """Operations per ns: matmuls with the head, and attention."""
    return (sum(op[3] for op in ops.values()) /
            sum(op[1] for op in ops.values()))


def ratios(best):
    one = step_us(best["decode"])
    lines = ["| | |", "|---|---|"]
    for n in (4, 8):
        us = step_us(best[f"{n} sequences"])
        lines.append(f"| {n} tokens beside one | {us / one:.2f} times |")
    batch, prefill = best["32 sequences"], best["prefill of 512"]
    lines.append("| 32 sequences beside the prefill, operations a second, the "
                 f"head counted | {100 * rate(batch) / rate(prefill):.0f} % |")
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=os.path.join(
        result.ROOT, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("rounds", nargs="?", type=result.count, default=3)
    args = parser.parse_args()
    best = {}
    for _ in range(args.rounds):
        for name, arguments in TESTS.items():
            ops = profile(args.model, arguments)
            if name not in best or step_us(ops) < step_us(best[name]):
                best[name] = ops
    lines = ratios(best)
    for name, ops in best.items():
        lines += ["", f"## {name}", ""] + table(ops)
    print("\n".join(lines))
    result.save("steps", result.head("steps.py") +
                [f"- the fastest of {args.rounds} rounds", ""] + lines)


if __name__ == "__main__":
    main()
