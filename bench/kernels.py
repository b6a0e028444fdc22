"""Kernels beside the roofline: the tables of `checkkernels --bench`, written as a
result file: matmuls of every format for 1 to 512 tokens, attention, small ops.

    bench/kernels.py [ISA,...]        (default: the best of this machine, avx2)

Every figure is the median of 7 runs, beside peaks that are measured again before
each format in the same run.  One set of instructions takes a minute or two; both
CPUs must be free: AXION_BENCH_THREADS=1 leaves the tables of two threads out.
`make build/tests/kernels/checkkernels` first.
"""

import argparse
import os
import re
import subprocess
import sys

import result

CHECK = os.path.join(result.ROOT, os.environ.get("BUILD", "build"), "tests",
                     "kernels", "checkkernels")
# name, rows x k, tokens, and then a group for every count of threads
MATMUL = re.compile(r"(\w+)\s+(\d+) x\s+(\d+) \|\s+(\d+) \|(.*)")
CELL = re.compile(r"([\d.]+) ms\s+([\d.]+)\s+([\d.]+) Gop/s\s+([\d.]+) %\s+"
                  r"([\d.]+) GB/s\s+([\d.]+) %")
ATTENTION = re.compile(r"attention (\w+)\s+(.*?) depth\s+(\d+) n_q\s+(\d+):(.*)")
TIME = re.compile(r"([\d.]+) us\s+([\d.]+) (G\S+)\s+([\d.]+) %")


def run(isa):
    """The set's name as it says itself, and its lines."""
    env = {k: v for k, v in os.environ.items() if k != "AXION_ISA"}
    if isa is not None:
        env["AXION_ISA"] = isa
    done = subprocess.run([CHECK, "--bench"], env=env, text=True,
                          stdout=subprocess.PIPE, check=False)
    named = re.search(r"^instruction set: ([^;]*)", done.stdout, re.MULTILINE)
    if done.returncode != 0 or named is None:
        sys.exit(f"checkkernels --bench, AXION_ISA={isa or 'not set'}: status "
                 f"{done.returncode}")
    return named[1], done.stdout.splitlines()


def matmuls(lines):
    """{count of threads: {format: {tokens: (Gop/s, %, GB/s, %, times one)}}}"""
    tables = {}
    for line in lines:
        found = MATMUL.match(line)
        if found is None:
            continue
        name, _, _, tokens, cells = found.groups()
        for threads, cell in enumerate(CELL.findall(cells), start=1):
            _, times, ops, share, read, read_share = map(float, cell)
            tables.setdefault(threads, {}).setdefault(name, {})[int(tokens)] = (
                ops, share, read, read_share, times)
    return tables


def matmul_table(formats):
    counts = sorted(set().union(*formats.values()))
    yield ("| format | " + " | ".join(f"M = {n}" for n in counts)
           + " | M = 4, 8 / M = 1 |")
    yield "|" + "---|" * (len(counts) + 2)
    for name, cells in formats.items():
        row = [f"{c[0]:.0f} ({c[1]:.0f}), {c[2]:.1f} ({c[3]:.0f})"
               for c in (cells[n] for n in counts)]
        yield (f"| {name} | " + " | ".join(row)
               + f" | {cells[4][4]:.2f}, {cells[8][4]:.2f} |")


def attention_table(lines):
    yield "| KV | heads | depth | queries | one thread | two threads |"
    yield "|---|---|---|---|---|---|"
    for line in lines:
        found = ATTENTION.match(line)
        if found is not None:
            kv, heads, depth, queries, times = found.groups()
            cells = [f"{us} us, {rate} {unit} ({share} %)"
                     for us, rate, unit, share in TIME.findall(times)]
            cells += ["-"] * (2 - len(cells))
            yield (f"| {kv} | {re.sub(' +', ' ', heads)} | {depth} | {queries} "
                   f"| {' | '.join(cells)} |")


def report(isa):
    name, lines = run(isa)
    for threads, formats in matmuls(lines).items():
        yield from ("", f"## {name}, {threads} thread" + "s" * (threads > 1), "")
        yield from matmul_table(formats)
    yield from ("", f"## {name}, attention", "")
    yield from attention_table(lines)
    yield from ("", f"## {name}, small ops and peaks", "")
    for line in lines:
        if line.startswith(("peaks", "ns per element")):
            yield "- " + line


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("isas", nargs="?", metavar="ISA,...",
                        help="as axiond's --isa names them")
    args = parser.parse_args()
    if not os.path.exists(CHECK):
        parser.error("there is no checkkernels: make "
                     "build/tests/kernels/checkkernels")
    lines = result.head("Kernels beside the roofline") + [
        "- a cell is Gop/s (% of the peak of its unit), GB/s of packed weights (% "
        "of the read bandwidth); medians of 7 runs", "",
        "M = 1 to 32: a matrix of 96 MiB, k 2048, from memory; M = 512: 2048 x "
        "2048. Attention counts visible keys only; its shares are of the f32 peak "
        "for prefill, of the read bandwidth for decode. KV as q8_0 computes on "
        "integers, so its share of the f32 peak may pass 100 %. Peaks stand behind "
        "the tables, in the order of the formats: where the read bandwidth changed "
        "between two of them (a shared memory), shares above 100 % say so. What "
        "was tried, and what bounds what, is in kernels-notes.md."]
    for isa in args.isas.split(",") if args.isas else [None, "avx2"]:
        lines += report(isa)
    result.save("kernels", lines)


if __name__ == "__main__":
    main()
